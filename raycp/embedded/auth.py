"""Authentication: bearer tokens, client certificates, service account tokens.

Without RBAC an authenticated user may do everything; an anonymous one may only read the public paths.
"""

import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from raycp.embedded.errors import unauthorized
from raycp.embedded.store import StoredObject
from raycp.embedded.strategy.scalars import unix_time

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ISSUER = "https://kubernetes.default.svc.cluster.local"
"""who issues tokens of service accounts, and the audience that this server itself is"""
_LEEWAY = 60
"""seconds for which the token of an object that is being deleted is valid (``jwt.DefaultLeeway``)"""
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


ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


class BoundObject(msgspec.Struct, omit_defaults=True):
    """An object that a token is bound to, in its claims: the token is invalid without it."""

    name: str
    uid: str


class _Kubernetes(msgspec.Struct, omit_defaults=True):
    namespace: str
    serviceaccount: BoundObject
    pod: BoundObject | None = None
    secret: BoundObject | None = None
    node: BoundObject | None = None


class _Claims(msgspec.Struct):
    iss: str
    sub: str
    aud: list[str]
    iat: int
    nbf: int
    exp: int
    jti: str
    kubernetes: _Kubernetes = msgspec.field(name="kubernetes.io")


class Authenticated(NamedTuple):
    """A token's user, and the audiences that it is for."""

    user: User
    audiences: tuple[str, ...]


Lookup = Callable[[str, str, str], StoredObject | None]
"""(plural of the core group, namespace, name) -> the stored object"""


class Authenticator:
    """The valid tokens, and the signer of service account tokens. ``revoke`` invalidates a token; one of a service account is valid
    as long as all that it names exists, with the same uid."""

    def __init__(self, wall: Callable[[], float], stored: Lookup) -> None:
        self._wall = wall
        self._stored = stored
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
                found_token = self.by_token(token.strip().decode("latin-1"))
                if found_token is not None and ISSUER in found_token.audiences:
                    return found_token.user
            raise unauthorized()
        return certificate if certificate is not None else ANONYMOUS

    def by_token(self, token: str) -> Authenticated | None:
        """The user of a token, for whichever audience."""
        found = self._tokens.get(b"Bearer " + token.encode())
        if found is not None:
            return Authenticated(found, (ISSUER,))
        claims = self._claims(token)
        if claims is None or claims.exp < self._wall():
            return None
        about = claims.kubernetes
        ns, account = about.namespace, about.serviceaccount
        extra: dict[str, tuple[str, ...]] = {"authentication.kubernetes.io/credential-id": (f"JTI={claims.jti}",)}
        for plural, home, bound in (
            ("serviceaccounts", ns, account),
            ("pods", ns, about.pod),
            ("secrets", ns, about.secret),
            ("nodes", "", about.node),
        ):
            if bound is not None and not self._there(plural, home, bound):
                return None
        for kind, bound in (("pod", about.pod), ("node", about.node)):
            if bound is not None:
                extra[f"authentication.kubernetes.io/{kind}-name"] = (bound.name,)
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (bound.uid,)
        groups = (*service_account_groups(ns), AUTHENTICATED)
        return Authenticated(User(claims.sub, groups, account.uid, extra), tuple(claims.aud))

    def _there(self, plural: str, ns: str, bound: BoundObject) -> bool:
        """Whether the object exists, is the same, and has not been deleted for longer than the leeway."""
        record = self._stored(plural, ns, bound.name)
        if record is None or record.uid != bound.uid:
            return False
        if b'"deletionTimestamp"' not in record.raw:
            return True
        deleted = record.decode()["metadata"].get("deletionTimestamp")
        return not deleted or unix_time(deleted) >= self._wall() - _LEEWAY

    def service_account_token(
        self, ns: str, name: str, uid: str, seconds: int, audiences: list[str], bound: Mapping[str, BoundObject] | None = None
    ) -> tuple[str, float]:
        """A signed token (a JWT), and its expiry as Unix time. ``bound``: by ``pod``, ``secret`` or ``node``."""
        now = int(self._wall())
        about = _Kubernetes(ns, BoundObject(name, uid), **(bound or {}))
        sub, ends = f"system:serviceaccount:{ns}:{name}", now + seconds
        claims = _Claims(ISSUER, sub, audiences, now, now, ends, str(uuid.uuid4()), about)
        signed = _b64(msgspec.json.encode({"alg": "HS256", "typ": "JWT"})) + "." + _b64(msgspec.json.encode(claims))
        return signed + "." + self._signature(signed), ends

    def _signature(self, signed: str) -> str:
        return _b64(hmac.new(self._secret, signed.encode(), hashlib.sha256).digest())

    def _claims(self, token: str) -> _Claims | None:
        signed, _, signature = token.rpartition(".")
        if signed.count(".") != 1 or not hmac.compare_digest(signature.encode(), self._signature(signed).encode()):
            return None
        body = signed.split(".")[1]
        return msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Claims)


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def service_account_groups(ns: str) -> tuple[str, str]:
    """The groups of every service account of a namespace."""
    return "system:serviceaccounts", f"system:serviceaccounts:{ns}"


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
