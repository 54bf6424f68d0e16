"""Namespace deletion: delete all objects in a terminating namespace, then remove its ``kubernetes`` finalizer.

Order, conditions and messages follow kube-controller-manager's ``pkg/controller/namespace/deletion``.
"""

from collections.abc import Iterable
from typing import Any

from raycp.base.clock import Clock
from raycp.embedded.errors import StatusError
from raycp.embedded.life.seams import Api, Inbox, Tables, decode_meta, iso
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject

FINALIZER = "kubernetes"
MESSAGES = 10
"""refusals that a condition quotes"""


class NamespaceController:
    """``start()`` subscribes; ``run()`` works until cancelled."""

    def __init__(self, api: Api, store: ObjectStore, registry: Registry, clock: Clock) -> None:
        self.api = api
        self.registry = registry
        self.clock = clock
        self.inbox = Inbox(self._reconcile, clock)
        self._tables = Tables(store, registry)
        self._subscribed: set[tuple[str, str]] = set()
        self._ending: set[str] = set()

    def start(self) -> None:
        def changed(change: StoreChange) -> None:
            if change.type == "DELETED":
                self._ending.discard(change.record.name)
            else:
                self._seen(change.record)

        table = self._tables.subscribe("namespaces", changed)
        self._tables.subscribe("customresourcedefinitions.apiextensions.k8s.io", lambda change: self._subscribe())
        self._subscribe()
        for record in table.records(""):
            self._seen(record)

    def stop(self) -> None:
        self._tables.close()

    async def run(self) -> None:
        await self.inbox.run()

    def _subscribe(self) -> None:
        """Subscribe to deletions in every namespaced resource, those of CRDs included."""
        for resource in self._namespaced():
            key = (resource.info.group, resource.info.plural)
            if key not in self._subscribed:
                self._subscribed.add(key)
                self._tables.on(resource.table, self._content_changed)

    def _content_changed(self, change: StoreChange) -> None:
        if change.record.ns in self._ending:
            self.inbox.put(change.record.ns)

    def _namespaced(self) -> list[ServedResource]:
        return [resource for resource in self.registry.preferred() if resource.info.namespaced]

    def _seen(self, record: StoredObject) -> None:
        if b'"deletionTimestamp"' in record.raw and decode_meta(record.raw).metadata.deletion_timestamp:
            self._ending.add(record.name)
            self.inbox.put(record.name)

    async def _reconcile(self, name: str) -> float | None:
        namespace = self._tables.read("namespaces", "", name)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return None
        if FINALIZER not in (namespace.get("spec") or {}).get("finalizers", ()):
            return None
        namespaced = self._namespaced()
        pods = [resource for resource in namespaced if resource.info.name == "pods"]
        # Pods first: what they need and what guards them is there until they are gone (KEP-5080).
        for resources in (pods, [resource for resource in namespaced if resource not in pods]):
            left, finalizers, refused = await self._emptied(name, resources)
            if left:
                await self._report(name, left, finalizers, refused)
                if refused:
                    raise refused[0]  # it is tried again, less and less often
                return None  # the last deletion requeues the namespace
        namespace = self._tables.read("namespaces", "", name)
        if namespace is not None:
            namespace["spec"]["finalizers"] = [f for f in namespace["spec"]["finalizers"] if f != FINALIZER]
            await self.api.update("namespaces", namespace, subresource="finalize")
        return None

    async def _emptied(
        self, name: str, resources: Iterable[ServedResource]
    ) -> tuple[dict[str, int], dict[str, int], list[StatusError]]:
        """Delete all objects of these kinds: how many of each kind, and with each finalizer, remain, and what could not be deleted.
        One that is refused keeps no other."""
        left: dict[str, int] = {}
        finalizers: dict[str, int] = {}
        refused: list[StatusError] = []
        for resource in resources:
            for record in resource.table.records(name):
                try:
                    await self._delete(resource, record)
                except StatusError as error:
                    refused.append(error)
            for record in resource.table.records(name):
                left[resource.info.name] = left.get(resource.info.name, 0) + 1
                for finalizer in decode_meta(record.raw).metadata.finalizers or ():
                    finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
        return left, finalizers, refused

    async def _delete(self, resource: ServedResource, record: StoredObject) -> None:
        meta = decode_meta(record.raw).metadata
        if meta.deletion_timestamp:
            return
        try:
            await self.api.delete(resource.info.name, record.ns, record.name, propagation="Background", uid=record.uid)
        except StatusError as error:
            if error.code not in (404, 409):
                raise

    async def _report(self, name: str, left: dict[str, int], finalizers: dict[str, int], refused: list[StatusError]) -> None:
        """Write the conditions that explain why a namespace is still terminating."""
        namespace = self._tables.read("namespaces", "", name)
        if namespace is None:
            return
        status: dict[str, Any] = namespace.setdefault("status", {"phase": "Terminating"})
        before = {c["type"]: c for c in status.get("conditions") or ()}
        now = iso(self.clock.wall())
        wanted = [
            (
                "NamespaceDeletionDiscoveryFailure",
                "False",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            (
                ("NamespaceDeletionContentFailure", "True", "ContentDeletionFailed", _refusals(refused))
                if refused
                else (
                    "NamespaceDeletionContentFailure",
                    "False",
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                )
            ),
            (
                "NamespaceContentRemaining",
                "True",
                "SomeResourcesRemain",
                "Some resources are remaining: "
                + ", ".join(f"{resource} has {count} resource instances" for resource, count in sorted(left.items())),
            ),
            (
                ("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", _remaining(finalizers))
                if finalizers
                else (
                    "NamespaceFinalizersRemaining",
                    "False",
                    "ContentHasNoFinalizers",
                    "All content-preserving finalizers finished",
                )
            ),
        ]
        conditions = []
        for type_, value, reason, message in wanted:
            old = before.get(type_, {})
            since = old["lastTransitionTime"] if old.get("status") == value else now
            conditions.append({"type": type_, "status": value, "lastTransitionTime": since, "reason": reason, "message": message})
        if conditions != status.get("conditions"):
            status["conditions"] = conditions
            await self.api.update("namespaces", namespace, subresource="status")


def _refusals(refused: list[StatusError]) -> str:
    """As ``makeDeleteContentCondition`` of the namespace controller, of a few."""
    told = ", ".join(sorted({error.message for error in refused})[:MESSAGES])
    return f"Failed to delete all resource types, {len(refused)} remaining: {told}"


def _remaining(finalizers: dict[str, int]) -> str:
    return "Some content in the namespace has finalizers remaining: " + ", ".join(
        f"{name} in {count} resource instances" for name, count in sorted(finalizers.items())
    )
