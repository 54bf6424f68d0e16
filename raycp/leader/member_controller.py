"""Makes the living members match the wanted ones: what should live but does not is created, what should not is ended."""

import asyncio
from collections.abc import Iterable, Mapping

from raycp.base.clock import Clock
from raycp.leader.desired import Wanted, WantedMembers, standby_members
from raycp.leader.evacuation import Evacuation
from raycp.leader.fence import Fence
from raycp.leader.lifecycle import Lifecycle
from raycp.leader.nodes import NodeWatch
from raycp.leader.placement import best_nodes
from raycp.leader.pools import Pools
from raycp.leader.promotion import Promotion
from raycp.leader.quarantines import Quarantines
from raycp.leader.replacements import CHANGED
from raycp.leader.roster import Roster
from raycp.protocol.members import LEADER, Member, Role, Slot
from raycp.protocol.plan import Plan
from raycp.protocol.substrate import Substrate


class MemberController:
    """One per leader."""

    def __init__(
        self,
        substrate: Substrate,
        roster: Roster,
        lifecycle: Lifecycle,
        promotion: Promotion,
        fence: Fence,
        evacuation: Evacuation,
        pools: Pools,
        nodes: NodeWatch,
        clock: Clock,
    ) -> None:
        self._substrate = substrate
        self._roster = roster
        self._lifecycle = lifecycle
        self._promotion = promotion
        self._fence = fence
        self._evacuation = evacuation
        self._pools = pools
        self._nodes = nodes
        self._clock = clock
        self._quarantines = Quarantines()
        self._wanted_members = WantedMembers()

    def wanted(self, plan: Plan) -> dict[Slot, Wanted]:
        """The members that should live under ``plan``."""
        needy = self._evacuation.need_standby(plan)
        shards = {cluster.shard for cluster in plan.clusters}
        wanted = self._wanted_members.of(plan.fleet, shards, self._pools.sizes, needy, self._quarantines.shards)
        return wanted if plan.following is None else standby_members(plan, wanted)

    async def step(self, plan: Plan) -> None:
        """One comparison. While Ray's head does not answer, promotions go on, and nothing is created or ended."""
        known = await self._nodes.members()
        if known is not None:
            await self._nodes.refresh()
        members = self._roster.members
        needing = {slot.shard for slot, state in members.items() if slot.role is Role.SHARD and state.report.quarantine}
        self._quarantines.step(needing, {slot.quarantine for slot in members if slot.quarantine}, self._clock.now())
        wanted = self.wanted(plan)
        await self._adopt(plan, known or ())
        await self._fence.check(plan)
        await self._promotion.promote_missing(plan)
        if known is None:
            return
        self._retire(wanted)
        self._evacuation.step(plan, wanted)
        missing = {slot: want for slot, want in wanted.items() if slot not in self._roster.members and self._due(plan, want)}
        at = best_nodes(
            ((slot, want.options.get("label_selector", {})) for slot, want in missing.items()), self._evacuation.situation()
        )
        await asyncio.gather(*(self._lifecycle.create(want, at[slot]) for slot, want in missing.items()))

    async def _adopt(self, plan: Plan, known: Iterable[Member]) -> None:
        """Supervise members that Ray knows and the roster does not; kill those whose slot has a newer member."""
        leaving = {state.member for state in self._roster.leaving}
        for member in known:
            if member == LEADER or member in self._roster.ending or member in leaving:
                continue
            if member.role is Role.EMBEDDED and plan.following is not None:
                continue  # it belongs to the active fleet
            if self._roster.generation_of(member.slot) < member.generation:
                self._lifecycle.adopt(member)
            elif (state := self._roster.members.get(plan.slot(member))) is not None and state.member != member:
                await self._substrate.kill(member)

    def _retire(self, wanted: Mapping[Slot, Wanted]) -> None:
        """End members that are not wanted, or wanted with other options."""
        self._roster.wanted(wanted)
        for slot, state in list(self._roster.members.items()):
            want = wanted.get(slot)
            if want is None or (state.fingerprint and state.fingerprint != want.fingerprint):
                self._lifecycle.retire(state, CHANGED if want is not None else "")
            else:
                self._roster.matched(state, want.fingerprint)

    def _due(self, plan: Plan, want: Wanted) -> bool:
        """Whether to create a missing member now. A primary: unless one of its standbys may still be promoted. A standby: when its
        primary is ready, and a moment after a promotion."""
        if want.role is Role.SHARD:
            return not self._promotion.expected(want.place)
        if want.role is not Role.STANDBY or plan.following is not None:
            return True
        primary = self._roster.primary_of(want.slot.shard)
        return primary is not None and primary.report.ready and self._promotion.rested(want.slot.shard)
