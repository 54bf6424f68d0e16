"""The leader puts its parts together and answers questions; it is never on the path of a change.

It holds nothing that can't be found again: a leader that Ray restarts asks the living members for the newest plan, and goes on
under the same epoch with the next incarnation. Members go on without it.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection
from typing import Any

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemCode, ProblemOwner, Subject, of_member
from raycp.base.release import UPGRADE, difference, this_release
from raycp.leader.active_fleet import ActiveFleet
from raycp.leader.application import Application
from raycp.leader.crash_loops import CrashLoops
from raycp.leader.deaths import Deaths
from raycp.leader.evacuation import Evacuation
from raycp.leader.fence import Fence
from raycp.leader.fleet_condition import FleetCondition
from raycp.leader.fleet_handover import FleetHandover
from raycp.leader.handover import ShardHandover
from raycp.leader.history import History
from raycp.leader.hub import Hub
from raycp.leader.leader_loop import LeaderLoop
from raycp.leader.lifecycle import Lifecycle
from raycp.leader.member_controller import MemberController
from raycp.leader.nodes import NodeWatch
from raycp.leader.operator_orders import OperatorOrders
from raycp.leader.plan_memory import PlanMemory, kept_plan
from raycp.leader.plan_store import PlanStore
from raycp.leader.pools import Pools
from raycp.leader.promotion import Promotion
from raycp.leader.publisher import Publisher
from raycp.leader.recovery import Recovery
from raycp.leader.replacements import Replacements
from raycp.leader.reports import ReportHandler
from raycp.leader.retirement import Retirement
from raycp.leader.revival import Revival
from raycp.leader.roster import Roster
from raycp.leader.scaler import living_pools
from raycp.leader.shutdown import Shutdown
from raycp.leader.standby_fleet import StandbyFleet
from raycp.leader.standby_role import StandbyRole
from raycp.leader.status_sender import StatusSender
from raycp.leader.supervision import Supervision
from raycp.leader.tails import Tails
from raycp.leader.takeover import Takeover
from raycp.leadership.epoch import Leadership
from raycp.leadership.records import Records
from raycp.member.problem_log import ProblemLog
from raycp.member.stats import StatsReporter
from raycp.metrics import FleetMetrics, Metrics
from raycp.metrics.recorder import FlightRecorder
from raycp.protocol.channels import ChannelCredentials
from raycp.protocol.control import (
    Apply,
    ControlError,
    Dismiss,
    Down,
    ErrorCode,
    Followers,
    FollowPrimaries,
    Forget,
    HandOver,
    HandoverResult,
    KubeconfigOf,
    PermitRequest,
    PlanAfter,
    PlanOf,
    Prepare,
    Question,
    ReconcileNow,
    SetDrain,
    SetPause,
    Stand,
    StandbyState,
    StandbyStatus,
    StatusOf,
    Switches,
    TakeLead,
    YieldTo,
)
from raycp.protocol.control.codec import unknown_question
from raycp.protocol.members import LEADER, WATCH_SECONDS, Member, Role, Slot
from raycp.protocol.plan import Fleet, Plan
from raycp.protocol.report import Report
from raycp.protocol.status import FleetStatus
from raycp.protocol.status_builder import fleet_status, paused_problems
from raycp.protocol.substrate import Substrate
from raycp.protocol.verdict import with_verdict

log = logging.getLogger(__name__)

OF_THE_ACTIVE = (
    Apply, SetPause, SetDrain, ReconcileNow, StatusOf, PlanOf, HandOver, Switches, KubeconfigOf, YieldTo, StandbyState, Followers,
)  # fmt: skip
"""Questions that the leader of the other revision answers once this one has handed over."""


SHOWN_SWITCHES = 10
"""The newest switches, in the status; ``raycp leader history`` has all."""

RECOVERED_WITHIN = 8.0
"""Seconds for which a fleet that is applied waits until living members have been looked for: less than a driver waits."""


class LeaderCore:
    """Supervises one fleet. All state changes happen on one loop; every step is safe to repeat. The parts are public for tests.

    ``identity`` names the leader's process in the lock; ``node`` is its Ray node; ``leave`` ends its process for a restart by Ray.
    """

    def __init__(
        self,
        substrate: Substrate,
        clock: Clock,
        identity: str,
        node: str = "",
        leave: Callable[[], None] = lambda: None,
        recorder: FlightRecorder | None = None,
    ) -> None:
        self._substrate = substrate
        self._clock = clock
        self.raycp_release = this_release()
        self.loops = loops = Loops(clock)
        self.metrics = metrics = Metrics()
        fleet_metrics = FleetMetrics(metrics)
        self._failures = fleet_metrics.loop_failures
        loops.failed = self._loop_failed
        self._started = clock.now()
        woken, self._stepping = asyncio.Event(), asyncio.Lock()
        applying, handing = asyncio.Lock(), asyncio.Lock()
        self._wake = wake = woken.set
        self._plans = plans = PlanStore(wake, recorder)
        self.roster = roster = Roster(clock, recorder)
        replacements = Replacements(fleet_metrics.restarts)
        self.history = History(clock, loops, fleet_metrics.switches, Tails(substrate, clock, roster).of, recorder)
        self.nodes = NodeWatch(substrate, clock, node)
        self.hub = Hub(clock, identity, loops, lambda: not self.promotion.closed, self._elected, self.apply)
        lock, proof = self.hub.lock, self.hub.lock.proof
        self._memory = memory = PlanMemory(substrate, self.hub.retries)
        self.promotion = promotion = Promotion(
            clock, plans, roster, self.history, lambda plan: proof.proven(plan.fleet.doc.spec.leader.permit)
        )
        self._crash_loops = CrashLoops()
        deaths = Deaths(
            clock, loops, self._crash_loops, plans, roster, promotion, proof, self.nodes, replacements, wake
        )
        reports = ReportHandler(substrate, plans, roster, self.history, deaths.suspect, wake)
        supervision = Supervision(substrate, clock, loops, plans, roster, reports.handle, deaths.reported, self.nodes.lost)
        lifecycle = Lifecycle(substrate, loops, plans, roster, supervision.run, replacements, wake)
        self.fence = Fence(substrate, clock, loops, roster, lifecycle, promotion, deaths, proof)
        self._handover = ShardHandover(substrate, clock, plans, roster, promotion, lifecycle, handing)
        self.evacuation = Evacuation(clock, loops, roster, lifecycle, promotion, self._handover, self.nodes, leave, wake)
        self._pools = Pools(substrate, clock, roster)
        self._members = MemberController(
            substrate, roster, lifecycle, promotion, self.fence, self.evacuation, self._pools, self.nodes, clock
        )
        self._application = Application(plans, self._pools, promotion, applying)
        self._orders = OperatorOrders(substrate, plans, roster, self._application, self.hand_over)
        self._standby = StandbyRole(plans, self._pools, applying, self._standby_fleet)
        self._shutdown = Shutdown(substrate, roster, lifecycle, lock.release)
        self._retirement = Retirement(substrate, clock, loops, self.hub, promotion, self.history, self._shutdown, memory.forget)
        self._fleet_handover = FleetHandover(
            substrate, clock, loops, plans, roster, promotion, lock, handing, self._retirement.begin
        )
        self._recovery = Recovery(substrate, plans, roster, lifecycle, deaths)
        publisher = Publisher(plans, roster, self.hub, promotion)
        self._condition = FleetCondition(clock, loops, lambda: self.history.records)
        self._sender = StatusSender(substrate, clock, loops, roster, wake)
        self._problem_log = ProblemLog(clock)
        self._stats: StatsReporter | None = None
        self._credentials = ChannelCredentials(LEADER.actor_name)
        self._stats_plan: Plan | None = None
        """The plan that the own statistics are sent by."""
        self._revival = Revival(
            substrate, clock, plans, self._pools, self.hub.clients, memory, applying, lambda _: self.hub.record.recovered()
        )
        self._recovered = asyncio.Event()
        self._loop = LeaderLoop(
            plans,
            roster,
            self._members,
            self._pools,
            self.hub,
            publisher,
            self._retirement,
            woken,
            self._stepping,
            self._recover,
            self._allowed,
            self._stepped,
        )

    @property
    def plan(self) -> Plan | None:
        """The plan that all members receive; None before the first ``apply``."""
        return self._plans.plan

    def start(self) -> None:
        """Recover from living members, then supervise until ``down``."""
        self._loop.start(self.loops)

    async def abort(self) -> None:
        """Stop like a process that is killed: nothing is released, no member is ended. For tests."""
        self.loops.close()
        if self._stats is not None:
            self._stats.cut()
        await self.loops.stop()
        await self.hub.close()

    async def apply(self, fleet: Fleet) -> None:
        """See ``Application.apply``. Raises ``ControlError`` while it is not known whether members live."""
        await self._know_members()
        await self._application.apply(fleet)

    async def stand(self, fleet: Fleet, namespace: str) -> None:
        """See ``StandbyRole.stand``."""
        await self._know_members()
        await self._standby.stand(fleet, namespace)

    async def hand_over(self, shards: list[str]) -> list[HandoverResult]:
        """See ``ShardHandover.hand_over``."""
        return await self._handover.hand_over(shards)

    async def down(self) -> None:
        """Drain workers and shards, then end all members. The leader itself is ended by the driver."""
        self.promotion.close()
        self._standby.end()
        await self._shutdown.end_members(whole_fleet=self._plans.leads and not self._retirement.begun)
        await self.hub.close()
        self._plans.clear()
        await self._memory.forget()

    # how the parts meet

    def _standby_fleet(self, namespace: str) -> StandbyFleet:
        active = ActiveFleet(self._substrate, self._clock, namespace)
        takeover = Takeover(
            self._substrate,
            self._clock,
            self._plans,
            self.roster,
            self.promotion,
            self.hub,
            active,
            self._stepping,
            self._standby.end,
        )
        return StandbyFleet(self._clock, self.loops, self._plans, self.hub.crds, active, takeover)

    def _allowed(self) -> bool:
        """Whether the leader may change anything at this moment."""
        if self.plan is None or self.promotion.closed or self.hub.lock.proof.superseded or self._retirement.begun:
            return False
        return not self._standby.held

    async def _recover(self) -> None:
        """Go on with a living fleet as what it was: active or standby."""
        found = await self._recovery.recover()
        self._recovered.set()
        if found is None:
            self.loops.supervise(self._revival.run, LoopName.REVIVAL)
            return
        plan, living = found
        self._pools.sizes = living_pools(living, plan.fleet.doc)
        if plan.following is not None:
            self._standby.resume(plan.following.namespace)
        else:
            self.hub.recovered(plan)

    def _elected(self, records: Records, leadership: Leadership) -> None:
        standby = self._standby.fleet
        if self._stats is None:
            # Each process of a leader is a member of its own to the observer: an incarnation is never used twice.
            member = Member(Role.LEADER, LEADER.place, leadership.incarnation)
            self._credentials = ChannelCredentials(member.actor_name)
            self._stats = StatsReporter(member, self._credentials, self._clock, self.loops, self.metrics, self._own_report)
        self.history.begin(records, leadership, standby.order if standby is not None else None)
        self._condition.begin()
        if standby is None and leadership.incarnation > 1:
            # The leader before may have died during a hand-over of the fleet: its primaries wait for an answer.
            self.loops.supervise(self._fleet_handover.resume, LoopName.RESUMPTION)

    # questions of the driver, of members and of the other revision's leader

    async def ask(self, question: Question[Any]) -> Any:
        """Answer a control question (``raycp.protocol.control.leader``). Raises ``ControlError``."""
        if self._retirement.begun and isinstance(question, OF_THE_ACTIVE):
            raise ControlError(ErrorCode.HANDED_OVER, "this revision of the fleet has handed over: ask the leader of the other one")
        match question:
            case Apply(fleet):
                return await self.apply(fleet)
            case StatusOf():
                return with_verdict(self.status(), (known.report for known in self.roster.members.values()), self._clock.wall())
            case SetPause() | SetDrain() | ReconcileNow() | HandOver():
                await self._know_members()
                return await self._orders.run(question)
            case Switches():
                return self.history.rows()
            case PermitRequest(holder):
                return self.hub.lock.proof.grant(holder, self.plan)
            case PlanOf():
                return self.plan
            case Down():
                return await self.down()
            case Dismiss():
                if self._plans.leads:
                    raise ControlError(ErrorCode.REFUSED, "this fleet is active, not a standby: take it down with `raycp down`")
                return await self.down()
            case Stand(fleet, namespace):
                return await self.stand(fleet, namespace)
            case YieldTo(namespace):
                return await self._fleet_handover.hand_over(namespace)
            case PlanAfter(version):
                return await self._plans.newer(version, WATCH_SECONDS)
            case Followers(members):
                return await self._followed(members)
            case KubeconfigOf(cluster):
                return await self._kubeconfig(cluster)
        return await self._ask_standby(question)

    async def _followed(self, members: Collection[str]) -> None:
        plan, names = self.plan, tuple(sorted(members))
        if plan is None or plan.following is not None:
            raise ControlError(ErrorCode.REFUSED, "this fleet is not active: nothing follows it")
        if names != plan.followers:
            await self._plans.change(followers=names)

    async def _kubeconfig(self, cluster: str) -> str:
        state = self.roster.members.get(Slot.of_embedded(cluster))
        if state is None:
            raise ControlError(ErrorCode.NOT_FOUND, f"no embedded cluster {cluster}")
        return await self._substrate.ask(state.member, KubeconfigOf(cluster))

    async def _ask_standby(self, question: Question[Any]) -> Any:
        standby, plan = self._standby.fleet, self.plan
        if isinstance(question, StandbyState):
            if standby is None or plan is None or plan.following is None:
                return StandbyStatus()
            status = self.status()
            return StandbyStatus(plan.home, plan.fleet.generation, status.ready, status.unsettled)
        if not isinstance(question, (Prepare, FollowPrimaries, TakeLead, Forget)):
            raise unknown_question(question, Role.LEADER)
        if standby is None:
            raise ControlError(ErrorCode.REFUSED, "this fleet is not a standby")
        return await standby.ask(question)

    def status(self) -> FleetStatus:
        """The status of the fleet: what ``raycp status`` prints and the observer serves."""
        plan, roster = self.plan, self.roster
        wanted = self._members.wanted(plan) if plan is not None else {}
        switches = self.history.newest(SHOWN_SWITCHES)
        problems = [
            *(of_member(problem, LEADER.role) for problem in self.loops.problems),
            *self._problem_log.standing(self._problems(wanted)),
        ]
        if plan is not None and plan.following is not None:
            return fleet_status(plan, wanted, roster.members, problems, switches=switches, release=self.raycp_release)
        return fleet_status(
            plan,
            wanted,
            roster.members,
            problems,
            reasons=[self._revival.reason] if self._revival.reason else (),
            leadership=self.hub.lock.leadership,
            waiting=self.hub.lock.waiting,
            uptime=self._clock.now() - self._started,
            pools=self._pools.rows(plan.fleet.doc) if plan is not None else (),
            nodes=self.evacuation.nodes(),
            switches=switches,
            release=self.raycp_release,
        )

    def _problems(self, wanted: Collection[Slot]) -> dict[Subject, str]:
        """What is wrong at this moment, as this leader knows it."""
        roster, standby = self.roster, self._standby.fleet
        found: dict[Subject, str] = {
            (ProblemCode.MEMBER_NOT_CREATED, ProblemOwner(member=str(slot))): why
            for slot, why in roster.problems.items()
            if slot in wanted
        }
        for slot, state in roster.members.items():
            if state.report.pid and (why := state.problem or state.refusal):
                found[ProblemCode.MEMBER_SILENT, ProblemOwner(member=str(slot))] = why
            known = state.report.pid and slot.role is not Role.EMBEDDED  # those outlive an upgrade
            if known and (other := difference(state.report.release, here="the fleet's leader")):
                found[ProblemCode.RELEASE, ProblemOwner(member=str(slot))] = f"{other}: {UPGRADE}"
        if standby is not None:
            return found | standby.problems
        found |= paused_problems(self.plan)
        records = {"history of switches": self.history.problem, "the fleet's condition": self._condition.problem}
        if unstored := [f"{what}: {why}" for what, why in records.items() if why]:
            found[ProblemCode.STATE_NOT_STORED, ProblemOwner(member=LEADER.role)] = "; ".join(unstored)
        crash_loops = self._crash_loops.problems(self._pools.sizes, self._clock.now())
        return found | crash_loops | self.hub.problems | self.evacuation.problems | self.nodes.problems

    # after each step

    def _stepped(self) -> None:
        """Send the status and the own statistics to the observer, and keep the plan for later leaders."""
        status = self.status()
        self._sender.send(status)
        self._condition.observed(status)
        plan = self.plan
        if plan is None or plan.following is not None:
            return
        if self._stats is not None and plan is not self._stats_plan:
            self._stats_plan = plan
            self._credentials.update(plan)
            self._stats.update(plan)
        highest = max((state.member.generation for state in self.roster.all), default=0)
        self._memory.step(kept_plan(plan, self.hub.where(plan), dict(self._pools.sizes), highest))

    def _own_report(self) -> Report:
        version = self.plan.version if self.plan is not None else 0
        return Report(os.getpid(), socket.gethostname(), self.nodes.leader, plan=version, state="running", ready=True)

    def _loop_failed(self, name: LoopName) -> None:
        self._failures.labels(name).inc()
        self._wake()

    async def _know_members(self) -> None:
        """Wait until living members have been looked for. Raises ``ControlError``."""
        try:
            async with asyncio.timeout(RECOVERED_WITHIN):
                await self._recovered.wait()
        except TimeoutError:
            problem = self.nodes.problem or "Ray does not list them"
            raise ControlError(ErrorCode.BUSY, f"this leader does not know the fleet's living members yet: {problem}") from None
