"""The leader's part in giving the whole fleet to a warm one that stands by: the other colour, with new code or config.

Expected flow: the successor is warm, and prepares its CRDs; all primaries stop handing out, give what runs ``grace``, revoke the
rest, tell the standbys all and give their permits up; the standbys confirm to have heard it, the workers that they rest; this
leader grants nothing more, and records that it has released the fleet to the successor, by name; the successor begins the next
epoch; this colour ends.

Guarantees: until the release is recorded, every failure (either side dies, a time limit passes) leaves this fleet in charge, and it
goes on; its primaries go on by themselves if nobody can tell them. After that, one write to the record decides between the two: the
successor's epoch, or this leader's return when the successor has not begun within ``TAKE_BACK_AFTER``.
"""

import asyncio
import logging
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.kube import ConnectError, KubeError
from raycp.leader.handover import STEP
from raycp.leader.hub import HubKeeper
from raycp.leader.promotion import Succession
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
"""How long a named successor that does not answer has to begin before the one who named it leads on, in seconds."""

_FAILED = (MemberDied, MemberUnavailable, MemberFailed)


class FleetHandover:
    """One per leader. ``left`` is called when another colour leads: this one ends."""

    def __init__(self, roster: Roster, hub: HubKeeper, succession: Succession, left: Callable[[str], None]) -> None:
        self._roster = roster
        self._hub = hub
        self._succession = succession
        self._clock: Clock = roster.clock
        self._left = left
        self._busy = False

    async def yield_to(self, namespace: str) -> FleetHandoverResult:
        """See the module. Raises nothing: what went wrong is in the answer. It goes on if the caller does not wait."""
        work = self._roster.loops.spawn(self._guarded(namespace), f"giving the fleet to {namespace}")
        return await asyncio.shield(work)

    async def _guarded(self, namespace: str) -> FleetHandoverResult:
        yielded = FleetHandoverResult(namespace)
        if self._busy:
            yielded.problem = "another hand-over is under way"
            return yielded
        self._busy = True
        try:
            async with self._succession.handing:
                await self._attempt(yielded)
        except Exception as error:
            log.exception("the hand-over to %s failed", namespace)
            yielded.problem = yielded.problem or repr(error)
        finally:
            self._busy = False
        return yielded

    async def _attempt(self, yielded: FleetHandoverResult) -> None:
        plan = self._roster.plan
        other = self._roster.substrate.beside(yielded.to)
        begun = self._clock.now()
        if plan is None or plan.following is not None or self._succession.closed or not self._succession.proven(plan):
            yielded.problem = "this leader is not sure to lead"
            return
        spec = plan.fleet.doc.spec.leader.handover
        drained: list[MemberState] = []
        try:
            async with asyncio.timeout(spec.timeout):
                standing = await self._warm(other)
                await other.ask(LEADER, Prepare(), timeout=PREPARED_WITHIN)
                begun = self._clock.now()
                order = await self._drain(other, yielded, spec.grace, drained)
        except TimeoutError:
            yielded.problem = f"it took longer than leader.handover.timeout ({spec.timeout:g} s)"
        except _FAILED as error:
            yielded.problem = str(error)
        except RuntimeError as error:
            yielded.problem = str(error)
        if yielded.problem:
            log.warning("the fleet was not handed over: %s", yielded.problem)
            await self._go_on(other)
            return
        await self._switch(other, standing, order, yielded)
        yielded.took = self._clock.now() - begun

    async def _warm(self, other: Substrate) -> StandbyStatus:
        standing = await other.ask(LEADER, StandbyState(), timeout=STEP)
        if not standing.warm:
            raise RuntimeError(f"the fleet that stands by is not warm: {'; '.join(standing.reasons[:3]) or 'it follows nobody'}")
        return standing

    async def _drain(self, other: Substrate, yielded: FleetHandoverResult, grace: float, drained: list[MemberState]) -> Lead:
        """Empty hands everywhere, and the successor knows all. Raises ``RuntimeError``, ``Member*``."""
        plan, roster = self._roster.plan, self._roster
        assert plan is not None
        begun = self._clock.now()
        primaries = {shard.shard: roster.primary_of(shard.shard) for shard in plan.shards}
        for shard, state in primaries.items():
            if state is None or not state.report.ready:
                raise RuntimeError(f"the primary of shard {shard} is not ready")
        living = [(shard, state) for shard, state in primaries.items() if state is not None]
        drained += [state for _, state in living]
        order = Release(grace, grace + 4 * STEP, final=True)
        told = await asyncio.gather(*(roster.substrate.ask(state.member, order, timeout=grace + STEP) for _, state in living))
        yielded.drain, yielded.revoked = self._clock.now() - begun, sum(each.revoked for each in told)
        terms = {shard.shard: shard for shard in plan.shards}
        seqs = {
            shard: DrainedPrimary(terms[shard].member, terms[shard].term, each.seq)
            for (shard, _), each in zip(living, told, strict=True)
        }
        workers = [each for each in (*roster.members.values(), *roster.leaving) if each.member.role is Role.WORKER]
        following = other.ask(LEADER, FollowPrimaries(seqs), timeout=2 * STEP)
        yielded.shards, _ = await asyncio.gather(following, asyncio.gather(*(self._rest(state) for state in workers)))
        yielded.cold = sorted(set(seqs) - set(yielded.shards))
        if any(roster.primary_of(shard) is not state for shard, state in living):
            raise RuntimeError("a primary has changed meanwhile")
        leadership = self._hub.leadership
        if leadership is None or not self._succession.proven(plan):
            raise RuntimeError("this leader is not sure to lead")
        return Lead(leadership.holder, yielded.drain, 0.0)

    async def _rest(self, worker: MemberState) -> None:
        """It has nothing in work, and gives its permit up; one that is dead, or does not answer, had nothing in work either: all
        shards have told so. Raises ``MemberFailed`` where it has."""
        try:
            await self._roster.substrate.ask(worker.member, Rest(), timeout=1.0)
        except (MemberDied, MemberUnavailable) as error:
            log.info("%s does not tell that it rests: %s", worker.member, error)

    async def _switch(self, other: Substrate, standing: StandbyStatus, order: Lead, yielded: FleetHandoverResult) -> None:
        """From here on the record decides."""
        plan = self._roster.plan
        assert plan is not None
        since = self._clock.now()
        self._succession.closed = True
        if not await self._hub.release(plan, standing.home):
            yielded.problem = "the release could not be recorded"
        else:
            order.leaderless = self._clock.now() - since
            try:
                yielded.epoch = await other.ask(LEADER, TakeLead(order), timeout=LEAD_WITHIN)
            except MemberFailed as error:
                yielded.problem = str(error)
            except (MemberDied, MemberUnavailable) as error:
                yielded.problem = str(error)
                await self._give_time(plan, since)
        if yielded.epoch:
            self._left(f"{yielded.to} leads in epoch {yielded.epoch}")
            return
        await self._decide(plan, other, standing, yielded)

    async def _give_time(self, plan: Plan, since: float) -> None:
        """The successor died or does not answer: Ray may bring it back, and the record names it."""
        while self._clock.now() - since < TAKE_BACK_AFTER:
            await self._clock.sleep(0.2)

    async def _decide(self, plan: Plan, other: Substrate, standing: StandbyStatus, yielded: FleetHandoverResult) -> None:
        """Take the lead back, unless the successor has begun: one write decides."""
        while True:
            try:
                leader = await self._hub.take_back(plan)
                break
            except (KubeError, ConnectError, LockProblem, Conflict, TimeoutError) as error:
                log.error("it is not known who leads, so nobody writes: %s", error)
                await self._clock.sleep(0.5)
        if leader is not None:
            yielded.problem = "" if leader.home == standing.home else f"{leader.holder} leads"
            yielded.epoch = leader.epoch
            self._left(f"{leader.holder} leads in epoch {leader.epoch}")
            return
        log.warning("the fleet was not handed over, and goes on: %s", yielded.problem)
        self._succession.closed = False
        await self._go_on(other)

    async def _go_on(self, other: Substrate) -> None:
        """Nothing has happened: hand out again."""
        await self.resume()
        try:
            await other.ask(LEADER, Forget(), timeout=1.0)
        except _FAILED:
            pass

    async def resume(self) -> None:
        """Tell all holders to go on; shards whose primary died meanwhile get their standby."""
        roster = self._roster
        plan = roster.plan
        if plan is None:
            return
        for shard in plan.shards:
            if roster.primary_of(shard.shard) is None:
                await self._succession.succeed(shard.shard, "death")

        async def one(state: MemberState) -> None:
            try:
                await roster.substrate.ask(state.member, Resume(), timeout=STEP)
            except _FAILED as error:
                log.warning("%s could not be told to go on: %s", state.member, error)

        await asyncio.gather(*(one(state) for slot, state in roster.members.items() if slot.role in (Role.SHARD, Role.WORKER)))
        roster.wake.set()
