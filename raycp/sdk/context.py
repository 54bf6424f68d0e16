"""``Context``: all that a reconciler can see and do, for one reconcile of one object.

Reads (``get``, ``list``, ``children``) answer from the owning shard's cache, ``live`` asks the API server. Writes are
fenced (design, law 6): they carry the resourceVersion last seen, a changed object answers 409 Conflict, and the
reconcile runs again on what is there now. Every method takes ``cluster=`` to reach another cluster of the fleet;
without it, the object's own.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from raycp.base.keys import GVK, RequestKey
from raycp.kube.errors import ApiError
from raycp.sdk.backend import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Answer,
    CacheRead,
    Call,
    ClusterInfo,
)
from raycp.sdk.controller import Controller, selector_text
from raycp.sdk.event_recorder import event_for
from raycp.sdk.owner import mark, owned_by
from raycp.sdk.patches import merge_diff
from raycp.sdk.session import ObjectId, Session

ALL = "*"
"""As ``namespace=``: every namespace."""

_PATCH_TYPES = {"merge": MERGE_PATCH, "json": JSON_PATCH, "strategic": STRATEGIC_PATCH}
_APPLY_TRIES = 3

Labels = Mapping[str, str] | str | None
Objects = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """What this call is about. ``attempt`` counts from 1 and rises with each retry; ``reason`` is why it was queued;
    ``version`` is the digest of the object's user-visible content that this reconcile sees."""

    key: RequestKey
    attempt: int
    reason: str
    tier: str
    version: int = 0

    @property
    def namespace(self) -> str:
        return self.key.namespace

    @property
    def name(self) -> str:
        return self.key.name


