"""The fleet's status at the observer: what the leader sent last, with newer reports of the members, and since when the leader has
been silent."""

from collections.abc import Mapping

import msgspec

from raycp.base.clock import Clock
from raycp.base.problems import FleetProblem, ProblemCode, ProblemOwner
from raycp.observer.sources import MemberReport
from raycp.observer.status_overlay import overlaid
from raycp.protocol.members import LEADER
from raycp.protocol.report import FailureReport
from raycp.protocol.status import FleetStatus, LeaderStatus, with_readiness

SILENT_AFTER = 5.0
"""Seconds without a report after which a member, and without a status after which the leader, counts as silent. Both send every
second."""


class StatusFeed:
    """One per observer. ``reports`` are the members' newest, by the actor's name."""

    def __init__(self, clock: Clock, reports: Mapping[str, MemberReport]) -> None:
        self._clock = clock
        self._reports = reports
        self._last: FleetStatus | None = None
        self._received = 0.0

    def receive(self, status: FleetStatus) -> None:
        """The leader has sent its status. One of an earlier leader, or about an earlier plan, is dropped."""
        if self._last is None or _order(status) >= _order(self._last):
            self._last, self._received = status, self._clock.now()

    def current(self) -> FleetStatus:
        """The status now. Without a fleet, and with the reason, before the leader has sent any."""
        status = self._last
        if status is None:
            return FleetStatus(reasons=["the leader has not sent its status to the observer yet"])
        silence = self._clock.now() - self._received
        if silence <= SILENT_AFTER:
            return overlaid(status, self._reports, leader_is_silent=False)
        shown = overlaid(status, {name: self._with_silence(known) for name, known in self._reports.items()}, leader_is_silent=True)
        since = self._clock.wall() - silence
        leader = msgspec.structs.replace(status.leader or LeaderStatus(), silent_since=since)
        silent = FleetProblem(ProblemCode.LEADER_SILENT, ProblemOwner(member=LEADER.role), "it sends the observer no status", since)
        return with_readiness(msgspec.structs.replace(shown, leader=leader, problems=[silent, *shown.found]))

    def silent(self) -> list[MemberReport]:
        """Members of the fleet that have stopped reporting to the observer."""
        members = {row.member for row in self._last.member_rows()} if self._last is not None else set()
        return [known for name, known in self._reports.items() if name in members and self._silence(known) > SILENT_AFTER]

    def failures(self) -> tuple[list[FailureReport], int]:
        """What the primaries report as failing, and how many objects fail, also beyond these."""
        shards = {row.member for row in self._last.shards} if self._last is not None else set()
        reports = [known.report for name, known in self._reports.items() if name in shards]
        return [row for report in reports for row in report.failures], sum(report.failing for report in reports)

    def complete(self) -> bool:
        """Whether all shards and workers run and have reported to this observer."""
        status = self._last
        return status is not None and all(row.member in self._reports for row in [*status.shards, *status.workers])

    def pools(self) -> dict[str, int]:
        """How many workers each tier should have."""
        return {pool.tier: pool.workers for pool in self._last.pools} if self._last is not None else {}

    def _silence(self, known: MemberReport) -> float:
        return self._clock.now() - known.at

    def _with_silence(self, known: MemberReport) -> MemberReport:
        silence = self._silence(known)
        return known if silence <= SILENT_AFTER else msgspec.structs.replace(known, problem=f"silent for {silence:.0f} s")


def _order(status: FleetStatus) -> tuple[int, int, int]:
    leader = status.leader or LeaderStatus()
    return leader.epoch, leader.incarnation, status.plan
