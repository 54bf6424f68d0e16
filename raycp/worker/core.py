"""``WorkerCore``: puts a worker together. No rule of a reconcile lives here.

The path of a task: a shard spends the worker's credit and sends it (``shard_link``); it runs on the user loop (``runs``, with
``backend`` below it); writes to objects of other shards are reported to those first (``write_folds``, law 8); the acknowledgement
goes back to the shard with new credit.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.problems import ProblemCode, ProblemOwner, Subject
from raycp.member.clients import Clients
from raycp.member.core import MemberCore
from raycp.member.permits import PermitKeeper
from raycp.member.stats import StatsReporter
from raycp.member.traces import member_attributes, trace_problems
from raycp.metrics import Metrics, ReconcileMetrics
from raycp.metrics.recorder import FlightRecorder
from raycp.metrics.traces import TraceExport
from raycp.protocol.channels import AcceptLoop
from raycp.protocol.control import ControlError, ErrorCode, Question, Rest, Resume
from raycp.protocol.frames import Hello
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import Plan, ShardPlan
from raycp.protocol.report import Report
from raycp.protocol.substrate import LeaderAsk
from raycp.worker.backend import WorkerBackend
from raycp.worker.cluster_table import ClusterTable
from raycp.worker.controllers import LoadedControllers
from raycp.worker.fence import VoidHandouts, WriteFence
from raycp.worker.handout_frames import InFlight
from raycp.worker.links import ShardLinks
from raycp.worker.questions import ShardQuestions
from raycp.worker.reconcile_traces import ReconcileTraces
from raycp.worker.runs import Runs
from raycp.worker.shard_link import ShardLink
from raycp.worker.shard_reads import ShardReads
from raycp.worker.standby_connections import StandbyConnections
from raycp.worker.task_memory import TaskMemory
from raycp.worker.user_loop import UserLoop
from raycp.worker.watchdog import Alarm, Watchdog
from raycp.worker.write_folds import WriteFolds

REPORT_EVERY = 1.0
"""Seconds between two reports of what runs here to each shard."""


class WorkerCore(MemberCore):
    """One worker process. Its state lives on the actor's loop; reconciles run on ``user``.

    A quarantine worker has one slot, for its shard's suspects; it asks the other shards like any worker, and takes no task of them.
    ``alarm`` as in ``Watchdog``.
    """

    def __init__(
        self,
        member: Member,
        clock: Clock,
        host: str,
        node: str,
        ask: LeaderAsk | None = None,
        alarm: Alarm | None = None,
        recorder: FlightRecorder | None = None,
    ) -> None:
        super().__init__(member, clock, host, node, recorder)
        self.metrics = Metrics()
        self.count_failures(self.metrics)
        self.user = UserLoop(clock)
        self.controllers = LoadedControllers()
        self.links: dict[str, ShardLink] = {}
        """By shard."""
        self._tier = member.tier
        self._slots = 0
        self._port: AcceptLoop | None = None
        self._draining = False
        self.user_loop_ended: Callable[[int | None], None] = lambda _: None
        """Called by ``abort`` with the thread's id, before any member can notice that this worker is dead."""
        self.clients = Clients(clock)
        self._clusters = ClusterTable(self.links)
        self.permits = PermitKeeper(member, clock, self.loops, self.metrics, ask, self._permitted, self._superseded)
        questions = ShardQuestions(self._clusters, self.links)
        self.memory = TaskMemory()
        reads = ShardReads(self._clusters, questions, self.clients, self.memory)
        void = VoidHandouts()
        self._fence = WriteFence(self.permits, self.metrics, void)
        self._backend = WorkerBackend(clock, self.metrics, self._clusters, questions, reads, self.clients, self._fence)
        self.runs = Runs(
            clock,
            self.metrics,
            self.permits,
            self.controllers,
            self.user,
            self._backend,
            reads,
            WriteFolds(self._clusters, questions),
            self.clients,
            self.links,
            self.recorder,
            self.memory,
            void,
        )
        self.exported = TraceExport(self.metrics, member_attributes(member))
        self.standbys = StandbyConnections(self.credentials, self.loops)
        self._shard_links = ShardLinks(self.links, self._link, self.standbys, member.slot.quarantine)
        self._stats = StatsReporter(member, self.credentials, clock, self.loops, self.metrics, self.report)
        slots = ReconcileMetrics(self.metrics).slots
        self.metrics.before_snapshot(lambda: slots.replace({(self._tier,): self._offered_slots()}))
        self.watchdog = Watchdog(clock, self.user, self.runs, self._stop_accepting, alarm)
        self.loops.forever(self.watchdog.check, LoopName.WATCHDOG, every=0.25, most=1.0)
        self.loops.forever(self._report_held, LoopName.HAND_OUTS, every=REPORT_EVERY, most=1.0)

    # the plan

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        spec = plan.fleet.doc.spec.workers
        if self._port is None:
            # No member connects to this port: a refused connection proves that this process is dead (law 6f).
            port = AcceptLoop(socket.socket.close)
            await port.open(self.host, plan.fleet.doc.spec.channels.numbers)
            self._port = port
        self.user.start(spec.threads or spec.slots)
        self._slots = 1 if self.member.slot.quarantine else spec.slots
        # Before any link sends Hello to a new primary: tasks of its predecessor must not write from here on (law 6g).
        self.permits.learn(plan)
        await self.controllers.update(plan)
        self.clients.update(plan)
        self._clusters.update(plan)
        for gone in plan.left_since(before):
            self.metrics.drop("cluster", gone)
        self._fence.update(plan)
        self._backend.marks = plan.marks
        await self._trace(plan)
        self.user.submit(self._backend.update(plan))
        self._stats.update(plan)
        if self.controllers.outdated:  # the leader replaces this worker
            self._stop_accepting()
        self.runs.update(plan.fleet.sequence)
        await self._shard_links.update(plan)
        self._refresh_clusters()
        self._share_credit()

    async def _trace(self, plan: Plan) -> None:
        before = self.exported.tracer
        await self.exported.update(plan.fleet.doc.spec.traces, plan.fleet.doc.name)
        if (tracer := self.exported.tracer) is not before:
            traces = ReconcileTraces(tracer, self.clock, self.member.actor_name) if tracer is not None else None
            self.runs.traces = self._backend.traces = traces

    def _link(self, shard: str, target: ShardPlan) -> ShardLink:
        return ShardLink(
            shard,
            target,
            credentials=self.credentials,
            runs=self.runs,
            hello=self._hello,
            clock=self.clock,
            loops=self.loops,
            changed=self.changed,
            states_changed=self._refresh_clusters,
        )

    def _hello(self, in_flight: InFlight) -> Hello:
        port = self._port.port if self._port is not None else 0
        return Hello(
            self.member.actor_name, Role.WORKER, self.host, port, self._preferred_tier(), in_flight, answers=True
        )

    def _preferred_tier(self) -> str:
        """The tier that this worker is reserved for. The default tier's pool is the fleet's common one and prefers none."""
        common = self.plan.fleet.doc.spec.tiers.default if self.plan is not None else self._tier
        return "" if self._tier == common or self.member.slot.quarantine else self._tier

    def _refresh_clusters(self) -> None:
        self._clusters.refresh()
        self._backend.clusters = self._clusters.infos

    async def _report_held(self) -> None:
        for link in list(self.links.values()):
            link.report_held()

    # credit

    def _share_credit(self) -> None:
        if self.runs.accepting:
            self._shard_links.share(self._slots if self.permits.look() else 0)

    def _offered_slots(self) -> int:
        return self._slots if self.runs.accepting and self.permits.held else 0

    def _stop_accepting(self) -> None:
        self.runs.accepting = False
        self._shard_links.share(0)

    def _permitted(self) -> None:
        """A permit was granted, or has ended: without one no task is accepted."""
        self.recorder.note("permit", urgent=True, held=self.permits.held, why=self.permits.permit.refused)
        self._share_credit()
        self.changed()

    def _superseded(self, shard: str, term: int) -> None:
        """``shard`` has a new primary: stop what its predecessors handed out."""
        self.recorder.note("superseded", urgent=True, shard=shard, term=term)
        self.runs.supersede(shard, term)

    # life

    async def extra(self, question: Question[Any]) -> Any:
        match question:
            case Rest():
                if self.runs:
                    raise ControlError(ErrorCode.BUSY, f"{len(self.runs)} reconciles run")
                return self.permits.suspend()
            case Resume():
                return self.permits.resume()
        return await super().extra(question)

    def cut(self) -> None:
        if self._port is not None:
            self._port.close()
        self.standbys.cut()
        for link in self.links.values():
            link.cut()
        self._stats.cut()
        self.exported.close()

    async def abort(self) -> None:
        await asyncio.to_thread(self.user.abort)  # first: from here on its reconciles do nothing more
        self.user_loop_ended(self.user.thread_id)
        await super().abort()

    async def drain(self, timeout: float) -> None:
        """Accept no further tasks and wait up to ``timeout`` seconds for those that run; then revoke them."""
        self._draining = True
        self._stop_accepting()
        self.runs.update(0)  # refuses those that wait
        await self._idle(timeout)
        self.runs.revoke_all("the worker is drained")
        await self._idle(1.0)
        await self.exported.flush()
        await self._stats.last()

    async def _idle(self, seconds: float) -> None:
        deadline = self.clock.now() + seconds
        while self.runs and self.clock.now() < deadline:
            await self.clock.sleep(0.01)

    def fill(self, report: Report) -> None:
        report.port = self._port.port if self._port is not None else 0
        report.slots = self._slots
        report.busy = len(self.runs)
        reasons = [f"not connected to shard {shard}" for shard in self._shard_links.disconnected()]
        if self.controllers.outdated:
            reasons = [f"it runs older code of {', '.join(self.controllers.outdated)}, and is to be replaced"]
        elif not self.controllers.known:  # without some of them it works for the others
            reasons = [self.controllers.problem or "the fleet has no controller"]
        stands_by = self.plan is not None and self.plan.following is not None
        if not self.permits.held and not stands_by:
            reasons.append(f"no permit to write: {self.permits.permit.refused or 'the leader does not answer'}")
        if not self.links and not reasons:
            reasons = ["no shard is up yet"]
        report.ready = not reasons
        report.reasons = reasons
        report.state = "draining" if self._draining else "starting" if reasons else "standby" if stands_by else "running"

    def problems(self, report: Report) -> Mapping[Subject, str]:
        failed = self.controllers.failed.items()
        found = {(ProblemCode.CONTROLLER_FAILED, ProblemOwner(controller=name)): why for name, why in failed}
        return {**found, **trace_problems(self.exported)}
