"""``readiness``, case by case."""

import msgspec
import pytest
from inprocess import fleet_doc, fleet_of, plan_of

from raycp.base.problems import FLEET, FleetProblem, ProblemCode, ProblemOwner
from raycp.protocol.control import StatusOf
from raycp.protocol.control.codec import decode_answer, encode_answer
from raycp.protocol.members import QUARANTINE, Slot
from raycp.protocol.report import Report, SuspectReport
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
from raycp.protocol.status_builder import fleet_status, suspect_problems


def whole() -> FleetStatus:
    """A fleet of two shards and two workers, ready; shard 0 has the hub."""
    return FleetStatus(
        fleet="t",
        leader=LeaderStatus(epoch=1, incarnation=1, since=0.0),
        shards=[ShardStatus(shard="0", ready=True), ShardStatus(shard="1", ready=True)],
        standbys=[ShardStandbyStatus(standby="0/0", shard="0", ready=True)],
        workers=[WorkerStatus(worker=f"standard/{number}", tier="standard", ready=True) for number in (0, 1)],
        observer=ObserverStatus(ready=True),
        clusters=[
            FleetClusterStatus(name="hub", role="hub", shard="0", synced=True, embedded=MemberStatus(ready=True)),
            FleetClusterStatus(name="east", role="member", shard="1", synced=True),
        ],
    )


READY, DEGRADED, NOT_READY = ReadinessState.READY, ReadinessState.DEGRADED, ReadinessState.NOT_READY


def problem(code: ProblemCode, message: str, owner: ProblemOwner = FLEET) -> FleetProblem:
    return FleetProblem(code, owner, message, 1.0)


def test_a_whole_fleet_is_ready() -> None:
    found = readiness(whole())
    assert (found.state, found.ready, found.reasons) == (READY, True, ())
    assert [check.name for check in found.checks] == ["leader", "cluster-hub", "cluster-east", "hub", "workers"]
    assert all(check.ok for check in found.checks)
    assert with_readiness(whole()).unsettled == []


def test_before_the_first_apply() -> None:
    assert readiness(FleetStatus()).reasons == ("no fleet has been applied yet",)


def test_a_fleet_whose_hub_does_not_answer_a_new_leader() -> None:
    status = with_readiness(FleetStatus(reasons=["the hub of fleet t is at h:1 and does not answer"]))
    assert (status.readiness, status.reasons) == (NOT_READY, ["the hub of fleet t is at h:1 and does not answer"])


@pytest.mark.parametrize(
    ("rows", "down", "state"),
    [
        ("workers", [0], DEGRADED),
        ("workers", [0, 1], NOT_READY),
        ("shards", [1], DEGRADED),
        ("shards", [0], NOT_READY),
        ("observer", [], DEGRADED),
        ("standbys", [0], READY),
    ],
    ids=["a worker", "all workers", "the shard of a member cluster", "the shard of the hub", "the observer", "a standby"],
)
def test_members_that_are_not_at_work(rows: str, down: list[int], state: ReadinessState) -> None:
    status = whole()
    found = getattr(status, rows)
    for row in [found[number] for number in down] or [found]:
        row.ready, row.reasons = False, ["it starts"]
    verdict = readiness(status)
    assert (verdict.state, set(verdict.reasons)) == (state, set() if state is READY else {"it starts"})
    assert (verdict.state is NOT_READY) == any(not check.ok for check in verdict.checks if check.required)
    assert (verdict.state is READY) == all(check.ok for check in verdict.checks)
    assert bool(with_readiness(status).unsettled) == (rows != "standbys"), "bring-up waits for all but standbys"


def test_a_fleet_without_workers_is_not_ready() -> None:
    status = whole()
    status.workers = []
    assert readiness(status).reasons == ("the fleet has no worker",)


def test_a_member_that_only_is_behind_the_newest_plan_is_at_work_and_not_settled() -> None:
    status = whole()
    for row in status.workers:
        row.behind, row.reasons = True, ["it has not taken over the newest plan yet"]
    assert readiness(status).state is READY
    assert with_readiness(status).unsettled == ["it has not taken over the newest plan yet"] * 2


