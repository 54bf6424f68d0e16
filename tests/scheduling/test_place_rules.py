"""Filters, groups, constraints and preferences of ``place``."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.scheduling import Candidate, Demand, Rules, allowed, place
from raycp.scheduling.labels import LabelRequirement, TaintSpec, TolerationSpec
from raycp.scheduling.model import COST_LABEL, AffinityGroup, Preference, SpreadConstraint

FLEET = [
    Candidate("e1", {"region": "east", "zone": "e-a", COST_LABEL: "3", "data/imagenet": ""}, free_pods=4),
    Candidate("e2", {"region": "east", "zone": "e-b", COST_LABEL: "1"}, free_pods=8),
    Candidate("w1", {"region": "west", "zone": "w-a", COST_LABEL: "2"}, free_pods=16),
    Candidate("x1", {}, free_pods=16, taints=(TaintSpec("spot", "true"),)),
]


def put(count: int, fleet: list[Candidate] | None = None, existing: Any = None, **rules: Any) -> Any:
    return place(Demand("job", count, Rules(**rules), existing or {}), FLEET if fleet is None else fleet, 0.0)


def reasons(decision: Any) -> dict[str, str]:
    return {each.cluster: each.reason for each in decision.verdicts}


@pytest.mark.parametrize(
    ("requirement", "fitting"),
    [
        (LabelRequirement("region", "In", ("east", "north")), {"e1", "e2"}),
        (LabelRequirement("region", "NotIn", ("east",)), {"w1", "x1"}),
        (LabelRequirement("data/imagenet", "Exists"), {"e1"}),
        (LabelRequirement("region", "DoesNotExist"), {"x1"}),
    ],
)
def test_expressions_on_labels(requirement: LabelRequirement, fitting: set[str]) -> None:
    decision = put(1, requirements=(requirement,), tolerations=(TolerationSpec("", "Exists"),))
    assert {name for name, reason in reasons(decision).items() if reason != "LabelMismatch"} == fitting


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        (TolerationSpec("spot", "Equal", "true"), True),
        (TolerationSpec("spot", "Exists"), True),
        (TolerationSpec("", "Exists"), True),
        (TolerationSpec("spot", "Exists", effect="NoSchedule"), True),
        (TolerationSpec("spot", "Exists", effect="NoExecute"), False),
        (TolerationSpec("spot", "Equal", "false"), False),
        (TolerationSpec("", "Equal"), False),
    ],
)
def test_taints_of_clusters(toleration: TolerationSpec, covers: bool) -> None:
    assert (reasons(put(40, tolerations=(toleration,)))["x1"] == "Chosen") == covers
    assert allowed(FLEET[3], Rules(tolerations=(toleration,))) == covers


def test_a_soft_taint_makes_a_cluster_the_last_choice() -> None:
    fleet = [Candidate("a", taints=(TaintSpec("old", effect="PreferNoSchedule"),), free_pods=9), Candidate("b", free_pods=9)]
    assert put(9, fleet, strategy="Pack").assigned == {"b": 9}
    assert put(10, fleet, strategy="Pack").assigned == {"b": 9, "a": 1}


def test_the_first_affinity_group_that_takes_all_is_used() -> None:
    groups = (AffinityGroup("east", requirements=(LabelRequirement("region", "In", ("east",)),)), AffinityGroup("west", ("w1",)))
    assert set(put(12, affinities=groups).assigned) == {"e1", "e2"}
    assert put(13, affinities=groups).assigned == {"w1": 13}
    most = put(20, affinities=groups)
    assert (most.assigned, most.unplaced, reasons(most)["e1"]) == ({"w1": 16}, 4, "NotInAffinity")


def test_spread_constraints_keep_the_skew_and_leave_out_what_has_no_domain() -> None:
    decision = put(20, spread=(SpreadConstraint("region", 2),), strategy="Pack")
    by_region = {"east": decision.assigned.get("e1", 0) + decision.assigned.get("e2", 0), "west": decision.assigned["w1"]}
    assert abs(by_region["east"] - by_region["west"]) <= 2
    assert sum(by_region.values()) == 20
    full = put(40, spread=(SpreadConstraint("zone", 1),))
    assert (sum(full.assigned.values()), full.unplaced) == (14, 26)  # e-a is full at 4
    assert reasons(full)["w1"] == "Chosen"
    assert reasons(put(1, spread=(SpreadConstraint("zone"),), tolerations=(TolerationSpec("spot", "Exists"),)))["x1"] == "NoDomain"


def test_price_and_data_as_weights() -> None:
    assert put(1, cost_weight=50, strategy="Pack").assigned == {"e2": 1}
    near = (Preference(60, (LabelRequirement("data/imagenet", "Exists"),)),)
    decision = put(1, cost_weight=50, strategy="Pack", preferences=near)
    assert decision.assigned == {"e1": 1}
    scores = {each.cluster: each.score for each in decision.verdicts}
    assert scores["e1"] > scores["e2"] > scores["w1"] > 0
    assert put(1, preferences=near, strategy="Pack", existing={"w1": 1}).assigned == {"w1": 1}, "what is started is filled first"


def test_a_cluster_that_has_pods_is_preferred_among_equals() -> None:
    fleet = [Candidate(f"c{number}") for number in range(20)]
    for name in ("c3", "c17"):
        decision = put(1, fleet, existing={name: 1}, strategy="Pack")
        assert decision.assigned == {name: 1}


def test_same_cluster_and_same_zone() -> None:
    assert put(10, topology="SameCluster").assigned == {"w1": 10}
    zones = [*FLEET[:3], Candidate("e3", {"zone": "e-b"}, free_pods=10)]
    assert put(18, zones, topology="SameZone").assigned.keys() == {"e2", "e3"}
    tied = put(5, zones, topology="SameZone", existing={"e1": 1})
    assert (tied.assigned, tied.unplaced) == ({"e1": 4}, 1)
    assert put(9, strategy="Single").assigned == {"w1": 9}, "the first that takes all, not the first"


def test_weighted_follows_weight_and_free_room() -> None:
    fleet = [Candidate("a", free_pods=10), Candidate("b", free_pods=30)]
    assert put(20, fleet, strategy="Weighted").assigned == {"a": 5, "b": 15}
    assert put(20, fleet, strategy="Weighted", weights={"a": 3}).assigned == {"a": 10, "b": 10}


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.sampled_from(["r1", "r2", "r3"]), st.integers(0, 20)), min_size=1, max_size=8),
    st.integers(1, 3),
    st.sampled_from(["Spread", "Pack", "Weighted"]),
)
def test_the_skew_holds_and_nothing_is_left_out_needlessly(
    count: int, shape: list[tuple[str, int]], skew: int, strategy: Any
) -> None:
    fleet = [Candidate(f"c{at}", {"region": region}, free_pods=room) for at, (region, room) in enumerate(shape)]
    decision = place(Demand("job", count, Rules(strategy, spread=(SpreadConstraint("region", skew),))), fleet, 0.0)
    regions = {region: 0 for region, _ in shape}
    rooms = {region: sum(room for other, room in shape if other == region) for region, _ in shape}
    for name, pods in decision.assigned.items():
        regions[shape[int(name[1:])][0]] += pods
    assert max(regions.values()) - min(regions.values()) <= skew
    most = sum(min(room, min(rooms.values()) + skew) for room in rooms.values())
    assert sum(regions.values()) == min(count, most)
