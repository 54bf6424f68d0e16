"""CEL's global functions and methods, each with the numbers of arguments that it accepts, and what a call costs.

A function is given the meter of the evaluation, then its arguments. The cost of a call that depends on the size of its arguments
is in ``PRICES``, and spent before the call.
"""

import itertools
import re
from collections.abc import Callable
from typing import Any, TypeVar

from raycp.embedded.strategy.cel.addresses import ADDRESS_FUNCTIONS, ADDRESS_METHODS, Cidr, Ip, Url
from raycp.embedded.strategy.cel.authorization import AUTHORIZATION_METHODS, CHECK_COST
from raycp.embedded.strategy.cel.operators import (
    BYTE,
    CelError,
    CostExceeded,
    Duration,
    Meter,
    Optional,
    Timestamp,
    Uint,
    add,
    compare,
    equal,
    moment,
    no_overload,
)
from raycp.embedded.strategy.cel.sequences import SEQUENCE_FUNCTIONS, SEQUENCE_METHODS, as_list, quote, shown
from raycp.embedded.strategy.cel.texts import TEXT_METHODS, index_of, last_index_of, text_of
from raycp.embedded.strategy.cel.times import TIME_METHODS
from raycp.embedded.strategy.cel.versions import VERSION_FUNCTIONS, VERSION_METHODS, NamedFormat, Semver
from raycp.embedded.strategy.patterns import MatchTooCostly, Pattern, PatternRefused
from raycp.embedded.strategy.scalars import Malformed, Quantity, parse_duration, parse_integer, unix_time

T = TypeVar("T")
_FLOAT = re.compile(r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE)


def _size(value: Any) -> int:
    if isinstance(value, (str, list, dict, bytes)):
        return len(value)
    raise no_overload(value)


def _whole(value: str | float, *, signed: bool) -> int:
    """The number in a string, or a number without its fraction."""
    try:
        return parse_integer(value, signed=signed) if isinstance(value, str) else int(value)
    except (ValueError, OverflowError) as error:
        raise CelError(str(error)) from None


def _to_int(value: Any) -> int:
    if isinstance(value, Duration):
        return round(float(value) * 1e9)
    if isinstance(value, (str, float, int)) and not isinstance(value, bool):
        found = _whole(value, signed=True)
        if not -(2**63) <= found < 2**63:
            raise CelError("integer overflow")
        return found
    raise no_overload(value)


def _to_uint(value: Any) -> Uint:
    if isinstance(value, (Duration, Timestamp)):
        raise no_overload(value)
    if isinstance(value, (str, float, int)) and not isinstance(value, bool):
        found = _whole(value, signed=False)
        if not 0 <= found < 2**64:
            raise CelError("unsigned integer overflow")
        return Uint(found)
    raise no_overload(value)


def _to_double(value: Any) -> float:
    if isinstance(value, (str, float, int)) and not isinstance(value, bool):
        if isinstance(value, str) and _FLOAT.fullmatch(value) is None:
            raise CelError(f"strconv.ParseFloat: parsing {quote(value)}: invalid syntax")
        return float(value)
    raise no_overload(value)


def _to_string(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
    if isinstance(value, (str, bool, int, float, Ip, Cidr)):
        return shown(value)
    raise no_overload(value)


def _matches(value: Any, pattern: Any) -> bool:
    return _found(value, pattern, Pattern.found_in)


def _find(value: Any, pattern: Any) -> str:
    return _found(value, pattern, Pattern.first)


def _find_all(value: Any, pattern: Any, limit: int = -1) -> list[str]:
    found = _found(value, pattern, Pattern.each)
    return found if limit < 0 else found[:limit]


def _found(value: Any, pattern: Any, ask: Callable[[Pattern, str], T]) -> T:
    try:
        return ask(Pattern(text_of(pattern)), text_of(value))
    except PatternRefused as error:
        raise CelError(f"error parsing regexp: {error}") from None
    except MatchTooCostly:
        raise CostExceeded from None


def _timestamp(value: Any) -> Timestamp:
    if isinstance(value, Timestamp):
        return value
    if type(value) is int:
        return moment(value)
    try:
        return Timestamp(unix_time(text_of(value)))
    except Malformed as error:
        raise CelError(str(error)) from None


def _duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    try:
        return Duration(parse_duration(text_of(value)))
    except Malformed as error:
        raise CelError(str(error)) from None


_TYPES: dict[type, str] = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    type(None): "null_type",
    Optional: "optional_type",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    Ip: "net.IP",
    Cidr: "net.CIDR",
    Url: "kubernetes.URL",
    Quantity: "kubernetes.Quantity",
    Semver: "kubernetes.Semver",
    NamedFormat: "kubernetes.NamedFormat",
}


def _type(value: Any) -> str:
    return _TYPES.get(type(value), "dyn")


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    found = dict.fromkeys(("true", "True", "TRUE", "t", "T", "1"), True)
    found |= dict.fromkeys(("false", "False", "FALSE", "f", "F", "0"), False)
    if text_of(value) not in found:
        raise CelError(f"type conversion error from 'string' to 'bool': {value}")
    return found[value]


def _value(one: Any) -> Any:
    if not one.there:
        raise CelError("optional.none() dereference")
    return one.value


def _is_sorted(meter: Meter, items: Any) -> bool:
    return all(compare(a, b, meter) <= 0 for a, b in itertools.pairwise(as_list(items)))


