"""The leader sends the fleet's status to the observer, which serves it: at once when something in it matters, else every second."""

import logging
from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.leader.roster import Roster
from raycp.protocol.control import StatusUpdate
from raycp.protocol.members import OBSERVER_SLOT, Member
from raycp.protocol.status import FleetStatus
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)

SEND_EVERY = 1.0
"""Seconds between two statuses that differ in numbers only. The observer takes the leader for silent after some of these."""


class StatusSender:
    """One per leader; ``send`` is called after each step. One status is under way at a time; ``wake`` asks for another step."""

    def __init__(self, substrate: Substrate, clock: Clock, loops: Loops, roster: Roster, wake: Callable[[], None]) -> None:
        self._substrate = substrate
        self._clock = clock
        self._loops = loops
        self._roster = roster
        self._wake = wake
        self._sent: tuple[Member, bytes] | None = None
        self._sent_at = float("-inf")
        self._sending = False
        self._missed = False

    def send(self, status: FleetStatus) -> None:
        """Send ``status`` where it is due; returns at once."""
        observer = self._roster.members.get(OBSERVER_SLOT)
        if observer is None or not observer.report.port:
            return
        news, now = (observer.member, _essence(status)), self._clock.now()
        if news == self._sent and now - self._sent_at < SEND_EVERY:
            return
        if self._sending:
            self._missed = True
            return
        self._sending, self._sent, self._sent_at = True, news, now
        self._loops.spawn(self._deliver(observer.member, status), "status for the observer")

    async def _deliver(self, observer: Member, status: FleetStatus) -> None:
        try:
            await self._substrate.ask(observer, StatusUpdate(status))
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.info("the status did not reach the observer: %s", error)
            self._sent = None
        finally:
            self._sending = False
            if self._missed:
                self._missed = False
                self._wake()


def _essence(status: FleetStatus) -> bytes:
    """What is worth a message of its own: all but the numbers that members report to the observer themselves."""
    return msgspec.msgpack.encode(
        (
            (status.generation, status.plan, status.reasons, status.problems, status.pools, status.nodes),
            msgspec.structs.replace(status.leader, uptime_seconds=0.0) if status.leader else None,
            [(row.member, row.state, row.ready, row.reasons) for row in status.member_rows()],
            [(row.shard, row.term, row.clusters) for row in status.shards],
            [(row.name, row.reachable, row.synced, row.breaker, row.reason) for row in status.clusters],
            status.switches,
        )
    )
