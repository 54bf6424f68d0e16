"""Owner garbage collection: background, foreground, orphan.

It subscribes to every resource, searches each object for the bytes ``ownerReferences`` and stores edges only, so that
objects without owners cost nothing here.
"""

from collections.abc import Iterable
from typing import Any

from raycp.base.clock import Clock
from raycp.embedded.errors import StatusError
from raycp.embedded.life.ownergraph import Graph, OwnerNode
from raycp.embedded.life.seams import Api, Inbox, OwnerReference, Tables, decode_meta
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_OWNED = b'"ownerReferences"'
_DELETING = b'"deletionTimestamp"'


class GarbageCollector:
    """``start()`` reads the store and subscribes to it; ``run()`` works until cancelled."""

    def __init__(self, api: Api, store: ObjectStore, registry: Registry, clock: Clock) -> None:
        self.api = api
        self.registry = registry
        self.graph = Graph()
        self.inbox = Inbox(self._reconcile, clock)
        self._tables = Tables(store, registry)
        self._subscribed: set[tuple[str, str]] = set()
        self._waiting: dict[str, OwnerNode] = {}
        """owners in foreground deletion, by uid"""

    def start(self) -> None:
        self._tables.subscribe("customresourcedefinitions.apiextensions.k8s.io", lambda change: self._subscribe_new_tables())
        self._subscribe_new_tables()

    def stop(self) -> None:
        self._tables.close()

    async def run(self) -> None:
        await self.inbox.run()

    def _subscribe_new_tables(self) -> None:
        served = self.registry.preferred()
        self._subscribed &= {(r.info.group, r.info.plural) for r in served}
        for resource in served:
            key = (resource.info.group, resource.info.plural)
            if key not in self._subscribed:
                self._subscribed.add(key)
                self._subscribe(resource)

    def _subscribe(self, resource: ServedResource) -> None:
        name = resource.info.name

        def changed(change: StoreChange) -> None:
            if change.type == "DELETED":
                self._on_delete(change.record)
            else:
                self._seen(name, change.record)

        self._tables.on(resource.table, changed)
        for record in resource.table.records(""):
            self._seen(name, record)

    def _seen(self, resource: str, record: StoredObject) -> None:
        raw = record.raw
        owned, deleting = _OWNED in raw, _DELETING in raw
        if not owned and not deleting and record.uid not in self.graph.owners:
            return
        meta = decode_meta(raw).metadata
        node = OwnerNode(resource, record.ns, record.name, record.uid)
        before = self.graph.owners.get(record.uid, ())
        if self.graph.put(node, meta.owner_references or ()):
            self.inbox.put(("dependent", record.uid))
            self._requeue_owners(before)
        if meta.deletion_timestamp and (FOREGROUND in (meta.finalizers or ()) or ORPHAN in (meta.finalizers or ())):
            self.inbox.put(("deleting", node))

    def _on_delete(self, record: StoredObject) -> None:
        self._requeue_owners(self.graph.owners.get(record.uid, ()))
        self._waiting.pop(record.uid, None)
        self.graph.drop(record.uid)
        for dependent in self.graph.of(record.uid):
            self.inbox.put(("dependent", dependent.uid))

    def _requeue_owners(self, refs: Iterable[OwnerReference]) -> None:
        for ref in refs:
            if ref.uid in self._waiting:
                self.inbox.put(("deleting", self._waiting[ref.uid]))

    # work of the inbox

    async def _reconcile(self, key: tuple[str, Any]) -> float | None:
        what, about = key
        if what == "dependent":
            return await self._collect(about)
        await self._finish(about)
        return None

    def _owner(self, dependent: OwnerNode, ref: OwnerReference) -> tuple[OwnerNode, dict[str, Any]] | None:
        """The owner, if it exists with that uid. Raises ``_UnknownKind`` for a kind that is not served."""
        resource = self.registry.by_kind(ref.api_version, ref.kind)
        if resource is None:
            raise _UnknownKind
        ns = dependent.ns if resource.info.namespaced else ""
        if resource.info.namespaced and not ns:
            return None  # a cluster-scoped object can't have a namespaced owner
        record = resource.table.get(ns, ref.name)
        if record is None or record.uid != ref.uid:
            return None
        return OwnerNode(resource.info.name, ns, ref.name, ref.uid), record.decode()

    async def _collect(self, uid: str) -> float | None:
        """Delete a dependent without any existing owner, or remove its references to owners that do not exist."""
        dependent = self.graph.nodes.get(uid)
        if dependent is None:
            return None
        solid, waiting, dangling = [], [], []
        for ref in self.graph.owners[uid]:
            try:
                found = self._owner(dependent, ref)
            except _UnknownKind:
                return 5.0  # as in Kubernetes, an owner of an unknown kind protects its dependents
            if found is None:
                dangling.append(ref)
            elif self._waits(found[1], ref):
                waiting.append(ref)
            else:
                solid.append(ref)
        if solid and (dangling or waiting):
            await self._take_off(dependent, {ref.uid for ref in (*dangling, *waiting)})
        elif not solid and waiting:
            below = self.graph.of(uid)
            if any(each.uid in self._waiting for each in below):
                await self._unblock(dependent)  # a circle: each would wait for the next one
            await self._delete(dependent, "Foreground" if below else "Background")
        elif not solid and dangling:
            await self._delete(dependent, self._propagation(dependent))
        return None

    @staticmethod
    def _waits(owner: dict[str, Any], ref: OwnerReference) -> bool:
        meta = owner["metadata"]
        return "deletionTimestamp" in meta and FOREGROUND in (meta.get("finalizers") or ())

    def _propagation(self, node: OwnerNode) -> str:
        """Of a dependent whose owners are gone: what its finalizers say (empty), else Background, whatever its kind does."""
        resource = self.registry.named(node.resource)
        record = resource.table.get(node.ns, node.name) if resource is not None else None
        finalizers = (decode_meta(record.raw).metadata.finalizers if record is not None else None) or ()
        return "" if FOREGROUND in finalizers or ORPHAN in finalizers else "Background"

    async def _delete(self, node: OwnerNode, propagation: str) -> None:
        try:
            await self.api.delete(node.resource, node.ns, node.name, propagation=propagation, uid=node.uid)
        except StatusError as error:
            if error.code not in (404, 409):
                raise

    async def _take_off(self, node: OwnerNode, uids: set[str]) -> None:
        obj = self._tables.read(node.resource, node.ns, node.name)
        if obj is None or obj["metadata"]["uid"] != node.uid:
            return
        kept = [ref for ref in obj["metadata"].get("ownerReferences") or () if ref.get("uid") not in uids]
        obj["metadata"]["ownerReferences"] = kept
        if not kept:
            del obj["metadata"]["ownerReferences"]
        await self.api.update(node.resource, obj)

    async def _unblock(self, node: OwnerNode) -> None:
        """Let the owners of ``node`` not wait for it (``unblockOwnerReferencesStrategicMergePatch``)."""
        obj = self._tables.read(node.resource, node.ns, node.name)
        if obj is None or obj["metadata"]["uid"] != node.uid:
            return
        for ref in obj["metadata"].get("ownerReferences") or ():
            if ref.get("blockOwnerDeletion"):
                ref["blockOwnerDeletion"] = False
        await self.api.update(node.resource, obj)

    async def _finish(self, node: OwnerNode) -> None:
        """Continue the deletion of an owner in the foreground or with orphans."""
        obj = self._tables.read(node.resource, node.ns, node.name)
        if obj is None or obj["metadata"]["uid"] != node.uid or "deletionTimestamp" not in obj["metadata"]:
            self._waiting.pop(node.uid, None)
            return
        finalizers = obj["metadata"].get("finalizers") or []
        if ORPHAN in finalizers:
            for dependent in self.graph.of(node.uid):
                await self._take_off(dependent, {node.uid})
            await self._remove_finalizer(node, ORPHAN)
        elif FOREGROUND in finalizers:
            self._waiting[node.uid] = node
            for dependent in self.graph.of(node.uid):
                self.inbox.put(("dependent", dependent.uid))
            if not self.graph.blocking(node.uid):
                self._waiting.pop(node.uid, None)
                await self._remove_finalizer(node, FOREGROUND)

    async def _remove_finalizer(self, node: OwnerNode, finalizer: str) -> None:
        obj = self._tables.read(node.resource, node.ns, node.name)
        if obj is None or obj["metadata"]["uid"] != node.uid:
            return
        left = [f for f in obj["metadata"].get("finalizers") or () if f != finalizer]
        obj["metadata"]["finalizers"] = left
        await self.api.update(node.resource, obj)


class _UnknownKind(Exception):
    """An owner of a kind that is not served."""
