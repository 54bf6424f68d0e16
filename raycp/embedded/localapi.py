"""The in-process client: the server's rules without HTTP, for the simulation's controllers, tests and benchmarks.

Reads return at once from the store; writes are coroutines because they may wait for admission webhooks. All raise
``StatusError``. Resources are named ``plural``, ``plural.group`` or ``plural.version.group``.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from raycp.embedded import lists
from raycp.embedded.auth import MASTERS, User
from raycp.embedded.errors import expired, no_such_path, not_found
from raycp.embedded.options import DeleteOptions, ListOptions, WriteOptions
from raycp.embedded.patches import MERGE_PATCH
from raycp.embedded.pipeline import Draft, Object, Wrote
from raycp.embedded.registry import ServedResource
from raycp.embedded.store import Compacted, StoreChange
from raycp.embedded.subresources import Subresources
from raycp.embedded.verbs import Verbs

Objects = list[Object]
Batch = list[tuple[str, Object]]
ADMIN = User("raycp-embedded", (MASTERS,))


class LocalApi:
    """A client of one embedded cluster, on the cluster's event loop. ``manager`` is its field manager."""

    def __init__(self, verbs: Verbs, subresources: Subresources, manager: str = "raycp-embedded") -> None:
        self._verbs = verbs
        self._pipeline = verbs.pipeline
        self._subresources = subresources
        self._options = WriteOptions(manager=manager, validation="Ignore", force=True)

    def as_manager(self, manager: str) -> "LocalApi":
        """A client with another field manager."""
        return LocalApi(self._verbs, self._subresources, manager)

    def now(self) -> float:
        """The server's wall clock, Unix seconds."""
        return self._pipeline.times.wall()

    def resource(self, name: str) -> ServedResource:
        """The resource of that name. Raises ``StatusError`` 404 if it is not served."""
        found = self._pipeline.registry.named(name)
        if found is None:
            raise no_such_path()
        return found

    def get(self, resource: str, ns: str, name: str) -> Object | None:
        """The object as a fresh dict; None if it does not exist."""
        found = self.resource(resource)
        record = found.table.get(ns, name)
        return found.read(record) if record is not None else None

    def list(self, resource: str, ns: str = "", *, label_selector: str = "", field_selector: str = "") -> tuple[Objects, int]:
        """The objects, and the revision of the list."""
        found = self.resource(resource)
        revision = self._pipeline.store.revision
        options = ListOptions(labels=label_selector, fields=field_selector)
        listed = lists.find(found, ns, options, revision)
        return [found.read(record) for record in listed.records], revision

    async def create(self, resource: str, obj: Object, ns: str = "", *, subresource: str = "", name: str = "") -> Object:
        """Create ``obj``, which the callee may change. ``subresource`` "binding" binds the Pod ``name``."""
        found = self.resource(resource)
        ns = ns or obj.get("metadata", {}).get("namespace", "")
        if subresource == "binding":
            record = self._subresources.bind_pod(found, ns, name or obj["metadata"]["name"], obj)
            return found.read(record)
        if subresource:
            raise no_such_path()
        self._typed(found, obj)
        obj = found.strategy.normalize(obj)
        return await self._finish(self._pipeline.draft_create(found, ns, obj, self._options))

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """PUT ``obj``, which the callee may change; its resourceVersion, if given, is the optimistic lock."""
        found = self.resource(resource)
        meta = obj["metadata"]
        self._typed(found, obj)
        obj = found.strategy.normalize(obj)
        draft = self._pipeline.draft_update(found, meta.get("namespace", ""), meta["name"], obj, self._options, subresource)
        return await self._finish(draft)

    async def patch_merge(self, resource: str, ns: str, name: str, patch: bytes, *, subresource: str = "") -> Object:
        """A JSON merge patch."""
        draft = self._pipeline.draft_patch(self.resource(resource), ns, name, MERGE_PATCH, patch, self._options, subresource)
        return await self._finish(draft)

    async def apply(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """Server-side apply, with force."""
        meta = obj["metadata"]
        draft = self._pipeline.draft_apply(
            self.resource(resource), meta.get("namespace", ""), meta["name"], obj, self._options, subresource
        )
        return await self._finish(draft)

    async def delete(
        self,
        resource: str | ServedResource,
        ns: str,
        name: str,
        *,
        propagation: str = "",
        uid: str = "",
        grace: int | None = None,
    ) -> None:
        """DELETE an object, also of a resource that has no name since it is not served."""
        found = self.resource(resource) if isinstance(resource, str) else resource
        options = DeleteOptions(grace=grace, policy=propagation, uid=uid)
        record = found.table.get(ns, name)
        if record is None:
            raise not_found(found.info, name)
        if self._verbs.webhooks.any and self._verbs.webhooks.match_delete(found, record):
            await self._verbs.webhooks.admit_delete(found, record, ADMIN, False, [])
        self._verbs.deletion.delete(found, ns, name, options)

    async def watch(self, resource: str, revision: int, ns: str = "") -> AsyncIterator[Batch]:
        """Yield batches of (type, object) after ``revision``, without end. Raises ``StatusError`` 410 if it is compacted."""
        found = self.resource(resource)
        pending: list[StoreChange] = []
        wake = asyncio.Event()

        def on_change(change: StoreChange) -> None:
            pending.append(change)
            wake.set()

        try:
            pending += [c for c in found.table.since(revision) if not ns or c.record.ns == ns]
        except Compacted:
            raise expired(f"too old resource version: {revision} ({found.table.floor})") from None
        unsubscribe = found.table.subscribe(ns, on_change)
        try:
            while True:
                if pending:
                    batch = [(change.type, found.read(change.record)) for change in pending]
                    pending.clear()
                    yield batch
                wake.clear()
                if not pending:
                    await wake.wait()
        finally:
            unsubscribe()

    async def _finish(self, draft: Draft) -> Object:
        if self._verbs.webhooks.any and self._verbs.webhooks.match(draft):
            draft = await self._verbs.webhooks.admit(draft, ADMIN, [])
        wrote: Wrote = self._pipeline.finish(draft)
        return draft.obj if wrote.record is not draft.record else draft.resource.read(wrote.record)

    @staticmethod
    def _typed(found: ServedResource, obj: Any) -> None:
        obj.setdefault("apiVersion", found.info.api_version)
        obj.setdefault("kind", found.info.kind)
