"""CEL's global functions and methods, each with the numbers of arguments that it accepts, and what a call costs.

A function is given the meter of the evaluation, then its arguments. The cost of a call that depends on the size of its arguments
is in ``PRICES``, and spent before the call.
"""

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

from raycp.embedded.strategy.cel.operators import (
    BYTE,
    CelError,
    CostExceeded,
    Duration,
    Meter,
    Timestamp,
    add,
    compare,
    equal,
    no_overload,
)
from raycp.embedded.strategy.patterns import MatchTooCostly, Pattern, PatternRefused
from raycp.embedded.strategy.scalars import Malformed, parse_duration, unix_time

T = TypeVar("T")


def _size(value: Any) -> int:
    if isinstance(value, (str, list, dict, bytes)):
        return len(value)
    raise no_overload(value)


def _to_int(value: Any) -> int:
    if isinstance(value, (str, float, int)) and not isinstance(value, bool):
        try:
            return int(value)
        except (ValueError, OverflowError) as error:
            raise CelError(str(error)) from None
    raise no_overload(value)


def _to_double(value: Any) -> float:
    if isinstance(value, (str, float, int)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError as error:
            raise CelError(str(error)) from None
    raise no_overload(value)


def _to_string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    raise no_overload(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise no_overload(value)
    return value


def _matches(value: Any, pattern: Any) -> bool:
    return _found(value, pattern, Pattern.found_in)


def _find(value: Any, pattern: Any) -> str:
    return _found(value, pattern, Pattern.first)


def _found(value: Any, pattern: Any, ask: Callable[[Pattern, str], T]) -> T:
    try:
        return ask(Pattern(_text(pattern)), _text(value))
    except PatternRefused as error:
        raise CelError(f"error parsing regexp: {error}") from None
    except MatchTooCostly:
        raise CostExceeded from None


def _timestamp(value: Any) -> Timestamp:
    try:
        return Timestamp(unix_time(_text(value)))
    except Malformed as error:
        raise CelError(str(error)) from None


def _duration(value: Any) -> Duration:
    try:
        return Duration(parse_duration(_text(value)))
    except Malformed as error:
        raise CelError(str(error)) from None


def _type(value: Any) -> str:
    names = {
        bool: "bool",
        int: "int",
        float: "double",
        str: "string",
        list: "list",
        dict: "map",
        type(None): "null_type",
    }
    return names.get(type(value), "dyn")


def _is_sorted(meter: Meter, items: Any) -> bool:
    return all(compare(a, b, meter) <= 0 for a, b in itertools.pairwise(_list(items)))


def _sum(meter: Meter, items: Any) -> Any:
    total: Any = 0
    for index, one in enumerate(_list(items)):
        if isinstance(one, (str, list, bytes)):
            raise no_overload(one)
        total = add(total, one, meter) if index else one
    return total


def _extreme(meter: Meter, items: Any, sign: int) -> Any:
    if not _list(items):
        raise CelError("min/max called on empty list")
    best = items[0]
    for one in items[1:]:
        if compare(one, best, meter) * sign > 0:
            best = one
    return best


def _index_of(meter: Meter, value: Any, wanted: Any, start: int = 0) -> int:
    if isinstance(value, list):
        return next((i for i, one in enumerate(value) if equal(one, wanted, meter)), -1)
    return _text(value).find(_text(wanted), start)


def _last_index_of(meter: Meter, value: Any, wanted: Any) -> int:
    if isinstance(value, list):
        return next((i for i in range(len(value) - 1, -1, -1) if equal(value[i], wanted, meter)), -1)
    return _text(value).rfind(_text(wanted))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise no_overload(value)
    return value


def _char_at(text: Any, index: Any) -> str:
    if not 0 <= index <= len(_text(text)):
        raise CelError(f"index out of range: {index}")
    return str(text[index : index + 1])


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that needs no meter."""
    return lambda meter, *arguments: function(*arguments)


FUNCTIONS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "size": ((1,), _plain(_size)),
    "int": ((1,), _plain(_to_int)),
    "uint": ((1,), _plain(_to_int)),
    "double": ((1,), _plain(_to_double)),
    "string": ((1,), _plain(_to_string)),
    "bool": ((1,), _plain(lambda v: v if isinstance(v, bool) else {"true": True, "false": False}[_text(v)])),
    "type": ((1,), _plain(_type)),
    "dyn": ((1,), _plain(lambda v: v)),
    "timestamp": ((1,), _plain(_timestamp)),
    "duration": ((1,), _plain(_duration)),
}
METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "size": ((0,), _plain(_size)),
    "startsWith": ((1,), _plain(lambda s, p: _text(s).startswith(_text(p)))),
    "endsWith": ((1,), _plain(lambda s, p: _text(s).endswith(_text(p)))),
    "contains": ((1,), _plain(lambda s, p: _text(p) in _text(s))),
    "matches": ((1,), _plain(_matches)),
    "lowerAscii": ((0,), _plain(lambda s: _text(s).lower())),
    "upperAscii": ((0,), _plain(lambda s: _text(s).upper())),
    "trim": ((0,), _plain(lambda s: _text(s).strip())),
    "split": ((1, 2), _plain(lambda s, p, n=-1: _text(s).split(p, n - 1 if n > 0 else -1) if p else list(_text(s)))),
    "join": ((0, 1), _plain(lambda s, p="": _text(p).join(_list(s)))),
    "replace": ((2, 3), _plain(lambda s, a, b, n=-1: _text(s).replace(a, b, n))),
    "substring": ((1, 2), _plain(lambda s, a, b=None: _text(s)[a:b])),
    "charAt": ((1,), _plain(_char_at)),
    "indexOf": ((1, 2), _index_of),
    "lastIndexOf": ((1,), _last_index_of),
    "find": ((1,), _plain(_find)),
    "isSorted": ((0,), _is_sorted),
    "sum": ((0,), _sum),
    "min": ((0,), lambda meter, s: _extreme(meter, s, -1)),
    "max": ((0,), lambda meter, s: _extreme(meter, s, 1)),
    "hasValue": ((0,), _plain(lambda o: o.there)),
    "value": ((0,), _plain(lambda o: o.value)),
    "orValue": ((1,), _plain(lambda o, d: o.value if o.there else d)),
    "getSeconds": ((0,), _plain(lambda d: int(float(d)) if isinstance(d, Duration) else int(float(d)) % 60)),
}


def _reads(value: Any, *_: Any) -> float:
    return len(value) * BYTE if isinstance(value, (str, bytes)) else 0.0


def _argument(value: Any, wanted: Any) -> float:
    return len(wanted) * BYTE


def _search(value: Any, wanted: Any, *_: Any) -> float:
    return len(value) * (BYTE if isinstance(value, str) else 1) * max(1.0, _reads(wanted))


def _match(value: Any, pattern: Any) -> float:
    return (len(value) + 1) * BYTE * max(1.0, len(pattern) * 0.25)


def _joined(items: Any, between: Any = "") -> float:
    return len(items) + (sum(map(len, items)) + len(items) * len(between)) * BYTE


def _replaced(value: Any, old: Any, new: Any, limit: int = -1) -> float:
    """By the size of what is made, since each replacement may multiply."""
    found = int(value.count(old))
    count = found if limit < 0 else min(found, limit)
    return float (len(value) + count * len(new)) * BYTE


PRICES: dict[str, Callable[..., float]] = {
    "int": _reads,
    "uint": _reads,
    "double": _reads,
    "string": _reads,
    "bool": _reads,
    "timestamp": _reads,
    "duration": _reads,
    "startsWith": _argument,
    "endsWith": _argument,
    "contains": _search,
    "indexOf": _search,
    "lastIndexOf": _search,
    "split": _search,
    "matches": _match,
    "find": _match,
    "lowerAscii": _reads,
    "upperAscii": _reads,
    "trim": _reads,
    "substring": _reads,
    "charAt": _reads,
    "join": _joined,
    "replace": _replaced,
    "isSorted": len,
    "sum": len,
    "min": len,
    "max": len,
}
