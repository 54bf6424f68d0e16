"""The leader: keeps the fleet's members as the fleet file wants them. Never on the way of a change.

It holds nothing that can't be found again: a leader that Ray restarts asks the living members for the newest plan and goes on
under the same epoch with the next incarnation. Members go on without it.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.kube import ConnectSpec
from raycp.leader.endpoints import embedded_endpoints, reachable
from raycp.leader.evacuation import Evacuation
from raycp.leader.fleet_handover import FleetHandover
from raycp.leader.history import History
from raycp.leader.hub import HubKeeper
from raycp.leader.nodes import NodeWatch
from raycp.leader.placement import spots
from raycp.leader.plans import applied_plan, kept_pools
from raycp.leader.pools import Pools
from raycp.leader.promotion import Succession
from raycp.leader.publisher import Publisher
from raycp.leader.recovery import recover
from raycp.leader.roster import Roster
from raycp.leader.scaler import living_pools
from raycp.leader.shutdown import end_members
from raycp.leader.standby_fleet import StandbyFleet
from raycp.leader.status_sender import StatusSender
from raycp.leadership.epoch import Leadership
from raycp.leadership.records import Records
from raycp.leadership.switches import Switch
from raycp.protocol.control import HANDED_OVER, HandoverResult, Lead, StandbyStatus
from raycp.protocol.desired import Desires, Slot, Wanted, standing_members
from raycp.protocol.members import LEADER, WATCH_SECONDS, Member, MemberState
from raycp.protocol.plan import Fleet, Plan, home_of
from raycp.protocol.report import Report
from raycp.protocol.revisions import GENERATIONS
from raycp.protocol.status import FleetStatus, PoolStatus, RayNodeStatus
from raycp.protocol.status_builder import fleet_status
from raycp.protocol.substrate import Substrate

log = logging.getLogger(__name__)

CHECK_EVERY = 1.0
LEAVE_AFTER = 0.3
SHOWN_SWITCHES = 10
"""The newest switches, in the status; `raycp leader history` has all."""


class LeaderCore:
    """Supervises one fleet. All state changes happen on one loop; every step is safe to run again."""

    def __init__(
        self, substrate: Substrate, clock: Clock, identity: str, node: str = "", leave: Callable[[], None] = lambda: None
    ) -> None:
        self._substrate = substrate
        self._clock = clock
        self._loops = Loops(clock)
        self._hub = HubKeeper(clock, identity, self._loops, self._led, self.apply)
        self._history = History(clock, self._loops)
        self._roster = Roster(substrate, clock, self._loops)
        self._watch = NodeWatch(substrate, clock, node)
        self._succession = Succession(self._roster, self._hub.prover, self._history, self._watch)
        self._evacuation = Evacuation(self._roster, self._succession, self._watch, leave)
        self._roster.died, self._roster.reported = self._succession.died, self._reported
        self._pools = Pools(self._roster)
        self._status_sender = StatusSender(self._roster)
        self._publisher = Publisher(self._roster, self._hub, self._succession, self._history)
        self._desires = Desires()
        self._applying = asyncio.Lock()
        self._stepping = asyncio.Lock()
        self._follower: StandbyFleet | None = None
        self._yielding = FleetHandover(self._roster, self._hub, self._succession, self._left)
        self._leaving = False
        self._started = clock.now()

    @property
    def plan(self) -> Plan | None:
        """What all members are told; None before the first ``apply``."""
        return self._roster.plan

    async def hand_over(self, shards: list[str]) -> list[HandoverResult]:
        """See ``Succession.hand_over``."""
        return await self._succession.hand_over(shards)

    def start(self) -> None:
        """Recover from living members, then supervise until ``down``."""
        self._loops.spawn(self._run(), "leader")

    async def _run(self) -> None:
        try:
            await self._recover()
        except Exception:
            log.exception("recovery from living members failed; the next apply completes it")
        while True:
            try:
                await self._look_who_leads()
                if self._may_step():
                    async with self._stepping:
                        if self._may_step():
                            await self._step()
                            self._status_sender.send(self.status())
            except Exception:
                log.exception("a step of supervision failed; it is taken again")
            self._roster.wake.clear()
            try:
                async with asyncio.timeout(CHECK_EVERY):
                    await self._roster.wake.wait()
            except TimeoutError:
                pass

    async def _look_who_leads(self) -> None:
        """A leader that comes back after its fleet was handed over finds the other colour in its place."""
        plan = self.plan
        if plan is None or plan.following is not None or self._hub.waiting is None or self._leaving:
            return
        found = await self._hub.recorded(plan)
        if found is not None and not found.released and found.home == home_of(plan.token, plan.floor + GENERATIONS):
            self._left(f"{found.holder} leads in epoch {found.epoch}")

    def _may_step(self) -> bool:
        if self.plan is None or self._succession.closed or self._hub.prover.superseded or self._leaving:
            return False
        return self._follower is None or not self._follower.held

    async def _recover(self) -> None:
        """Go on with a fleet that lives on, as what it was: one that leads, or one that stands by."""
        found = await recover(self._roster, self._succession)
        if found is None:
            return
        plan, living = found
        self._pools.sizes = living_pools(living, plan.fleet.doc)
        if plan.following is not None:
            self._follow(plan.following.namespace).start()
        else:
            self._hub.recovered(plan)

    # what the driver asks

    async def ask(self, method: str, payload: bytes) -> bytes:
        """Control questions: apply, status, plan, down, kubeconfig, permit, handover, switches; stand, yield, plan_after for two
        colours of a fleet, and what ``_ask_follower`` adds."""
        if self._leaving and method in ("apply", "status", "plan", "handover", "switches", "kubeconfig", "yield", "standing"):
            raise RuntimeError(HANDED_OVER)
        if method == "apply":
            await self.apply(msgspec.msgpack.decode(payload, type=Fleet))
            return b""
        if method == "status":
            return msgspec.json.encode(self.status())
        if method == "handover":
            shards = msgspec.msgpack.decode(payload, type=list[str])
            return msgspec.json.encode(await self.hand_over(shards))
        if method == "switches":
            return msgspec.json.encode(self._history.rows())
        if method == "permit":
            return self._hub.prover.grant(payload, self.plan)
        if method == "plan":
            return b"" if self.plan is None else msgspec.msgpack.encode(self.plan)
        if method == "down":
            await self.down()
            return b""
        if method == "dismiss":
            if self.plan is not None and self.plan.following is None:
                raise RuntimeError("this fleet does not stand by: it leads, and is taken down with `raycp down`")
            await self.down()
            return b""
        if method == "stand":
            await self.stand(*msgspec.msgpack.decode(payload, type=tuple[Fleet, str]))
            return b""
        if method == "yield":
            return msgspec.json.encode(await self._yielding.yield_to(payload.decode()))
        if method == "plan_after":
            plan = await self._roster.newer_plan(msgspec.msgpack.decode(payload, type=int), WATCH_SECONDS)
            return b"" if plan is None else msgspec.msgpack.encode(plan)
        if method in ("standing", "prepare", "follow", "lead", "forget"):
            return await self._ask_follower(method, payload)
        if method == "kubeconfig":
            return await self._substrate.call(self._roster.living("embedded", payload.decode()), "kubeconfig")
        raise KeyError(f"the leader has no method {method!r}")

    # standing by for the other colour

    async def stand(self, fleet: Fleet, namespace: str) -> None:
        """Stand by for the fleet in Ray namespace ``namespace``, to be ``fleet`` one day. The same again changes nothing.

        Raises ``ValueError``, ``MemberDied``, ``MemberUnavailable``, ``MemberFailed``.
        """
        async with self._applying:
            if self.plan is not None:
                if self.plan.following is None or self.plan.fleet.generation != fleet.generation:
                    raise ValueError(f"another fleet, of generation {self.plan.fleet.generation}, is here already")
                return
            follower = self._follow(namespace)
            try:
                await follower.begin(fleet)
            except BaseException:
                self._follower = None
                raise
            theirs = follower.theirs
            assert theirs is not None
            # The pools of the one that leads were scaled to its load.
            workers = [member for worker in theirs.workers if (member := Member.parse(worker.member)) is not None]
            self._pools.sizes = living_pools(workers, fleet.doc)
            follower.start()

    def _follow(self, namespace: str) -> StandbyFleet:
        self._follower = StandbyFleet(self._roster, self._hub, namespace, self._stepping, self._begin)
        return self._follower

    async def _ask_follower(self, method: str, payload: bytes) -> bytes:
        follower, plan = self._follower, self.plan
        if method == "standing":
            if follower is None or plan is None or plan.following is None:
                return msgspec.json.encode(StandbyStatus())
            status = self.status()
            return msgspec.json.encode(StandbyStatus(plan.home, plan.fleet.generation, status.ready, status.reasons))
        if follower is None:
            raise RuntimeError("this fleet does not stand by")
        return await follower.ask(method, payload)

    async def _begin(self, before: Plan, plan: Plan, order: Lead) -> None:
        """This fleet has stood by, and leads from here on; no step is under way."""
        known = {shard.shard: shard for shard in before.shards}
        self._follower = None
        self._hub.adopt(before)
        self._roster.endpoints = embedded_endpoints(before.clusters, plan.fleet.doc)
        self._roster.plan = plan
        await self._roster.announce()
        for shard in plan.shards:
            if shard.member:
                self._history.promoted(plan, known[shard.shard], shard)
        log.warning("this fleet leads, in epoch %d (%s)", plan.epoch, order.cause)

    def _left(self, why: str) -> None:
        """Another colour leads: end this one, but for embedded clusters."""
        if not self._leaving:
            self._leaving = True
            log.warning("%s: this colour of the fleet ends", why)
            self._succession.closed = True
            self._history.end()
            self._loops.spawn(self._leave(), "end of this colour")

    async def _leave(self) -> None:
        await self._clock.sleep(LEAVE_AFTER)  # the answer to who asked for it goes out first
        await end_members(self._roster, self._hub, embedded=False)
        await self._hub.close()
        await self._substrate.kill(LEADER)

    async def apply(self, fleet: Fleet) -> None:
        """Make ``fleet`` the desired one; the same generation again changes nothing."""
        async with self._applying:
            before = self.plan
            if before is not None and before.following is not None:
                raise ValueError("this fleet stands by; it is changed by `raycp upgrade`")
            if before is not None and before.fleet.generation == fleet.generation:
                self._roster.wake.set()
                return
            if before is not None and (moved := before.fleet.doc.moved_lock(fleet.doc)):
                raise ValueError(moved)
            self._succession.closed = False
            self._pools.sizes = kept_pools(self._pools.sizes, before, fleet)
            self._roster.plan = applied_plan(fleet, before)
            await self._roster.announce()

    # supervision

    async def _step(self) -> None:
        plan = self.plan
        assert plan is not None
        if plan.following is None:
            await self._pools.scale(plan)
        self._pools.tell(plan)
        known = await self._watch.members()
        if known is not None:
            await self._watch.refresh()
        wanted = self._wanted(plan)
        leaving = {state.member for state in self._roster.leaving}
        for member in known or ():
            if member in self._roster.ending or member in leaving or (member.role == "embedded" and plan.following is not None):
                continue
            if member != LEADER and self._roster.generations.get(member.slot, -1) < member.generation:
                self._roster.adopt(member)
            elif member != LEADER and (state := self._roster.members.get(plan.slot(member))) is not None and state.member != member:
                await self._substrate.kill(member)
        await self._succession.fence(plan)
        await self._succession.fill(plan)
        if known is not None:
            await self._make(plan, wanted)
        if plan.following is not None:
            await self._publisher.standing()
            return
        self._hub.step(plan, reachable(plan, self._roster.endpoints))
        await self._publisher.leading()

    async def _make(self, plan: Plan, wanted: dict[Slot, Wanted]) -> None:
        """End what is wanted no more or wanted otherwise, move what is in the wrong place, make what is missing."""
        for slot, state in list(self._roster.members.items()):
            want = wanted.get(slot)
            if want is None or (state.fingerprint and state.fingerprint != want.fingerprint):
                self._roster.retire(state)
            elif not state.fingerprint:
                state.fingerprint = want.fingerprint
        self._evacuation.step(plan, wanted)
        missing = {slot: want for slot, want in wanted.items() if slot not in self._roster.members and self._due(want)}
        at = spots(((slot, want.options.get("label_selector", {})) for slot, want in missing.items()), self._evacuation.situation())
        await asyncio.gather(*(self._roster.create(want, at[slot]) for slot, want in missing.items()))

    def _wanted(self, plan: Plan) -> dict[Slot, Wanted]:
        needy = self._evacuation.need_standby(plan)
        wanted = self._desires.of(plan.fleet, {cluster.shard for cluster in plan.clusters}, self._pools.sizes, needy)
        return wanted if plan.following is None else standing_members(plan, wanted)

    def _due(self, want: Wanted) -> bool:
        """Whether it is time to make a member: a standby comes after its primary, and not in the moment of a promotion; a primary
        where no standby can be it."""
        if want.role == "shard":
            return not self._succession.expected(want.place)
        if want.role != "standby":
            return True
        if self._follower is not None:
            return True
        shard = want.place.split("/")[0]
        primary = self._roster.primary_of(shard)
        return primary is not None and primary.report.ready and self._succession.rested(shard)

    def _led(self, records: Records, leadership: Leadership) -> None:
        self._history.begin(records, leadership, self._follower.order if self._follower is not None else None)
        if self._follower is None and leadership.incarnation > 1:
            # The one before may have died while it gave the fleet away: its primaries wait.
            self._loops.spawn(self._yielding.resume(), "resumption")

    async def _reported(self, state: MemberState, report: Report) -> None:
        """A member told of itself."""
        self._history.reported(self.plan, state.member.actor_name, report)
        if report.dead:
            await self._succession.hint(report.dead)
        if state.member.role == "embedded" and state.member.place not in self._roster.endpoints and report.ready:
            answer = await self._substrate.call(state.member, "endpoint")
            self._roster.endpoints[state.member.place] = msgspec.msgpack.decode(answer, type=ConnectSpec)
        told = (report.host, report.port, report.ready, report.state, report.plan, report.extra)
        if told != state.told or report.dead:  # what only counts on (lanes, objects) needs no step of its own
            state.told = told
            self._roster.wake.set()

    async def down(self) -> None:
        """Drain workers and shards, then end all members. The leader itself is ended by the driver."""
        self._succession.closed = True
        if self._follower is not None:
            self._follower.close()
        leads = self.plan is not None and self.plan.following is None and not self._leaving
        await end_members(self._roster, self._hub, embedded=leads)
        await self._hub.close()
        self._roster.plan = None

    def status(self) -> FleetStatus:
        """The status of the fleet: what ``raycp status`` prints and the observer serves."""
        plan = self.plan
        wanted = self._wanted(plan) if plan is not None else {}
        members, switches = self._roster.members, msgspec.convert(self._history.rows()[-SHOWN_SWITCHES:], list[Switch])
        if plan is not None and plan.following is not None:
            problems = {**self._roster.problems, **(self._follower.problems if self._follower is not None else {})}
            return fleet_status(plan, wanted, members, problems, switches=switches)
        return fleet_status(
            plan,
            wanted,
            members,
            {
                **self._roster.problems,
                **self._hub.problems,
                **self._hub.prover.problems,
                **self._evacuation.problems,
                **self._watch.problems,
            },
            leadership=self._hub.leadership,
            waiting=self._hub.waiting,
            uptime=self._clock.now() - self._started,
            pools=msgspec.convert(self._pools.rows(plan.fleet.doc), list[PoolStatus]) if plan is not None else (),
            nodes=msgspec.convert(self._evacuation.nodes(), list[RayNodeStatus]),
            switches=switches,
        )
