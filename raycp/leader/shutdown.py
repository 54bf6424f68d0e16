"""The end of all members: workers first, then shards and standbys, then the observer, embedded clusters last."""

import asyncio
from collections.abc import Awaitable, Callable

from raycp.leader.lifecycle import Lifecycle
from raycp.leader.roster import Roster
from raycp.protocol.members import LEADER, Role
from raycp.protocol.substrate import Substrate

DRAIN = 5.0
"""How long a member other than a worker may take to drain, in seconds."""


class Shutdown:
    """One per leader. ``release`` gives up the lock when no member writes any more."""

    def __init__(
        self,
        substrate: Substrate,
        roster: Roster,
        lifecycle: Lifecycle,
        release: Callable[[], Awaitable[bool]],
    ) -> None:
        self._substrate = substrate
        self._roster = roster
        self._lifecycle = lifecycle
        self._release = release

    async def end_members(self, *, whole_fleet: bool) -> None:
        """Drain and kill all members. ``whole_fleet``: embedded clusters too, and the lock is released."""
        states = self._roster.cleared()
        for state in states:
            self._lifecycle.unsupervise(state.member)
        # What has not reported yet has nothing to drain; one that is being started would not answer in time. A cluster may have
        # written its kubeconfig by now.
        unheard = [state.member for state in states if not state.report.pid and state.member.role is not Role.EMBEDDED]
        await asyncio.gather(*map(self._substrate.kill, unheard))
        members = [state.member for state in states if state.member not in unheard]
        timeout = self._lifecycle.drain_limit
        for roles in ((Role.WORKER,), (Role.SHARD, Role.STANDBY), (Role.OBSERVER,), (Role.EMBEDDED,) if whole_fleet else ()):
            limit = timeout if roles == (Role.WORKER,) else DRAIN
            await asyncio.gather(*(self._lifecycle.end(member, limit) for member in members if member.role in roles))
            if roles == (Role.OBSERVER,) and whole_fleet:
                await self._release()
        for member in await self._substrate.members():
            if member != LEADER and (whole_fleet or member.role is not Role.EMBEDDED):
                await self._substrate.kill(member)
