"""Hand-over of the whole fleet to its warm standby: the other revision, with new code or configuration.

Expected flow: the standby is warm, and installs its CRDs; all primaries stop handing out, give reconciles in flight ``grace``
seconds, revoke the rest, send their standbys everything and give up their permits; the standbys confirm that they have received
it, the workers that they are idle; this leader grants nothing more, and records that it has released the lock to the successor, by
name; the successor begins the next epoch; this revision ends.

Guarantees: until the release is recorded, every failure (either side dies, a deadline passes) leaves this fleet active, and it
resumes; its primaries resume by themselves if no leader can ask them. After that, one write to the lock decides between the two:
the successor's epoch, or this leader's return when the successor has not begun within ``TAKE_BACK_AFTER``.
"""

import asyncio
import logging
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.kube import KubeError
from raycp.leader.handover import STEP
from raycp.leader.hub_lock import HubLock
from raycp.leader.plan_store import PlanStore
from raycp.leader.promotion import Promotion
from raycp.leader.roster import Roster
from raycp.leadership.locks import LockProblem
from raycp.leadership.records import Conflict
from raycp.protocol.control import (
    DrainedPrimary,
    FleetHandoverResult,
    FollowPrimaries,
    Forget,
    Lead,
    Prepare,
    Release,
    Rest,
    Resume,
    StandbyState,
    StandbyStatus,
    TakeLead,
)
from raycp.protocol.members import LEADER, MemberState, Role
from raycp.protocol.plan import Plan
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)

PREPARED_WITHIN = 10.0
LEAD_WITHIN = 5.0
TAKE_BACK_AFTER = 3.0
"""Seconds that a named successor which does not answer has to begin, before this leader takes the lock back."""

_FAILED = (MemberDied, MemberUnavailable, MemberFailed)


