"""CEL libraries of lists, sets and formatted strings (cel-go's ``ext``: lists.go, sets.go, strings.go, formatting.go)."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cmp_to_key
from typing import Any

from raycp.embedded.strategy.cel.operators import (
    CelError,
    Duration,
    Meter,
    Timestamp,
    compare,
    equal,
    no_overload,
)

MAX_PRECISION = 1000
GENERAL_DIGITS = 21
"""digits before the point of a number that is written without an exponent"""
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_VERB = re.compile(r"%(?:(%)|(?:\.(\d+))?([sdfeboxX]))")


def as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise no_overload(value)
    return value


def _among(meter: Meter, wanted: Any, items: list[Any]) -> bool:
    return any(equal(wanted, one, meter) for one in items)


def _contains(meter: Meter, whole: Any, part: Any) -> bool:
    return all(_among(meter, one, as_list(whole)) for one in as_list(part))


def _intersects(meter: Meter, left: Any, right: Any) -> bool:
    return any(_among(meter, one, as_list(right)) for one in as_list(left))


def _slice(meter: Meter, items: Any, start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if len(as_list(items)) < end:
        raise CelError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return list(items[start:end])


def _flatten(meter: Meter, items: Any, depth: int = 1) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    found: list[Any] = []
    for one in as_list(items):
        meter.spend(1)
        found += _flatten(meter, one, depth - 1) if isinstance(one, list) and depth else [one]
    return found


def _distinct(meter: Meter, items: Any) -> list[Any]:
    found: list[Any] = []
    for one in as_list(items):
        meter.spend(len(found))
        if not _among(meter, one, found):
            found.append(one)
    return found


def sort_by(meter: Meter, items: list[Any], keys: list[Any]) -> list[Any]:
    """``items`` in the order of ``keys``, which must be of one comparable type."""
    meter.spend(len(keys))
    if len({type(key) for key in keys}) > 1:
        raise CelError("list elements must have the same type")


    def ordered(one: int, other: int) -> int:
        return compare(keys[one], keys[other], meter)

    return [items[index] for index in sorted(range(len(keys)), key=cmp_to_key(ordered))]


def _range(meter: Meter, count: Any) -> list[int]:
    meter.spend(max(0, count))
    return list(range(count))


def quote(text: Any) -> str:
    """``strings.quote``: a literal of CEL."""
    if not isinstance(text, str):
        raise no_overload(text)
    escapes = {"\\": "\\\\", '"': '\\"', "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
    return '"' + "".join(escapes.get(one, one) for one in text) + '"'


def shown(value: Any) -> str:
    """A value as ``%s`` writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, Duration):
        return f"{float(value):.9f}".rstrip("0").rstrip(".") + "s"
    if isinstance(value, Timestamp):
        return _moment(value)
    if isinstance(value, float):
        return go_float(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{shown(key)}: {shown(one)}" for key, one in value.items())) + "}"
    return str(value)


def go_float(value: float) -> str:
    """The shortest form that is read back as the same number (Go's ``FormatFloat(f, 'g', -1, 64)``)."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[str(value)]
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    power = len(digits) + exponent - 1
    if value and not -4 <= power < GENERAL_DIGITS:
        rest = "".join(map(str, digits[1:]))
        return f"{'-' * sign}{digits[0]}{'.' + rest if rest else ''}e{'-' if power < 0 else '+'}{abs(power):02}"
    return f"{Decimal(repr(value)).normalize():f}"


def _moment(value: Timestamp) -> str:
    whole = datetime.fromtimestamp(float(value), UTC)
    fraction = f"{whole.microsecond:06}".rstrip("0")
    return f"{whole:%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}Z"


def _format(meter: Meter, text: Any, values: Any) -> str:
    rest = list(as_list(values))
    if not isinstance(text, str):
        raise no_overload(text)
    given = iter(rest)
    used = 0

    def write(found: re.Match[str]) -> str:
        nonlocal used
        if found[1]:
            return "%"
        if used >= len(rest):
            raise CelError(f"index {used} out of range")
        used += 1
        made = _clause(next(given), found[3], found[2])
        meter.spend(len(made) * 0.1)
        return made

    unknown = re.search(r"%(?!(?:%|(?:\.\d+)?[sdfeboxX]))", text.replace("%%", ""))
    if unknown is not None:
        raise CelError("could not parse formatting clause: unrecognized formatting clause")
    return _VERB.sub(write, text)


def _clause(value: Any, verb: str, precision: str | None) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, (bool, Duration, Timestamp))
    if verb == "s":
        return shown(value)
    if verb == "d" and number:
        return str(int(value)) if isinstance(value, int) else shown(value)
    if verb in "fe" and number:
        if int(precision or 0) > MAX_PRECISION:
            raise CelError(f"precision {precision} exceeds maximum allowed precision {MAX_PRECISION}")
        digits = 6 if precision is None else int(precision)
        if verb == "f":
            return f"{float(value):.{digits}f}"
        mantissa, _, power = f"{float(value):.{digits}e}".partition("e")
        return f"{mantissa}×10{power.removeprefix('+').translate(_RAISED)}"
    if verb == "b" and isinstance(value, int):
        return f"{int(value):b}"
    if verb == "o" and isinstance(value, int) and number:
        return f"{value:o}"
    if verb in "xX":
        if isinstance(value, (str, bytes)):
            raw = (value.encode() if isinstance(value, str) else value).hex()
            return raw.upper() if verb == "X" else raw
        if isinstance(value, int) and number:
            return f"{value:{verb}}"
    raise CelError(f"error during formatting: %{verb} cannot format {type(value).__name__}")


SEQUENCE_FUNCTIONS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "sets.contains": ((2,), _contains),
    "sets.intersects": ((2,), _intersects),
    "sets.equivalent": ((2,), lambda meter, a, b: _contains(meter, a, b) and _contains(meter, b, a)),
    "lists.range": ((1,), _range),
    "strings.quote": ((1,), lambda meter, text: quote(text)),
}
SEQUENCE_METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "slice": ((2,), _slice),
    "flatten": ((0, 1), _flatten),
    "distinct": ((0,), _distinct),
    "reverse": ((0,), lambda meter, items: as_list(items)[::-1]),
    "sort": ((0,), lambda meter, items: sort_by(meter, as_list(items), items)),
    "format": ((1,), _format),
}
