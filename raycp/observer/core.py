"""The observer's core: puts the parts together, and keeps the HTTP server and the SLO checkpoint in step with the plan.

Its state is what members and the leader send: nothing is asked of them but timelines, and by the console's actions.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.problems import FLEET, ProblemCode, Subject
from raycp.config import TIERS
from raycp.member.clients import Clients
from raycp.member.core import MemberCore
from raycp.member.stats import StatsReporter
from raycp.metrics import FleetMetrics, Merger, Metrics
from raycp.metrics.recorder import FlightRecorder
from raycp.observer.audit import Audit
from raycp.observer.chronicle import CHANGES_EVERY, STORED_EVERY, Chronicle
from raycp.observer.dead_processes import DeadProcesses
from raycp.observer.fleet_view import FleetView
from raycp.observer.http_server import HttpServer
from raycp.observer.hub_checkpoint import CheckpointRecord, HubCheckpoint
from raycp.observer.sources import Sources
from raycp.observer.status_feed import SILENT_AFTER, StatusFeed
from raycp.observer.web import no_leader
from raycp.protocol.control import Question, Series, Slo, StatusUpdate
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.substrate import LeaderAsk
from raycp.slo import Objectives, SloBook

ROLES = (Role.SHARD, Role.STANDBY, Role.WORKER, Role.OBSERVER)
"""Of members that send statistics."""

SLO_RECORD = CheckpointRecord("slo", "book", "SLO checkpoint")
HISTORY_RECORD = CheckpointRecord("history", "state", "console's history", anew=True)

FORGET_EVERY = 10.0
"""Seconds between two rounds of forgetting dead processes."""


class ObserverCore(MemberCore):
    """Receives statistics of all members and the leader's status, and serves them over HTTP."""

    def __init__(
        self,
        member: Member,
        clock: Clock,
        host: str,
        node: str,
        ask: LeaderAsk = no_leader,
        recorder: FlightRecorder | None = None,
    ) -> None:
        super().__init__(member, clock, host, node, recorder)
        self._readiness: tuple[bool, list[str]] | None = None
        self._own_metrics = Metrics()
        self.count_failures(self._own_metrics)
        self._started = clock.now()
        self._complete = False
        """All members have reported once: sums and status are those of the whole fleet."""
        self._merger = Merger()
        self._book = SloBook(clock, Objectives())
        self.sources = Sources(
            clock, self._merger, self._book, lambda: self.plan.home if self.plan is not None else "", self._received
        )
        self._feed = StatusFeed(clock, self.sources.reports)
        self._clients = Clients(clock)
        self._chronicle = Chronicle(
            clock, self._feed, self._merger, self._book.report, lambda: self.plan, lambda: self._history_checkpoint.restored
        )
        self.view = FleetView(clock, self._feed, self._merger, self._book, self.sources, lambda: self.plan, self._chronicle)
        audit = Audit(clock, self.recorder, self._chronicle.acted)
        self._web = HttpServer(self.view, clock, self.loops, lambda: self._stands_by, self.changed, ask, audit, host)
        self._dead = DeadProcesses(clock, (self._merger, self._book, self.sources), self._living)
        fleet = FleetMetrics(self._own_metrics)
        self._epoch = fleet.epoch.labels()
        self._incarnation = fleet.incarnation.labels()
        self._is_leader = fleet.is_leader
        self._checkpoint = HubCheckpoint(clock, self._clients.get, self._book, SLO_RECORD, lambda: self.plan, self._leads)
        self._history_checkpoint = HubCheckpoint(clock, self._clients.get, self._chronicle, HISTORY_RECORD, lambda: self.plan)
        self._actors = fleet.actors
        self._own_metrics.before_snapshot(self._set_gauges)
        self._pool = fleet.pool
        self._reporter = StatsReporter(member, self.credentials, clock, self.loops, self._own_metrics, self.report)

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        if self.listener is None:
            await self.listen(self.sources.accept, plan)
            every = plan.fleet.doc.spec.state.checkpoint
            self.loops.forever(self._checkpoint.keep, LoopName.CHECKPOINT, every=every)
            self.loops.forever(self._history_checkpoint.keep, LoopName.HISTORY_CHECKPOINT, every=max(STORED_EVERY, every))
            self.loops.forever(self._chronicle.measure, LoopName.MEASUREMENT)
            self.loops.forever(self._chronicle.look, LoopName.CHANGES, every=CHANGES_EVERY)
            self.loops.forever(self._dead.forget, LoopName.DEAD_PROCESSES, every=FORGET_EVERY)
        self._book.set_objectives(Objectives.compile(plan.fleet.doc.spec.slo))
        self._clients.update(plan)
        self._merger.keep_clusters({cluster.name for cluster in plan.fleet.doc.spec.clusters})
        self._reporter.update(plan)
        self._epoch.set(plan.epoch)
        self._incarnation.set(plan.incarnation)
        spec = plan.fleet.doc.spec.observer
        self._web.open(spec)
        if plan.following is not None:
            self.loops.spawn(self._checkpoint.warm_up(), "connection to the hub")
        elif before is not None and before.following is not None:
            for checkpoint in (self._checkpoint, self._history_checkpoint):
                checkpoint.taken_over()
                self.loops.supervise(checkpoint.restore, LoopName.CHECKPOINT_RESTORE)
            self._web.return_to_port(spec)

    async def extra(self, question: Question[Any]) -> Any:
        match question:
            case Slo():
                return await self.view.slo()
            case Series():
                return self._book.series()
            case StatusUpdate(status):
                self._feed.receive(status)
                if self._readiness != (status.ready, status.reasons):
                    self._readiness = (status.ready, status.reasons)
                    self.recorder.note("fleet", urgent=True, ready=status.ready, reasons=status.reasons, plan=status.plan)
                self._received()
                return None
        return await super().extra(question)

    def cut(self) -> None:
        if self.listener is not None:
            self.listener.abort()
        self._reporter.cut()

    async def abort(self) -> None:
        await super().abort()
        await self._web.stop()

    async def drain(self, timeout: float) -> None:
        await asyncio.gather(self._checkpoint.close(), self._history_checkpoint.close())
        await self._web.stop()

    def fill(self, report: Report) -> None:
        report.port = self.listener.port if self.listener is not None else 0
        self._complete = self._complete or self._all_reported()
        report.ready = bool(self._web.url) and self._complete
        report.reasons = [] if report.ready else [self._web.problem or "not all members have reported to it yet"]
        report.state = "starting" if not report.ready else "standby" if self._stands_by else "running"
        if self._web.url:
            report.extra["url"] = self._web.url

    def problems(self, report: Report) -> Mapping[Subject, str]:
        kept = ((SLO_RECORD, self._checkpoint), (HISTORY_RECORD, self._history_checkpoint))
        found = [f"{where.title}: {checkpoint.problem}" for where, checkpoint in kept if checkpoint.problem]
        return {(ProblemCode.STATE_NOT_STORED, FLEET): "; ".join(found)} if found else {}

    def _leads(self, leads: bool) -> None:
        """What the hub says."""
        if self.plan is not None:
            self._is_leader.labels(self.plan.fleet.name).set(float(leads))

    @property
    def _stands_by(self) -> bool:
        return self.plan is not None and self.plan.following is not None

    def _received(self) -> None:
        """A member has reported, or the leader has sent its status."""
        if not self._complete and self._all_reported():
            self._complete = True
            self.changed()

    def _all_reported(self) -> bool:
        """Whether each shard and worker has reported; a member that does not is no reason to wait for long."""
        if self.plan is None or self._stands_by or self.clock.now() - self._started > SILENT_AFTER:
            return self.plan is not None
        return self._feed.complete()

    def _living(self) -> set[str] | None:
        plan = self.plan
        if plan is None:
            return None
        named = {*(shard.member for shard in plan.shards), *(worker.member for worker in plan.workers)}
        return named | {self.sources.process(name) for name in named} | self.sources.connected()

    def _set_gauges(self) -> None:
        """Members that have reported lately, by role, and the pools' sizes."""
        now = self.clock.now()
        found = Counter(known.member.role for known in self.sources.reports.values() if now - known.at < SILENT_AFTER)
        for role in ROLES:
            self._actors.labels(role).set(float(found[role]))
        sizes = self._feed.pools()
        for tier in TIERS:
            self._pool.labels(tier).set(float(sizes.get(tier, 0)))
