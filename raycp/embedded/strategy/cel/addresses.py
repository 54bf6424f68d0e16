"""Kubernetes' CEL libraries of URLs, IP addresses and ranges of them (``apiserver/pkg/cel/library``: urls.go, ip.go, cidr.go)."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from raycp.embedded.strategy.cel.operators import CelError, no_overload

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class Url(NamedTuple):
    """``kubernetes.URL``."""

    parts: SplitResult


class Ip(NamedTuple):
    """``net.IP``."""

    address: Address

    def __str__(self) -> str:
        return str(self.address)


class Cidr(NamedTuple):
    """``net.CIDR``: an address, which may have bits beyond the prefix."""

    address: Address
    bits: int

    def __str__(self) -> str:
        return f"{self.address}/{self.bits}"

    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network(str(self), strict=False)


def url(text: Any) -> Url:
    """As Go's ``url.ParseRequestURI``: absolute, or a path."""
    _text(text)
    why = "" if text else "empty url"
    if text and (_CONTROL.search(text)):
        why = "net/url: invalid control character in URL"
    elif text and not text.startswith("/") and _SCHEME.match(text) is None:
        why = "invalid URI for request"
    elif " " in text.partition("?")[0].partition("/")[0]:
        why = "invalid character \" \" in host name"
    if not why:
        try:
            parts = urlsplit(text)
            _ = parts.port
            return Url(parts)
        except ValueError as error:
            why = str(error)
    raise CelError(f"URL parse error during conversion from string: parse {quoted(text)}: {why}")


def ip(value: Any) -> Ip:
    if isinstance(value, Cidr):
        return Ip(value.address)
    try:
        if "%" in _text(value):
            raise CelError(f"IP address {quoted(value)} with zone value is not allowed")
        found = ipaddress.ip_address(value)
    except ValueError:
        why = f"ParseAddr({quoted(value)}): unable to parse IP"
        raise CelError(f"IP Address {quoted(value)} parse error during conversion from string: {why}") from None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        raise CelError(f"IPv4-mapped IPv6 address {quoted(value)} is not allowed")
    return Ip(found)


def cidr(value: Any) -> Cidr:
    address, slash, bits = _text(value).partition("/")
    try:
        found = ipaddress.ip_address(address)
        if not slash or not re.fullmatch(r"0|[1-9]\d{0,2}", bits) or int(bits) > found.max_prefixlen or "%" in address:
            raise ValueError
    except ValueError:
        prefix = "network address parse error during conversion from string: "
        raise CelError(f"{prefix}{prefix}netip.ParsePrefix({quoted(value)}): no valid prefix") from None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        text = f"IPv4-mapped IPv6 address {quoted(value)} is not allowed"
        raise CelError(f"network address parse error during conversion from string: {text}")
    return Cidr(found, int(bits))


def parses(function: Callable[..., Any]) -> Callable[..., bool]:
    """Whether ``function`` takes its arguments."""

    def accept(*given: Any) -> bool:
        _text(given[0])
        try:
            function(*given)
        except CelError:
            return False
        return True

    return accept


def contains_ip(whole: Any, other: Any) -> bool:
    return (other if isinstance(other, Ip) else ip(other)).address in _of(whole, Cidr).network()


def contains_cidr(whole: Any, other: Any) -> bool:
    inner = other if isinstance(other, Cidr) else cidr(other)
    same = inner.address.version == _of(whole, Cidr).address.version
    return bool(same and whole.bits <= inner.bits and inner.address in whole.network())


def masked(whole: Any) -> Cidr:
    return Cidr(_of(whole, Cidr).network().network_address, whole.bits)


def quoted(text: str) -> str:
    """As Go's ``%q``."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + '"'


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise no_overload(value)
    return value


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise no_overload(value)
    return value


def _asked(kind: type, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: function(_of(value, kind))


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _hostname(parts: SplitResult) -> str:
    host = _host(parts)
    return host[1 : host.index("]")] if host.startswith("[") and "]" in host else host.partition(":")[0]


def _port(parts: SplitResult) -> str:
    return "" if parts.port is None else str(parts.port)


ADDRESS_FUNCTIONS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "url": ((1,), url),
    "isURL": ((1,), parses(url)),
    "ip": ((1,), ip),
    "isIP": ((1,), parses(ip)),
    "ip.isCanonical": ((1,), lambda text: str(ip(text)) == text),
    "cidr": ((1,), cidr),
    "isCIDR": ((1,), parses(cidr)),
}
ADDRESS_METHODS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "getScheme": ((0,), _asked(Url, lambda one: one.parts.scheme)),
    "getHost": ((0,), _asked(Url, lambda one: _host(one.parts))),
    "getHostname": ((0,), _asked(Url, lambda one: _hostname(one.parts))),
    "getPort": ((0,), _asked(Url, lambda one: _port(one.parts))),
    "getEscapedPath": ((0,), _asked(Url, lambda one: quote(one.parts.path, safe="/%:@!$&'()*+,;=~-._"))),
    "getQuery": ((0,), _asked(Url, lambda one: parse_qs(one.parts.query, keep_blank_values=True))),
    "family": ((0,), _asked(Ip, lambda one: one.address.version)),
    "isUnspecified": ((0,), _asked(Ip, lambda one: one.address.is_unspecified)),
    "isLoopback": ((0,), _asked(Ip, lambda one: one.address.is_loopback)),
    "isLinkLocalMulticast": ((0,), _asked(Ip, lambda one: _link_local_multicast(one.address))),
    "isLinkLocalUnicast": ((0,), _asked(Ip, lambda one: one.address.is_link_local)),
    "isGlobalUnicast": ((0,), _asked(Ip, lambda one: _global_unicast(one.address))),
    "containsIP": ((1,), contains_ip),
    "containsCIDR": ((1,), contains_cidr),
    "ip": ((0,), lambda one: ip(_of(one, Cidr))),
    "prefixLength": ((0,), _asked(Cidr, lambda one: one.bits)),
    "masked": ((0,), masked),
}


def _link_local_multicast(address: Address) -> bool:
    return address in _LINK_LOCAL_4 if address.version == 4 else address in _LINK_LOCAL_6 and address.packed[1] & 0x0F == 2


_LINK_LOCAL_4 = ipaddress.ip_network("224.0.0.0/24")
_LINK_LOCAL_6 = ipaddress.ip_network("ff00::/8")


def _global_unicast(address: Address) -> bool:
    """Go's sense: any that is not special, private ones included."""
    broadcast = address.version == 4 and address.packed == b"\xff\xff\xff\xff"
    special = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return not broadcast and not special
