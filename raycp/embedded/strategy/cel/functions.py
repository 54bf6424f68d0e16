"""CEL's global functions and methods, each with the numbers of arguments that it accepts."""

import itertools
import re
from collections.abc import Callable
from typing import Any

from raycp.embedded.strategy.cel.operators import CelError, Duration, Timestamp, add, compare, equal, no_overload
from raycp.embedded.strategy.scalars import Malformed, parse_duration, unix_time


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
    try:
        return re.search(_text(pattern), _text(value)) is not None
    except re.error as error:
        raise CelError(str(error)) from None


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


def _is_sorted(items: Any) -> bool:
    return all(compare(a, b) <= 0 for a, b in itertools.pairwise(items))


def _sum(items: Any) -> Any:
    total: Any = 0
    for index, one in enumerate(items):
        total = add(total, one) if index else one
    return total


def _extreme(items: Any, sign: int) -> Any:
    if not items:
        raise CelError("min/max called on empty list")
    best = items[0]
    for one in items[1:]:
        if compare(one, best) * sign > 0:
            best = one
    return best


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise no_overload(value)
    return value


def _char_at(text: Any, index: Any) -> str:
    if not 0 <= index <= len(_text(text)):
        raise CelError(f"index out of range: {index}")
    return str(text[index : index + 1])


FUNCTIONS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "size": ((1,), _size),
    "int": ((1,), _to_int),
    "uint": ((1,), _to_int),
    "double": ((1,), _to_double),
    "string": ((1,), _to_string),
    "bool": ((1,), lambda v: v if isinstance(v, bool) else {"true": True, "false": False}[_text(v)]),
    "type": ((1,), _type),
    "dyn": ((1,), lambda v: v),
    "timestamp": ((1,), _timestamp),
    "duration": ((1,), _duration),
}
METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "size": ((0,), _size),
    "startsWith": ((1,), lambda s, p: _text(s).startswith(_text(p))),
    "endsWith": ((1,), lambda s, p: _text(s).endswith(_text(p))),
    "contains": ((1,), lambda s, p: _text(p) in _text(s)),
    "matches": ((1,), _matches),
    "lowerAscii": ((0,), lambda s: _text(s).lower()),
    "upperAscii": ((0,), lambda s: _text(s).upper()),
    "trim": ((0,), lambda s: _text(s).strip()),
    "split": ((1, 2), lambda s, p, n=-1: _text(s).split(p, n - 1 if n > 0 else -1) if p else list(_text(s))),
    "join": ((0, 1), lambda s, p="": _text(p).join(_list(s))),
    "replace": ((2, 3), lambda s, a, b, n=-1: _text(s).replace(a, b, n)),
    "substring": ((1, 2), lambda s, a, b=None: _text(s)[a:b]),
    "charAt": ((1,), _char_at),
    "indexOf": (
        (1, 2),
        lambda s, p, n=0: next((i for i, o in enumerate(s) if equal(o, p)), -1) if isinstance(s, list) else s.find(p, n),
    ),
    "lastIndexOf": (
        (1,),
        lambda s, p: next((i for i in range(len(s) - 1, -1, -1) if equal(s[i], p)), -1) if isinstance(s, list) else s.rfind(p),
    ),
    "find": ((1,), lambda s, p: (re.search(p, _text(s)) or [""])[0]),
    "isSorted": ((0,), lambda s: _is_sorted(_list(s))),
    "sum": ((0,), lambda s: _sum(_list(s))),
    "min": ((0,), lambda s: _extreme(_list(s), -1)),
    "max": ((0,), lambda s: _extreme(_list(s), 1)),
    "hasValue": ((0,), lambda o: o.there),
    "value": ((0,), lambda o: o.value),
    "orValue": ((1,), lambda o, d: o.value if o.there else d),
    "getSeconds": ((0,), lambda d: int(float(d)) if isinstance(d, Duration) else int(float(d)) % 60),
}
