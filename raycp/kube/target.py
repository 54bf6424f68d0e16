"""Where the API of a cluster is reached."""

import ssl
from urllib.parse import urlsplit

import msgspec


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
        """From the ``server`` of a kubeconfig. Raises ``ValueError`` if it is not an http(s) URL."""
        url = urlsplit(server if "://" in server else f"https://{server}")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{server!r} is not an http(s) URL")
        secure = url.scheme == "https"
        return cls(
            host=url.hostname,
            port=url.port or (443 if secure else 80),
            base=url.path.rstrip("/"),
            tls=tls if secure else None,
            server_hostname=(server_hostname or url.hostname) if secure else None,
            proxy=proxy or None,
        )

    def __repr__(self) -> str:
        return f"Target({self.host}:{self.port}{self.base}, tls={self.tls is not None}, proxy={self.proxy is not None})"

    @property
    def authority(self) -> str:
        """``host:port``, as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
