"""The observer: hears from every member once a second, and is the fleet's one HTTP face.

Values of the dead stay in the sums (``Merger``, ``SloBook``). SLO windows are kept in the hub (``sums``), so that its own
replacement goes on with them. ``face`` is where it listens, ``showing`` what its pages say.
"""

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.config import TIERS
from raycp.leadership.epoch import Leadership
from raycp.member.clients import Clients
from raycp.member.core import MemberCore
from raycp.member.stats import StatsReporter
from raycp.metrics import FleetMetrics, Merger, Metrics
from raycp.observer.http_server import HttpServer
from raycp.observer.rows import Lanes, cluster_rows, leading_checks, shard_rows, standing_checks, worker_rows
from raycp.observer.slo_checkpoint import SloCheckpoint
from raycp.observer.view import Check
from raycp.protocol.control import PoolSizes, Question, Series, Slo
from raycp.protocol.desired import Desires, standing_members
from raycp.protocol.frames import Hello, Message, Refusal, RefusalCode, Stats, Sync, SyncDone, TimelineQuery, TimelineReply
from raycp.protocol.members import OBSERVER_SLOT, Member, MemberState, Role, Slot
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.status import fleet_status, member_reasons
from raycp.protocol.transport import Connection, Listener, listen
from raycp.slo import Objectives, SloBook

log = logging.getLogger(__name__)

ROLES = (Role.SHARD, Role.STANDBY, Role.WORKER, Role.OBSERVER)
"""Of those that tell."""

STALE = 5.0
"""A member that has told nothing for this long is shown as silent."""

ASK_TIMEOUT = 2.0
FORGET_AFTER, LOOK_EVERY = 600.0, 10.0
"""A process that nobody has heard or named for so long is dead, in seconds; and how often that is looked at."""


class _Source:
    """One member's connection."""

    def __init__(self, observer: "ObserverCore", connection: Connection, member: Member) -> None:
        self.observer = observer
        self.connection = connection
        self.member = member

    def received(self, message: Message) -> None:
        if isinstance(message, Stats):
            self.observer.feed(self.member, message)
        elif isinstance(message, TimelineReply):
            self.observer.answered(message)
        elif isinstance(message, Sync):
            self.connection.send(SyncDone())

    def lost(self) -> None:
        self.observer.gone(self)


