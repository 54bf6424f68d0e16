"""The leader sends the fleet's status to the observer, which serves it: at once when something in it matters, else every second."""

import logging

import msgspec

from raycp.leader.roster import Roster
from raycp.protocol.members import Member
from raycp.protocol.status import FleetStatus
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable

log = logging.getLogger(__name__)

SEND_EVERY = 1.0
"""Seconds between two statuses that differ in numbers only. The observer takes the leader for silent after some of these."""


class StatusSender:
    """One per leader; ``send`` is called after each step. One status is under way at a time."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._sent: tuple[Member, bytes] | None = None
        self._sent_at = float("-inf")
        self._sending = False
        self._missed = False

    def send(self, status: FleetStatus) -> None:
        """Send ``status`` where it is due; returns at once."""
        observer = self._roster.members.get(("observer", "observer"))
        if observer is None or not observer.report.port:
            return
        news, now = (observer.member, _essence(status)), self._roster.clock.now()
        if news == self._sent and now - self._sent_at < SEND_EVERY:
            return
        if self._sending:
            self._missed = True
            return
        self._sending, self._sent, self._sent_at = True, news, now
        self._roster.loops.spawn(self._deliver(observer.member, msgspec.msgpack.encode(status)), "status for the observer")

    async def _deliver(self, observer: Member, payload: bytes) -> None:
        try:
            await self._roster.substrate.call(observer, "status", payload)
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.info("the status did not reach the observer: %s", error)
            self._sent = None
        finally:
            self._sending = False
            if self._missed:
                self._missed = False
                self._roster.wake.set()


def _essence(status: FleetStatus) -> bytes:
    """What is worth a message of its own: all but the numbers that members report to the observer themselves."""
    rows = [*status.shards, *status.standbys, *status.workers, *([status.observer] if status.observer else [])]
    return msgspec.msgpack.encode(
        (
            (status.generation, status.plan, status.reasons, status.problems, status.pools, status.nodes),
            msgspec.structs.replace(status.leader, uptime_seconds=0.0) if status.leader else None,
            [(row.member, row.state, row.ready, row.reasons) for row in rows],
            [(row.shard, row.term, row.clusters) for row in status.shards],
            [(row.name, row.reachable, row.synced, row.breaker, row.reason) for row in status.clusters],
            status.switches,
        )
    )
