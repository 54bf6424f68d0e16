"""Kubernetes' scalar types (quantities, times, durations, base64), parsed and formatted as Go does."""

import base64
import binascii
import math
import re
from datetime import UTC, datetime
from fractions import Fraction
from typing import NamedTuple

from raycp.base.text_cache import cached_by_text

_QUANTITY = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(n|u|m|k|Ki|Mi|Gi|Ti|Pi|Ei|[MGTPE]|[eE][+-]?\d+)?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_NAMES = {exp: name for name, exp in _DECIMAL.items()}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_BINARY_NAMES = {power: name for name, power in _BINARY.items()}


class Malformed(ValueError):
    """A scalar that can't be parsed."""


class Quantity(NamedTuple):
    """A parsed ``resource.Quantity``: its exact value, and its form (``decimal``, ``binary`` or ``exponent``)."""

    value: Fraction
    form: str

    def __str__(self) -> str:
        return _written(self.value, self.form)


@cached_by_text(4096)
def parse_quantity(text: str) -> Quantity:
    """A quantity, rounded up to a nano as apimachinery does. Raises ``Malformed``."""
    return Quantity(*_parse_quantity(text))


def quantity_value(text: str) -> Fraction:
    """The exact value of a quantity. Raises ``Malformed``."""
    return parse_quantity(text).value


@cached_by_text(4096)
def milli(quantity: str | int | float) -> int:
    """A quantity in thousandths, rounded up, for adding and comparing. Raises ``Malformed``."""
    return quantity * 1000 if isinstance(quantity, int) else math.ceil(quantity_value(str(quantity)) * 1000)


@cached_by_text(4096)
def canonical_quantity(text: str) -> str:
    """``0.5`` -> ``500m``, ``1024Mi`` -> ``1Gi`` (``resource.Quantity``'s canonical form). Raises ``Malformed``."""
    return str(parse_quantity(text))


def _written(value: Fraction, form: str) -> str:
    if form == "binary":
        whole = value.denominator == 1
        if not whole or -1024 < value < 1024:
            form = "decimal"  # CanonicalizeBytes falls back to the decimal form below 1024 and for fractions
        else:
            number, power = int(value), 0
            while power < 6 and number % 1024 == 0:
                number //= 1024
                power += 1
            return f"{number}{_BINARY_NAMES[power] if power else ''}"
    sign = "-" if value < 0 else ""
    value = abs(value)
    if value == 0:
        return "0"
    exponent = 0
    # the largest exponent, a multiple of 3, that leaves an integer mantissa
    nanos = int(value * 10**9)
    exponent = -9
    while exponent < 18 and nanos % 1000 == 0:
        nanos //= 1000
        exponent += 3
    if form == "exponent":
        return f"{sign}{nanos}{f'e{exponent}' if exponent else ''}"
    return f"{sign}{nanos}{_DECIMAL_NAMES[exponent]}"


def _parse_quantity(text: str) -> tuple[Fraction, str]:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise Malformed(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            if text
            else "unable to parse quantity's suffix"
        )
    sign, digits, suffix = found[1], found[2], found[3] or ""
    if suffix in _DECIMAL:
        number, form = _scaled(digits, _DECIMAL[suffix]), "decimal"
    elif suffix in _BINARY:
        number, form = _scaled(digits, 0) * 1024 ** _BINARY[suffix], "binary"
    else:
        number, form = _scaled(digits, int(suffix[1:12])), "exponent"
    nanos = number * 10**9
    if nanos.denominator != 1:
        number = Fraction(math.ceil(nanos), 10**9)
    return (-number if sign == "-" else number), form


_MOST, _LEAST, _KEPT = 25, -15, 60
"""digits before the point of the largest number, after it of the smallest, and those that are kept of any"""


def _scaled(digits: str, exponent: int) -> Fraction:
    """``digits`` times ten to ``exponent``. Beyond a limit it is 2^63 - 1, or as small a one as there is (``ParseQuantity``): what
    a client sends must not be computed to a billion digits."""
    whole, _, rest = digits.partition(".")
    kept = (whole + rest).lstrip("0")
    if not kept:
        return Fraction(0)
    before = len(kept) - len(rest) + exponent
    if before > _MOST:
        return Fraction(2**63 - 1)
    if before < _LEAST:
        return Fraction(1, 10**9)
    shift = exponent - len(rest) + max(0, len(kept) - _KEPT)
    more = kept[_KEPT:].strip("0")
    number = int(kept[:_KEPT]) * Fraction(10) ** shift
    return number + Fraction(10) ** (shift - 1) if more else number


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)")


@cached_by_text(1024)
def canonical_time(text: str, micro: bool = False) -> str:
    """RFC 3339 in UTC, to the second, or to the microsecond. Raises ``Malformed``."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise Malformed(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"')
    try:
        moment = datetime.fromisoformat(text[:19] + ("+00:00" if found[8] == "Z" else found[8])).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Malformed(f'parsing time "{text}": {error}') from error
    if micro:
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{(found[7] or '').ljust(6, '0')[:6]}Z"
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def unix_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time. Raises ``Malformed``."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise Malformed(f'parsing time "{text}"')
    try:
        moment = datetime.fromisoformat(text[:19] + ("+00:00" if found[8] == "Z" else found[8]))
    except ValueError as error:
        raise Malformed(f'parsing time "{text}": {error}') from error
    return moment.timestamp() + float(f"0.{found[7] or 0}")


_INTEGER = re.compile("[+-]?[0-9]+")
_DIGITS = 100
"""No number has more, even with leading zeros: Python refuses to parse 4300, and takes long for fewer."""


def parse_integer(text: str, *, signed: bool = True) -> int:
    """A number of 64 bits, as ``strconv.ParseInt`` and ``ParseUint`` read it. Raises ``Malformed``."""
    why, what = "invalid syntax", "ParseInt" if signed else "ParseUint"
    if _INTEGER.fullmatch(text) and (signed or text[0] not in "+-"):
        value = int(text) if len(text) <= _DIGITS else 1 << 64
        if (-(1 << 63) <= value < 1 << 63) if signed else value < 1 << 64:
            return value
        why = "value out of range"
    raise Malformed(f'strconv.{what}: parsing "{text}": {why}')


def canonical_base64(text: str) -> str:
    """Standard base64, as ``[]byte`` decodes it: line breaks are dropped. Raises ``Malformed``."""
    try:
        if "\n" in text or "\r" in text:
            text = text.replace("\n", "").replace("\r", "")
        return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except (binascii.Error, ValueError) as error:
        raise Malformed("illegal base64 data") from error


LONGEST = 2**63 / 1e9
"""seconds that no Go duration reaches: it counts nanoseconds in 64 bits"""
_DURATION = re.compile(r"[+-]?(?:(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+|[+-]?0")
_NUMBER = re.compile(r"[+-]?(\d+(?:\.\d*)?|\.\d+)")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds of a Go duration (``1h30m``). Raises ``Malformed``."""
    if _NUMBER.fullmatch(text) is not None and float(text):
        raise Malformed(f'time: missing unit in duration "{text}"')
    if _DURATION.fullmatch(text) is None:
        raise Malformed(f'time: invalid duration "{text}"')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds >= LONGEST:
        raise Malformed(f'time: invalid duration "{text}"')
    return -seconds if text.startswith("-") else seconds
