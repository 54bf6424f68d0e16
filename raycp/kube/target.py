"""Where the API of a cluster is reached."""

import posixpath
import ssl
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

import msgspec

from raycp.base.hosts import bracketed
from raycp.kube.proxies import parse_proxy


class Target(msgspec.Struct, frozen=True):
    """``base`` is a path prefix without trailing slash (Rancher and similar gateways)."""

    host: str
    port: int
    base: str = ""
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | None = None

    @classmethod
    def parse(
        cls, server: str, tls: ssl.SSLContext | None, server_hostname: str | None = None, proxy: str | None = None
    ) -> "Target":
        """From the URLs of the server and of its proxy. Raises ``ValueError``."""
        url = _url(server)
        if proxy:
            parse_proxy(proxy)
        name = str(url.hostname)
        host = name if name.isascii() else name.encode("idna").decode()
        secure = url.scheme == "https"
        return cls(
            host=host,
            port=url.port or (443 if secure else 80),
            base=_base(url.path),
            tls=tls if secure else None,
            server_hostname=(server_hostname or host).removesuffix(".") if secure else None,  # as in Go: no certificate has the dot
            proxy=proxy or None,
        )

    def __repr__(self) -> str:
        return f"Target({self.host}:{self.port}{self.base}, tls={self.tls is not None}, proxy={self.proxy is not None})"

    @property
    def forwarded(self) -> bool:
        """Whether the proxy is asked for each request, and opens no tunnel: without TLS, as Go's net/http does it."""
        return self.tls is None and self.proxy is not None and parse_proxy(self.proxy).scheme in ("http", "https")

    @property
    def authority(self) -> str:
        """``host:port``, as in a Host header."""
        return f"{bracketed(self.host)}:{self.port}"


def _base(path: str) -> str:
    """The prefix of all paths, cleaned and escaped as client-go does it."""
    clean = posixpath.normpath(b"/" + unquote_to_bytes(path).strip(b"/"))
    return quote(clean, safe="/$&+,:;=@").rstrip("/")


def _url(text: str) -> SplitResult:
    """Of a server, https if it has no scheme. Its credentials, if there are any, are not shown."""
    shown = text.rpartition("@")[2]
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        known, _ = url.scheme in ("http", "https") and url.hostname, url.port
        if known:
            str(url.hostname).encode("idna")
    except ValueError as error:  # UnicodeError included: a label of more than 63 characters
        raise ValueError(f"{shown!r} is not an http(s) URL: {error}") from None
    if not known:
        raise ValueError(f"{shown!r} is not an http(s) URL")
    return url