class Silent:
    """Since when somebody has not been among the living."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def past(self, known: Iterable[str], living: Collection[str]) -> list[str]:
        """Who of ``known`` was missing at each look for ``FORGET_AFTER``."""
        now = self._clock.now()
        self._since = {name: self._since.get(name, now) for name in known if name not in living}
        return [name for name, since in self._since.items() if now - since > FORGET_AFTER]


class _Heard(msgspec.Struct):
    report: Report
    at: float


class ObserverCore(MemberCore):
    """Implements ``raycp.observer.View`` over what members tell."""

    def __init__(self, member: Member, clock: Clock, host: str, node: str) -> None:
        super().__init__(member, clock, host, node)
        self._own_metrics = Metrics()
        self._begun = clock.now()
        self._complete = False
        """All members have been heard once: what is shown is the whole."""
        self._merger = Merger()
        self._book = SloBook(clock, Objectives())
        self._sources: dict[str, _Source] = {}
        self._heard: dict[Slot, tuple[Member, _Heard]] = {}
        self._server: Listener | None = None
        self._port = 0
        self._web = HttpServer(self, clock, self.loops, lambda: self._stands_by, self.changed)
        self._desires = Desires()
        self._silent = Silent(clock)
        self._questions: dict[int, asyncio.Future[bytes]] = {}
        self._ids = itertools.count(1)
        self._clients = Clients(clock)
        self._lanes = Lanes()
        fleet = FleetMetrics(self._own_metrics)
        self._epoch = fleet.epoch.labels()
        self._incarnation = fleet.incarnation.labels()
        self._sums = SloCheckpoint(clock, self._clients, self._book, fleet.is_leader, lambda: self.plan)
        self._actors = fleet.actors
        self._own_metrics.before_snapshot(self._count_actors)
        self._pool = fleet.pool
        self._teller = StatsReporter(member, clock, self.loops, self._own_metrics, self.report)

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        if self._server is None:
            self._server, self._port = await listen(self.host, plan.token, self._accept)
            self.loops.forever(self._sums.keep, "checkpoint", every=plan.fleet.doc.spec.state.checkpoint)
            self.loops.forever(self._forget, "who is gone", every=LOOK_EVERY)
        self._book.set_objectives(Objectives.compile(plan.fleet.doc.spec.slo))
        self._clients.update(plan)
        self._teller.update(plan)
        self._epoch.set(plan.epoch)
        self._incarnation.set(plan.incarnation)
        spec = plan.fleet.doc.spec.observer
        self._web.open(spec.host, spec.port)
        if plan.following is not None:
            self.loops.spawn(self._sums.meet_hub(), "way to the hub")
        elif before is not None and before.following is not None:
            self._sums.leads()
            self.loops.spawn(self._sums.take_up(), "sums of the colour that led before")
            self._web.come_home(spec.host, spec.port)

        wanted = {cluster.name for cluster in plan.clusters}
        if before is not None:
            for cluster in {cluster.name for cluster in before.clusters} - wanted:
                log.info("cluster %s has left the fleet", cluster)

    def _accept(self, connection: Connection, hello: Hello) -> _Source | Refusal:
        member = Member.parse(hello.member)
        if member is None:
            return Refusal("not a member", RefusalCode.WRONG_ROLE)
        source = _Source(self, connection, member)
        self._sources[hello.member] = source
        return source

    def gone(self, source: _Source) -> None:
        """A member's connection ended."""
        name = source.member.actor_name
        if self._sources.get(name) is source:
            del self._sources[name]
            self._merger.silence(name)

    def feed(self, member: Member, stats: Stats) -> None:
        """Absolute values of one member."""
        try:
            self._merger.feed(member.actor_name, stats.metrics)
            if stats.slo:
                self._book.feed(self._counts_as(member.actor_name), stats.slo)
            report = msgspec.msgpack.decode(stats.report, type=Report)
        except (msgspec.MsgspecError, ValueError):
            log.exception("%s told something that can't be read", member)
            return
        slot = self.plan.slot(member) if self.plan is not None else member.slot
        known = self._heard.get(slot)
        if known is None or known[0].role != member.role or known[0].generation <= member.generation:
            self._heard[slot] = (member, _Heard(report, self.clock.now()))
            if not self._complete and self._all_heard():
                self._complete = True
                self.changed()

    def _counts_as(self, name: str) -> str:
        """A process in the book, which outlives the fleet: the next one's processes have the same names."""
        return f"{self.plan.home if self.plan is not None else ''} {name}"

    async def _forget(self) -> None:
        """What a process told stays counted; its own last values are kept no longer than it may tell again."""
        plan = self.plan
        if plan is None:
            return
        living = {*self._sources, *(shard.member for shard in plan.shards), *(worker.member for worker in plan.workers)}
        living |= {self._counts_as(name) for name in living}
        for name in self._silent.past([*self._merger.actors(), *self._book.actors()], living):
            self._merger.forget(name)
            self._book.forget(name)

    def _all_heard(self) -> bool:
        """Whether each member that should live has told of itself; one that does not is told of as silent after a while."""
        plan = self.plan
        if plan is None or plan.following is not None or self.clock.now() - self._begun > STALE:
            return plan is not None
        wanted = self._desires.of(plan.fleet, {c.shard for c in plan.clusters}, {})
        return all(slot in self._heard for slot in wanted if slot.role in (Role.SHARD, Role.WORKER))

    async def extra(self, question: Question[Any]) -> Any:
        match question:
            case Slo():
                return await self.slo()
            case Series():
                return self._book.series()
            case PoolSizes(sizes):
                for tier in TIERS:
                    self._pool.labels(tier).set(float(sizes.get(tier, 0)))
                return None
        return await super().extra(question)

    def _count_actors(self) -> None:
        """Those that tell, by role."""
        found = Counter(member.role for member, heard in self._heard.values() if self.clock.now() - heard.at < STALE)
        for role in ROLES:
            self._actors.labels(role).set(float(found[role]))

    def cut(self) -> None:
        if self._server is not None:
            self._server.abort()
        self._teller.cut()

    async def abort(self) -> None:
        await super().abort()
        await self._web.stop()

    async def drain(self, timeout: float) -> None:
        await self._sums.close()
        await self._web.stop()

    def fill(self, report: Report) -> None:
        report.port = self._port
        self._complete = self._complete or self._all_heard()
        report.ready = bool(self._web.url) and self._complete
        report.reasons = [] if report.ready else [self._web.problem or "it has not heard from all members yet"]
        report.state = "starting" if not report.ready else "standby" if self._stands_by else "running"
        if self._web.url:
            report.extra["url"] = self._web.url

    # View

    async def metrics(self) -> bytes:
        """See ``View.metrics``."""
        return self._merger.render()

    async def healthy(self) -> list[Check]:
        """See ``View.healthy``: the observer itself, and whether it hears from shards."""
        now = self.clock.now()
        silent = [str(member) for member, heard in self._heard.values() if now - heard.at > STALE]
        return [
            Check("observer", True),
            Check("members", not silent, f"silent: {', '.join(silent)}" if silent else "", required=False),
        ]

    async def ready(self) -> list[Check]:
        """See ``View.ready``."""
        status, plan = self._status(), self.plan
        if plan is None or plan.following is None:
            return leading_checks(status, self._past_sync_deadline())
        standbys = [heard.report.state for (role, _), (_, heard) in self._heard.items() if role is Role.STANDBY]
        return standing_checks(status, plan.hub.name, bool(standbys) and all(state == "standby" for state in standbys))

    @property
    def _stands_by(self) -> bool:
        return self.plan is not None and self.plan.following is not None

    def _past_sync_deadline(self) -> bool:
        states = [heard.report.state for (role, _), (_, heard) in self._heard.items() if role is Role.SHARD]
        return bool(states) and all(state == "running" for state in states)

    def _status(self) -> dict[str, Any]:
        plan = self.plan
        if plan is None:
            return {"ready": False, "reasons": ["no plan yet"]}
        members = {}
        for slot, (member, heard) in self._heard.items():
            state = MemberState(member)
            state.report = heard.report
            silent = self.clock.now() - heard.at
            state.problem = "" if silent < STALE else f"silent for {silent:.0f} s"
            members[slot] = state
        for cluster in plan.fleet.doc.spec.clusters:
            if cluster.embedded is not None:
                members.pop(Slot.of_embedded(cluster.name), None)
        own = members[OBSERVER_SLOT] = MemberState(self.member)  # it need not hear from itself
        own.report, own.problem = self.report(), ""
        wanted = {
            slot: want
            for slot, want in self._desires.of(plan.fleet, {c.shard for c in plan.clusters}, {}).items()
            if slot.role in (Role.SHARD, Role.WORKER, Role.OBSERVER)
        }
        if plan.following is not None:
            standing = standing_members(plan, wanted)
            standing.pop(OBSERVER_SLOT, None)
            members.update({Slot.of_shard(slot.shard): state for slot, state in members.items() if slot.role is Role.STANDBY})
            shown = fleet_status(plan, wanted, members, None, {}, 0.0)
            reasons = member_reasons(msgspec.structs.replace(plan, version=0), standing, members)
            return {**shown, "ready": not reasons, "reasons": reasons}
        leadership = self._sums.leadership or (Leadership(plan.epoch, plan.incarnation, "", 0.0) if plan.epoch else None)
        return fleet_status(plan, wanted, members, leadership, {}, 0.0)

    async def status(self) -> dict[str, Any]:
        """See ``View.status``."""
        status = self._status()
        leader = status.get("leader", {})
        shown = {key: status.get(key) for key in ("fleet", "generation", "ready", "reasons", "problems")}
        plan = self.plan
        leader_out = {
            **leader,
            "alive": bool(leader.get("epoch")),
            "node": self._sums.leadership.holder.split("/")[0] if self._sums.leadership else "",
        }
        return {
            **shown,
            "now": self.clock.wall(),
            "leader": leader_out,
            "switches": [],
            "plan": plan.version if plan else 0,
            "controllers": status.get("controllers", []),
        }

    async def clusters(self) -> list[dict[str, Any]]:
        """See ``View.clusters``."""
        return cluster_rows(self._status())

    async def shards(self) -> list[dict[str, Any]]:
        """See ``View.shards``."""
        return shard_rows(self._status(), self._merger)

    async def workers(self) -> list[dict[str, Any]]:
        """See ``View.workers``."""
        return worker_rows(self._status(), self._merger)

    async def lanes(self) -> list[dict[str, Any]]:
        """See ``View.lanes``."""
        return self._lanes.rows(self._status(), self._merger, self.clock.now())

    async def slo(self) -> list[dict[str, Any]]:
        """See ``View.slo``."""
        return self._book.report()

    async def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """See ``View.timeline``: asked of the shard that watches the cluster."""
        plan = self.plan
        if plan is None or cluster not in {known.name for known in plan.clusters}:
            return None
        shard = plan.cluster(cluster).shard
        actor = next((known.member for known in plan.shards if known.shard == shard), "")
        source = self._sources.get(actor)
        if source is None:
            return None
        identity = next(self._ids)
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._questions[identity] = waiting
        source.connection.send(TimelineQuery(identity, cluster, kind, namespace, name))
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                found = msgspec.json.decode(await waiting)
        except TimeoutError:
            return None
        finally:
            self._questions.pop(identity, None)
        return found if isinstance(found, dict) else None

    def answered(self, message: TimelineReply) -> None:
        """A shard's timeline."""
        waiting = self._questions.get(message.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.body)
