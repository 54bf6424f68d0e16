"""Hand-over of shards from their primaries to their warm standbys.

Expected flow: the primary stops handing out, gives reconciles in flight ``grace`` seconds, revokes the rest, and answers when all
is acknowledged and replicated to its standby; the standby confirms that it has received everything; it is promoted; the old
primary is drained and killed.

Guarantees: until the standby is promoted, every failure (either process dies, a deadline passes) leaves the old primary in charge:
it is asked to resume, and resumes by itself after its own deadline if no leader can ask it. After that the plan names the new
primary, and every worker that has the plan refuses hand-outs of the old one.
"""

import asyncio
import logging

from raycp.base.clock import Clock
from raycp.leader.lifecycle import Lifecycle
from raycp.leader.plan_store import PlanStore
from raycp.leader.promotion import Promotion
from raycp.leader.roster import Roster
from raycp.protocol.control import FollowTo, HandoverResult, Release, Resume
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)

STEP = 3.0
"""Deadline of each step, in seconds; a drain has its grace on top."""


class ShardHandover:
    """One per leader. ``lock`` is held during hand-overs, of shards and of the fleet: only one of them is under way."""

    def __init__(
        self,
        substrate: Substrate,
        clock: Clock,
        plans: PlanStore,
        roster: Roster,
        promotion: Promotion,
        lifecycle: Lifecycle,
        lock: asyncio.Lock,
    ) -> None:
        self._substrate = substrate
        self._clock = clock
        self._plans = plans
        self._roster = roster
        self._promotion = promotion
        self._lifecycle = lifecycle
        self._lock = lock

    async def hand_over(self, shards: list[str], cause: str = "handover") -> list[HandoverResult]:
        """Hand over these shards, all for an empty list, at the same time. The results name what failed.

        Raises ``RuntimeError`` where no fleet runs, ``KeyError`` for an unknown shard, ``TimeoutError``.
        """
        plan = self._plans.plan
        if plan is None or self._promotion.closed:
            raise RuntimeError("no fleet runs")
        known = [shard.shard for shard in plan.shards]
        for shard in shards:
            if shard not in known:
                raise KeyError(f"no shard {shard}; there are {', '.join(known)}")
        async with self._lock:
            spec = plan.fleet.doc.spec.leader.handover
            async with asyncio.timeout(spec.timeout):
                return list(await asyncio.gather(*(self._one(shard, spec.grace, cause) for shard in shards or known)))

    async def _one(self, shard: str, grace: float, cause: str) -> HandoverResult:
        substrate, clock = self._substrate, self._clock
        handed, begun = HandoverResult(shard), clock.now()
        primary, standby = self._roster.primary_of(shard), self._promotion.standby_of(shard)
        if primary is None or not primary.report.ready:
            handed.problem = "its primary is not ready"
            return handed
        if standby is None:
            handed.problem = "no warm standby (spec.shards.standby)"
            return handed
        handed.to = standby.member.actor_name
        limit = grace + 3 * STEP
        try:
            drained = await substrate.ask(primary.member, Release(grace, limit), timeout=grace + STEP)
            handed.drain, handed.revoked = clock.now() - begun, drained.revoked
            await substrate.ask(standby.member, FollowTo(drained.seq), timeout=STEP)
            if self._roster.primary_of(shard) is not primary or self._promotion.standby_of(shard) is not standby:
                handed.problem = "primary or standby changed meanwhile"
            elif not await self._promotion.promote_standby(shard, cause, handed.drain):
                handed.problem = "the leader is not sure to lead"
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            handed.problem = str(error)
        if handed.problem:
            log.warning("shard %s was not handed over: %s", shard, handed.problem)
            try:
                await substrate.ask(primary.member, Resume(), timeout=STEP)
            except (MemberDied, MemberUnavailable, MemberFailed) as error:
                log.warning("%s could not be asked to resume: %s", primary.member, error)
            return handed
        handed.took = clock.now() - begun
        self._lifecycle.handed_over(primary)
        return handed