class FleetHandover:
    """One per leader. ``lock`` is held during hand-overs; ``left`` is called when the other revision leads: this one ends."""

    def __init__(
        self,
        substrate: Substrate,
        clock: Clock,
        loops: Loops,
        plans: PlanStore,
        roster: Roster,
        promotion: Promotion,
        hub_lock: HubLock,
        lock: asyncio.Lock,
        left: Callable[[str], None],
    ) -> None:
        self._substrate = substrate
        self._clock = clock
        self._loops = loops
        self._plans = plans
        self._roster = roster
        self._promotion = promotion
        self._hub_lock = hub_lock
        self._lock = lock
        self._left = left
        self._busy = False

    async def hand_over(self, namespace: str) -> FleetHandoverResult:
        """Hand the fleet over to the standby in that Ray namespace. Raises nothing: the result names what failed. It goes on if the
        caller does not wait."""
        work = self._loops.spawn(self._guarded(namespace), f"hand-over of the fleet to {namespace}")
        return await asyncio.shield(work)

    async def _guarded(self, namespace: str) -> FleetHandoverResult:
        result = FleetHandoverResult(namespace)
        if self._busy:
            result.problem = "another hand-over is under way"
            return result
        self._busy = True
        try:
            async with self._lock:
                await self._attempt(result)
        except Exception as error:
            log.exception("the hand-over to %s failed", namespace)
            result.problem = result.problem or repr(error)
        finally:
            self._busy = False
        return result

    async def _attempt(self, result: FleetHandoverResult) -> None:
        plan = self._plans.plan
        other = self._substrate.beside(result.to)
        begun = self._clock.now()
        if plan is None or plan.following is not None or self._promotion.closed or not self._promotion.proven(plan):
            result.problem = "this leader is not sure to lead"
            return
        spec = plan.fleet.doc.spec.leader.handover
        try:
            async with asyncio.timeout(spec.timeout):
                standby = await self._warm(other)
                await other.ask(LEADER, Prepare(), timeout=PREPARED_WITHIN)
                begun = self._clock.now()
                order = await self._drain(other, result, spec.grace)
        except TimeoutError:
            result.problem = f"it took longer than leader.handover.timeout ({spec.timeout:g} s)"
        except (*_FAILED, RuntimeError) as error:
            result.problem = str(error)
        if result.problem:
            log.warning("the fleet was not handed over: %s", result.problem)
            await self._go_on(other)
            return
        await self._switch(other, standby, order, result)
        result.took = self._clock.now() - begun

    async def _warm(self, other: Substrate) -> StandbyStatus:
        standby = await other.ask(LEADER, StandbyState(), timeout=STEP)
        if not standby.warm:
            raise RuntimeError(f"the standby fleet is not warm: {'; '.join(standby.reasons[:3]) or 'it follows no fleet'}")
        return standby

    async def _drain(self, other: Substrate, result: FleetHandoverResult, grace: float) -> Lead:
        """Nothing is in flight, and the successor has received everything. Raises ``RuntimeError``, ``MemberDied``,
        ``MemberUnavailable``, ``MemberFailed``."""
        plan, roster, substrate = self._plans.current, self._roster, self._substrate
        begun = self._clock.now()
        living: list[tuple[str, MemberState]] = []
        for shard in plan.shards:
            state = roster.primary_of(shard.shard)
            if state is None or not state.report.ready:
                raise RuntimeError(f"the primary of shard {shard.shard} is not ready")
            living.append((shard.shard, state))
        order = Release(grace, grace + 4 * STEP, final=True)
        drained = await asyncio.gather(*(substrate.ask(state.member, order, timeout=grace + STEP) for _, state in living))
        result.drain, result.revoked = self._clock.now() - begun, sum(each.revoked for each in drained)
        terms = {shard.shard: shard for shard in plan.shards}
        seqs = {
            shard: DrainedPrimary(terms[shard].member, terms[shard].term, each.seq)
            for (shard, _), each in zip(living, drained, strict=True)
        }
        workers = [each for each in roster.all if each.member.role is Role.WORKER]
        following = other.ask(LEADER, FollowPrimaries(seqs), timeout=2 * STEP)
        result.shards, _ = await asyncio.gather(following, asyncio.gather(*(self._rest(state) for state in workers)))
        result.cold = sorted(set(seqs) - set(result.shards))
        if any(roster.primary_of(shard) is not state for shard, state in living):
            raise RuntimeError("a primary has changed meanwhile")
        leadership = self._hub_lock.leadership
        if leadership is None or not self._promotion.proven(plan):
            raise RuntimeError("this leader is not sure to lead")
        return Lead(leadership.holder, result.drain, 0.0)

    async def _rest(self, worker: MemberState) -> None:
        """The worker confirms that it is idle, and gives up its permit. A worker that is dead or does not answer is idle too: all
        shards have reported that. Raises ``MemberFailed`` where it is not."""
        try:
            await self._substrate.ask(worker.member, Rest(), timeout=1.0)
        except (MemberDied, MemberUnavailable) as error:
            log.info("%s does not confirm that it is idle: %s", worker.member, error)

    async def _switch(self, other: Substrate, standby: StandbyStatus, order: Lead, result: FleetHandoverResult) -> None:
        """From here on the lock decides."""
        plan = self._plans.current
        since = self._clock.now()
        self._promotion.close()
        if not await self._hub_lock.release(standby.home):
            result.problem = "the release could not be recorded"
        else:
            order.leaderless = self._clock.now() - since
            try:
                result.epoch = await other.ask(LEADER, TakeLead(order), timeout=LEAD_WITHIN)
            except MemberFailed as error:
                result.problem = str(error)
            except (MemberDied, MemberUnavailable) as error:
                result.problem = str(error)
                # Ray may restart the successor's leader, and the lock names it.
                await self._clock.sleep(max(0.0, TAKE_BACK_AFTER - (self._clock.now() - since)))
        if result.epoch:
            self._left(f"{result.to} leads in epoch {result.epoch}")
            return
        await self._decide(plan, other, standby, result)

    async def _decide(self, plan: Plan, other: Substrate, standby: StandbyStatus, result: FleetHandoverResult) -> None:
        """Take the lock back, unless the successor has begun: one write decides."""
        while True:
            try:
                leader = await self._hub_lock.take_back(plan)
                break
            except Exception as error:  # whatever it is: as long as nobody decides, nobody writes
                foreseen = isinstance(error, (KubeError, LockProblem, Conflict, TimeoutError))
                known = "it is not known which fleet leads, so no member writes: %s"
                log.error(known, error, exc_info=None if foreseen else error)
                await self._clock.sleep(0.5)
        if leader is not None:
            result.problem = "" if leader.home == standby.home else f"{leader.holder} leads"
            result.epoch = leader.epoch
            self._left(f"{leader.holder} leads in epoch {leader.epoch}")
            return
        log.warning("the fleet was not handed over, and goes on: %s", result.problem)
        self._promotion.reopen()
        await self._go_on(other)

    async def _go_on(self, other: Substrate) -> None:
        """The hand-over was given up."""
        await self.resume()
        try:
            await other.ask(LEADER, Forget(), timeout=1.0)
        except _FAILED:
            pass

    async def resume(self) -> None:
        """Ask all shards and workers to resume; shards whose primary died meanwhile get their standby."""
        roster, plan = self._roster, self._plans.plan
        if plan is None:
            return
        for shard in plan.shards:
            if roster.primary_of(shard.shard) is None:
                await self._promotion.promote_standby(shard.shard, "death")

        async def one(state: MemberState) -> None:
            try:
                await self._substrate.ask(state.member, Resume(), timeout=STEP)
            except _FAILED as error:
                log.warning("%s could not be asked to resume: %s", state.member, error)

        await asyncio.gather(*(one(state) for slot, state in roster.members.items() if slot.role in (Role.SHARD, Role.WORKER)))
        self._plans.wake()
