"""Durations, shares and sizes as types for pydantic models.

A field of type ``Duration`` takes ``"10h"``, ``"1h30m"``, ``"250ms"`` or a number of seconds and holds seconds as
``float``; one of type ``Percent`` takes ``"99.9%"`` or a number from 0 to 1 and holds the fraction; one of type ``Size`` takes
``"8Mi"`` or a number of bytes and holds bytes. None takes NaN,
infinity, a negative value or a boolean. Errors are ``UnitError``, which carries a remedy.
"""

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from raycp.config.strict import InvalidValue

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ns|us|µs|ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")

DURATION_REMEDY = 'write a duration such as "250ms", "30s", "1h30m", "7d", or a number of seconds'
PERCENT_REMEDY = 'write a share such as "40%" or "99.9%", or a number from 0 to 1'


class UnitError(InvalidValue):
    """A quantity that can't be read; ``remedy`` says how to write it."""


class Unit:
    """The name of an annotated type's unit, for the generated documentation."""

    def __init__(self, name: Literal["duration", "share", "size"]) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Unit({self.name!r})"


def parse_duration(value: object) -> float:
    """``value`` in seconds: Go's notation (plus ``d`` for 24 hours) or a finite, non-negative number of seconds.

    Raises ``UnitError``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnitError("is not a duration", DURATION_REMEDY)
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("-"):
            raise UnitError("is a negative duration", DURATION_REMEDY)
        if text == "0":
            return 0.0
        if not _WHOLE.fullmatch(text):
            if re.fullmatch(r"\d+(\.\d+)?", text):
                raise UnitError("is a duration without a unit", f'write "{text}s", or {text} without quotes')
            raise UnitError("is not a duration", DURATION_REMEDY)
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    else:
        seconds = float(value) if not isinstance(value, int) or abs(value) < 1 << 53 else math.inf
    if math.isnan(seconds):
        raise UnitError("is not a number", DURATION_REMEDY)
    if math.isinf(seconds):
        raise UnitError("is not a finite duration", DURATION_REMEDY)
    if seconds < 0:
        raise UnitError("is a negative duration", DURATION_REMEDY)
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest notation that parses to ``seconds``: ``"10h"``, ``"1h30m"``, ``"2.5s"``, ``"250ms"``."""
    if seconds == 0:
        return "0s"
    if seconds < 1:
        for unit in ("ms", "us", "ns"):
            amount = seconds / _SECONDS[unit]
            if amount >= 1:
                return f"{amount:.6g}{unit}"
        return f"{seconds / 1e-9:.6g}ns"
    parts: list[str] = []
    rest = seconds
    for unit in ("h", "m"):
        amount = int(rest // _SECONDS[unit])
        if amount:
            parts.append(f"{amount}{unit}")
            rest -= amount * _SECONDS[unit]
    if rest > 1e-9 or not parts:
        parts.append(f"{rest:.9g}s")
    return "".join(parts)


def parse_percent(value: object) -> float:
    """The fraction of ``value``: ``"40%"`` or a number from 0 to 1. Raises ``UnitError``."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnitError("is not a share", PERCENT_REMEDY)
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([+-]?\d+(?:\.\d+)?|[+-]?\.\d+)\s*%\s*", value)
        if not match:
            raise UnitError("is not a share", PERCENT_REMEDY)
        # rounded, so that "99.9%" is 0.999 and not the nearest float of 99.9 divided by 100
        fraction = round(float(match[1]) / 100, 12)
    else:
        fraction = float(value) if not isinstance(value, int) or abs(value) < 1 << 53 else math.inf
        if 1 < fraction <= 100:
            raise UnitError("is a share above 100 %", f'write "{value}%" if percent was meant, or a number from 0 to 1')
    if math.isnan(fraction):
        raise UnitError("is not a number", PERCENT_REMEDY)
    if not 0 <= fraction <= 1:
        raise UnitError("is a share outside 0 % to 100 %", PERCENT_REMEDY)
    return fraction


def format_percent(fraction: float) -> str:
    """``0.999`` as ``"99.9%"``."""
    return f"{fraction * 100:.10g}%"


_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_SIZE = re.compile(r"(\d{1,15})(k|M|G|Ki|Mi|Gi)?")
SIZE_REMEDY = 'write a size such as "64Ki", "8Mi", "2Gi", or a number of bytes'


def parse_size(value: object) -> int:
    """``value`` in bytes: a whole number, with the suffix of a Kubernetes quantity or without. Raises ``UnitError``."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UnitError("is not a size", SIZE_REMEDY)
    found = _SIZE.fullmatch(str(value).strip())
    if found is None:
        raise UnitError("is not a size", SIZE_REMEDY)
    return int(found[1]) * _BYTES[found[2] or ""]


def format_size(size: int) -> str:
    """The shortest notation that parses to ``size``: ``"8Mi"``, ``"1000"``."""
    for suffix in ("Gi", "Mi", "Ki"):
        if size and size % _BYTES[suffix] == 0:
            return f"{size // _BYTES[suffix]}{suffix}"
    return str(size)


def _above_zero_duration(seconds: float) -> float:
    if seconds <= 0:
        raise UnitError("must be longer than zero", DURATION_REMEDY)
    return seconds


_DURATION_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "pattern": r"^((\d+(\.\d+)?|\.\d+)(ns|us|µs|ms|s|m|h|d))+$|^0$"},
            {"type": "number", "minimum": 0},
        ],
        "description": "a duration such as 250ms, 30s, 1h30m, 7d, or a number of seconds",
    }
)
_SIZE_SCHEMA = WithJsonSchema(
    {
        "anyOf": [{"type": "string", "pattern": r"^\d{1,15}(k|M|G|Ki|Mi|Gi)?$"}, {"type": "integer", "minimum": 0}],
        "description": "a size such as 64Ki, 8Mi, 2Gi, or a number of bytes",
    }
)
_PERCENT_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "pattern": r"^\s*\+?(\d+(\.\d+)?|\.\d+)\s*%\s*$"},
            {"type": "number", "minimum": 0, "maximum": 1},
        ],
        "description": "a share such as 40%, or a number from 0 to 1",
    }
)

Duration = Annotated[float, BeforeValidator(parse_duration), Unit("duration"), _DURATION_SCHEMA]
"""Seconds, zero allowed."""

PositiveDuration = Annotated[
    float, AfterValidator(_above_zero_duration), BeforeValidator(parse_duration), Unit("duration"), _DURATION_SCHEMA
]
"""Seconds, more than zero."""

Percent = Annotated[float, BeforeValidator(parse_percent), Unit("share"), _PERCENT_SCHEMA]
"""A fraction from 0 to 1."""

Size = Annotated[int, BeforeValidator(parse_size), Unit("size"), _SIZE_SCHEMA]
"""Bytes."""