class Context:
    """See the module. Made by ``run_reconcile``; not to be used after the reconcile has ended (``Revoked``)."""

    def __init__(
        self,
        controller: Controller,
        session: Session,
        log: "logging.LoggerAdapter[Any]",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        task = session.task
        self._controller = controller
        self._session = session
        self._own_raw = task.raw
        self.request = Request(task.key, task.attempt, task.reason, task.tier, task.version)
        self.log = log
        """Structured: every record carries cluster, controller, namespace, name, attempt, tier."""
        self.config: Mapping[str, Any] = {} if config is None else config
        """What the fleet file says under this controller's ``config``; shared by all reconciles, so don't change it."""

    @property
    def live(self) -> "Live":
        """Reads that ask the API server itself."""
        return Live(self)  # made when asked for: kept, it would be a cycle per reconcile for the collector to find

    # -- where am I

    @property
    def clusters(self) -> Sequence[ClusterInfo]:
        """The fleet's clusters (hub included), with labels and whether they are reachable and synced."""
        return self._session.backend.clusters()

    @property
    def members(self) -> list[ClusterInfo]:
        """The clusters whose role is member; in a fleet of one cluster, that one."""
        found = list(self.clusters)
        return [cluster for cluster in found if cluster.role == "member"] or found

    @property
    def cluster(self) -> ClusterInfo:
        """The cluster of the object."""
        name = self.request.key.cluster
        return next((cluster for cluster in self.clusters if cluster.name == name), ClusterInfo(name))

    @property
    def unknown_clusters(self) -> frozenset[str]:
        """Clusters whose children are unknown at the moment: none among ``children`` does not mean that there is
        none."""
        return frozenset(self._session.task.unknown_clusters)

    def now(self) -> float:
        """Unix time in seconds, from the injected clock."""
        return self._session.clock.wall()

    # -- reads

    async def get(
        self, kind: str | GVK, name: str, namespace: str | None = None, *, cluster: str | None = None
    ) -> dict[str, Any] | None:
        """The object from the cache, None if there is none. ``namespace`` defaults to the request's. Raises
        ``Unreachable``."""
        gvk = _gvk(kind)
        query = CacheRead("get", self._where(cluster), gvk, self._namespace(namespace), name)
        found = await self._session.read(query)
        return self._seen(query.cluster, gvk, found[0].raw) if found else None

    async def list(
        self,
        kind: str | GVK,
        namespace: str | None = None,
        *,
        labels: Labels = None,
        owner: str | None = None,
        cluster: str | None = None,
    ) -> Objects:
        """Objects from the cache: of a namespace (default: the request's; ``ALL``: every one), by labels or by owner
        uid."""
        gvk, where = _gvk(kind), self._where(cluster)
        if owner is not None:
            query = CacheRead("owned", where, gvk, "", owner, selector_text(labels, "list"))
        else:
            query = CacheRead("list", where, gvk, self._namespace(namespace), "", selector_text(labels, "list"))
        return [self._seen(where, gvk, child.raw) for child in await self._session.read(query)]

    def children(self, kind: str | GVK, *, cluster: str | None = None) -> Objects:
        """The owned objects of one of the kinds in ``owns=[...]``, as they came with the task: no read at all.

        With ``cluster=None`` those of every cluster; see ``children_by_cluster`` and ``unknown_clusters``.
        """
        by_cluster = self.children_by_cluster(kind)
        if cluster is not None:
            return by_cluster.get(cluster, [])
        return [child for found in by_cluster.values() for child in found]

    def children_by_cluster(self, kind: str | GVK) -> dict[str, Objects]:
        """As ``children``, by the name of the cluster they are in. Clusters without any are not in it."""
        gvk = _gvk(kind)
        if self._controller.owned(gvk) is None:
            raise ValueError(f"{gvk} is not among owns=[...] of controller {self._controller.name!r}")
        wanted = str(gvk)
        found: dict[str, Objects] = {}
        for child in self._session.task.children:
            if child.kind == wanted:
                found.setdefault(child.cluster, []).append(self._seen(child.cluster, gvk, child.raw))
        return found

    # -- writes

    def own(self, child: dict[str, Any], *, cluster: str | None = None) -> dict[str, Any]:
        """Mark ``child`` (in place) as ours: an owner reference, or label and annotation where that can't be."""
        return mark(child, self._own(), self.request.key.cluster, self._where(cluster))

    async def create(self, obj: dict[str, Any], *, own: bool | None = None, cluster: str | None = None) -> dict[str, Any]:
        """Create ``obj`` and return it as the server keeps it.

        Use deterministic names: where an object of that name exists and is ours by its owner mark, that is success
        and it is returned as it is. ``own=None`` marks kinds in ``owns=[...]``. Raises ``ApiError`` (AlreadyExists
        for a stranger's).
        """
        call, body = await self._prepare("create", obj, own, cluster)
        try:
            answer = await self._session.request(_with_body(call, body, {"fieldManager": self._controller.field_manager}))
        except ApiError as error:
            if not error.already_exists or "name" not in body["metadata"]:
                raise
            existing = await self._live_get(call.cluster, call.kind, call.namespace, body["metadata"]["name"])
            if existing is None:  # gone again meanwhile: the next reconcile creates it
                raise
            found = msgspec.json.decode(existing.body)
            if not owned_by(found, self._own()["metadata"]["uid"]):
                raise
            self._session.wrote(call, existing.body, read=True)
            return _dict(found)
        return _decode(answer.body)

    async def apply(
        self, obj: dict[str, Any], *, own: bool | None = None, force: bool = True, cluster: str | None = None
    ) -> dict[str, Any]:
        """Server-side apply of the fields in ``obj`` as field manager ``raycp-<controller>``: creates or changes, and
        takes away fields that an earlier apply set and this one leaves out. ``force`` takes fields over from other
        managers."""
        call, body = await self._prepare("patch", obj, own, cluster)
        of = _object_id(call)
        version = self._session.version(of)
        if not version and self._controller.owned(call.kind) is not None:
            found = await self._session.read(CacheRead("get", call.cluster, call.kind, call.namespace, call.name))
            version = self._session.version(of) if found and self._seen(call.cluster, call.kind, found[0].raw) else ""
        query = {"fieldManager": self._controller.field_manager, "force": "true" if force else "false"}
        for last in (False,) * (_APPLY_TRIES - 1) + (True,):
            body["metadata"].pop("resourceVersion", None)
            if version:
                body["metadata"]["resourceVersion"] = version
            try:
                return _decode((await self._session.request(_with_body(call, body, query, APPLY_PATCH))).body)
            except ApiError as error:
                if last or not version or not (error.conflict or error.not_found) or error.details.get("causes"):
                    raise
            current = await self._live_get(call.cluster, call.kind, call.namespace, call.name)
            version = self._session.version(of) if current is not None else ""
        raise AssertionError("unreachable")

    async def patch(
        self,
        obj: dict[str, Any],
        patch: dict[str, Any] | Sequence[dict[str, Any]],
        *,
        type: str = "merge",
        subresource: str = "",
        cluster: str | None = None,
    ) -> dict[str, Any]:
        """Patch the object that ``obj`` names (apiVersion, kind, metadata). ``type``: merge, json or strategic.

        Where ``obj`` has a resourceVersion the patch is bound to it and a changed object answers 409 Conflict.
        """
        if type not in _PATCH_TYPES:
            raise ValueError(f"type={type!r} is none of merge, json, strategic")
        call = await self._name("patch", obj, cluster, subresource)
        version = self._session.version(_object_id(call), obj["metadata"].get("resourceVersion", ""))
        body: Any
        if type == "json":
            guard = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}] if version else []
            body = [*guard, *patch]
        else:
            assert isinstance(patch, Mapping), f"a {type} patch is a dict"
            metadata = dict(patch.get("metadata") or {})
            if version:
                metadata["resourceVersion"] = version
            body = {**patch, "metadata": metadata} if metadata else dict(patch)
        query = {"fieldManager": self._controller.field_manager}
        try:
            return _decode((await self._session.request(_with_body(call, body, query, _PATCH_TYPES[type]))).body)
        except ApiError as error:
            if type == "json" and version and error.status == 422 and "test" in error.message:
                raise ApiError(409, "Conflict", f"the object has changed: {error.message}") from error
            raise

    async def delete(
        self,
        obj: dict[str, Any],
        *,
        grace: int | None = None,
        propagation: str | None = None,
        cluster: str | None = None,
    ) -> bool:
        """Delete exactly ``obj``: preconditions on its uid and resourceVersion. False if it is gone already, or another
        object has its name. ``grace`` in seconds; ``propagation``: Background, Foreground or Orphan."""
        call = await self._name("delete", obj, cluster)
        metadata = obj["metadata"]
        version = self._session.version(_object_id(call), metadata.get("resourceVersion", ""))
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {}}
        if metadata.get("uid"):
            options["preconditions"]["uid"] = metadata["uid"]
        if version:
            options["preconditions"]["resourceVersion"] = version
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if propagation is not None:
            options["propagationPolicy"] = propagation
        try:
            await self._session.request(_with_body(call, options, {}))
        except ApiError as error:
            if error.not_found:
                return False
            if not error.conflict or not metadata.get("uid"):
                raise
            current = await self._live_get(call.cluster, call.kind, call.namespace, call.name)
            if current is None or _decode(current.body)["metadata"].get("uid") != metadata["uid"]:
                return False
            raise
        return True

    async def status(
        self,
        status: Mapping[str, Any],
        *,
        obj: dict[str, Any] | None = None,
        replace: bool = False,
        cluster: str | None = None,
    ) -> bool:
        """Bring the status subresource to ``status``: one merge patch of what differs, nothing at all where nothing
        does.

        Keys left out stay as they are (``replace=True``: go); None removes a key. Default: the reconciled object.
        Returns whether a write was needed. Raises ``ApiError`` (409 Conflict where the object changed meanwhile).
        """
        target = self._own() if obj is None else obj
        diff = merge_diff(target.get("status") or {}, status, replace=replace)
        if not diff:
            return False
        answer = await self.patch(target, {"status": diff}, subresource="status", cluster=cluster)
        if obj is None:
            self._own_raw = msgspec.json.encode(answer)
        return True

    def event(
        self,
        reason: str,
        note: str,
        *,
        type: str = "Normal",
        action: str = "Reconcile",
        obj: dict[str, Any] | None = None,
        cluster: str | None = None,
    ) -> None:
        """Record a Kubernetes Event on the object (default: the reconciled one). ``type``: Normal or Warning.

        Sent some time later, equal ones as one with a count; never blocks and never fails a reconcile.
        """
        target = self._own() if obj is None else obj
        controller = f"raycp.io/{self._controller.name}"
        body = event_for(target, type, reason, note, action, controller, self._session.task.shard, self.now())
        self._session.backend.event(self._session.task, self._where(cluster), msgspec.json.encode(body))

    # -- inside

    def _own(self) -> dict[str, Any]:
        """The reconciled object, freshly decoded: whatever the author did to his copy does not show here."""
        if self._own_raw is None:
            raise ValueError(f"{self.request.key} is gone: it has no status, can own nothing and takes no events")
        return self._seen(self.request.key.cluster, self._controller.kind, self._own_raw)

    def _where(self, cluster: str | None) -> str:
        return self.request.key.cluster if cluster is None else cluster

    def _namespace(self, namespace: str | None) -> str:
        if namespace is None:
            return self.request.key.namespace
        return "" if namespace == ALL else namespace

    def _seen(self, cluster: str, kind: GVK, raw: bytes) -> dict[str, Any]:
        """Decode an object that came from a cache; a version that we wrote later is not forgotten for it."""
        obj = _decode(raw)
        obj.setdefault("apiVersion", kind.api_version)
        obj.setdefault("kind", kind.kind)
        metadata = obj["metadata"]
        of = (cluster, kind, metadata.get("namespace", ""), metadata["name"])
        if not self._session.version(of):
            self._session.know(of, metadata.get("resourceVersion", ""))
        return obj

    async def _name(self, verb: Any, obj: dict[str, Any], cluster: str | None, subresource: str = "") -> Call:
        """The call for an object, its namespace filled in where the kind has namespaces and the object tells none."""
        where = self._where(cluster)
        try:
            kind = GVK.parse(f"{obj['apiVersion']}/{obj['kind']}")
            metadata = obj["metadata"]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"an object needs apiVersion, kind and metadata, this has {_keys(obj)}") from None
        namespace = metadata.get("namespace", "")
        if not namespace and self.request.namespace and await self._session.backend.namespaced(where, kind):
            namespace = self.request.namespace
        if verb != "create" and not metadata.get("name"):
            raise ValueError(f"{verb} of a {kind.kind} without metadata.name")
        return Call(verb, where, kind, namespace, metadata.get("name", ""), subresource)

    async def _prepare(self, verb: Any, obj: dict[str, Any], own: bool | None, cluster: str | None) -> tuple[Call, dict[str, Any]]:
        """The call and a copy of the object to send, marked as ours where wanted."""
        call = await self._name(verb, obj, cluster)
        body = {**obj, "metadata": {**obj["metadata"]}}
        metadata = body["metadata"]
        metadata.pop("managedFields", None)
        if call.namespace:
            metadata["namespace"] = call.namespace
        if own or (own is None and self._controller.owned(call.kind) is not None):
            for part in ("labels", "annotations"):
                if part in metadata:
                    metadata[part] = dict(metadata[part] or {})
            if "ownerReferences" in metadata:
                metadata["ownerReferences"] = list(metadata["ownerReferences"] or ())
            declared = self._controller.owned(call.kind)
            label = declared is not None and declared.on == "members"
            mark(body, self._own(), self.request.key.cluster, call.cluster, label=label)
        return call, body

    async def _live_get(self, cluster: str, kind: GVK, namespace: str, name: str) -> Answer | None:
        try:
            answer = await self._session.request(Call("get", cluster, kind, namespace, name))
        except ApiError as error:
            if error.not_found:
                return None
            raise
        version = _decode(answer.body)["metadata"].get("resourceVersion", "")
        self._session.know((cluster, kind, namespace, name), version)
        return answer


