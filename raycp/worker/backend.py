"""The SDK's ``Backend`` on a worker: caches are read at the shards, requests go to the API servers, stamped and fenced.

Lives on the user loop; the links live on the actor's loop, so questions to shards cross over and back.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, NoReturn, Protocol, TypeVar

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.base.tasks import ApiCall, Child, Done, Task, Written
from raycp.kube import ApiError, CircuitOpen, ConnectError, ConnectSpec, Fenced, KubeError, Throttled, Unreachable, WriteStamp
from raycp.kube.budget import BACKGROUND, LIVE
from raycp.member.clients import Clients
from raycp.member.permits import PermitKeeper
from raycp.metrics import ApiMetrics, Metrics, ReconcileMetrics
from raycp.protocol.frames import TOKEN_PATIENCE, Fold, Message, Read, Reply, ReplyCode, TokenRequest
from raycp.protocol.plan import Plan
from raycp.sdk.backend import Answer, CacheRead, Call, ClusterInfo
from raycp.sdk.controller import Controller
from raycp.sdk.event_recorder import EventRecorder
from raycp.worker.call_outcomes import CallOutcomes
from raycp.worker.shard_link import ShardLink
from raycp.worker.user_loop import UserLoop

log = logging.getLogger(__name__)

READ_TIMEOUT = 5.0
FOLD_TIMEOUT = 1.0
ASK_TIMEOUT = TOKEN_PATIENCE + 5.0
ELSEWHERE_MAX = 30.0
"""Longest pause, in seconds, before a key is tried again that needs a cluster of another shard whose breaker is open."""

_METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
T = TypeVar("T")


class _List(msgspec.Struct):
    items: list[msgspec.Raw] | None = None


class HasLinks(Protocol):
    """The worker, as its backend needs it."""

    _links: dict[str, ShardLink]
    _slots: int
    permits: PermitKeeper


class WorkerBackend:
    """One per worker."""

    def __init__(
        self,
        worker: HasLinks,
        clients: Clients,
        clock: Clock,
        user: UserLoop,
        actor_loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
    ) -> None:
        self._worker = worker
        self._clients = clients
        self._clock = clock
        self._user = user
        self._actor_loop = actor_loop
        self._api = ApiMetrics(metrics)
        self._refused = ReconcileMetrics(metrics).refused_writes
        self._shards: dict[str, str] = {}
        self._infos: dict[str, ClusterInfo] = {}
        self._warmed: dict[str, ConnectSpec] = {}
        self._stamps: dict[tuple[int, str, int], dict[str, str]] = {}
        self._recorder: EventRecorder | None = None
        self._recording: asyncio.Task[None] | None = None
        self._fares = CallOutcomes(self._send)
        clients.ask_tokens = self._ask_tokens
        clients.waited = lambda cluster, seconds: self._api.budget_wait.labels(cluster).observe(seconds)

    def update(self, plan: Plan) -> None:
        """Work by ``plan`` from now on."""
        # A cluster that takes no new work has room for none: placement leaves it alone, and what runs there goes on.
        closed = {cluster.name for cluster in plan.fleet.doc.spec.clusters if cluster.unschedulable}
        self._infos = {
            cluster.name: ClusterInfo(cluster.name, cluster.role, cluster.labels, free_pods=0 if cluster.name in closed else None)
            for cluster in plan.clusters
        }
        self._shards = {cluster.name: cluster.shard for cluster in plan.clusters}
        kinds = {kind for known in plan.fleet.controllers for kind in (known.kind, *(owned.kind for owned in known.owns))}
        for cluster in plan.clusters:
            if cluster.connect is not None and self._warmed.get(cluster.name) != cluster.connect:
                self._warmed[cluster.name] = cluster.connect
                self._user.submit(self._warm(cluster.name, sorted(kinds)))

    async def _warm(self, cluster: str, kinds: list[str]) -> None:
        """Connect and discover before the first task needs it: it costs the first user's change a tenth of a second otherwise."""
        try:
            client = await self._clients.get(cluster)
            await client.version()
            for kind in kinds:
                await client.resource(GVK.parse(kind))
        except (KubeError, ConnectError) as error:
            log.debug("cluster %s is not warm: %s", cluster, error)

    # Backend

    def clusters(self) -> Sequence[ClusterInfo]:
        """See ``Backend.clusters``: what the plan says, with what the shards last told of reachability."""
        found = []
        for name, info in self._infos.items():
            link = self._worker._links.get(self._shards[name])
            state = link.states.get(name) if link is not None else None
            if state is None:
                found.append(replace(info, reachable=False, synced=False, reason="its shard is not connected"))
            else:
                found.append(replace(info, reachable=state.reachable, synced=state.synced, reason=state.reason))
        return found

    async def namespaced(self, cluster: str, kind: GVK) -> bool:
        """See ``Backend.namespaced``."""
        return (await (await self._clients.get(cluster)).resource(kind)).namespaced

    async def read(self, task: Task, query: CacheRead) -> list[Child]:
        """See ``Backend.read``; what no shard watches is read live."""
        reply = await self._ask(
            query.cluster,
            lambda identity: Read(
                identity, query.op, [query.cluster], [str(query.kind)], query.namespace, query.name, query.selector
            ),
        )
        if reply.code is ReplyCode.UNWATCHED:
            return await self._read_live(query)
        if reply.error or reply.unknown_clusters:
            raise Unreachable(f"cluster {query.cluster}: {reply.error or 'its cache is not filled yet'}", sent=False)
        return reply.found

    async def request(self, task: Task, call: Call) -> Answer:
        """See ``Backend.request``."""
        home = self._shards.get(call.cluster, "")
        elsewhere = home != task.shard
        if elsewhere:
            self._admit(task, call.cluster, home)
        client = await self._clients.get(call.cluster)
        resource = await client.resource(call.kind)
        # A create goes to the collection, though the caller knows the name; a subresource's (eviction, binding) does not.
        name = None if call.verb == "create" and not call.subresource else call.name or None
        path = resource.path(call.namespace or None, name, call.subresource or None)
        started = self._clock.now()
        code, failure = "error", -1
        retry_after: float | None = None
        try:
            answer = await client.request(
                _METHODS[call.verb],
                path,
                body=call.body,
                query=call.query or None,
                content_type=call.content_type,
                priority=BACKGROUND if task.tier == "background" else LIVE,
                guard=self._guard(task, call.cluster) if call.writes else None,
            )
            code = str(answer.status)
            failure = answer.status
        except ApiError as error:
            code = str(error.status)
            failure, retry_after = error.status, error.retry_after
            if error.status == 404 and call.verb in ("create", "list") and not error.reason:
                client.discovery.forget()
            raise
        except (CircuitOpen, Throttled):
            raise
        except Unreachable:
            failure = 0
            raise
        finally:
            seconds = self._clock.now() - started
            self._api.requests.labels(call.cluster, call.verb, code).inc()
            self._api.seconds.labels(call.cluster, call.verb).observe(seconds)
            if elsewhere and failure >= 0:
                self._fares.note(home, ApiCall(call.verb, call.cluster, path, failure, seconds, retry_after))
        return Answer(answer.status, answer.body, path)

    def event(self, task: Task, cluster: str, event: bytes) -> None:
        """See ``Backend.event``."""
        if self._recorder is None:
            self._recorder = EventRecorder(self.request, self._clock)
            self._recording = asyncio.get_running_loop().create_task(self._recorder.run())
        self._recorder.record(task, cluster, event)

    # for the worker

    async def complete_children(self, task: Task, controller: Controller, shard: str) -> None:
        """Add to ``task.children`` those that other shards hold; clusters that can't be asked become ``task.unknown_clusters``."""
        kinds = [str(owned.kind) for owned in controller.owns if owned.on == "members"]
        others = sorted({other for other in self._shards.values() if other != shard})
        if not kinds or not others or task.raw is None:
            return
        uid = msgspec.json.decode(task.raw, type=_Identified).metadata.uid

        async def ask(other: str) -> None:
            clusters = [name for name, known in self._shards.items() if known == other and self._infos[name].role == "member"]
            if not clusters:
                return
            try:
                reply = await self._ask(clusters[0], lambda identity: Read(identity, "owned", clusters, kinds, "", uid))
            except Unreachable:
                task.unknown_clusters.extend(clusters)
            else:
                task.children.extend(reply.found)
                task.unknown_clusters.extend(clusters if reply.error else reply.unknown_clusters)

        await asyncio.gather(*(ask(other) for other in others))

    async def fold_elsewhere(self, done: Done, shard: str) -> None:
        """Tell writes to the shards of their objects before the key is released (law 8).

        Those that their shard has taken in are dropped from ``done``; for others the key's shard waits for (uid, version).
        """
        groups: dict[str, list[Written]] = {}
        for write in done.writes:
            groups.setdefault(self._shards.get(write.cluster, ""), []).append(write)
        kept = groups.pop(shard, [])

        async def fold(writes: list[Written]) -> list[Written]:
            try:
                reply = await self._ask(writes[0].cluster, lambda identity: Fold(identity, writes, done.key), FOLD_TIMEOUT)
            except Unreachable:
                return [msgspec.structs.replace(write, raw=None) for write in writes]
            return [] if not reply.error else [msgspec.structs.replace(write, raw=None) for write in writes]

        for rest in await asyncio.gather(*(fold(writes) for writes in groups.values())):
            kept.extend(rest)
        done.writes = kept

    def finish(self, link: ShardLink, done: Done, then: Callable[[ShardLink, Done], None]) -> None:
        """Hand an acknowledgement to the actor's loop."""
        self._actor_loop.call_soon_threadsafe(then, link, done)

    # inside

    def _admit(self, task: Task, cluster: str, home: str) -> None:
        """Whether a request to a cluster of another shard than the key's may be made: one that is known to fail, or whose budget is
        used up, must not hold slots. Raises ``CircuitOpen``, ``Throttled``; the key is tried again later."""
        link = self._worker._links.get(home)
        state = link.states.get(cluster) if link is not None else None
        if state is not None and state.breaker in ("open", "half-open"):
            wait = min(ELSEWHERE_MAX, 2.0 ** min(task.attempt - 1, 10)) * random.uniform(0.75, 1.25)
            raise CircuitOpen(cluster, state.reason.removeprefix("breaker open: "), wait)
        purse = self._clients.purses.get(cluster)
        if purse is not None and purse.waiting > self._worker._slots // 2:
            raise Throttled(cluster, 0.0)

    async def _ask_tokens(self, cluster: str, n: int, priority: int) -> int:
        return (await self._ask(cluster, lambda identity: TokenRequest(identity, cluster, n, priority), ASK_TIMEOUT)).tokens

    def _send(self, shard: str, message: Message) -> None:
        def send() -> None:
            link = self._worker._links.get(shard)
            if link is not None:
                link.tell(message)

        self._actor_loop.call_soon_threadsafe(send)

    def _guard(self, task: Task, cluster: str) -> Callable[[], WriteStamp]:
        """What is asked immediately before a write of ``task`` is sent: permit, epoch and term (law 6e). Raises ``Fenced``."""
        key = (task.epoch, task.shard, task.term)
        headers = self._stamps.get(key)
        if headers is None:
            headers = {"X-Raycp-Epoch": str(task.epoch), "X-Raycp-Shard": task.shard, "X-Raycp-Term": str(task.term)}
            self._stamps[key] = headers
        permits = self._worker.permits

        def stamp() -> WriteStamp:
            left = permits.left()
            if left <= 0:
                self._refuse(cluster, "permit", "the permit to write has ended")
            if task.epoch < permits.epoch:
                self._refuse(cluster, "epoch", f"epoch {task.epoch} has ended, this is epoch {permits.epoch}")
            newest = permits.term_of(task.shard)
            if task.term < newest:
                self._refuse(cluster, "term", f"term {task.term} of shard {task.shard} has ended, this is term {newest}")
            return WriteStamp(headers, None if left == math.inf else left)

        return stamp

    def _refuse(self, cluster: str, reason: str, message: str) -> NoReturn:
        self._refused.labels(cluster, reason).inc()
        log.warning("a write to cluster %s was refused: %s", cluster, message)
        raise Fenced(message)

    async def _ask(self, cluster: str, make: Callable[[int], Message], timeout: float = READ_TIMEOUT) -> Reply:
        link = self._worker._links.get(self._shards.get(cluster, ""))
        if link is None:
            raise Unreachable(f"no shard is up that watches cluster {cluster!r}", sent=False)
        return await self._cross(link.call(make, timeout))

    async def _cross(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._actor_loop))

    async def _read_live(self, query: CacheRead) -> list[Child]:
        client = await self._clients.get(query.cluster)
        resource = await client.resource(query.kind)
        if query.op == "get":
            try:
                answer = await client.request("GET", resource.path(query.namespace or None, query.name))
            except ApiError as error:
                if error.status == 404:
                    return []
                raise
            return [Child(query.cluster, str(query.kind), answer.body)]
        if query.op == "owned":
            selector = ",".join(part for part in (f"raycp.io/owner-uid={query.name}", query.selector) if part)
        else:
            selector = query.selector
        found: list[Child] = []
        head = {"apiVersion": query.kind.api_version, "kind": query.kind.kind}
        answer = await client.request(
            "GET", resource.path(query.namespace or None), query={"labelSelector": selector} if selector else None
        )
        for item in msgspec.json.decode(answer.body, type=_List).items or []:
            fields = {**head, **msgspec.json.decode(item, type=dict[str, msgspec.Raw])}
            found.append(Child(query.cluster, str(query.kind), msgspec.json.encode(fields)))
        return found


class _Meta(msgspec.Struct):
    uid: str = ""


class _Identified(msgspec.Struct):
    metadata: _Meta
