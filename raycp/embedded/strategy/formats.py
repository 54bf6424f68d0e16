"""Formats that CRD validation knows (``apiextensions-apiserver/pkg/apiserver/validation/formats.go``); others pass."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date
from urllib.parse import urlsplit

from raycp.embedded.strategy.scalars import Malformed, canonical_time, parse_duration


def _pattern(text: str) -> Callable[[str], bool]:
    compiled = re.compile(text)
    return lambda value: compiled.fullmatch(value) is not None


def _passes(function: Callable[[str], object], *errors: type[Exception]) -> Callable[[str], bool]:
    def accept(value: str) -> bool:
        try:
            function(value)
        except errors:
            return False
        return True

    return accept


def _uri(value: str) -> bool:
    try:
        return bool(urlsplit(value).scheme)
    except ValueError:
        return False


_UUID = r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?%s[0-9a-f]{3}-?%s-?[0-9a-f]{12}"

FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _passes(canonical_time, Malformed),
    "date": _passes(date.fromisoformat, ValueError),
    "duration": _passes(parse_duration, Malformed),
    "byte": _passes(lambda v: base64.b64decode(v, validate=True), binascii.Error, ValueError),
    "ipv4": _passes(ipaddress.IPv4Address, ValueError),
    "ipv6": _passes(ipaddress.IPv6Address, ValueError),
    "cidr": _passes(lambda v: ipaddress.ip_network(v, strict=False), ValueError),
    "mac": _pattern(r"(?i)([0-9a-f]{2}[:-]){5}[0-9a-f]{2}|([0-9a-f]{4}\.){2}[0-9a-f]{4}"),
    "uuid": _pattern(_UUID % ("[0-9a-f]", "[0-9a-f]{4}")),
    "uuid3": _pattern(_UUID % ("3", "[0-9a-f]{4}")),
    "uuid4": _pattern(_UUID % ("4", "[89ab][0-9a-f]{3}")),
    "uuid5": _pattern(_UUID % ("5", "[89ab][0-9a-f]{3}")),
    "email": _pattern(r"[^@\s]+@[^@\s]+"),
    "hostname": _pattern(
        r"(?=.{1,255}$)[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*"
    ),
    "uri": _uri,
    "hexcolor": _pattern(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "k8s-short-name": _pattern(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
    "k8s-long-name": _pattern(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"),
}
