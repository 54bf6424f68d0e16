"""Terms of shards: the only place that makes a new one (laws 6b and 6g), and the choice of the standby that gets it."""

import logging
from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.leader.history import History
from raycp.leader.plan_store import PlanStore
from raycp.leader.roster import Roster
from raycp.protocol.members import MemberState
from raycp.protocol.plan import Plan, ShardPlan

log = logging.getLogger(__name__)

STANDBY_AFTER = 1.0
"""Seconds between a promotion and the start of the shard's next standby: until then the processor is the new primary's."""

WARM_WITHIN = 3.0
"""Seconds that a leader after its start waits for the first report of a standby."""


def promote(plan: Plan, shard: str, primary: MemberState, cause: str, drain: float = 0.0, leaderless: float = 0.0) -> Plan:
    """``plan`` with ``primary`` as the primary of ``shard`` in its next term. Pure. ``drain`` and ``leaderless`` in seconds.

    Raises ``KeyError`` for a shard that the plan does not have.
    """
    before = {known.shard: known for known in plan.shards}[shard]
    report = primary.report
    after = ShardPlan(shard, primary.member.actor_name, before.term + 1, report.host, report.port, cause, drain, leaderless)
    shards = tuple(after if known is before else known for known in plan.shards)
    # In the same plan, since each further one costs the new primary time at the switch.
    standbys = tuple(known for known in plan.standbys if known.member != after.member)
    return msgspec.structs.replace(plan, shards=shards, standbys=standbys)


class Promotion:
    """One per leader. ``proven``: whether this leader is sure to lead under a plan."""

    def __init__(self, clock: Clock, plans: PlanStore, roster: Roster, history: History, proven: Callable[[Plan], bool]) -> None:
        self.avoided: frozenset[str] = frozenset()
        """Nodes whose standbys are promoted only where there are no others."""
        self.closed = False
        """The fleet is taken down or handed over: this leader promotes no standby and is no candidate for the lock."""
        self._clock = clock
        self._plans = plans
        self._roster = roster
        self._history = history
        self._proven = proven
        self._promoted_at: dict[str, float] = {}

    def close(self) -> None:
        """Promote no standby from now on."""
        self.closed = True

    def reopen(self) -> None:
        """This leader goes on after all, or has a fleet again."""
        self.closed = False

    def proven(self, plan: Plan) -> bool:
        """Whether this leader is sure to lead."""
        return self._proven(plan)

    def promoted_at(self, shard: str) -> float:
        """When a standby of the shard was promoted last; minus infinity for never."""
        return self._promoted_at.get(shard, float("-inf"))

    def rested(self, shard: str) -> bool:
        """Whether the shard's last promotion is at least ``STANDBY_AFTER`` ago."""
        return self._clock.now() - self.promoted_at(shard) > STANDBY_AFTER

    def standby_of(self, shard: str) -> MemberState | None:
        """The warm standby that would be promoted."""
        return self._roster.standby_of(shard, self.avoided)

    def expected(self, shard: str) -> bool:
        """Whether a shard without a primary has a standby that may still become it: then no cold primary is created."""
        now = self._clock.now()
        return any(state.warm or now - state.since < WARM_WITHIN for state in self._roster.standbys_of(shard))

    def make_primary(
        self, plan: Plan, shard: str, primary: MemberState, cause: str, drain: float = 0.0, leaderless: float = 0.0
    ) -> Plan:
        """See ``promote``; the roster and the history of switches know of it. The caller publishes the plan."""
        after = promote(plan, shard, primary, cause, drain, leaderless)
        self._roster.promoted(primary, shard)
        self._history.promoted(plan, after, shard)
        return after

    async def promote_standby(self, shard: str, cause: str, drain: float = 0.0, since: float | None = None) -> bool:
        """Make the shard's warm standby its primary; False if there is none, or this leader is not sure to lead. ``since``: when
        the last primary was found dead."""
        plan, state = self._plans.plan, self.standby_of(shard)
        if state is None or plan is None or self.closed or not self.proven(plan):
            return False
        now = self._clock.now()
        self._promoted_at[shard] = now
        after = self.make_primary(plan, shard, state, cause, drain, now - since if since is not None else 0.0)
        log.warning("%s is promoted to primary of shard %s (%s)", state.member, shard, cause)
        await self._plans.change(shards=after.shards, standbys=after.standbys)
        return True

    async def promote_missing(self, plan: Plan) -> None:
        """Shards without a primary: when the last one died, there was no warm standby, or no proof of leadership."""
        for shard in plan.shards:
            if shard.term and self._roster.primary_of(shard.shard) is None and self.standby_of(shard.shard) is not None:
                await self.promote_standby(shard.shard, "death")
