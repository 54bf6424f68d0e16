"""CEL's values and operators.

Values are JSON's (int, float, str, bool, None, list, dict), and ``Timestamp`` and ``Duration``, both in seconds. An
operator raises ``CelError`` for operands that it has no overload for.
"""

import math
from collections.abc import Callable
from typing import Any


class CelError(Exception):
    """Evaluation failed."""


class Duration(float):
    """Seconds between two times."""


class Timestamp(float):
    """Seconds since 1970."""


class Optional:
    """``optional.of(x)`` or ``optional.none()``."""

    def __init__(self, there: bool, value: Any = None) -> None:
        self.there, self.value = there, value


def equal(a: Any, b: Any) -> bool:
    """CEL equality: numbers are compared across types, other values only with their own type."""
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(one, b[key]) for key, one in a.items())
    return bool(a == b)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def no_overload(*values: Any) -> CelError:
    return CelError("no such overload: " + ", ".join(type(value).__name__ for value in values))


def compare(a: Any, b: Any) -> int:
    comparable = (
        (_number(a) and _number(b))
        or (isinstance(a, str) and isinstance(b, str))
        or (isinstance(a, bool) and isinstance(b, bool))
        or (isinstance(a, bytes) and isinstance(b, bytes))
    )
    if not comparable:
        raise no_overload(a, b)
    return int(a > b) - int(a < b)


def add(a: Any, b: Any) -> Any:
    if isinstance(a, (Timestamp, Duration)) or isinstance(b, (Timestamp, Duration)):
        if isinstance(a, Timestamp) or isinstance(b, Timestamp):
            return Timestamp(float(a) + float(b))
        return Duration(float(a) + float(b))
    if _number(a) and _number(b) and type(a) is type(b):
        return _in_range(a + b)
    if type(a) is type(b) and isinstance(a, (str, list, bytes)):
        return a + b
    raise no_overload(a, b)


def subtract(a: Any, b: Any) -> Any:
    if isinstance(a, Timestamp):
        return Duration(float(a) - float(b)) if isinstance(b, Timestamp) else Timestamp(float(a) - float(b))
    if isinstance(a, Duration) and isinstance(b, Duration):
        return Duration(float(a) - float(b))
    if _number(a) and _number(b) and type(a) is type(b):
        return _in_range(a - b)
    raise no_overload(a, b)


def _in_range(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise CelError("integer overflow")
    return value


def _multiply(a: Any, b: Any) -> Any:
    if _number(a) and _number(b) and type(a) is type(b):
        return _in_range(a * b)
    raise no_overload(a, b)


def _divide(a: Any, b: Any) -> Any:
    if not (_number(a) and _number(b) and type(a) is type(b)):
        raise no_overload(a, b)
    if isinstance(a, float):
        return a / b if b else math.copysign(math.inf, a) if a else math.nan
    if b == 0:
        raise CelError("division by zero")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _modulo(a: Any, b: Any) -> Any:
    if not (type(a) is int and type(b) is int):
        raise no_overload(a, b)
    if b == 0:
        raise CelError("modulus by zero")
    return int(math.copysign(abs(a) % abs(b), a)) if a else 0


def _within(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return isinstance(a, str) and a in b
    if isinstance(b, list):
        return any(equal(a, one) for one in b)
    raise no_overload(a, b)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "==": equal,
    "!=": lambda a, b: not equal(a, b),
    "<": lambda a, b: compare(a, b) < 0,
    "<=": lambda a, b: compare(a, b) <= 0,
    ">": lambda a, b: compare(a, b) > 0,
    ">=": lambda a, b: compare(a, b) >= 0,
    "in": _within,
    "+": add,
    "-": subtract,
    "*": _multiply,
    "/": _divide,
    "%": _modulo,
}


def truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise no_overload(value)
