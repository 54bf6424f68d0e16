"""The plan of hostile answers, and the reckoning of what they did."""

from typing import Any

import hostileplan
import pytest
from faultplan import Fault
from hostileplan import GRACE, deadline, hostilities, named
from recoveries import Change, Played, changes_of, episodes, recoveries, worst
from weights import Weights

from raycp.config.embedded import FaultSpec

CLUSTERS = ("hub", "east", "west", "north")
INF = float("inf")


def drawn(seed: int, seconds: float = 600.0) -> tuple[Fault, ...]:
    return hostilities(seed, seconds, CLUSTERS, "west")


def test_the_plan_is_a_function_of_the_seed() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_every_kind_is_played_and_only_the_plugins_cluster_has_one_that_hangs() -> None:
    found = drawn(1)
    assert {fault.kind for fault in found} == set(hostileplan.KINDS)
    assert {fault.targets[0] for fault in found} == set(CLUSTERS)
    assert {fault.targets for fault in found if fault.kind == "plugin hangs"} == {("west",)}
    for fault in found:
        for spec in fault.specs:
            FaultSpec.model_validate(spec)


@pytest.mark.parametrize("seconds", [90.0, 600.0])
def test_each_fault_is_recovered_from_before_the_next_one_of_its_cluster_and_before_the_end(seconds: float) -> None:
    for seed in range(30):
        for cluster in CLUSTERS:
            busy = 0.0
            for fault in drawn(seed, seconds):
                if fault.targets == (cluster,):
                    assert fault.at > busy
                    busy = fault.at + fault.seconds + deadline(fault) + GRACE
            assert busy < seconds


def test_a_plugin_may_run_out_its_deadline_and_wait_for_its_backoff() -> None:
    def after(seconds: float) -> float:
        return deadline(Fault(0.0, "plugin hangs", ("west",), seconds))

    assert after(5.0) == 30.0 + 1.0
    assert after(30.9) == 30.0 + 1.0, "one run, whose backoff has begun"
    assert after(35.0) == 30.0 + 2.0, "two runs"


def test_status_names_what_concerns_every_request_for_some_seconds() -> None:
    every, some = ({"kind": "badAnswer"},), ({"kind": "badAnswer", "probability": 0.5},)
    assert named(Fault(0.0, "html", ("east",), 5.0, every))
    assert not named(Fault(0.0, "html", ("east",), 5.0, some))
    assert not named(Fault(0.0, "html", ("east",), 2.0, every))


def played(kind: str, cluster: str, begin: float, end: float, allowed: float = 10.0) -> Played:
    return Played(kind, cluster, begin, end, allowed)


def test_faults_of_a_cluster_and_of_the_hub_are_one_episode_until_they_are_recovered_from() -> None:
    faults = [
        played("html", "east", 0.0, 5.0, 17.0), played("nan", "hub", 10.0, 12.0), played("deep", "west", 11.0, 90.0),
        played("list", "east", 40.0, 44.0),
    ]  # fmt: skip
    first, second = episodes(faults, "east", "hub")
    assert (first.kinds, first.begin, first.end, first.due) == (("html", "nan of hub"), 0.0, 12.0, 22.0)
    assert (second.kinds, second.due) == (("list",), 54.0)


def test_a_deadline_that_runs_longer_than_a_later_faults_counts() -> None:
    (only,) = episodes([played("plugin hangs", "east", 0.0, 5.0, 41.0), played("html", "east", 6.0, 8.0, 17.0)], "east", "hub")
    assert (only.end, only.due, only.last) == (8.0, 46.0, "plugin hangs")


def took(*changes: tuple[float, float]) -> float | None:
    faults = [played("html", "east", 0.0, 5.0), played("nan", "east", 60.0, 65.0)]
    return recoveries(faults, [Change("east", made, served) for made, served in changes], ["east"], "hub")[0].took


def test_in_use_again_is_when_the_first_change_after_the_end_is_served() -> None:
    assert took((1.0, 6.0), (5.5, 7.0), (6.0, 6.5)) == 1.5
    assert took((5.5, 12.0), (6.0, 6.5)) == 7.0, "another one waits for longer than users are patient"
    assert took((20.0, 20.5), (40.0, INF)) == INF, "lost"
    assert took((1.0, INF), (56.0, 70.0)) is None, "made before the end, or too close to the next fault"


def test_a_recovery_is_late_after_what_is_allowed() -> None:
    faults = [played("html", "east", 0.0, 5.0, 17.0)]
    late = [
        recoveries(faults, [Change("east", 6.0, served)], ["east"], "hub")[0].late for served in (21.9, 22.1, INF)
    ]  # fmt: skip
    assert late == [False, True, True]
    assert not recoveries(faults, [], ["east"], "hub")[0].late


def test_the_worst_recovery_is_told_by_the_kind_that_allows_the_longest() -> None:
    faults = [played("html", "east", 0.0, 5.0), played("nan", "hub", 6.0, 8.0), played("html", "west", 90.0, 95.0)]
    changes = [Change("east", 9.0, 10.0), Change("west", 96.0, 96.5), Change("west", 9.0, 9.5), Change("hub", 9.0, 9.2)]
    found = worst(recoveries(faults, changes, CLUSTERS[:3], "hub"))
    assert found == {"html": 1.5, "nan": 2.0}


def test_changes_are_read_from_the_records() -> None:
    def row(resource: str, name: str, time: float, term: str = "", verb: str = "patch") -> dict[str, Any]:
        return {"resource": resource, "verb": verb, "name": name, "time": time, "term": term}

    rows = [
        row("configmaps", "a", 1.0), row("configmaps", "b", 1.5), row("secrets", "a", 2.0, "1"), row("configmaps", "a", 3.0),
        row("configmaps", "a", 4.0, verb="delete"), row("secrets", "a", 5.0), row("secrets", "a", 6.0, "1"),
    ]  # fmt: skip
    assert changes_of("east", rows, "configmaps", ("secrets",)) == [
        Change("east", 1.0, 2.0), Change("east", 1.5, INF), Change("east", 3.0, 6.0),
    ]  # fmt: skip


def test_growth_is_told_by_process_after_a_third_of_the_time() -> None:
    weights = Weights()
    for now in range(0, 3601, 60):
        growing = max(0, now - 600) / 3600.0 * 6 * 2**20
        weights.add(float(now), "worker 0", 11, 100 * 2**20 + growing, 50, 30)
        weights.add(float(now), "shard 0", 12, 100 * 2**20 + min(now, 600) * 2**20, 50 + now // 60, 30)
    head, shard, _, worker, sizes = weights.table()
    assert head.startswith("growth per hour from 900 to 3600 s")
    assert shard == "shard 0 (12): 100 to 700.0 MiB, +0.0 MiB/h; 110 descriptors, +60.0/h; 30 threads, +0.0/h"
    assert sizes.split()[:2] == ["MiB:", "100"]
    assert sizes.split()[-1] == "105"
    assert worker == "worker 0 (11): 100 to 105.0 MiB, +6.0 MiB/h; 50 descriptors, +0.0/h; 30 threads, +0.0/h"
