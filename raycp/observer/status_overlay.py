"""The leader's status with newer reports of the members laid over it: pure.

The leader receives a report when its state changes, else every few seconds; the observer receives each member's every second. So
numbers always come from the members. What is ready is the leader's word, which it sends at once when it changes; only while the
leader is silent do the members' own reports, or their silence, replace it.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from raycp.base.problems import FleetProblem, ProblemCode
from raycp.protocol.members import LEADER, OBSERVER_SLOT, Role, Slot
from raycp.protocol.status import (
    ACCUSED,
    REPORTED,
    FleetClusterStatus,
    FleetStatus,
    LaneStatus,
    MemberStatus,
    ShardStandbyStatus,
    ShardStatus,
    SuspectStatus,
)
from raycp.protocol.status_builder import KnownMember, all_problems, cluster_fields, lanes_of, member_fields, suspects_of

Reports = Mapping[str, KnownMember]
"""By the actor's name."""

RowT = TypeVar("RowT", bound=MemberStatus)

_NUMBERS = ("objects", "lag_seconds")


def overlaid(status: FleetStatus, reports: Reports, *, leader_is_silent: bool) -> FleetStatus:
    """``status`` as ``reports`` amend it; ``ready`` and ``reasons`` stay as they are."""
    standby_fleet = status.following is not msgspec.UNSET
    shown = _Rows(status.plan, reports, leader_is_silent)
    observer = status.observer and shown.row(status.observer, OBSERVER_SLOT)
    return msgspec.structs.replace(
        status,
        shards=[shown.shard(row, standby_fleet) for row in status.shards],
        standbys=[shown.standby(row) for row in status.standbys],
        workers=[shown.row(row, Slot(Role.WORKER, row.worker), "slots", "busy") for row in status.workers],
        observer=observer,
        clusters=_clusters(status, reports, leader_is_silent),
        problems=_problems(status, reports, standby_fleet) if leader_is_silent else status.problems,
        suspects=_suspects(status, reports) if leader_is_silent else status.suspects,
        lanes=_lanes(status, reports),
    )


class _Rows:
    def __init__(self, version: int, reports: Reports, leader_is_silent: bool) -> None:
        self._version = version
        self._reports = reports
        self._silent = leader_is_silent

    def row(self, row: RowT, slot: Slot, *numbers: str) -> RowT:
        """A row with the member's own ``numbers``, and its own state while the leader is silent."""
        known = self._reports.get(row.member)
        if known is None:
            return row
        fields: dict[str, Any] = {name: getattr(known.report, name) for name in numbers}
        if self._silent:
            fields |= member_fields(slot, known, self._version)
        return msgspec.structs.replace(row, **fields)

    def shard(self, row: ShardStatus, standby_fleet: bool) -> ShardStatus:
        """See ``row``; the shards of a standby fleet are its standbys."""
        slot = Slot.of_standby(row.shard, 0) if standby_fleet else Slot.of_shard(row.shard)
        return self.row(row, slot, "cached_bytes")

    def standby(self, row: ShardStandbyStatus) -> ShardStandbyStatus:
        """See ``row``."""
        found = self.row(row, Slot(Role.STANDBY, row.standby), "cached_bytes")
        known = self._reports.get(row.member)
        return found if known is None else msgspec.structs.replace(found, lag_seconds=round(known.report.lag, 3))


def _clusters(status: FleetStatus, reports: Reports, leader_is_silent: bool) -> list[FleetClusterStatus]:
    watchers = [known for row in status.shards if (known := reports.get(row.member)) is not None]
    found = {row.name: cluster_fields(row) for known in watchers for row in known.report.clusters}
    if not leader_is_silent:
        found = {name: {key: fields[key] for key in _NUMBERS} for name, fields in found.items()}
    return [msgspec.structs.replace(row, **found.get(row.name, {})) for row in status.clusters]


def _problems(status: FleetStatus, reports: Reports, standby_fleet: bool) -> list[FleetProblem]:
    """The leader's own as it last sent them, and what the members report now."""
    members = REPORTED | ACCUSED | {ProblemCode.CONTROLLER_FAILED}
    own = [problem for problem in status.found if problem.code not in members or problem.owner.member == LEADER.role]
    slots: list[tuple[Slot, MemberStatus]] = [
        *((Slot.of_standby(row.shard, 0) if standby_fleet else Slot.of_shard(row.shard), row) for row in status.shards),
        *((Slot(Role.STANDBY, row.standby), row) for row in status.standbys),
        *((Slot(Role.WORKER, row.worker), row) for row in status.workers),
        *([(OBSERVER_SLOT, status.observer)] if status.observer is not msgspec.UNSET else []),
    ]
    return all_problems(own, {slot: known for slot, row in slots if (known := reports.get(row.member)) is not None})


def _suspects(status: FleetStatus, reports: Reports) -> list[SuspectStatus]:
    """As the shards report them now, where all have."""
    watchers = [reports.get(row.member) for row in status.shards]
    return status.suspects if None in watchers else suspects_of(known.report for known in watchers if known is not None)


def _lanes(status: FleetStatus, reports: Reports) -> list[LaneStatus]:
    """Summed anew where all shards have reported, since a sum of some would be too low."""
    watchers = [reports.get(row.member) for row in status.shards]
    if None in watchers:
        return status.lanes
    return lanes_of((known.report for known in watchers if known is not None), {row.tier: row.share for row in status.lanes})
