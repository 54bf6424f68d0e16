"""How one cluster is reached, and as whom: what a kubeconfig or a Pod's service account comes to."""

from urllib.parse import quote, urlsplit

import msgspec

from raycp.config.kubeconfig_model import KubeconfigUser
from raycp.kube.tls import TlsPem

_NAME_CHARACTERS = "!#$&'*+-.^_`|~"  # that a header's name may have, besides letters and digits (RFC 9110), less %


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """``server`` is a URL with its scheme. ``headers`` are sent with each request, besides ``authorization``. ``watched`` are the
    files that were read. ``expires`` is the Unix time at which the credential ends, None if it is not known to.
    """

    server: str
    pem: TlsPem = TlsPem()
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = None
    authorization: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    watched: tuple[str, ...] = ()
    expires: float | None = None

    def __repr__(self) -> str:
        return f"Login({self.server!r})"

    def expires_within(self, seconds: float, wall: float) -> bool:
        """Whether the credential must be renewed within ``seconds`` of Unix time ``wall``; one without an expiry is used until the
        server answers 401, as in client-go.
        """
        return self.expires is not None and self.expires - wall < seconds

    def expired(self, wall: float) -> bool:
        """Whether the credential is known to be of no use at Unix time ``wall``."""
        return self.expires is not None and self.expires <= wall


def server_url(server: str) -> str:
    """``clusters[].cluster.server`` with its scheme: http if it has none, as in client-go.

    One with a name and a password is refused: Go sends these in place of the user's own credential. Raises ``ValueError``, whose
    text has no password.
    """
    shown = server.rpartition("@")[2]
    if server[:1].isspace() or not server.isprintable():
        raise ValueError(f"the server {shown!r} contains white space")
    url = urlsplit(server)
    if not url.scheme or not url.netloc:
        url = urlsplit(f"http://{server}")
        if url.path not in ("", "/"):
            raise ValueError(f"the server {shown!r} is neither a URL nor HOST:PORT")
    if "@" in url.netloc:
        raise ValueError(f"the server's URL has a name and a password before {shown!r}: give them to its user")
    if " " in url.netloc:
        raise ValueError(f"the server {shown!r} contains white space")
    return f"{url.scheme}://{url.netloc}{url.path}"


def impersonation(user: KubeconfigUser) -> tuple[tuple[str, str], ...]:
    """The headers of ``as``, ``as-uid``, ``as-groups`` and ``as-user-extra`` (Kubernetes documentation, "User impersonation").

    What is not ASCII is sent as UTF-8, as Go does it: each character of a value found here is a byte. Raises ``ValueError`` for a
    value that no header can have.
    """
    if not user.as_:
        if user.as_uid or user.as_groups or user.as_user_extra:
            raise ValueError("as-uid, as-groups and as-user-extra need `as`")
        return ()
    found = [("Impersonate-User", user.as_)]
    if user.as_uid:
        found.append(("Impersonate-Uid", user.as_uid))
    found += [("Impersonate-Group", group) for group in user.as_groups]
    for key, values in user.as_user_extra.items():
        found += [(f"Impersonate-Extra-{quote(key, safe=_NAME_CHARACTERS)}", value) for value in values or []]
    for name, value in found:
        if any(each < " " or each == "\x7f" for each in value):
            raise ValueError(f"the value of {name} contains characters that an HTTP header may not have")
    return tuple((name, value.encode("utf-8", "replace").decode("latin-1")) for name, value in found)
