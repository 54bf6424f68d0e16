"""The resources that a cluster serves, by kind: one request per group and version, cached."""

import difflib
from collections.abc import Awaitable, Callable

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.kube.errors import ApiError, NoSuchKind

_MISS_SECONDS = 2.0  # how long "no such kind" is cached: a CRD may become Established at any moment


class Resource(msgspec.Struct, frozen=True):
    """One kind as the cluster serves it."""

    gvk: GVK
    plural: str
    namespaced: bool
    verbs: frozenset[str]
    subresources: frozenset[str]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of the collection, an object, or its subresource; of all namespaces if ``namespace`` is empty."""
        gvk = self.gvk
        path = f"/apis/{gvk.group}/{gvk.version}" if gvk.group else f"/api/{gvk.version}"
        if self.namespaced and namespace:
            path = f"{path}/namespaces/{namespace}"
        path = f"{path}/{self.plural}"
        if name:
            path = f"{path}/{name}"
        return f"{path}/{subresource}" if subresource else path


class _ApiResource(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool = False
    verbs: list[str] = []


class _ApiResourceList(msgspec.Struct):
    resources: list[_ApiResource] | None = None


_lists = msgspec.json.Decoder(_ApiResourceList)


class Discovery:
    """The cache of resources. ``fetch`` GETs a path and returns the body, or raises ``ApiError``."""

    def __init__(self, cluster: str, fetch: Callable[[str], Awaitable[bytes]], clock: Clock) -> None:
        self._cluster = cluster
        self._fetch = fetch
        self._clock = clock
        self._known: dict[GVK, Resource] = {}
        self._missed: dict[tuple[str, str], float] = {}

    def known(self, gvk: GVK) -> Resource | None:
        return self._known.get(gvk)

    def forget(self) -> None:
        """Drop the cache, since a CRD was deleted or an aggregated API was added."""
        self._known.clear()
        self._missed.clear()

    async def resource(self, gvk: GVK) -> Resource:
        """The resource of a kind. Raises ``NoSuchKind``, and what ``fetch`` raises except a 404."""
        found = self._known.get(gvk)
        if found is not None:
            return found
        group_version = (gvk.group, gvk.version)
        missed = self._missed.get(group_version)
        if missed is None or self._clock.now() - missed >= _MISS_SECONDS:
            await self._load(gvk)
            found = self._known.get(gvk)
            if found is not None:
                return found
            self._missed[group_version] = self._clock.now()
        raise NoSuchKind(self._cluster, str(gvk), self._hint(gvk))

    async def _load(self, gvk: GVK) -> None:
        path = f"/apis/{gvk.group}/{gvk.version}" if gvk.group else f"/api/{gvk.version}"
        try:
            listed = _lists.decode(await self._fetch(path)).resources or []
        except ApiError as error:
            if error.status != 404:
                raise
            return
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
        kinds = [known.kind for known in self._known if known[:2] == gvk[:2]]
        if not kinds:
            return f"it does not serve {gvk.api_version} at all: is the CRD installed, and its version served?"
        close = difflib.get_close_matches(gvk.kind, kinds, 3, 0.6)
        return f"did you mean {' or '.join(close)}?" if close else f"{gvk.api_version} has {', '.join(sorted(kinds)[:8])}"