class Live:
    """Reads that ask the API server: exact, and a request each. Prefer the cache unless a decision can't bear a
    moment's lag."""

    _PAGE = "500"

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(
        self, kind: str | GVK, name: str, namespace: str | None = None, *, cluster: str | None = None
    ) -> dict[str, Any] | None:
        """The object, None if there is none. Raises ``ApiError``, ``Unreachable``, ``NoSuchKind``."""
        ctx, gvk = self._context, _gvk(kind)
        where, space = ctx._where(cluster), ctx._namespace(namespace)
        if space and not await ctx._session.backend.namespaced(where, gvk):
            space = ""
        answer = await ctx._live_get(where, gvk, space, name)
        return _decode(answer.body) if answer is not None else None

    async def list(
        self,
        kind: str | GVK,
        namespace: str | None = None,
        *,
        labels: Labels = None,
        fields: str = "",
        cluster: str | None = None,
    ) -> Objects:
        """All objects that match, in pages of 500. An ``Expired`` continue token (410) is the caller's to retry."""
        ctx, gvk = self._context, _gvk(kind)
        where, space = ctx._where(cluster), ctx._namespace(namespace)
        if space and not await ctx._session.backend.namespaced(where, gvk):
            space = ""
        query = {"limit": self._PAGE}
        if labels:
            query["labelSelector"] = selector_text(labels, "list")
        if fields:
            query["fieldSelector"] = fields
        found: Objects = []
        while True:
            page = _decode((await ctx._session.request(Call("list", where, gvk, space, query=query))).body)
            for item in page.get("items") or ():
                item.setdefault("apiVersion", gvk.api_version)
                item.setdefault("kind", gvk.kind)
                found.append(item)
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return found
            query = {**query, "continue": more}


def _gvk(kind: str | GVK) -> GVK:
    return kind if isinstance(kind, GVK) else GVK.parse(kind)


def _object_id(call: Call) -> ObjectId:
    return (call.cluster, call.kind, call.namespace, call.name)


def _with_body(call: Call, body: Any, query: dict[str, str], content_type: str = "application/json") -> Call:
    return msgspec.structs.replace(call, body=msgspec.json.encode(body), query=query, content_type=content_type)


def _decode(raw: bytes) -> dict[str, Any]:
    return _dict(msgspec.json.decode(raw))


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"the API server answered {type(value).__name__} where an object was expected")
    return value


def _keys(obj: Any) -> str:
    return ", ".join(map(str, obj)) or "nothing" if isinstance(obj, dict) else type(obj).__name__
