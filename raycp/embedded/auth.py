"""Authentication: bearer tokens, client certificates, service account tokens, impersonation.

Without RBAC an authenticated user may do everything; an anonymous one may only read the public paths.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from raycp.embedded.errors import unauthorized

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
PUBLIC_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version", "/version/"})
"""the paths that ``system:public-info-viewer`` lets everyone read"""


@dataclass(frozen=True, slots=True)
class User:
    """An identity. ``extra`` as in UserInfo."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """``authentication.k8s.io UserInfo``."""
        found: dict[str, Any] = {"username": self.name}
        if self.uid:
            found["uid"] = self.uid
        if self.groups:
            found["groups"] = list(self.groups)
        if self.extra:
            found["extra"] = {k: list(v) for k, v in self.extra.items()}
        return found


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Authenticator:
    """The valid tokens, and the signer of service account tokens. ``revoke`` invalidates a token."""

    def __init__(self, wall: Any) -> None:
        self._wall = wall
        self._tokens: dict[bytes, User] = {}
        self._secret = secrets.token_bytes(32)
        self.expired = False
        """set by a fault: refuse every token"""

    def issue(self, user: User, token: str = "") -> str:
        """Issue a token for ``user``: ``token`` itself if it is given."""
        token = token or secrets.token_urlsafe(24)
        self._tokens[b"Bearer " + token.encode()] = user
        return token

    def revoke(self, token: str) -> None:
        self._tokens.pop(b"Bearer " + token.encode(), None)

    def user_of(self, authorization: bytes | None, certificate: User | None) -> User:
        """The user of a request; anonymous without credentials. Raises ``StatusError`` 401 for invalid credentials."""
        if authorization:
            found = self._tokens.get(authorization)
            if found is not None and not self.expired:
                return found
            scheme, _, token = authorization.partition(b" ")
            if scheme.lower() == b"bearer" and not self.expired:
                user = self.by_token(token.strip().decode("latin-1"))
                if user is not None:
                    return user
            raise unauthorized()
        return certificate if certificate is not None else ANONYMOUS

    def by_token(self, token: str) -> User | None:
        """The user of a token, for TokenReview."""
        found = self._tokens.get(b"Bearer " + token.encode())
        if found is not None:
            return found
        claims = self._claims(token)
        if claims is None or float(claims.get("exp", 0)) < self._wall():
            return None
        ns, name = claims["ns"], claims["sa"]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{ns}", AUTHENTICATED)
        return User(f"system:serviceaccount:{ns}:{name}", groups, claims.get("uid", ""))

    def service_account_token(self, ns: str, name: str, uid: str, seconds: int, audiences: list[str]) -> tuple[str, float]:
        """A signed token (a JWT), and its expiry as Unix time."""
        now = self._wall()
        ends = now + seconds
        claims = {
            "iss": "https://kubernetes.default.svc.cluster.local",
            "sub": f"system:serviceaccount:{ns}:{name}",
            "aud": audiences,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(ends),
            "ns": ns,
            "sa": name,
            "uid": uid,
        }
        signed = _b64(msgspec.json.encode({"alg": "HS256", "typ": "JWT"})) + "." + _b64(msgspec.json.encode(claims))
        return signed + "." + self._signature(signed), ends

    def _signature(self, signed: str) -> str:
        return _b64(hmac.new(self._secret, signed.encode(), hashlib.sha256).digest())

    def _claims(self, token: str) -> dict[str, Any] | None:
        signed, _, signature = token.rpartition(".")
        if signed.count(".") != 1 or not hmac.compare_digest(signature.encode(), self._signature(signed).encode()):
            return None
        body = signed.split(".")[1]
        claims: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return claims


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def certificate_user(peer: Mapping[str, Any] | None) -> User | None:
    """The user of a verified client certificate: common name and organizations."""
    if not peer:
        return None
    name, groups = "", []
    for part in peer.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                name = value
            elif key == "organizationName":
                groups.append(value)
    return User(name, (*groups, AUTHENTICATED)) if name else None


def impersonated(headers: Mapping[bytes, bytes], many: list[tuple[bytes, bytes]]) -> User | None:
    """The user that ``Impersonate-*`` headers name. ``many`` are all headers, repeated ones included."""
    name = headers.get(b"impersonate-user")
    if name is None:
        return None
    groups = tuple(v.decode("latin-1") for k, v in many if k == b"impersonate-group")
    extra: dict[str, tuple[str, ...]] = {}
    for key, value in many:
        if key.startswith(b"impersonate-extra-"):
            short = key[18:].decode("latin-1").lower()
            extra[short] = (*extra.get(short, ()), value.decode("latin-1"))
    user = name.decode("latin-1")
    if user.startswith("system:serviceaccount:") and not groups:
        ns = user.split(":")[2]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{ns}")
    if user != ANONYMOUS.name and AUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(user, groups, headers.get(b"impersonate-uid", b"").decode("latin-1"), extra)
