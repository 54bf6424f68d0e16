"""Which proxy leads to a server: that of the kubeconfig, else that of the environment (Go, ``golang.org/x/net/http/httpproxy``)."""

import base64
import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

_SCHEMES = ("http", "https", "socks5")
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def parse_proxy(text: str) -> SplitResult:
    """The URL of a proxy. Raises ``ValueError`` with a text that has no credentials: of which form it has to be."""
    shown = repr(shown_proxy(text))
    try:
        url = urlsplit(text)
        known = url.scheme in (*_SCHEMES, "socks5h") and bool(url.hostname)
        _ = url.port
        str(url.hostname).encode("idna")
    except ValueError as error:  # UnicodeError included: a label of more than 63 characters
        raise ValueError(f"the proxy {shown} is not a URL: {error}") from None
    if not known:
        raise ValueError(f"the proxy {shown} is not a URL with one of the schemes http, https and socks5")
    return url


def shown_proxy(text: str) -> str:
    """A proxy's URL as far as it may be shown: from its host on."""
    return text.rpartition("@")[2].rpartition("//")[2]


def proxy_port(url: SplitResult) -> int:
    """The port of a parsed proxy, or the default one of its scheme."""
    return url.port or _PORTS[url.scheme]


def proxy_login(url: SplitResult) -> tuple[str, str] | None:
    """The name and the password in a proxy's URL."""
    return (unquote(url.username), unquote(url.password or "")) if url.username else None


def proxy_authorization(proxy: str) -> list[str]:
    """The header lines that log in at an HTTP proxy: none or one."""
    login = proxy_login(parse_proxy(proxy))
    return [] if login is None else [f"Proxy-Authorization: Basic {base64.b64encode(':'.join(login).encode()).decode()}"]


def environment_proxy(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> str | None:
    """The proxy for a server in ``HTTPS_PROXY`` or ``HTTP_PROXY`` (or in lower case), unless ``NO_PROXY`` excludes it.

    ``localhost`` and loopback addresses have none. Raises ``ValueError`` as ``parse_proxy`` does.
    """
    found = _either(environ, f"{scheme.upper()}_PROXY")
    if not found or not _proxied(host.lower(), port, _either(environ, "NO_PROXY")):
        return None
    text = found if "://" in found else f"http://{found}"
    parse_proxy(text)
    return text


def _either(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower()) or ""


def _proxied(host: str, port: int, excluded: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(_matches(rule.strip().lower(), host, port, address) for rule in excluded.split(","))


def _matches(rule: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    """``*``, a network, an address or a domain with its subdomains (``.domain``: these only), with or without a port."""
    if rule in ("", "*"):
        return rule == "*"
    if "/" in rule:
        base, _, bits = rule.partition("/")
        try:
            return bits.isdecimal() and address is not None and address in ipaddress.ip_network((base, int(bits)), strict=False)
        except ValueError:
            return False
    name, wanted = rule, ""
    if _address(rule) is None and ":" in rule:
        name, _, wanted = rule.rpartition(":")
        name = name.removeprefix("[").removesuffix("]")
    if not name or (wanted and wanted != str(port)):
        return False
    ours = _address(name)
    if ours is not None or address is not None:
        return ours == address
    name = name.removeprefix("*") if name.startswith("*.") else name
    return host.endswith(name if name.startswith(".") else f".{name}") or host == name


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 address that is written as one of IPv6 is the former, as in Go."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
