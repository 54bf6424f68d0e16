"""``HubJobCache``: the hub's jobs as the scheduler reads and writes them, from the cache and over the API of the hub's shard.

Writes are fenced by this primary's permit and term (law 6e), folded into the cache before the job is due (law 8).
"""

from collections.abc import AsyncIterator, Iterable

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj
from raycp.base.tasks import Written
from raycp.classify import Verdict
from raycp.classify.rules import WATCHED
from raycp.kube import MERGE_PATCH, ApiError, BadAnswer, ClusterClient, Fenced, UnreadableObject, WriteStamp
from raycp.kube.answers import decode_answer
from raycp.kube.codec import decode_object, decode_objects, split_list
from raycp.kube.pages import each_page
from raycp.member.clients import Clients
from raycp.member.permits import PermitKeeper
from raycp.shard.caches import Caches
from raycp.shard.events import EventHandler
from raycp.shard.identity import ShardIdentity
from raycp.shard.routes import JOBS, QUEUES, Routes
from raycp.shard.watched_cluster import Informer

PAGE = 500
_PRIORITY = GVK.parse("scheduling.k8s.io/v1/PriorityClass")
ADMITTED: Verdict = WATCHED
"""A decision on a job makes it due as a change of an object that it reads does."""


class _Priority(msgspec.Struct):
    value: int = 0


class HubJobCache:
    """One shard's; of use where the hub is one of its clusters. See ``raycp.scheduler.core.HubJobs``."""

    def __init__(
        self,
        identity: ShardIdentity,
        routes: Routes,
        caches: Caches,
        clients: Clients,
        permits: PermitKeeper,
        events: EventHandler,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._routes = routes
        self._caches = caches
        self._clients = clients
        self._permits = permits
        self._events = events
        self._clock = clock
        self.paused = False
        """Whether the fleet leaves its jobs alone."""

    @property
    def writable(self) -> bool:
        """See ``HubJobs``."""
        identity = self._identity
        if self.paused or self._routes.hub not in self._caches:
            return False
        return identity.primary and self._permits.covers(identity.shard, identity.epoch, identity.term)

    @property
    def succeeds(self) -> bool:
        """See ``HubJobs``."""
        return self._identity.term > 1 or self._identity.epoch > 1

    @property
    def listed(self) -> bool:
        """See ``HubJobs``."""
        jobs = self.informer(JOBS)
        return jobs is not None and jobs.synced and self.queues_known

    @property
    def queues_known(self) -> bool:
        """Whether the ``Queue`` objects are cached, or the hub has none."""
        queues = self.informer(QUEUES)
        return queues is not None and (queues.synced or queues.refused)

    def informer(self, kind: GVK) -> Informer | None:
        """Of a kind of the hub."""
        return self._caches.informer(self._routes.hub, kind)

    def all_cached(self) -> Iterable[Obj]:
        """See ``HubJobs``."""
        jobs = self.informer(JOBS)
        return jobs.store if jobs is not None else ()

    def cached(self, namespace: str, name: str) -> Obj | None:
        """See ``JobStore``."""
        jobs = self.informer(JOBS)
        return jobs.store.get(namespace, name) if jobs is not None else None

    def wake(self, obj: Obj) -> None:
        """See ``HubJobs``."""
        for key in self._keys(obj):
            # Its watch event is silent: without it as an exception, the watermark would say that this is reconciled.
            self._events.due(key, ADMITTED, obj, None, change=(self._routes.hub, JOBS, obj.rv))
        self._events.dispatch()

    def _keys(self, obj: Obj) -> list[RequestKey]:
        """The job's, one for each controller of jobs."""
        meta, controllers = obj.meta, self._routes.kind_of.items()
        return [RequestKey(name, self._routes.hub, meta.namespace, meta.name) for name, kind in controllers if kind == JOBS]

    # over the API

    async def _client(self) -> ClusterClient:
        return await self._clients.get(self._routes.hub)

    async def all_jobs(self) -> AsyncIterator[Obj]:
        """See ``HubJobs``."""
        client = await self._client()
        path = (await client.resource(JOBS)).path(None, None)
        async for body in each_page(client, path, {"limit": PAGE}):
            _, items, head = split_list(body)
            for obj in decode_objects(items, head)[0]:
                yield obj

    async def read(self, namespace: str, name: str) -> Obj | None:
        """See ``JobStore``."""
        try:
            return _decoded(await (await self._client()).get(JOBS, namespace, name))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def patch_status(self, namespace: str, name: str, body: bytes) -> Obj:
        """See ``JobStore``."""
        client = await self._client()
        answer, _ = await client.call(
            "PATCH", JOBS, namespace, name, "status", body=body, content_type=MERGE_PATCH, guard=self._stamp
        )
        obj = _decoded(answer.body)
        jobs = self.informer(JOBS)
        if jobs is not None:
            meta = obj.meta
            written = Written(self._routes.hub, str(JOBS), meta.namespace, meta.name, meta.uid, obj.rv, answer.body)
            events = jobs.store.fold(written, self._clock.now())
            if events:
                # As the job's own write: ``wake`` requeues its key where that is needed, and controllers that read it are notified.
                self._events.handle(self._routes.hub, JOBS, events, next(iter(self._keys(obj)), None))
        return obj

    async def patch_queue(self, name: str, body: bytes) -> None:
        """One fenced merge patch of a queue's status. Raises ``KubeError``."""
        client = await self._client()
        await client.call("PATCH", QUEUES, None, name, "status", body=body, content_type=MERGE_PATCH, guard=self._stamp)

    async def priority_of(self, name: str) -> int | None:
        """See ``HubJobs``."""
        try:
            answer = await (await self._client()).get(_PRIORITY, "", name)
        except ApiError as error:
            if error.not_found:
                return None
            raise
        return decode_answer(answer, _Priority, f"PriorityClass {name}").value

    def _stamp(self) -> WriteStamp:
        identity = self._identity
        if not self.writable:
            raise Fenced("the scheduler is paused" if self.paused else "the scheduler's permit to write has ended")
        left = self._permits.left()
        headers = {
            "X-Raycp-Epoch": str(identity.epoch),
            "X-Raycp-Shard": identity.shard,
            "X-Raycp-Term": str(identity.term),
        }
        return WriteStamp(headers, None if left == float("inf") else left)


def _decoded(raw: bytes) -> Obj:
    try:
        return decode_object(raw)
    except UnreadableObject as error:
        raise BadAnswer(f"the answer is no BatchJob: {error}") from None
