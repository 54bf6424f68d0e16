"""A shard: watches whole clusters, decides what each event means, keeps the queue, hands out and takes back.

The path of a change: reflector → ``EventHandler`` (classify, clock, queue) → ``Dispatcher`` and ``Handouts`` (a task with
its object and children, to a worker that has credit; own writes into the cache, clock, key released). Everything runs on one loop;
nothing here waits for a cluster, a worker or the leader.
"""

import asyncio
import contextlib
import logging
import random
import secrets

import msgspec

from raycp.base.clock import Clock
from raycp.base.events import Event
from raycp.base.keys import GVK
from raycp.cache import ReflectorOptions
from raycp.config import TIERS
from raycp.member.clients import Clients
from raycp.member.core import MemberCore
from raycp.member.limits import pool_policy
from raycp.member.permits import LeaderAsk, PermitKeeper
from raycp.member.stats import StatsReporter
from raycp.metrics import FleetMetrics
from raycp.protocol.control import Drain, Drained
from raycp.protocol.frames import Clusters, ClusterState, Fold, Hello, Read, Reply
from raycp.protocol.members import Member
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.transport import Connection, Peer, listen
from raycp.queueing.protocol import QueueFactory
from raycp.shard.caches import WatchedCluster
from raycp.shard.dispatcher import Dispatcher
from raycp.shard.events import EventHandler
from raycp.shard.guard import ClusterGuard
from raycp.shard.handouts import Handouts
from raycp.shard.reads import answer_cache, answer_read
from raycp.shard.replication import ReplicationSource, TellingQueue
from raycp.shard.report import ShardReporter
from raycp.shard.resyncs import Resyncs
from raycp.shard.standby import StandbyReplica
from raycp.shard.state import ShardState
from raycp.shard.tokens import Tokens
from raycp.shard.wakes import WakeExchange
from raycp.shard.watermark_store import WatermarkStore

log = logging.getLogger(__name__)

RELEASED_WITHIN = 2.0
"""How long revoked reconciles may take to end in a hand-over; a plain ``def`` that does not write can't be stopped. In seconds."""

FLUSHED_WITHIN = 0.5
FOLLOWED_WITHIN = 2.0

DEBOUNCE = 0.02
"""How long more of the same is waited for when only the status of a child moved; many do at once."""

UNSEEN_WRITE = 2.0
"""How long a key is kept back for a write that its object's shard did not confirm (law 8), in seconds."""


