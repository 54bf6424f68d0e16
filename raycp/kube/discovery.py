"""The resources that a cluster serves, by kind: one request per group and version, cached.

A group and version is read again when a request shows that it has changed (``reread``): a CRD that was deleted and made anew may
have another plural, scope or version.
"""

import difflib
import logging
import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.kube.answers import decode_answer
from raycp.kube.errors import KubeError, NoSuchKind, unserved

log = logging.getLogger("raycp.kube")

_PATH = re.compile(r"[A-Za-z0-9._/-]+")
_PLAIN = re.compile(r"[a-z0-9.-]+")
_AS_THEY_ARE = "-._~:@$&+="  # beside letters and digits, as Go's url.PathEscape
_MISS_SECONDS = 2.0  # between two readings of a group and version: a CRD may become Established at any moment


class Resource(msgspec.Struct, frozen=True):
    """One kind as the cluster serves it."""

    gvk: GVK
    plural: str
    namespaced: bool
    verbs: frozenset[str]
    subresources: frozenset[str]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of the collection, an object, or its subresource; of all namespaces if ``namespace`` is empty. Raises
        ``ValueError`` as ``segment`` does."""
        gvk = self.gvk
        path = f"/apis/{gvk.group}/{gvk.version}" if gvk.group else f"/api/{gvk.version}"
        if self.namespaced and namespace:
            path = f"{path}/namespaces/{segment(namespace)}"
        path = f"{path}/{self.plural}"
        if name:
            path = f"{path}/{segment(name)}"
        return f"{path}/{subresource}" if subresource else path


def segment(name: str) -> str:
    """The name of an object, or of its namespace, as one segment of a path. Most kinds have names that need no escape; RBAC allows
    ``system:node``, and lenient servers spaces, ``?`` or capitals.

    Raises ``ValueError`` for a name that no escape keeps in its segment: apiserver decodes a path before it splits it. Source:
    ``rest.IsValidPathSegmentName`` of client-go, which refuses these and ``%``.
    """
    if "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} can't be the name of an object: '/', '.' and '..' lead to other paths")
    return name if _PLAIN.fullmatch(name) else quote(name, safe=_AS_THEY_ARE)


class _ApiResource(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool = False
    verbs: list[str] = []


class _ApiResourceList(msgspec.Struct):
    resources: list[msgspec.Raw] | None


_entry = msgspec.json.Decoder(_ApiResource)


class Discovery:
    """The cache of resources. ``fetch`` GETs a path and returns the body, or raises ``ApiError``, ``Unreachable``."""

    def __init__(self, cluster: str, fetch: Callable[[str], Awaitable[bytes]], clock: Clock) -> None:
        self._cluster = cluster
        self._fetch = fetch
        self._clock = clock
        self._known: dict[GVK, Resource] = {}
        self._missed: dict[tuple[str, str], float] = {}
        """when a kind was last found missing, by group and version"""
        self._reread: dict[tuple[str, str], float] = {}

    def known(self, gvk: GVK) -> Resource | None:
        return self._known.get(gvk)

    def forget(self, gvk: GVK) -> None:
        """Read the group and version of this kind again when it is asked for next."""
        self._missed.pop(gvk[:2], None)
        for kind in [kind for kind in self._known if kind[:2] == gvk[:2]]:
            del self._known[kind]

    async def resource(self, gvk: GVK) -> Resource:
        """The resource of a kind. Raises ``NoSuchKind``, and what ``fetch`` raises except a 404."""
        found = self._known.get(gvk)
        if found is None and _due(self._missed.get(gvk[:2]), self._clock.now()):
            await self._load(gvk)
            found = self._known.get(gvk)
            if found is None:
                self._missed[gvk[:2]] = self._clock.now()
        if found is None:
            raise NoSuchKind(self._cluster, str(gvk), self._hint(gvk))
        return found

    async def reread(self, resource: Resource) -> Resource | None:
        """``resource`` was not found where discovery says: what its kind is served as now, if that differs. Read at most every
        ``_MISS_SECONDS``. Raises as ``resource`` does.
        """
        gvk, now = resource.gvk, self._clock.now()
        if self._known.get(gvk) == resource and _due(self._reread.get(gvk[:2]), now):
            self._reread[gvk[:2]] = now
            await self._load(gvk)
        found = await self.resource(gvk)
        return found if found != resource else None

    async def _load(self, gvk: GVK) -> None:
        path = f"/apis/{gvk.group}/{gvk.version}" if gvk.group else f"/api/{gvk.version}"
        listed: list[_ApiResource] = []
        try:
            body = await self._fetch(path)
        except KubeError as error:
            if not unserved(error):
                raise
        else:
            listed = _entries(decode_answer(body, _ApiResourceList, f"GET {path}"), f"{self._cluster}: {path}")
        self.forget(gvk)
        subresources: dict[str, set[str]] = {}
        for entry in listed:
            plural, _, subresource = entry.name.partition("/")
            if subresource:
                subresources.setdefault(plural, set()).add(subresource)
        for entry in listed:
            if "/" in entry.name:
                continue
            kind = GVK(gvk.group, gvk.version, entry.kind)
            self._known[kind] = Resource(
                kind, entry.name, entry.namespaced, frozenset(entry.verbs), frozenset(subresources.get(entry.name, ()))
            )

    def _hint(self, gvk: GVK) -> str:
        kinds = [kind.kind for kind in self._known if kind[:2] == gvk[:2]]
        if not kinds:
            return f"it does not serve {gvk.api_version} at all: is the CRD installed, and its version served?"
        close = difflib.get_close_matches(gvk.kind, kinds, 3, 0.6)
        return f"did you mean {' or '.join(close)}?" if close else f"{gvk.api_version} has {', '.join(sorted(kinds)[:8])}"


def _entries(listed: _ApiResourceList, where: str) -> list[_ApiResource]:
    """The entries that can be read: one that cannot hides no other kind."""
    found = []
    for raw in listed.resources or ():
        try:
            entry = _entry.decode(raw)
            if not _PATH.fullmatch(entry.name):
                raise ValueError(f"name {entry.name[:40]!r}")
            found.append(entry)
        except Exception as error:
            log.warning("%s: a resource that cannot be read is left out: %s", where, error)
    return found


def _due(last: float | None, now: float) -> bool:
    return last is None or now - last >= _MISS_SECONDS
