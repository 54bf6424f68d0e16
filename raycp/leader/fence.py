"""Holders that stay silent until their permits have ended, because they are frozen or cut off: they are replaced (law 6f)."""

import logging
from functools import partial

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.leader.deaths import HOLDERS, Deaths
from raycp.leader.leadership_proof import LeadershipProof
from raycp.leader.lifecycle import Lifecycle
from raycp.leader.promotion import Promotion
from raycp.leader.replacements import SILENCE
from raycp.leader.roster import Roster
from raycp.protocol.members import Member, MemberState, Role
from raycp.protocol.plan import Plan
from raycp.protocol.substrate import Substrate

log = logging.getLogger(__name__)

FENCE_MARGIN = 2.0
"""Seconds on top of a permit: so long the leader must have been sure to lead before it judges a holder's silence."""


ANNOUNCED = 0.5
"""Seconds between the announcement that a worker may not write any more and the end of its process."""


class Fence:
    """One per leader."""

    def __init__(
        self,
        substrate: Substrate,
        clock: Clock,
        loops: Loops,
        roster: Roster,
        lifecycle: Lifecycle,
        promotion: Promotion,
        deaths: Deaths,
        proof: LeadershipProof,
    ) -> None:
        self.unproven_at = clock.now()
        """When this leader was last not sure to lead."""
        self._substrate = substrate
        self._clock = clock
        self._loops = loops
        self._roster = roster
        self._lifecycle = lifecycle
        self._promotion = promotion
        self._deaths = deaths
        self._proof = proof

    async def check(self, plan: Plan) -> None:
        """Kill and replace holders whose last permit has ended and that did not ask for another."""
        permit, now, ledger = plan.fleet.doc.spec.leader.permit, self._clock.now(), self._proof.ledger
        if ledger is None or not self._promotion.proven(plan):
            self.unproven_at = now  # their silence may be this leader's fault
        if ledger is None or now - self.unproven_at < permit + FENCE_MARGIN:
            return
        for state in self._roster.all:
            member, name = state.member, state.member.actor_name
            if member.role in HOLDERS and ledger.ends(name) < now and (ledger.known(name) or self._mute(plan, state)):
                log.error("%s has not asked for a permit for %.1f s: it may not write any more, and is replaced", member, permit)
                ledger.bar(name, "replaced after its permit had ended")
                self._lifecycle.unsupervise(member)
                end = partial(self._kill, member)
                self._loops.supervise(end, LoopName.MEMBER_END, ProblemOwner(peer=str(member.slot)))
                await self._deaths.announce(name)
                await self._deaths.remove(state, SILENCE, now)
                ledger.bar(name, "replaced after its permit had ended")

    async def _kill(self, member: Member) -> None:
        """Shards learn from the plan first that a worker was fenced, so that its end is not taken for its own doing (law 11)."""
        if member.role is Role.WORKER:
            await self._clock.sleep(ANNOUNCED)
        await self._substrate.kill(member)

    def _mute(self, plan: Plan, state: MemberState) -> bool:
        """Whether a member that the plan shows at work has never asked this leader for a permit, and has had the time to."""
        name = state.member.actor_name
        at_work = any(name == shard.member for shard in plan.shards) or any(name == worker.member for worker in plan.workers)
        # A standby asks for permits from its promotion on.
        since = max(state.since, self._promotion.promoted_at(state.member.shard))
        return at_work and self._clock.now() - since > plan.fleet.doc.spec.leader.permit + FENCE_MARGIN