def test_a_leader_that_is_not_recorded_yet() -> None:
    status = whole()
    status.leader = LeaderStatus(epoch=1)
    status.problems = [problem(ProblemCode.LEADERSHIP, "connection refused")]
    assert readiness(status).state is NOT_READY
    assert readiness(status).reasons == ('the leader is not recorded in cluster "hub" yet: connection refused',)


def test_a_leader_that_waits_for_the_lock() -> None:
    status = whole()
    status.leader = LeaderStatus(waiting="it is held by first-1", held_by="first-1", held_since=0.0)
    assert readiness(status).reasons == ("waiting for the lock: it is held by first-1 (leads since 1970-01-01 00:00:00 UTC)",)


def test_a_leader_that_was_replaced_is_not_ready() -> None:
    status = whole()
    status.problems = [problem(ProblemCode.SUPERSEDED, "b leads in epoch 2")]
    assert (readiness(status).state, readiness(status).reasons) == (NOT_READY, ("b leads in epoch 2",))


def test_a_silent_leader_degrades() -> None:
    status = whole()
    status.leader = LeaderStatus(epoch=1, since=0.0, silent_since=1_700_000_000.0)
    found = readiness(status)
    assert found.state is DEGRADED
    assert [(check.name, check.required) for check in found.checks if not check.ok] == [("leader-reports", False)]


@pytest.mark.parametrize(
    ("owner", "code"),
    [
        (ProblemOwner(cluster="east"), ProblemCode.CLUSTER_UNREACHABLE),
        (ProblemOwner(cluster="east", kind="v1/ConfigMap"), ProblemCode.KIND_FAILED),
        (ProblemOwner(controller="echo"), ProblemCode.CONTROLLER_FAILED),
        (ProblemOwner(member="shard 0", loop="reflector", cluster="east"), ProblemCode.LOOP_FAILED),
        (FLEET, ProblemCode.PROOF),
    ],
    ids=lambda each: str(each),
)
def test_a_problem_degrades_and_names_its_owner(owner: ProblemOwner, code: ProblemCode) -> None:
    status = whole()
    status.problems = [problem(code, "why", owner)]
    found = readiness(status)
    assert (found.state, found.ready) == (DEGRADED, True)
    (reason,) = found.reasons
    assert reason.endswith("why")
    assert str(owner) in reason


def test_a_note_is_no_reason() -> None:
    status = whole()
    status.problems = [problem(code, "so") for code in (ProblemCode.CLOCK, ProblemCode.PLACEMENT, ProblemCode.DRAIN)]
    assert readiness(status).state is READY


def test_objects_that_end_workers_are_problems_of_theirs_and_no_reason() -> None:
    def suspect(name: str, since: float, *, convicted: bool = False) -> SuspectReport:
        return SuspectReport(name, "c", convicted, 3, "it ended its worker", since)

    report = Report(1, "n", suspects=[suspect("a", 5.0, convicted=True), suspect("b", 7.0), suspect("c", 6.0)], suspected=9)
    found = suspect_problems(Slot.of_shard("1"), report)
    assert [(each.code, each.owner, each.since) for each in found] == [
        (ProblemCode.OBJECT_CONVICTED, ProblemOwner(controller="c", object="a"), 5.0),
        (ProblemCode.OBJECTS_SUSPECTED, ProblemOwner(member="shard 1"), 6.0),
    ]
    assert found[1].message.startswith("8 objects")
    status = whole()
    status.problems = found
    assert readiness(status).state is READY
    assert suspect_problems(Slot.of_shard("1"), Report(1, "n")) == []


def test_a_quarantine_worker_is_no_reason_and_no_worker_of_a_pool() -> None:
    status = whole()
    quarantine = WorkerStatus(worker="quarantine/0", tier=QUARANTINE, reasons=["worker quarantine/0 is not there yet"])
    status.workers.append(quarantine)
    shown = with_readiness(status)
    assert (shown.readiness, shown.unsettled) == (READY, [])
    status.workers = [WorkerStatus(worker="quarantine/0", tier=QUARANTINE, ready=True)]
    assert readiness(status).state is NOT_READY


