"""``spec.observer``: where it listens, and whom it lets in."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from raycp.config.strict import InvalidValue, Strict


def _absolute(path: str) -> str:
    if not PurePosixPath(path).is_absolute():
        raise InvalidValue("is not an absolute path", "write that on the observer's node, such as /etc/raycp/observer/tls.crt")
    return path


NodePath = Annotated[str, AfterValidator(_absolute)]
"""A file on the node of the observer, such as a mounted Secret's."""


class ObserverTls(Strict):
    """HTTPS instead of HTTP."""

    cert: NodePath
    """Its certificate, and those that lead to its authority, as PEM. Like all these files it is read again when it changes."""
    key: NodePath
    """The certificate's key, as PEM."""


class ObserverClients(Strict):
    """Client certificates that it accepts; needs `tls`."""

    ca: NodePath
    """Certificate authorities, as PEM. Who has a certificate of theirs may read."""
    write: list[str] = []
    """Common names of those who may write, too."""


class ObserverTokens(Strict):
    """Bearer tokens that it accepts. In a browser the token is the password, with any name."""

    read: NodePath | None = None
    """A file with the token of those who may read, of 16 characters or more."""
    write: NodePath | None = None
    """A file with the token of those who may write, and read."""


class ObserverSpec(Strict):
    """The HTTP server: metrics, health, status page, JSON API."""

    host: str = "127.0.0.1"
    """Address to listen on. `0.0.0.0` allows other hosts to scrape it: without `tokens` or `clients` whoever
    reaches it reads names of objects."""
    port: int = Field(default=9464, ge=0, le=65535)
    """Port to listen on; 0 picks a free one, which `raycp status` shows."""
    hosts: list[str] = []
    """Names by which browsers and scrapers call it, such as that of an ingress; `.example.com` stands for all names that end so.
    Its addresses, the names of its host and of Services need no entry. A request under any other name is answered with 421."""
    tls: ObserverTls | None = None
    """HTTPS instead of HTTP."""
    clients: ObserverClients | None = None
    """Client certificates that it accepts."""
    tokens: ObserverTokens | None = None
    """Tokens that it accepts. Without `tokens` and `clients` all may read, and nobody may write."""
