"""The SDK's ``Backend`` on a worker: caches are read at the shards, requests go to the API servers, stamped and fenced."""

import asyncio
import logging
from collections.abc import Iterable, Mapping

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.base.owner_marks import MarkKeys
from raycp.base.tasks import ApiCall, Child, Task
from raycp.kube import ApiError, CircuitOpen, ConnectError, ConnectSpec, KubeError, Throttled, Unreachable
from raycp.kube.budget import BACKGROUND, LIVE
from raycp.member.clients import Clients
from raycp.metrics import ApiMetrics, Metrics
from raycp.protocol.plan import Plan
from raycp.sdk.backend import Answer, ApiRequest, CacheRead, ClusterInfo
from raycp.sdk.event_recorder import EventRecorder
from raycp.worker.admission import RemoteAdmission
from raycp.worker.call_outcomes import CallOutcomes
from raycp.worker.cluster_table import ClusterTable
from raycp.worker.fence import WriteFence
from raycp.worker.own_credentials import own_fault
from raycp.worker.questions import ShardQuestions
from raycp.worker.reconcile_traces import ReconcileTraces, TracedCall
from raycp.worker.shard_reads import ShardReads

log = logging.getLogger(__name__)

_METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}


class WorkerBackend:
    """One per worker. Lives on the user loop."""

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        clusters: ClusterTable,
        questions: ShardQuestions,
        reads: ShardReads,
        clients: Clients,
        fence: WriteFence,
    ) -> None:
        self.clusters: Mapping[str, ClusterInfo] = {}
        """See ``Backend.clusters``, as ``marks``. An attribute, since most reconciles read it; the worker sets it to
        ``ClusterTable.infos``."""
        self.marks: MarkKeys | None = None
        self.traces: ReconcileTraces | None = None
        """Where traces are exported."""
        self._clock = clock
        self._clusters = clusters
        self._reads = reads
        self._clients = clients
        self._fence = fence
        self._metrics = ApiMetrics(metrics)
        self._admission = RemoteAdmission(clusters, clients)
        self._outcomes = CallOutcomes(questions.send)
        self._warmed: dict[str, ConnectSpec] = {}
        self._recorder: EventRecorder | None = None
        self._recording: asyncio.Task[None] | None = None
        metrics.before_snapshot(lambda: self._metrics.in_flight.replace({(name,): n for name, n in clients.in_flight().items()}))
        clients.ask_tokens = questions.tokens
        clients.waited = lambda cluster, seconds: self._metrics.budget_wait.labels(cluster).observe(seconds)

    async def update(self, plan: Plan) -> None:
        """Take over a newer plan, and connect to clusters that are new in it.

        Connecting and discovery before the first task needs them spare the first user's change a tenth of a second.
        """
        self._admission.slots = plan.fleet.doc.spec.workers.slots
        kinds = {
            kind
            for known in plan.fleet.controllers
            for kind in (known.kind, *(owned.kind for owned in known.owns), *(watch.kind for watch in known.watches))
        }
        new = [each for each in plan.clusters if each.connect is not None and self._warmed.get(each.name) != each.connect]
        self._warmed.update((each.name, each.connect) for each in new if each.connect is not None)
        await asyncio.gather(*(self._warm(each.name, sorted(kinds)) for each in new))

    async def _warm(self, cluster: str, kinds: Iterable[str]) -> None:
        try:
            client = await self._clients.get(cluster)
            await client.version()
            for kind in kinds:
                await client.resource(GVK.parse(kind))
        except (KubeError, ConnectError) as error:
            log.debug("cluster %s could not be connected to ahead of its first task: %s", cluster, error)

    # Backend

    async def namespaced(self, cluster: str, kind: GVK) -> bool:
        """See ``Backend.namespaced``."""
        return (await (await self._clients.get(cluster)).resource(kind)).namespaced

    async def read(self, task: Task, query: CacheRead) -> list[Child]:
        """See ``Backend.read``."""
        return await self._reads.read(task, query, self.marks)

    async def request(self, task: Task, call: ApiRequest, traced: TracedCall | None = None) -> Answer:
        """See ``Backend.request``."""
        if task.change and traced is None and (traces := self.traces) is not None:  # another thread may set it
            traced = traces.call(task, _METHODS[call.verb], call)
            if traced is not None:
                with traced:
                    return traced.answered(await self.request(task, call, traced))
        shard = self._clusters.shards.get(call.cluster, "")
        remote = shard != task.shard
        if remote:
            self._admission.check(task, call.cluster)
        controller = task.key.controller
        user = self._clients.user(call.cluster, controller)
        try:
            client = await self._clients.get(call.cluster, controller)
            resource = await client.resource(call.kind)
        except (ApiError, Unreachable) as error:
            raise own_fault(controller, call.cluster, user, error) or error from None
        # A create goes to the collection, though the caller knows the name; a subresource's (eviction, binding) does not.
        name = None if call.verb == "create" and not call.subresource else call.name or None
        where = (call.namespace or None, name, call.subresource or None)
        path = resource.path(*where)
        if traced is not None:
            traced.to(client, resource.plural, path)
        started = self._clock.now()
        code, status = "error", -1
        retry_after: float | None = None
        try:
            answer, path = await client.call(
                _METHODS[call.verb],
                call.kind,
                *where,
                body=call.body,
                query=call.query or None,
                content_type=call.content_type,
                priority=BACKGROUND if task.tier == "background" else LIVE,
                guard=self._fence.guard(task, call.cluster) if call.writes else None,
                headers=traced.headers if traced is not None else None,
            )
            code = str(answer.status)
            status = answer.status
        except ApiError as error:
            code = str(error.status)
            if (fault := own_fault(controller, call.cluster, user, error)) is not None:
                raise fault from None
            status, retry_after = error.status, error.retry_after
            raise
        except (CircuitOpen, Throttled):
            raise
        except Unreachable as error:
            if (fault := own_fault(controller, call.cluster, user, error)) is not None:
                raise fault from None
            status = 0
            raise
        finally:
            seconds = self._clock.now() - started
            self._metrics.requests.labels(call.cluster, call.verb, code).inc()
            self._metrics.seconds.labels(call.cluster, call.verb).observe(seconds)
            if remote and status >= 0:
                self._outcomes.record(shard, ApiCall(call.verb, call.cluster, path, status, seconds, retry_after))
        return Answer(answer.status, answer.body, path)

    def event(self, task: Task, cluster: str, event: bytes) -> None:
        """See ``Backend.event``."""
        if self._recorder is None:
            self._recorder = EventRecorder(self.request, self._clock)
            self._recording = asyncio.get_running_loop().create_task(self._recorder.run())
        self._recorder.record(task, cluster, event)
