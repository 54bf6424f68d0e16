"""Kubernetes' CEL libraries of quantities, semantic versions and named formats (quantity.go, semverlib.go, format.go)."""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import total_ordering
from typing import Any
from urllib.parse import urlsplit

from raycp.embedded.strategy import names
from raycp.embedded.strategy.cel.addresses import parses, quoted, url
from raycp.embedded.strategy.cel.operators import CelError, Optional, no_overload
from raycp.embedded.strategy.cel.signatures import FORMATS as FORMAT_NAMES
from raycp.embedded.strategy.formats import FORMATS
from raycp.embedded.strategy.scalars import Malformed, Quantity, parse_quantity

_SEMVER = re.compile(
    r"(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


@total_ordering
class Semver:
    """``kubernetes.Semver``, ordered by precedence (https://semver.org, 11)."""

    def __init__(self, text: str) -> None:
        found = _SEMVER.fullmatch(text)
        if found is None:
            raise CelError(f"Invalid version {quoted(text)}" if text else "Version string empty")
        self.major, self.minor, self.patch = (int(found[index]) for index in (1, 2, 3))
        self._before = found[4] or ""

    def _key(self) -> tuple[Any, ...]:
        parts = [(0, len(one), one) if one.isdigit() else (1, 0, one) for one in self._before.split(".") if one]
        return self.major, self.minor, self.patch, not parts, parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self._key() == other._key()

    def __lt__(self, other: "Semver") -> bool:
        return self._key() < other._key()

    def __hash__(self) -> int:
        return hash(str(self._key()))


class NamedFormat(str):
    """``kubernetes.NamedFormat``, by its name."""


def semver(text: Any, normalize: bool = False) -> Semver:
    """A version; one that is to be normalized may begin with ``v``, lack numbers and have leading zeros."""
    if not isinstance(text, str):
        raise no_overload(text)
    if not normalize:
        return Semver(text)
    parts = text.removeprefix("v").split(".", 2)
    parts = [re.sub(r"^0+(?=\d)", "", one) for one in parts]
    if len(parts) < 3 and re.search(r"[+-]", parts[-1]):
        raise CelError("short version cannot contain PreRelease/Build meta data")
    return Semver(".".join([*parts, "0", "0"][:3]))


def quantity(text: Any) -> Quantity:
    if not isinstance(text, str):
        raise no_overload(text)
    try:
        return parse_quantity(text)
    except Malformed as error:
        raise CelError(str(error)) from None


def _whole(one: Any) -> bool:
    value = _quantity(one).value
    return value.denominator == 1 and -(2**63) <= value < 2**63


def _integer(one: Any) -> int:
    if not _whole(one):
        raise CelError("cannot convert value to integer")
    return int(one.value)


def _quantity(one: Any) -> Quantity:
    if not isinstance(one, Quantity):
        raise no_overload(one)
    return one


def _changed(one: Any, other: Any, sign: int) -> Quantity:
    value = Fraction(other) if isinstance(other, int) else _quantity(other).value
    return Quantity(_quantity(one).value + sign * value, one.form)


def _order(one: Any, other: Any) -> int:
    if isinstance(one, Semver) and isinstance(other, Semver):
        return int(one > other) - int(one < other)
    left, right = _quantity(one).value, _quantity(other).value
    return int(left > right) - int(left < right)


def _version(one: Any) -> Semver:
    if not isinstance(one, Semver):
        raise no_overload(one)
    return one


def _prefix(function: Callable[[str], tuple[str, ...]]) -> Callable[[str], tuple[str, ...]]:
    """Of a name that is completed: it may end with a dash (``maskTrailingDash``)."""
    return lambda text: function(text[:-1] + "a" if len(text) > 1 and text.endswith("-") else text)


def _uri(text: str) -> tuple[str, ...]:
    try:
        url(text)
        urlsplit(text)
    except CelError as error:
        return (str(error).partition("conversion from string: ")[2],)
    return ()


def _plain(name: str, told: str) -> Callable[[str], tuple[str, ...]]:
    return lambda text: () if FORMATS[name](text) else (told,)


_FORMATS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "dns1123Label": names.dns_label,
    "dns1123Subdomain": names.dns_subdomain,
    "dns1035Label": names.dns_1035_label,
    "qualifiedName": names.qualified_name,
    "dns1123LabelPrefix": _prefix(names.dns_label),
    "dns1123SubdomainPrefix": _prefix(names.dns_subdomain),
    "dns1035LabelPrefix": _prefix(names.dns_1035_label),
    "labelValue": names.label_value,
    "uri": _uri,
    "uuid": _plain("uuid", "does not match the UUID format"),
    "byte": _plain("byte", "invalid base64"),
    "date": _plain("date", "invalid date"),
    "datetime": _plain("date-time", "invalid datetime"),
}


def _validate(form: Any, text: Any) -> Optional:
    if not isinstance(form, NamedFormat) or not isinstance(text, str):
        raise no_overload(form, text)
    found = _FORMATS[form](text)
    return Optional(True, list(found)) if found else Optional(False)


def _named(name: str) -> Callable[[], NamedFormat]:
    return lambda: NamedFormat(name)


VERSION_FUNCTIONS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "quantity": ((1,), quantity),
    "isQuantity": ((1,), parses(quantity)),
    "semver": ((1, 2), semver),
    "isSemver": ((1, 2), parses(semver)),
    "format.named": ((1,), lambda name: Optional(True, NamedFormat(name)) if name in FORMAT_NAMES else Optional(False)),
    **{f"format.{name}": ((0,), _named(name)) for name in FORMAT_NAMES},
}
VERSION_METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "sign": ((0,), lambda one: _order(one, Quantity(Fraction(0), "decimal"))),
    "asInteger": ((0,), _integer),
    "isInteger": ((0,), _whole),
    "asApproximateFloat": ((0,), lambda one: float(_quantity(one).value)),
    "add": ((1,), lambda one, other: _changed(one, other, 1)),
    "sub": ((1,), lambda one, other: _changed(one, other, -1)),
    "isGreaterThan": ((1,), lambda one, other: _order(one, other) > 0),
    "isLessThan": ((1,), lambda one, other: _order(one, other) < 0),
    "compareTo": ((1,), _order),
    "major": ((0,), lambda one: _version(one).major),
    "minor": ((0,), lambda one: _version(one).minor),
    "patch": ((0,), lambda one: _version(one).patch),
    "validate": ((1,), _validate),
}
