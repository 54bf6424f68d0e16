"""The plan of a soak's faults, and its invariants: each finds its violation."""

from typing import Any

import faultplan
import invariants
import latencies
import pytest
from faultplan import Fault, faults
from invariants import Span

from raycp.config.embedded import FaultSpec

CLUSTERS = ("hub", "east", "west")


def drawn(seed: int, turn: int = 0, seconds: float = 600.0) -> tuple[Fault, ...]:
    return faults(seed, turn, seconds, CLUSTERS, shards=2, workers=2, permit=3.0)


def test_the_plan_is_a_function_of_seed_and_round() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert drawn(7) != drawn(7, turn=1)


@pytest.mark.parametrize("seconds", [10.0, 60.0, 600.0])
def test_all_faults_end_within_the_round(seconds: float) -> None:
    for seed in range(20):
        found = drawn(seed, seconds=seconds)
        assert [fault.at for fault in found] == sorted(fault.at for fault in found)
        assert all(fault.at > 0 and fault.at + fault.seconds < seconds for fault in found)


def test_every_kind_of_fault_occurs_and_has_a_target() -> None:
    found = [fault for seed in range(10) for fault in drawn(seed)]
    assert {fault.kind for fault in found} == {*faultplan.PROCESS_KINDS, *faultplan.API_KINDS}
    assert {target for fault in found for target in fault.targets} == {
        "leader", "observer", "shard 0", "shard 1", "standby 0", "standby 1", "worker 0", "worker 1", *CLUSTERS,
    }  # fmt: skip
    for fault in found:
        assert fault.targets
        assert bool(fault.specs) == (fault.kind in faultplan.API_KINDS)
        for spec in fault.specs:
            FaultSpec.model_validate(spec)


def line(what: str, at: float, key: str = "a", pid: int = 1, name: str = "1") -> dict[str, Any]:
    return {"what": what, "at": at, "key": key, "pid": pid, "id": name}


def test_overlapping_reconciles_are_found() -> None:
    assert invariants.overlaps([Span("a", 1, 0.0, 2.0), Span("a", 2, 2.0, 3.0), Span("b", 3, 1.0, 9.0)]) == []
    assert len(invariants.overlaps([Span("a", 1, 0.0, 9.0), Span("a", 2, 1.0, 2.0), Span("a", 3, 8.0, 9.5)])) == 2


def test_a_reconcile_without_an_end_lasts_until_the_last_line_of_its_process() -> None:
    begun = line("begin", 1.0)
    assert invariants.spans([begun], {}) == [Span("a", 1, 1.0, 1.0)]
    alive = [begun, line("begin", 5.0, "b", name="2"), line("end", 6.0, "b", name="2")]
    assert Span("a", 1, 1.0, 6.0) in invariants.spans(alive, {})
    assert Span("a", 1, 1.0, 3.0) in invariants.spans(alive, {1: 3.0})
    assert invariants.spans([begun, line("end", 9.0)], {1: 4.0}) == [Span("a", 1, 1.0, 4.0)]


def write(time: float, term: int, name: str = "a", **more: Any) -> dict[str, Any]:
    row = {"verb": "create", "resource": "pods", "namespace": "n", "name": name, "time": time, "epoch": "1", "shard": "0"}
    return {**row, "term": str(term) if term else "", **more}


def test_a_pod_created_twice_is_found_in_one_cluster_and_in_two() -> None:
    assert invariants.made_twice({"x": [write(1, 1, "a")], "y": [write(1, 1, "b"), write(2, 1, "b", verb="update")]}) == []
    assert "n/a was made 2 times" in invariants.made_twice({"x": [write(1, 1), write(2, 1)]})[0]
    assert "x (term 1" in invariants.made_twice({"x": [write(1, 1)], "y": [write(2, 1)]})[0]


def test_a_late_write_is_found_across_clusters() -> None:
    good = {"x": [write(1, 1), write(3, 2)], "y": [write(2, 1), write(4, 2), write(5, 1, shard="1"), write(6, 0)]}
    assert invariants.late_writes(good) == []
    late = {"x": [write(1, 1), write(3, 2)], "y": [write(4, 1, "b")]}
    assert len(invariants.late_writes(late)) == 1
    assert invariants.late_writes(late, same_object=True) == []
    assert len(invariants.late_writes({"x": [write(1, 1), write(3, 2), write(4, 1)]}, same_object=True)) == 1
    newer = {"x": [write(1, 5), write(2, 1, epoch="2"), write(3, 6)]}
    assert len(invariants.late_writes(newer)) == 1, "an epoch counts for more than a term"


def test_memory_that_grows_is_found_and_a_jump_is_not() -> None:
    minute, mib = 60.0, 2.0**20
    flat = [(turn * minute, (100 + (turn % 3) + (400 if turn == 5 else 0)) * mib) for turn in range(12)]
    leaks = [(turn * minute, (100 + 4 * turn) * mib) for turn in range(12)]
    assert invariants.growing({"shard": flat}, 2 * mib) == []
    assert len(invariants.growing({"shard": flat, "worker": leaks}, 2 * mib)) == 1


def test_users_waits_are_read_from_the_records() -> None:
    def row(resource: str, verb: str, name: str, time: float) -> dict[str, Any]:
        return {"resource": resource, "verb": verb, "name": name, "time": time}

    writes = [
        row("configmaps", "create", "a", 1.0), row("secrets", "create", "a", 1.5), row("configmaps", "create", "b", 2.0),
        row("configmaps", "delete", "a", 3.0), row("secrets", "create", "a", 3.1),
    ]  # fmt: skip
    assert latencies.waits(writes[:3]) == {"a": (1.0, 0.5), "b": (2.0, float("inf"))}
    assert latencies.twice(writes) == [], "its owner was deleted"
    assert latencies.twice([*writes[:3], row("secrets", "create", "a", 2.5)]) == ["a"]
    assert latencies.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
