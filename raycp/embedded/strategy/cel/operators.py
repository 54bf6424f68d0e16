"""CEL's values and operators.

Values are JSON's (int, float, str, bool, None, list, dict), and ``Timestamp`` and ``Duration``, both in seconds. An
operator raises ``CelError`` for operands that it has no overload for.
"""

import math
from collections.abc import Callable
from typing import Any

from raycp.embedded.strategy.scalars import LONGEST, Quantity


class CelError(Exception):
    """Evaluation failed."""


class CostExceeded(Exception):
    """The evaluation has cost more than it may. No ``CelError``: no operator absorbs it."""


class Meter:
    """Counts what one evaluation costs, in cel-go's units. ``limit`` is what it may cost."""

    __slots__ = ("_limit", "spent")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.spent = 0.0

    def spend(self, units: float) -> None:
        """Before what costs it. Raises ``CostExceeded``."""
        self.spent += units
        if self.spent > self._limit:
            self.spent = self._limit
            raise CostExceeded


BYTE = 0.1
"""units for each character that is read or written (cel-go's ``StringTraversalCostFactor``)"""


_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800


class Uint(int):
    """An unsigned integer, which has no arithmetic with signed ones."""


class Duration(float):
    """Seconds between two times."""


class Timestamp(float):
    """Seconds since 1970."""


class Optional:
    """``optional.of(x)`` or ``optional.none()``."""

    def __init__(self, there: bool, value: Any = None) -> None:
        self.there, self.value = there, value


def equal(a: Any, b: Any, meter: Meter) -> bool:
    """CEL equality: numbers are compared across types, other values only with their own type."""
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if isinstance(a, list) and isinstance(b, list):
        meter.spend(min(len(a), len(b)))
        return len(a) == len(b) and all(equal(one, other, meter) for one, other in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        meter.spend(min(len(a), len(b)))
        return a.keys() == b.keys() and all(equal(one, b[key], meter) for key, one in a.items())
    if isinstance(a, (str, bytes)) and isinstance(b, (str, bytes)):
        meter.spend(min(len(a), len(b)) * BYTE)
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return a.value == b.value
    if isinstance(a, Optional) and isinstance(b, Optional):
        return a.there is b.there and (not a.there or equal(a.value, b.value, meter))
    return bool(a == b)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def no_overload(*values: Any) -> CelError:
    return CelError("no such overload: " + ", ".join(type(value).__name__ for value in values))


def compare(a: Any, b: Any, meter: Meter) -> int:
    comparable = (
        (_number(a) and _number(b))
        or (isinstance(a, str) and isinstance(b, str))
        or (isinstance(a, bool) and isinstance(b, bool))
        or (isinstance(a, bytes) and isinstance(b, bytes))
    ) and isinstance(a, Timestamp) is isinstance(b, Timestamp) and isinstance(a, Duration) is isinstance(b, Duration)
    if not comparable:
        raise no_overload(a, b)
    if isinstance(a, (str, bytes)):
        meter.spend(min(len(a), len(b)) * BYTE)
    return int(a > b) - int(a < b)


def moment(seconds: float) -> Timestamp:
    """A time from the year 1 to 9999. Raises ``CelError`` for another one."""
    if not _YEAR_1 <= seconds < _YEAR_10000:
        raise CelError("timestamp overflow")
    return Timestamp(seconds)


def span(seconds: float) -> Duration:
    """A duration of less than 2^63 nanoseconds. Raises ``CelError`` for a longer one."""
    if abs(seconds) >= LONGEST:
        raise CelError("duration overflow")
    return Duration(seconds)


def add(a: Any, b: Any, meter: Meter) -> Any:
    if isinstance(a, (Timestamp, Duration)) and isinstance(b, (Timestamp, Duration)):
        if isinstance(a, Timestamp) and isinstance(b, Timestamp):
            raise no_overload(a, b)
        is_moment = isinstance(a, Timestamp) or isinstance(b, Timestamp)
        return moment(float(a) + float(b)) if is_moment else span(float(a) + float(b))
    if _number(a) and _number(b) and type(a) is type(b):
        return _in_range(a + b, type(a))
    if type(a) is type(b) and isinstance(a, (str, list, bytes)):
        meter.spend((len(a) + len(b)) * BYTE)
        return a + b
    raise no_overload(a, b)


def subtract(a: Any, b: Any) -> Any:
    if isinstance(a, Timestamp) and isinstance(b, (Timestamp, Duration)):
        return span(float(a) - float(b)) if isinstance(b, Timestamp) else moment(float(a) - float(b))
    if isinstance(a, Duration) and isinstance(b, Duration):
        return span(float(a) - float(b))
    if _number(a) and _number(b) and type(a) is type(b):
        return _in_range(a - b, type(a))
    raise no_overload(a, b)


def _in_range(value: Any, kind: type) -> Any:
    if kind is int and not -(2**63) <= value < 2**63:
        raise CelError("integer overflow")
    if kind is Uint:
        if not 0 <= value < 2**64:
            raise CelError("unsigned integer overflow")
        return Uint(value)
    return value


def _multiply(a: Any, b: Any) -> Any:
    if _number(a) and _number(b) and type(a) is type(b):
        return _in_range(a * b, type(a))
    raise no_overload(a, b)


def _divide(a: Any, b: Any) -> Any:
    if not (_number(a) and _number(b) and type(a) is type(b)):
        raise no_overload(a, b)
    if isinstance(a, float):
        return a / b if b else math.copysign(math.inf, a) if a else math.nan
    if b == 0:
        raise CelError("division by zero")
    return _in_range(abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1), type(a))


def _modulo(a: Any, b: Any) -> Any:
    if not (type(a) in (int, Uint) and type(a) is type(b)):
        raise no_overload(a, b)
    if b == 0:
        raise CelError("modulus by zero")
    return type(a)(abs(a) % abs(b) * (-1 if a < 0 else 1))


def has_key(of: dict[Any, Any], key: Any) -> bool:
    """Whether a map has the key. Numbers are compared across types; in Python, booleans would be numbers."""
    if isinstance(key, str):
        return key in of
    if not isinstance(key, (int, float)):
        raise no_overload(key)
    return any(isinstance(one, bool) is isinstance(key, bool) and one == key for one in of)


def _within(a: Any, b: Any, meter: Meter) -> bool:
    if isinstance(b, dict):
        return has_key(b, a)
    if isinstance(b, list):
        meter.spend(len(b))
        return any(equal(a, one, meter) for one in b)
    raise no_overload(a, b)


BINARY: dict[str, Callable[[Any, Any, Meter], Any]] = {
    "==": equal,
    "!=": lambda a, b, meter: not equal(a, b, meter),
    "<": lambda a, b, meter: compare(a, b, meter) < 0,
    "<=": lambda a, b, meter: compare(a, b, meter) <= 0,
    ">": lambda a, b, meter: compare(a, b, meter) > 0,
    ">=": lambda a, b, meter: compare(a, b, meter) >= 0,
    "in": _within,
    "+": add,
    "-": lambda a, b, meter: subtract(a, b),
    "*": lambda a, b, meter: _multiply(a, b),
    "/": lambda a, b, meter: _divide(a, b),
    "%": lambda a, b, meter: _modulo(a, b),
}


def truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise no_overload(value)