def _sum(meter: Meter, items: Any) -> Any:
    total: Any = 0
    for index, one in enumerate(as_list(items)):
        if isinstance(one, (str, list, bytes)):
            raise no_overload(one)
        total = add(total, one, meter) if index else one
    return total


def _extreme(meter: Meter, items: Any, sign: int) -> Any:
    if not as_list(items):
        raise CelError("min/max called on empty list")
    best = items[0]
    for one in items[1:]:
        if compare(one, best, meter) * sign > 0:
            best = one
    return best


def _index_of(meter: Meter, value: Any, wanted: Any, start: int = 0) -> int:
    if isinstance(value, list):
        return next((i for i, one in enumerate(value) if equal(one, wanted, meter)), -1)
    return index_of(value, wanted, start)


def _last_index_of(meter: Meter, value: Any, wanted: Any, start: int | None = None) -> int:
    if isinstance(value, list):
        return next((i for i in range(len(value) - 1, -1, -1) if equal(value[i], wanted, meter)), -1)
    return last_index_of(value, wanted, start)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that needs no meter."""
    return lambda meter, *arguments: function(*arguments)


FUNCTIONS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "size": ((1,), _plain(_size)),
    "int": ((1,), _plain(_to_int)),
    "uint": ((1,), _plain(_to_uint)),
    "double": ((1,), _plain(_to_double)),
    "string": ((1,), _plain(_to_string)),
    "bool": ((1,), _plain(_bool)),
    "bytes": ((1,), _plain(lambda v: v if isinstance(v, bytes) else text_of(v).encode())),
    "matches": ((2,), _plain(_matches)),
    "optional.of": ((1,), _plain(lambda v: Optional(True, v))),
    "optional.ofNonZeroValue": ((1,), _plain(lambda v: Optional(bool(v), v if v else None))),
    "optional.none": ((0,), _plain(lambda: Optional(False))),
    "jsonpatch.escapeKey": ((1,), _plain(lambda v: text_of(v).replace("~", "~0").replace("/", "~1"))),
    "type": ((1,), _plain(_type)),
    "dyn": ((1,), _plain(lambda v: v)),
    "timestamp": ((1,), _plain(_timestamp)),
    "duration": ((1,), _plain(_duration)),
    **{name: (counts, _plain(one)) for name, (counts, one) in {**ADDRESS_FUNCTIONS, **VERSION_FUNCTIONS}.items()},
    **SEQUENCE_FUNCTIONS,
}
METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "size": ((0,), _plain(_size)),
    **{name: (counts, _plain(one)) for name, (counts, one) in TEXT_METHODS.items()},
    "matches": ((1,), _plain(_matches)),
    "join": ((0, 1), _plain(lambda s, p="": text_of(p).join(as_list(s)))),
    "indexOf": ((1, 2), _index_of),
    "lastIndexOf": ((1, 2), _last_index_of),
    "find": ((1,), _plain(_find)),
    "findAll": ((1, 2), _plain(_find_all)),
    "isSorted": ((0,), _is_sorted),
    "sum": ((0,), _sum),
    "min": ((0,), lambda meter, s: _extreme(meter, s, -1)),
    "max": ((0,), lambda meter, s: _extreme(meter, s, 1)),
    "hasValue": ((0,), _plain(lambda o: o.there)),
    "value": ((0,), _plain(_value)),
    "or": ((1,), _plain(lambda o, other: o if o.there else other)),
    "orValue": ((1,), _plain(lambda o, d: o.value if o.there else d)),
    **{
        name: (counts, _plain(one))
        for table in (ADDRESS_METHODS, VERSION_METHODS, TIME_METHODS, AUTHORIZATION_METHODS)
        for name, (counts, one) in table.items()
    },
    **SEQUENCE_METHODS,
}


def _reads(value: Any, *_: Any) -> float:
    return len(value) * BYTE if isinstance(value, (str, bytes)) else 0.0


def _argument(value: Any, wanted: Any) -> float:
    return len(wanted) * BYTE


def _search(value: Any, wanted: Any, *_: Any) -> float:
    return len(value) * (BYTE if isinstance(value, str) else 1) * max(1.0, _reads(wanted))


def _match(value: Any, pattern: Any) -> float:
    return (len(value) + 1) * BYTE * max(1.0, len(pattern) * 0.25)


def _pairs(left: Any, right: Any) -> float:
    return float(len(left) * len(right))


def _joined(items: Any, between: Any = "") -> float:
    return len(items) + (sum(map(len, items)) + len(items) * len(between)) * BYTE


def _replaced(value: Any, old: Any, new: Any, limit: int = -1) -> float:
    """By the size of what is made, since each replacement may multiply."""
    found = int(value.count(old))
    count = found if limit < 0 else min(found, limit)
    return float(len(value) + count * len(new)) * BYTE


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
    "findAll": lambda value, pattern, *_: _match(value, pattern),
    **dict.fromkeys(("url", "isURL", "ip", "isIP", "cidr", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _reads),
    **dict.fromkeys(("sets.contains", "sets.intersects", "sets.equivalent"), _pairs),
    **dict.fromkeys(("reverse", "slice"), lambda items, *_: float(len(items))),
    "validate": lambda form, text: (len(text) + 1) * BYTE * 32,
    "check": lambda *_: float(CHECK_COST),
    "format": _reads,
    "strings.quote": _reads,
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
