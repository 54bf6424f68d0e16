"""The CRD controllers of apiextensions-apiserver: accept names, establish, and delete the objects of a deleted CRD."""

from typing import Any

from raycp.embedded.crdconditions import CLEANUP_FINALIZER, status_of
from raycp.embedded.deletion import Deletion
from raycp.embedded.localapi import LocalApi
from raycp.embedded.name_queue import NamesToSettle
from raycp.embedded.options import DeleteOptions
from raycp.embedded.pipeline import Pipeline
from raycp.embedded.registry import Registry
from raycp.embedded.store import StoreChange, Table

CRDS = "customresourcedefinitions.apiextensions.k8s.io"


class CrdStatus:
    """Subscribes to CRDs and writes their status in a later turn of the event loop, as a controller would."""

    def __init__(self, registry: Registry, pipeline: Pipeline, api: LocalApi) -> None:
        self._registry = registry
        self._pipeline = pipeline
        self._api = api.as_manager("kube-apiserver")
        self._deletion = Deletion(pipeline)
        self._unsubscribe: Any = None
        self._emptying: set[str] = set()
        self._names = NamesToSettle(self._settle)

    def start(self) -> None:
        self._unsubscribe = self._registry.crds.table.subscribe("", self._on_change)
        for record in self._registry.crds.table.records(""):
            self._names.put(record.name)

    def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._names.stop()

    def _on_change(self, change: StoreChange) -> None:
        if change.type == "DELETED":
            self._emptying.discard(change.record.name)
            # another CRD may be waiting for the names that this one held
            for record in self._registry.crds.table.records(""):
                self._names.put(record.name)
        else:
            self._names.put(change.record.name)

    async def _settle(self, name: str) -> None:
        record = self._registry.crds.table.get("", name)
        if record is None:
            return
        crd = record.decode()
        if "deletionTimestamp" in crd["metadata"]:
            await self._empty(crd)
            return
        others = [r.decode() for r in self._registry.crds.table.records("") if r.name != record.name]
        status = status_of(crd, others, self._pipeline.times.now())
        if status != crd.get("status"):
            crd["status"] = status
            crd = await self._api.update(CRDS, crd, subresource="status")

    def _watch_emptying(self, table: Table, name: str) -> None:
        """Check again when the last object, which a finalizer holds, is deleted."""
        if name not in self._emptying:
            self._emptying.add(name)

            def on_change(change: StoreChange) -> None:
                if change.type == "DELETED" and not table.count:
                    self._names.put(name)

            table.subscribe("", on_change)

    async def _empty(self, crd: dict[str, Any]) -> None:
        finalizers = crd["metadata"].get("finalizers") or []
        if CLEANUP_FINALIZER not in finalizers:
            return
        resource = self._registry.in_storage(crd["metadata"]["name"])
        left = 0
        if resource is not None:
            self._watch_emptying(resource.table, crd["metadata"]["name"])
            for record in resource.table.records(""):
                # without admission, as by the finalizer of a real server: what refuses it would keep the CRD for ever
                self._deletion.delete(resource, record.ns, record.name, DeleteOptions())
            left = resource.table.count
        if not left:
            finalizers.remove(CLEANUP_FINALIZER)
            crd["metadata"]["finalizers"] = finalizers
            await self._api.update(CRDS, crd)
