"""What a dead actor recorded last, fetched from its node's recordings through a living member there, and kept with its switch."""

import asyncio
import logging

from raycp.base.clock import Clock
from raycp.leader.roster import Roster
from raycp.protocol.control import RecordingTail
from raycp.protocol.members import Member, Role
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)

LINES = 20
"""Of a tail."""

AFTER = 1.5
"""Seconds after a death before its tail is asked for: until then the processor is its successor's."""

WITHIN = 5.0
"""Deadline of the members' answers, in seconds."""

_ORDER = (Role.OBSERVER, Role.WORKER, Role.EMBEDDED, Role.STANDBY, Role.SHARD)
"""Of a node's members that one is asked first which has the least to do with user's changes."""


class Tails:
    """One per leader."""

    def __init__(self, substrate: Substrate, clock: Clock, roster: Roster) -> None:
        self._substrate = substrate
        self._clock = clock
        self._roster = roster

    async def of(self, actor: str) -> list[str]:
        """The last lines of a dead process of ``actor``; none where no member lives on its node, or it recorded nothing."""
        await self._clock.sleep(AFTER)
        found = await asyncio.gather(*(self._ask(member, actor) for member in self._one_per_node()))
        return max(found, key=len, default=[])

    def _one_per_node(self) -> list[Member]:
        chosen: dict[str, Member] = {}
        for state in sorted(self._roster.all, key=lambda state: _ORDER.index(state.member.role)):
            if state.report.pid:
                chosen.setdefault(state.node, state.member)
        return list(chosen.values())

    async def _ask(self, member: Member, actor: str) -> list[str]:
        try:
            return await self._substrate.ask(member, RecordingTail(actor, LINES), timeout=WITHIN)
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.info("%s has no recordings to show: %s", member, error)
            return []
