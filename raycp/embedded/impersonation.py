"""``Impersonate-*`` headers: the user that they name, and what the client must be allowed to impersonate for that.

As ``apiserver/pkg/endpoints/filters/impersonation``: each user, group, uid and extra value that is named is authorized by itself.
What the server adds (a service account's own groups, ``system:authenticated``) is not.
"""

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from raycp.embedded.access import Attributes
from raycp.embedded.auth import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, service_account_groups
from raycp.embedded.errors import bad_request
from raycp.embedded.strategy import names

PREFIX = b"impersonate-"
_EXTRA = b"impersonate-extra-"
_AUTHENTICATION = "authentication.k8s.io"


class Impersonation(NamedTuple):
    """``asked``: the client must be allowed each."""

    user: User
    asked: list[Attributes]


def impersonation(headers: Iterable[tuple[bytes, bytes]]) -> Impersonation | None:
    """What the headers of a request ask for; None for nothing. Raises ``StatusError`` 400 without a user."""
    name, uid = "", ""
    groups: list[str] = []
    extra: dict[str, tuple[str, ...]] = {}
    for key, raw in headers:
        if not key.startswith(PREFIX):
            continue
        value = raw.decode("latin-1")
        if key == b"impersonate-user":
            name = name or value
        elif key == b"impersonate-group":
            groups.append(value)
        elif key == b"impersonate-uid":
            uid = uid or value
        elif key.startswith(_EXTRA):
            short = unquote(key[len(_EXTRA) :].decode("latin-1").lower())
            extra[short] = (*extra.get(short, ()), value)
    if not name:
        if groups or uid or extra:
            named = [*groups, uid, *(value for values in extra.values() for value in values)]
            raise bad_request(f"requested {[one for one in named if one]} without impersonating a user")
        return None
    account = _service_account(name)
    if account is not None:
        asked = [Attributes("impersonate", "", "v1", "serviceaccounts", namespace=account[0], name=account[1])]
    else:
        asked = [Attributes("impersonate", "", "v1", "users", name=name)]
    asked += [Attributes("impersonate", "", "v1", "groups", name=group) for group in groups]
    for key_, values in extra.items():
        asked += [Attributes("impersonate", _AUTHENTICATION, "v1", "userextras", key_, name=value) for value in values]
    if uid:
        asked.append(Attributes("impersonate", _AUTHENTICATION, "v1", "uids", name=uid))
    if account is not None and not groups:
        groups = list(service_account_groups(account[0]))
    if name == ANONYMOUS.name:
        groups += [UNAUTHENTICATED] if UNAUTHENTICATED not in groups else []
    elif AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
        groups.append(AUTHENTICATED)
    return Impersonation(User(name, tuple(groups), uid, extra), asked)


def _service_account(name: str) -> tuple[str, str] | None:
    """Namespace and name of a service account's user name; None for another user, also one with the prefix alone."""
    parts = name.split(":")
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        return None
    if names.dns_label(parts[2]) or names.dns_subdomain(parts[3]):
        return None
    return parts[2], parts[3]