def test_a_controller_that_can_not_be_loaded_keeps_bring_up_waiting() -> None:
    status = whole()
    status.problems = [problem(ProblemCode.CONTROLLER_FAILED, "no such module", ProblemOwner(controller="echo"))]
    shown = with_readiness(status)
    assert (shown.readiness, shown.ready) == (DEGRADED, True)
    assert "no such module" in shown.unsettled[0]


def test_a_cluster_that_is_not_synced_degrades_once() -> None:
    status = whole()
    status.clusters[1].synced, status.clusters[1].reason = False, "connection refused"
    assert readiness(status).reasons == ("cluster east: connection refused",)
    status.problems = [problem(ProblemCode.CLUSTER_UNREACHABLE, "connection refused", ProblemOwner(cluster="east"))]
    assert readiness(status).reasons == ("ClusterUnreachable (cluster east): connection refused",)
    east = next(check for check in readiness(status).checks if check.name == "cluster-east")
    assert (east.ok, east.required) == (False, False)


def test_a_standby_fleet_is_warm_when_its_leader_has_no_problem_at_all() -> None:
    status = whole()
    status.following, status.leader = "raycp-t", msgspec.UNSET
    assert with_readiness(status).warm is True
    status.problems = [problem(ProblemCode.ACTIVE_FLEET, "a standby too")]
    assert with_readiness(status).warm is False
    assert readiness(status).reasons == ("ActiveFleet: a standby too",)
    status.problems = [problem(ProblemCode.CLUSTER_UNREACHABLE, "refused", ProblemOwner(cluster="east"))]
    assert (with_readiness(status).warm, with_readiness(status).readiness) == (True, DEGRADED), "that holds no upgrade back"
    status.problems = [problem(ProblemCode.RELEASE, "it runs another", ProblemOwner(member="worker standard/0"))]
    assert (with_readiness(status).warm, with_readiness(status).readiness) == (True, DEGRADED)
    status.problems = []
    status.standbys[0].ready, status.standbys[0].reasons = False, ["standby 0/0 is not there yet"]
    assert readiness(status).reasons == ("standby 0/0 is not there yet",)
    assert with_readiness(status).unsettled == ["standby 0/0 is not there yet"]


def test_the_status_of_a_leader_of_an_earlier_build_is_read() -> None:
    old = {"fleet": "t", "ready": True, "problems": {"clock": "it is off"}}
    found = decode_answer(StatusOf(), encode_answer(old))
    assert (found.readiness, found.found) == (READY, [FleetProblem(ProblemCode.OTHER, FLEET, "clock: it is off", 0.0)])


def test_a_code_of_a_later_release_is_read_as_another_problem() -> None:
    later = {"fleet": "t", "problems": [{"code": "FromTheFuture", "owner": {"cluster": "east"}, "message": "m", "since": 1.0}]}
    (found,) = decode_answer(StatusOf(), encode_answer(later)).found
    assert (found.code, found.owner.cluster, found.message) == (ProblemCode.OTHER, "east", "m")


def test_a_cluster_that_gets_no_new_pods_says_so() -> None:
    homes = {"hub": "0", "east": "0", "west": "0", "south": "0"}
    plan = plan_of(homes, "tracked")
    doc = fleet_doc(homes, ["fleet_samples:tracked"], fields={"east": {"drain": True}, "west": {"unschedulable": True}})
    status = fleet_status(msgspec.structs.replace(plan, fleet=fleet_of(doc)), (), {}, ())
    assert [(row.name, row.closed) for row in status.clusters] == [
        ("hub", ""),
        ("east", "drained"),
        ("west", "unschedulable"),
        ("south", ""),
    ]


def test_a_pause_is_told_and_degrades_nothing() -> None:
    owner = ProblemOwner(cluster="east")
    found = readiness(msgspec.structs.replace(whole(), problems=[problem(ProblemCode.PAUSED, "paused", owner)]))
    assert (found.state, found.reasons) == (READY, ())
    (told,) = [check for check in found.checks if check.name == "paused"]
    assert (told.ok, told.required, told.reason) == (True, False, "cluster east")
    assert "paused" not in [check.name for check in readiness(whole()).checks]
