"""``readiness``, case by case."""

import msgspec
import pytest

from raycp.protocol.status import (
    FleetClusterStatus,
    FleetStatus,
    LeaderStatus,
    MemberStatus,
    ObserverStatus,
    ReadinessState,
    ShardStandbyStatus,
    ShardStatus,
    WorkerStatus,
    readiness,
    with_readiness,
)


def whole() -> FleetStatus:
    """A fleet of one shard, ready."""
    return FleetStatus(
        fleet="t",
        leader=LeaderStatus(epoch=1, incarnation=1, since=0.0),
        shards=[ShardStatus(shard="0", ready=True)],
        standbys=[ShardStandbyStatus(standby="0/0", shard="0", ready=True)],
        workers=[WorkerStatus(worker="standard/0", tier="standard", ready=True)],
        observer=ObserverStatus(ready=True),
        clusters=[
            FleetClusterStatus(name="hub", role="hub", shard="0", synced=True, embedded=MemberStatus(ready=True)),
            FleetClusterStatus(name="east", role="member", shard="0", synced=True),
        ],
    )


def test_a_whole_fleet_is_ready() -> None:
    found = readiness(whole())
    assert (found.state, found.ready, found.reasons) == (ReadinessState.READY, True, ())
    assert [check.name for check in found.checks] == [
        "leader", "cluster-hub", "cluster-east", "embedded", "observer", "shards", "workers",
    ]  # fmt: skip
    assert all(check.ok for check in found.checks)


def test_before_the_first_apply() -> None:
    assert readiness(FleetStatus()).reasons == ("no fleet has been applied yet",)


@pytest.mark.parametrize("rows", ["shards", "workers"])
def test_a_member_that_is_not_at_work_holds_readiness_back(rows: str) -> None:
    status = whole()
    row = getattr(status, rows)[0]
    row.ready, row.reasons = False, ["it starts"]
    assert readiness(status).reasons == ("it starts",)


def test_a_fleet_works_without_its_standbys() -> None:
    status = whole()
    status.standbys[0].ready, status.standbys[0].reasons = False, ["standby 0/0 is not there yet"]
    assert readiness(status).ready


def test_a_leader_that_is_not_recorded_yet() -> None:
    status = whole()
    status.leader = LeaderStatus(epoch=1)
    status.problems = {"leadership": "connection refused"}
    assert readiness(status).reasons == ('the leader is not recorded in cluster "hub" yet: connection refused',)


def test_a_leader_that_waits_for_the_lock() -> None:
    status = whole()
    status.leader = LeaderStatus(waiting="it is held by first-1", held_by="first-1", held_since=0.0)
    assert readiness(status).reasons == ("waiting for the lock: it is held by first-1 (leads since 1970-01-01 00:00:00 UTC)",)


def test_a_silent_leader_is_shown_and_holds_nothing_back() -> None:
    status = whole()
    status.leader = LeaderStatus(epoch=1, since=0.0, silent_since=1_700_000_000.0)
    found = readiness(status)
    assert found.ready
    assert [(check.name, check.required) for check in found.checks if not check.ok] == [("leader-reports", False)]


@pytest.mark.parametrize("excused", [True, False])
def test_a_cluster_that_is_down_counts_while_its_shard_is_held_back(excused: bool) -> None:
    status = whole()
    status.clusters[1].synced, status.clusters[1].reason = False, "connection refused"
    if not excused:
        status.shards[0].ready, status.shards[0].reasons = False, ["shard 0: cluster east: connection refused"]
    found = readiness(status)
    east = next(check for check in found.checks if check.name == "cluster-east")
    assert (found.ready, east.ok, east.required) == (excused, False, not excused)
    assert found.ready == all(check.ok for check in found.checks if check.required)


def test_a_standby_fleet_is_warm_when_it_has_no_problem_at_all() -> None:
    status = whole()
    status.following, status.leader = "raycp-t", msgspec.UNSET
    assert with_readiness(status).warm is True
    status.problems = {"CRDs": "not installed"}
    assert with_readiness(status).warm is False
    assert readiness(status).reasons == ("CRDs: not installed",)
    status.problems = {}
    status.standbys[0].ready, status.standbys[0].reasons = False, ["standby 0/0 is not there yet"]
    assert readiness(status).reasons == ("standby 0/0 is not there yet",)
