"""The leader's hand-over of a shard from its primary to its warm standby, and the history of all switches.

Expected flow: the primary stops handing out, gives what runs ``grace``, revokes the rest and answers when all is acknowledged and
told to the standby; the standby confirms to have heard it; the standby is named primary; the old primary is ended.

Guarantees: until the standby is named, every failure (either side dies, a time limit passes) leaves the old primary in charge: it
is told to go on, and goes on by itself after its time limit if nobody can tell it. After that the plan is made, and the old one is
history for every worker that knows it.
"""

import logging
from typing import Protocol

from raycp.base.clock import Clock
from raycp.protocol.control import FollowTo, HandoverResult, Release, Resume
from raycp.protocol.members import Member, MemberState
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)

STEP = 3.0
"""Time limit of each step, in seconds; a drain has its grace on top."""


class Fleetlike(Protocol):
    """The leader, as a hand-over needs it."""

    def standby_of(self, shard: str) -> MemberState | None: ...

    def primary_of(self, shard: str) -> MemberState | None: ...

    async def succeed(self, shard: str, cause: str, drain: float) -> bool: ...

    def release(self, member: Member) -> None: ...


async def hand_over(
    leader: Fleetlike, substrate: Substrate, clock: Clock, shard: str, grace: float, cause: str = "handover"
) -> HandoverResult:
    """See the module. Raises nothing: what went wrong is in the answer."""
    handed, begun = HandoverResult(shard), clock.now()
    primary, standby = leader.primary_of(shard), leader.standby_of(shard)
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
        if leader.primary_of(shard) is not primary or leader.standby_of(shard) is not standby:
            handed.problem = "primary or standby changed meanwhile"
        elif not await leader.succeed(shard, cause, handed.drain):
            handed.problem = "the leader is not sure to lead"
    except (MemberDied, MemberUnavailable, MemberFailed) as error:
        handed.problem = str(error)
    if handed.problem:
        log.warning("shard %s was not handed over: %s", shard, handed.problem)
        try:
            await substrate.ask(primary.member, Resume(), timeout=STEP)
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.warning("%s could not be told to go on: %s", primary.member, error)
        return handed
    handed.took = clock.now() - begun
    leader.release(primary.member)
    return handed
