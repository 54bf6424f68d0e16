"""A shard's core: puts its parts together and passes the plan on to them. It holds no rule of its own.

The path of a change: ``reflector`` -> ``events`` (``classify``) -> ``ledger`` (queue, clock, watermark, timeline) -> ``dispatcher``
-> worker -> ``dispatcher`` -> ``ledger``. Everything runs on one loop; nothing here waits for a cluster, a worker or the leader.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Awaitable, Mapping
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.problems import Subject
from raycp.cache import ReflectorOptions
from raycp.config import TIERS
from raycp.member.clients import Clients
from raycp.member.core import MemberCore
from raycp.member.limits import in_flight_limits, pool_policy
from raycp.member.permits import PermitKeeper
from raycp.member.stats import StatsReporter
from raycp.member.traces import member_attributes, trace_problems
from raycp.metrics import HandoutMetrics, Metrics, ReflectorMetrics, SliMetrics, WorkQueueMetrics
from raycp.metrics.recorder import FlightRecorder
from raycp.metrics.traces import TraceExport
from raycp.protocol.channels import Hold
from raycp.protocol.control import ControlError, ErrorCode, FollowTo, MakeDue, Question, ReadCache, Release, Resume
from raycp.protocol.frames import CallOutcome, Hello, Message, Read, Refusal, RefusalCode, Reply, TimelineQuery, TokenRequest
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.substrate import LeaderAsk
from raycp.protocol.transport import Connection, Peer
from raycp.queueing import QueuePolicy, WorkQueue
from raycp.queueing.events import QueueMetrics
from raycp.queueing.protocol import QueueFactory
from raycp.shard.caches import Caches
from raycp.shard.cluster_states import ClusterStates, welcome_frames
from raycp.shard.convictions import Convictions
from raycp.shard.dispatcher import Dispatcher
from raycp.shard.events import EventHandler
from raycp.shard.fanout import FanOut
from raycp.shard.gauges import ShardGauges
from raycp.shard.guard import ClusterGuard
from raycp.shard.handout_audit import HandoutAudit
from raycp.shard.handouts import WorkerSeat
from raycp.shard.handover import QueueRelease, follow
from raycp.shard.hub_jobs import HubJobCache
from raycp.shard.identity import ShardIdentity
from raycp.shard.inputs import Inputs
from raycp.shard.key_requests import KeyRequests
from raycp.shard.large_keys import LargeKeys
from raycp.shard.ledger import Ledger
from raycp.shard.long_hello import LongHello
from raycp.shard.own_writes import OwnWrites
from raycp.shard.problems import shard_problems
from raycp.shard.read_pages import ReadPages
from raycp.shard.readiness import ShardReadiness
from raycp.shard.reads import answer_cache, answer_read
from raycp.shard.replication import ReplicationSource
from raycp.shard.report import ShardReporter
from raycp.shard.resyncs import Resyncs
from raycp.shard.rollcall import Pause, RollCall
from raycp.shard.routes import Routes, new_controllers
from raycp.shard.scheduler_host import SchedulerHost
from raycp.shard.standby import StandbyReplica
from raycp.shard.switch_phases import SwitchPhases
from raycp.shard.takeover import TakeOver
from raycp.shard.tasks import TaskMaker
from raycp.shard.tokens import PendingRequest, Tokens
from raycp.shard.trace_switch import TraceSwitch
from raycp.shard.wakes import WakeExchange
from raycp.shard.watched_cluster import WatchedCluster
from raycp.shard.watchers import PrimaryWatcher, StandbyWatcher
from raycp.shard.watches import Watches
from raycp.shard.watermark_store import WatermarkStore
from raycp.slo import Objectives, SliClocks, SloTracker, Timelines

log = logging.getLogger(__name__)


class ShardCore(MemberCore):
    """One shard's primary, or a standby (``standby`` is not None) that may become it."""

    def __init__(
        self,
        member: Member,
        clock: Clock,
        host: str,
        node: str,
        ask: LeaderAsk | None = None,
        queue: QueueFactory = WorkQueue,
        recorder: FlightRecorder | None = None,
    ) -> None:
        super().__init__(member, clock, host, node, recorder)
        rng, keys = random.Random(secrets.randbits(64)), self.credentials
        metrics = self.metrics = Metrics()
        self.count_failures(metrics)
        self._counts, queue_metrics = ReflectorMetrics(metrics), QueueMetrics(WorkQueueMetrics(metrics))
        warm = member.role is Role.STANDBY
        self.shard = member.shard
        self.identity = ShardIdentity(self.shard, member.actor_name)
        self.routes = Routes()
        self.caches = Caches(self.routes)
        self.queue = queue(QueuePolicy(), clock, queue_metrics, rng)
        self.tracker = SloTracker(Objectives(), SliMetrics(metrics), clock.wall)
        timelines = Timelines(clock, listener=self.recorder.step if self.recorder.on else None)
        self.ledger = Ledger(clock, rng, self.queue, SliClocks(clock), self.tracker, timelines, self.routes.kind_of_controller)
        self.permits = PermitKeeper(member, clock, self.loops, metrics, ask, self._permitted, start=not warm)
        self.tokens = Tokens(clock, self.loops)
        self.guard = ClusterGuard(
            self.identity, self.caches, self.queue, self.tokens, clock, self.loops, metrics, self._cluster_limited
        )
        self.wakes = self.ledger.wakes = WakeExchange(self.identity, keys, host, clock, self.loops, self.ledger.settled)
        watches = Watches(self.routes, self.caches)
        self.ledger.forgets += [self.wakes.forget, watches.drop]
        fanout = FanOut(rng, self.loops, self.caches, self.ledger, self.wakes, watches)
        self.events = EventHandler(clock, rng, self.routes, self.caches, self.ledger, self.wakes, watches, fanout, self._counts)
        self.inputs = self.wakes.receiver = Inputs(
            self.loops, self.routes, self.caches, self.ledger, self.events, fanout, self.wakes
        )
        self.requests = KeyRequests(self.routes, self.caches, self.ledger, self.events)
        self.writes = OwnWrites(self.shard, clock, self.caches, self.events.handle)
        self.rests = ReadPages(clock)
        tasks = TaskMaker(self.identity, self.routes, self.caches, self.ledger, watches, self.rests)
        self.dispatcher = Dispatcher(
            clock, self.ledger, tasks, self.writes, self.tokens, self.identity, self.permits, self,
            self.guard.calls_ended, self.rests,
        )  # fmt: skip
        handouts = HandoutMetrics(metrics)
        self.audit = HandoutAudit(self.ledger, self.dispatcher, handouts)
        self.dispatcher.on_held = self.audit.held
        self.large = LargeKeys(tasks.exists, handouts)
        self.dispatcher.large, self.dispatcher.on_large = self.large.keys, self.large.ended
        self.exported = TraceExport(metrics, member_attributes(member))
        self._trace_switch = TraceSwitch(self.exported, clock, self.ledger, self.routes.kind_of_controller, (self.events, tasks))
        self.events.dispatch = fanout.dispatch = self.dispatcher.dispatch_soon
        self.dispatcher.on_suspects = self.changed
        kind_of = self.routes.kind_of_controller
        self.convictions = Convictions(
            self.identity, self.ledger, self.caches, kind_of, self.permits, clock, self.loops, metrics
        )
        self.rollcall = RollCall(self.identity, clock, self.loops, self.dispatcher)
        self.pause = Pause(self.permits, self.dispatcher)
        self.resyncs = Resyncs(clock, rng, self.loops, self.routes, self.caches, self.events, self.dispatcher.dispatch_soon)
        self.reporter = ShardReporter(self.routes, self.caches, self.ledger, self.guard, self.convictions)
        self._gauges = ShardGauges(
            metrics, clock, self.identity, self.caches, self.ledger, self.tracker, self.reporter, queue_metrics
        )
        self.readiness = ShardReadiness(self.routes, self.caches)
        self.states = ClusterStates(
            clock, self.reporter, self.dispatcher.broadcast, self._cluster_moved, self.changed, self.recorder
        )
        clients = Clients(clock)
        self.watermarks = WatermarkStore(self.identity, self.routes, self.caches, self.ledger.marks, clients, clock)
        hub = HubJobCache(self.identity, self.routes, self.caches, clients, self.permits, self.events, clock)
        self.hosting = SchedulerHost(
            hub, self.routes, self.caches, self.events, tasks, self.wakes, self.reporter, clock, self.loops
        )
        self.replication = ReplicationSource(self.identity, self.caches, self.ledger, self.wakes, self.loops)
        self.phases = SwitchPhases(clock, metrics, self.dispatcher, self.queue, self.changed)
        self.release = QueueRelease(
            clock, self.ledger, self.dispatcher, self.pause, self.replication, self.watermarks, self.permits
        )
        self._primary = PrimaryWatcher(self.events, self.guard, self.inputs, self._cluster_changed)
        self.standby: StandbyReplica | None = None
        self._watcher: PrimaryWatcher | StandbyWatcher = self._primary
        if warm:
            self.standby = StandbyReplica(
                self.identity, keys, host, clock, self.loops, self.caches, self.ledger.reconciled, self.changed
            )
            self._watcher = StandbyWatcher(self.standby, self.guard, self._cluster_changed)
        self._stats = StatsReporter(member, keys, clock, self.loops, metrics, self.report, self.tracker.report, self._timeline)
        self._patience: dict[str, float] = {}
        self._configured_at: float | None = None
        metrics.before_snapshot(self.large.set_gauge)

    # the plan

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        if self.listener is None:
            await self.listen(self._accept, plan)
            self.loops.forever(self._sweep, LoopName.SWEEP, every=1.0)
            self.loops.forever(self._keep_watermarks, LoopName.WATERMARKS, every=plan.fleet.doc.spec.state.watermark)
            self.loops.forever(self.guard.step, LoopName.CLUSTER_GUARD, every=0.25, most=1.0)
            self._configured_at = self.clock.now()
        self.permits.learn(plan)
        await self._trace_switch.update(plan)
        await self._take(plan, before)
        self.plan = plan
        self._stats.update(plan)
        promoted = self.standby is not None and bool(self.identity.term)
        if promoted:
            self._promote(plan, before)
        elif self.standby is not None:
            self.standby.update(plan)
            return
        self.resyncs.plan()
        if before is not None:
            self._catch_up(plan, before)
            if not promoted:
                self.inputs.fleet_changed(plan, before)
        self.wakes.update(plan)
        self.hosting.update(plan)
        self.rollcall.update(plan)
        self.dispatcher.dispatch_soon()  # what was paused or had no room

    async def _take(self, plan: Plan, before: Plan | None) -> None:
        """Take over the tables, limits and watched clusters of ``plan``."""
        doc = plan.fleet.doc
        clusters = {cluster.name: cluster for cluster in plan.clusters if cluster.shard == self.shard}
        self.identity.update(plan)
        self.routes.update(plan, clusters)
        specs = {controller.name: doc.spec.controllers[controller.spec] for controller in plan.fleet.controllers}
        limits = in_flight_limits(plan, clusters)
        self.queue.set_policy(QueuePolicy.of(doc.spec.tiers, specs, limits, slots=doc.spec.workers.slots, paused=doc.spec.paused))
        objectives = Objectives.compile(doc.spec.slo)
        self.ledger.clocks.set_objectives(objectives)
        self.tracker.set_objectives(objectives)
        self.watermarks.update(plan)
        for worker in plan.excused:
            self.ledger.excused(worker)
        self._patience = {tier: pool_policy(doc, tier).target for tier in TIERS}
        self.tokens.update(plan, self.shard, succeeds=self.identity.term > 1)
        self.guard.update(plan)
        for watched in self.caches:
            if watched.name not in clusters:
                await self._drop_cluster(watched.name)
        for controller in {c.name for c in before.fleet.controllers} - set(self.routes.controllers) if before else ():
            self.ledger.drop_controller(controller)
        for gone in plan.left_since(before):
            self._gauges.drop_cluster(gone)
        options = ReflectorOptions(stall=doc.spec.timeouts.watch_silence, list_timeout=doc.spec.timeouts.list)
        for name, cluster in clusters.items():
            known = self.caches.cluster(name)
            if known is None:
                self.queue.admit_cluster(name)
                known = WatchedCluster(
                    cluster,
                    self._watcher,
                    self.clock,
                    self.loops,
                    self.watermarks.since,
                    options,
                    self.watermarks.ready,
                    self._counts,
                )
                known.resumes = self.standby is None  # a standby needs no watermark: its primary reports more
                self.caches.add(known)
            known.update(cluster, self.routes.kinds[name], plan.marks)

    def _promote(self, plan: Plan, before: Plan | None) -> None:
        """Promote this standby, under a term of its own: its primary is dead or hands over."""
        replica, self.standby = self.standby, None
        assert replica is not None
        self.recorder.note("promoted", urgent=True, shard=self.shard, term=self.identity.term, epoch=self.identity.epoch)
        self._watcher = self._primary
        for watched in self.caches:
            watched.resumes = True
            watched.rebind(self._primary)
        self.permits.start()
        self.tokens.promoted()
        self.wakes.update(plan)
        followed = {cluster.name for cluster in (before or plan).clusters}
        self.watermarks.adopt(name for name in self.caches.clusters if name in followed)
        takeover = TakeOver(replica, self.routes, self.caches, self.ledger, self.events, self.wakes, self._primary, self.loops)
        takeover.run(followed, lambda: self.inputs.fleet_changed(plan, before or plan))
        self.states.announce(lost=True)
        mine = next(shard for shard in plan.shards if shard.shard == self.shard)
        self.loops.spawn(self.phases.measure(mine), "phases of the switch")

    def _catch_up(self, plan: Plan, before: Plan) -> None:
        """Apply what has changed in the fleet file, and replay the cache to controllers that are new on an already watched kind."""
        if before.fleet.doc.spec.tiers != plan.fleet.doc.spec.tiers:
            log.info("the tier rules have changed: %d queued keys moved", self.events.retier())
        for controller, cluster in new_controllers(plan, before):
            kind = self.routes.kind_of[controller]
            informer = self.caches.informer(cluster, kind)
            # A re-list, as for a widened selector, announces changes only: replay the objects that the store holds already.
            if informer is not None and informer.store.rv:
                self.events.replay(cluster, kind, controller)

    async def _drop_cluster(self, name: str) -> None:
        log.info("cluster %s leaves this shard", name)
        watched = self.caches.remove(name)
        self.ledger.drop_cluster(name)
        if self.standby is not None:
            self.standby.drop_cluster(name)
        await watched.close()

    # changes elsewhere

    def _permitted(self) -> None:
        """A permit was granted or has ended; without one nothing is handed out."""
        self.recorder.note("permit", urgent=True, held=self.permits.held, why=self.permits.permit.refused)
        self.dispatcher.dispatch_soon()
        self.changed()

    def _cluster_changed(self, cluster: str) -> None:
        """A cluster connected, synced, or failed."""
        self.guard.connected(cluster)
        self.hosting.refresh()
        self.states.send()

    def _cluster_limited(self, cluster: str) -> None:
        self.dispatcher.dispatch_soon()
        self._cluster_changed(cluster)

    def _cluster_moved(self, cluster: str, usable: bool, returned: bool) -> None:
        if self.standby is None:
            self.inputs.cluster_moved(cluster, usable, returned)

    # connections

    def _accept(self, connection: Connection, hello: Hello) -> Peer | Refusal | Hold:
        self.recorder.note("connection", member=hello.member, role=hello.role, in_flight=len(hello.in_flight))
        ahead = hello.role == Role.WORKER and self.plan is not None and self.plan.following is not None
        if self.standby is not None and hello.role in (Role.WORKER, Role.SHARD, Role.STANDBY) and not ahead:
            # The caller's plan is newer than ours: ours, which promotes this member, is on its way.
            return Hold(Refusal("not the primary yet", RefusalCode.NOT_PRIMARY))
        if hello.role == Role.WORKER:
            if hello.more:
                return LongHello(connection, hello, self._accept)
            seat = self.dispatcher.seat(connection, hello)
            for body in welcome_frames(self.shard, self.identity.epoch, self.identity.term, self.reporter.states()):
                seat.write(body)
            self.rollcall.answered(hello.member)
            self.states.announce_soon()
            return seat
        if hello.role == Role.STANDBY:
            return self.replication.accept(connection, hello)
        if hello.role == Role.SHARD:
            return self.wakes.accept(connection)
        return Refusal(f"a shard does not talk to {hello.role!r}", RefusalCode.WRONG_ROLE)

    def read(self, worker: str, read: Read) -> Reply:
        """A read of a worker from the caches, in pages."""
        if read.op == "more":
            return self.rests.more(worker, read)
        return self.rests.first(worker, answer_read(self.caches, read, self.routes.marks), read.limit)

    def other(self, seat: WorkerSeat, message: Message) -> None:
        """See ``dispatcher.Asides``."""
        if isinstance(message, TokenRequest):
            connection = seat.connection
            request = PendingRequest(
                seat.name, message, self.clock.now(), seat.send, lambda: connection is None or seat.connection is not connection
            )
            self.tokens.request(request)
        elif isinstance(message, CallOutcome):
            self.guard.outcomes(message)

    # reports

    async def _sweep(self) -> None:
        self.states.check()
        self.dispatcher.sweep()
        await self.tracker.sweep(self.ledger.clocks)
        if any(age > self._patience.get(tier, 1.0) for tier, age in self.queue.oldest_ready().items()):
            self.changed()  # notify the leader at once that a pool is too small
        self.replication.beat()
        self.audit.check()
        self.rests.expire()

    def _timeline(self, query: TimelineQuery) -> bytes | Awaitable[bytes]:
        if query.topic:
            return self.hosting.reply(query)
        return msgspec.json.encode(self.reporter.timeline(query.cluster, query.kind, query.namespace, query.name))

    def fill(self, report: Report) -> None:
        report.port = self.listener.port if self.listener is not None else 0
        report.phases = dict(self.phases.seconds)
        self.reporter.fill(report)
        plan = self.plan
        if plan is None or self._configured_at is None:
            report.reasons = ["waiting for the fleet's plan"]
            return
        late = self.clock.now() - self._configured_at > plan.fleet.doc.spec.timeouts.sync_deadline
        if self.standby is not None:
            needed = plan.hub.name if plan.following is not None else ""
            self.readiness.fill_standby(report, self.standby, late, needed)
        else:
            self.readiness.fill_primary(report, self.identity, self.permits, late)

    def problems(self, report: Report) -> Mapping[Subject, str]:
        if self.standby is not None and (self.plan is None or self.plan.following is None):
            return {}  # its primary reports on the clusters
        found = shard_problems(report, self.caches, self.watermarks.problem, self.clock.now(), self.ledger)
        return found | self.large.problems(self.convictions.name_of) | trace_problems(self.exported)

    # life

    async def extra(self, question: Question[Any]) -> Any:
        match question:
            case Release() | MakeDue() if self.standby is not None or not self.identity.term:
                raise ControlError(ErrorCode.NOT_PRIMARY, "this process is not the primary of its shard")
            case Release():
                return await self.release.run(question)
            case FollowTo(seq):
                return await follow(self.standby, self.clock, seq) if self.standby is not None else None
            case Resume():
                return self.pause.end()
            case MakeDue():
                return self.requests.make_due(question)
            case ReadCache():
                return answer_cache(self.caches, question)
        return await super().extra(question)

    def cut(self) -> None:
        if self.listener is not None:
            self.listener.abort()
        self.dispatcher.cut()
        self.wakes.cut()
        if self.standby is not None:
            self.standby.cut()
        self._stats.cut()
        self.exported.close()

    async def abort(self) -> None:
        await super().abort()
        for watched in self.caches:
            await watched.close()

    async def _keep_watermarks(self) -> None:
        """Write the watermarks while this shard holds a permit: only the active fleet writes the fleet's state."""
        if self.permits.held:
            await self.watermarks.tick()

    async def drain(self, timeout: float) -> None:
        """Stop handing out and wait for the open hand-outs."""
        self.dispatcher.paused = True
        deadline = self.clock.now() + timeout
        while len(self.ledger) and self.clock.now() < deadline:
            await self.clock.sleep(0.01)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.5, deadline - self.clock.now())):
                await self.watermarks.flush()
        if timeout:
            await self.exported.flush()
            await self._stats.last()
