"""The end of all members: workers first, then who hands them work, then the observer, embedded clusters last."""

import asyncio

from raycp.leader.hub import HubKeeper
from raycp.leader.roster import Roster
from raycp.protocol.members import LEADER, Role

DRAIN = 5.0
"""How long a member that is no worker may take to drain, in seconds."""


async def end_members(roster: Roster, hub: HubKeeper, *, embedded: bool) -> None:
    """Drain and end all. ``embedded``: the whole fleet ends, so embedded clusters too, and the hub is told."""
    states = [*roster.members.values(), *roster.leaving]
    roster.members.clear()
    roster.leaving.clear()
    for state in states:
        roster.unsupervise(state)
    timeout = roster.drain_limit
    for roles in ((Role.WORKER,), (Role.SHARD, Role.STANDBY), (Role.OBSERVER,), (Role.EMBEDDED,) if embedded else ()):
        group = [state.member for state in states if state.member.role in roles]
        await asyncio.gather(*(roster.end(member, timeout if roles == (Role.WORKER,) else DRAIN) for member in group))
        if roles == (Role.OBSERVER,) and roster.plan is not None and embedded:
            await hub.release(roster.plan)
    for member in await roster.substrate.members():
        if member != LEADER and (embedded or member.role is not Role.EMBEDDED):
            await roster.substrate.kill(member)