class ShardCore(MemberCore):
    """One shard's primary, or (``standing``) a standby that may become it."""

    def __init__(
        self,
        member: Member,
        clock: Clock,
        host: str,
        node: str,
        ask: LeaderAsk | None = None,
        queue: QueueFactory = TellingQueue,
    ) -> None:
        super().__init__(member, clock, host, node)
        self.shard = member.place.split("/")[0]
        self.state = ShardState(self.shard, clock, random.Random(secrets.randbits(64)), queue)
        self.peers = WakeExchange(self)
        self.intake = EventHandler(self.state, self.loops, self.peers)
        self.resyncs = Resyncs(self.state, self.loops, self.intake)
        self.tokens = Tokens(clock, self.loops)
        self.isolation = ClusterGuard(self.state, self.loops, clock, self.tokens)
        self.account = ShardReporter(self.state, self.isolation, clock)
        self.handouts = Handouts(self.state, self.intake, self.peers, self.isolation.heard)
        self.state.cluster_changed = self.cluster_changed
        self.conductor = Dispatcher(self)
        self.state.dispatch_soon = self.conductor.dispatch_soon
        warm = member.role == "standby"
        self.permits = PermitKeeper(member, clock, self.loops, self.state.metrics, ask, self._permitted, start=not warm)
        self.watermarks = WatermarkStore(self.state, Clients(clock), clock)
        self.progress = ReplicationSource(self)
        self.standing = StandbyReplica(self) if member.role == "standby" else None
        self.phases: dict[str, float] = {}
        """Of the switch that made this one primary, in seconds."""
        self._server: asyncio.Server | None = None
        self._port = 0
        self._patience: dict[str, float] = {}
        self._states_told: list[ClusterState] = []
        self._configured_at: float | None = None
        metrics, tracker = self.state.metrics, self.state.tracker
        self._teller = StatsReporter(member, clock, self.loops, metrics, self.report, tracker.report, self._answer)
        metrics.before_snapshot(self.account.set_gauges)

    # the plan

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        if self._server is None:
            self._server, self._port = await listen(self.host, plan.token, self._accept)
            self.loops.forever(self._sweep, "sweep", every=1.0)
            self.loops.forever(self._keep_watermarks, "watermarks", every=plan.fleet.doc.spec.state.watermark)
            self.loops.forever(self.isolation.step, "isolation", every=0.25)
            self._configured_at = self.clock.now()
        doc = plan.fleet.doc
        self.permits.learn(plan)
        self.state.take(plan, self.member.actor_name)
        self.watermarks.update(plan)
        self._patience = {tier: pool_policy(doc, tier).target for tier in TIERS}
        self.tokens.update(plan, self.shard, succeeds=self.state.term > 1)
        self.isolation.update(plan)
        clusters = {cluster.name: cluster for cluster in plan.clusters if cluster.shard == self.shard}
        for name in [name for name in self.state.clusters if name not in clusters]:
            await self._drop_cluster(name)
        for controller in {c.name for c in before.fleet.controllers} - set(self.state.controllers) if before else ():
            self._drop_controller(controller)
        options = ReflectorOptions(stall=doc.spec.timeouts.watch_silence, list_timeout=doc.spec.timeouts.list)
        for name, cluster in clusters.items():
            watched = self.state.clusters.get(name)
            if watched is None:
                self.state.queue.admit_cluster(name)
                watched = self.state.clusters[name] = WatchedCluster(
                    cluster, self, self.clock, self.loops, self._watermark, options, self._ready
                )
            watched.update(cluster, self.state.routes[name])
        self.plan = plan
        self._teller.update(plan)
        if self.standing is not None and self.state.term:
            self._promoted(plan, before)
        elif self.standing is not None:
            self.standing.update(plan)
            return
        self.resyncs.plan()
        if before is not None:
            if before.fleet.doc.spec.tiers != doc.spec.tiers:
                moved = self.intake.retier()
                log.info("the tier rules have changed: %d queued keys moved", moved)
            self.intake.catch_up(before, plan)
        self.peers.update(plan)
        self.conductor.update(plan)

    def _promoted(self, plan: Plan, before: Plan | None) -> None:
        """The primary is gone and this standby takes its place, under a term of its own."""
        standing, self.standing = self.standing, None
        assert standing is not None
        self.permits.start()
        self.tokens.promoted()
        self.peers.update(plan)
        followed = {cluster.name for cluster in (before or plan).clusters}
        self.watermarks.adopt(name for name in self.state.clusters if name in followed)
        standing.take_over(followed)
        self.loops.spawn(self._measure(self.clock.now(), plan), "phases of the switch")

    async def _measure(self, since: float, plan: Plan) -> None:
        """How long it took to hand out, and to have nothing waiting."""
        mine = next(shard for shard in plan.shards if shard.shard == self.shard)
        seconds = FleetMetrics(self.state.metrics).switch_seconds
        FleetMetrics(self.state.metrics).switches.labels(mine.cause).inc()
        seconds.labels("drain", mine.cause).observe(mine.drain)
        seconds.labels("leaderless", mine.cause).observe(mine.leaderless)
        while not self.conductor.open:
            await self.clock.sleep(0.001)
        self.phases["ramp_up"] = self.clock.now() - since
        seconds.labels("ramp_up", mine.cause).observe(self.phases["ramp_up"])
        while self.state.queue.ready:
            await self.clock.sleep(0.005)
        self.phases["backlog"] = self.clock.now() - since - self.phases["ramp_up"]
        seconds.labels("backlog", mine.cause).observe(self.phases["backlog"])
        self.changed()

    def _watermark(self, cluster: str, kind: GVK) -> int | None:
        return None if self.standing is not None else self.state.marks.rv(cluster, kind)

    async def _ready(self, cluster: str) -> None:
        """A standby needs no watermark: its primary tells it more."""
        if self.standing is None:
            await self.watermarks.ready(cluster)

    def _permitted(self) -> None:
        """A permit was granted, or has ended: without one nothing is handed out."""
        self.conductor.dispatch_soon()
        self.changed()

    async def _drop_cluster(self, name: str) -> None:
        log.info("cluster %s leaves this shard", name)
        watched = self.state.clusters.pop(name)
        self.state.queue.remove_cluster(name)
        self.state.clocks.drop_where(cluster=name)
        self.state.marks.drop_cluster(name)
        self.state.reconciled = {key: version for key, version in self.state.reconciled.items() if key.cluster != name}
        if self.standing is not None:
            self.standing.drop_cluster(name)
        await watched.close()

    def _drop_controller(self, name: str) -> None:
        self.state.queue.remove_controller(name)
        self.state.clocks.drop_where(controller=name)
        self.state.marks.drop_controller(name)
        self.state.reconciled = {key: version for key, version in self.state.reconciled.items() if key.controller != name}

    # what a watched cluster tells

    def events(self, cluster: str, kind: GVK, events: list[Event]) -> None:
        """See ``watching.Watcher``."""
        if self.standing is not None:
            self.standing.events(cluster, kind, events)
        else:
            self.intake.events(cluster, kind, events)

    def cluster_changed(self, cluster: str) -> None:
        """A cluster connected, synced, or failed."""
        if self.tokens.active:
            self.isolation.connected(cluster)
        self._tell_states(self.account.states())
        self.changed()

    def _tell_states(self, states: list[ClusterState]) -> None:
        before = {state.name: state.reachable for state in self._states_told}
        self._states_told = states
        self.conductor.broadcast(Clusters(states))
        if self.standing is None:
            for state in states:
                if state.reachable and before.get(state.name) is False:
                    self.peers.comeback(state.name)

    def listed(self, cluster: str, kind: GVK) -> None:
        """See ``watching.Watcher``."""
        if self.standing is None:
            self.intake.listed(cluster, kind)

    def noted(self, cluster: str) -> None:
        """See ``watching.Watcher``."""
        self.isolation.listed(cluster)

    def replayed(self, cluster: str, kind: GVK, complete: bool) -> None:
        """See ``watching.Watcher``."""
        if not complete and self.standing is None:
            self.intake.look_after(cluster, kind)
            self.peers.look_after(cluster, kind)

    def void(self, cluster: str, kind: GVK) -> None:
        """See ``watching.Watcher``."""
        if self.standing is None:
            self.intake.void(cluster, kind)

    # connections

    def _accept(self, connection: Connection, hello: Hello) -> Peer | str:
        ahead = hello.role == "worker" and self.plan is not None and self.plan.following is not None
        if self.standing is not None and hello.role in ("worker", "shard") and not ahead:
            # Its plan is newer than ours: the next try, in some milliseconds, finds this one promoted.
            return "not the primary yet"
        if hello.role == "worker":
            return self.conductor.accept(connection, hello)
        if hello.role == "standby":
            return self.progress.accept(connection, hello)
        if hello.role == "shard":
            return self.peers.accept(connection, hello)
        return f"a shard does not talk to {hello.role!r}"

    def read(self, read: Read) -> Reply:
        """A read from the caches."""
        return answer_read(self.state.clusters, read)

    def fold_for(self, fold: Fold) -> Reply:
        """Own writes of a key in another shard."""
        for write in fold.writes:
            if not self.handouts.fold(write, fold.writer):
                return Reply(fold.id, error=f"shard {self.shard} does not watch {write.cluster}")
        return Reply(fold.id)

    # telling

    async def _sweep(self) -> None:
        states = self.account.states()
        if states != self._states_told:  # silence, or a watch that goes on, is nobody's event (soak: a job waited for ever)
            self._tell_states(states)
            self.changed()
        self.state.tracker.take_overdue(self.state.clocks.sweep())
        if any(age > self._patience.get(tier, 1.0) for tier, age in self.state.queue.oldest_ready().items()):
            self.changed()  # the leader hears at once that a pool is too small
        self.progress.beat()

    def _answer(self, what: str, arguments: list[str]) -> bytes:
        if what != "timeline" or len(arguments) != 4:
            return b"null"
        cluster, kind, namespace, name = arguments
        return msgspec.json.encode(self.account.timeline(cluster, kind, namespace, name))

    def fill(self, report: Report) -> None:
        report.port = self._port
        report.phases = dict(self.phases)
        plan = self.plan
        report.clusters = self.account.clusters()
        report.cached_bytes = self.account.cached_bytes()
        report.lanes = self.account.lanes()
        report.busy = sum(lane.in_flight for lane in report.lanes)
        if plan is None or self._configured_at is None:
            report.reasons = ["waiting for the fleet's plan"]
            return
        late = self.clock.now() - self._configured_at > plan.fleet.doc.spec.timeouts.sync_deadline
        waiting = [f"cluster {row.name}: {row.reason or 'not synced'}" for row in report.clusters if not row.synced]
        if self.standing is not None:
            if late:
                # A cluster that is down is reported, and holds a fleet that stands by no longer: but the hub.
                usable = {name for name, watched in self.state.clusters.items() if watched.usable}
                needed = {plan.hub.name} - usable if plan.following is not None else set()
                seen = {row.name for row in report.clusters if row.name in needed or self.standing.follows(row.name)}
                rows = [row for row in report.clusters if not row.synced and row.name in seen]
                waiting = [f"cluster {row.name}: {row.reason or 'not synced'}" for row in rows]
            self._fill_standing(report, waiting)
            return
        if not self.state.epoch:
            waiting.insert(0, "the hub has not recorded the leader yet")
        elif not self.state.term:
            waiting.insert(0, "not in the plan yet")
        elif not self.permits.held:
            waiting.insert(0, f"no permit: {self.permits.permit.refused or 'the leader does not answer'}")
        # A cluster that is down holds nobody back, unless it is the hub: without that there is no work and no fleet.
        hub = self.state.clusters.get(self.state.hub)
        excused = late and (hub is None or hub.usable)
        report.ready = bool(self.state.epoch and self.state.term) and self.permits.held and (not waiting or excused)
        report.reasons = [] if report.ready else waiting
        report.state = "running" if report.ready else "syncing"

    def _fill_standing(self, report: Report, waiting: list[str]) -> None:
        assert self.standing is not None
        if not self.standing.complete:
            waiting.insert(0, "the primary's full account has not arrived yet")
        report.ready = not waiting
        report.reasons = waiting
        report.state = "standby" if report.ready else "syncing"
        report.lag = self.standing.lag
        report.dead = self.standing.dead

    async def extra(self, method: str, payload: bytes) -> bytes:
        if method == "release":
            order = msgspec.msgpack.decode(payload, type=Drain)
            return msgspec.msgpack.encode(await self._release(order))
        if method == "follow":
            await self._follow(msgspec.msgpack.decode(payload, type=int))
            return b""
        if method == "resume":
            self.conductor.resume()
            return b""
        if method == "cache":
            return answer_cache(self.state.clusters, payload)
        return await super().extra(method, payload)

    async def _release(self, order: Drain) -> Drained:
        """Give the queue away: hand out no more, end what runs, tell the standbys the rest."""
        if self.standing is not None or not self.state.term:
            raise RuntimeError("this one is not the primary")
        if order.final:  # for clusters that change their shard: before the pause, so that nobody waits for it
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSHED_WITHIN):
                    await self.watermarks.flush()
        self.conductor.pause(order.limit)
        deadline = self.clock.now() + order.grace
        while self.handouts and self.clock.now() < deadline:
            await self.clock.sleep(0.001)
        revoked = self.conductor.revoke_all()
        deadline = self.clock.now() + RELEASED_WITHIN
        while self.handouts and self.clock.now() < deadline:
            await self.clock.sleep(0.001)
        while order.final and self.conductor.foreign and self.clock.now() < deadline:
            await self.clock.sleep(0.001)  # of the primary before this one
        if self.handouts or (order.final and self.conductor.foreign):
            self.conductor.resume()
            running = len(self.handouts) + self.conductor.foreign
            raise RuntimeError(f"{running} reconciles did not end within {RELEASED_WITHIN:g} s of being revoked")
        self.progress.flush(everything=True)
        if order.final:
            self.permits.suspend()
        return Drained(self.progress.seq, revoked)

    async def _follow(self, seq: int) -> None:
        """Wait until the primary's last frame is here."""
        deadline = self.clock.now() + FOLLOWED_WITHIN
        while self.standing is not None and not (self.standing.complete and self.standing.seq >= seq):
            if self.clock.now() > deadline:
                raise RuntimeError(f"the primary's last progress did not arrive within {FOLLOWED_WITHIN:g} s")
            await self.clock.sleep(0.001)

    async def _keep_watermarks(self) -> None:
        """The fleet's state is written by whoever leads: a candidate's shard leaves it alone."""
        if self.permits.held:
            await self.watermarks.tick()

    async def drain(self, timeout: float) -> None:
        """Hand out no more and wait for what is in work."""
        self.conductor.paused = True
        deadline = self.clock.now() + timeout
        while self.handouts and self.clock.now() < deadline:
            await self.clock.sleep(0.01)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.5, deadline - self.clock.now())):
                await self.watermarks.flush()
        if timeout:
            await self._teller.last()
