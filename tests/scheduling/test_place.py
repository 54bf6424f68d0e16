"""The rules of placement, and that it is a function of its arguments alone."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.scheduling import Candidate, Demand, Rules, allowed, place

NOW = 1_700_000_000.0
FLEET = [Candidate(f"c{n}", {"region": "east" if n % 2 else "west"}) for n in range(6)]


def put(count: int, fleet: list[Candidate] | None = None, existing: Any = None, **rules: Any) -> Any:
    return place(Demand("job", count, Rules(**rules), existing or {}), FLEET if fleet is None else fleet, NOW)


def test_spread_is_even_and_follows_weights() -> None:
    assert sorted(put(12).assigned.values()) == [2] * 6
    fleet = [Candidate("a"), Candidate("b")]
    assert put(8, fleet, weights={"a": 3}).assigned == {"a": 6, "b": 2}
    assert put(4, fleet, existing={"a": 4}).assigned == {"b": 4}


def test_pack_fills_one_before_the_next() -> None:
    assert put(5, clusters=("c3", "c1"), strategy="Pack", max_per_cluster=3).assigned == {"c3": 3, "c1": 2}
    assert put(2, strategy="Pack", existing={"c4": 1}).assigned == {"c4": 2}


def test_single_prefers_the_cluster_in_use() -> None:
    (first,) = put(4, strategy="Single").assigned
    other = next(candidate.name for candidate in FLEET if candidate.name != first)
    assert put(4, strategy="Single", existing={other: 1}).assigned == {other: 4}
    unreachable = [Candidate(c.name, c.labels, c.name != other) for c in FLEET]
    decision = put(4, unreachable, strategy="Single", existing={other: 1})
    assert decision.assigned == {}
    assert decision.unplaced == 4


def test_each_cluster_gets_a_verdict_with_a_reason() -> None:
    fleet = [Candidate("a", {"region": "east"}), Candidate("b"), Candidate("c", {"region": "east"}, False, "timeout")]
    decision = put(1, [*fleet, Candidate("d", {"region": "east"}, free_pods=0)], selector={"region": "east"})
    assert {v.cluster: v.reason for v in decision.verdicts} == {
        "a": "Chosen",
        "b": "LabelMismatch",
        "c": "Unreachable",
        "d": "Full",
    }
    none = put(2, fleet, clusters=("zzz",))
    assert none.reason == "no place for 2: not among the named clusters (a, b, c)"
    assert put(2, []).reason == "the fleet has no member clusters"


def test_a_cluster_that_refuses_the_job_gets_none_of_it_and_says_why() -> None:
    fleet = [Candidate("a", refusal="exceeded quota"), Candidate("b", reachable=False), Candidate("c", {"region": "east"})]
    decision = place(Demand("uid", 2, Rules(selector={"region": "west"})), fleet, 0.0)
    assert decision.assigned == {}
    decision = place(Demand("uid", 2, Rules(clusters=("a", "b"))), fleet, 0.0)
    assert {each.cluster: each.reason for each in decision.verdicts} == {"a": "Refused", "b": "Unreachable", "c": "NotNamed"}
    assert "exceeded quota (a)" in decision.reason
    assert [each.name for each in fleet if allowed(each, Rules(clusters=("a", "b")))] == ["a", "b"], "whatever their state"


def test_jobs_spread_over_the_fleet_without_state() -> None:
    used = [next(iter(place(Demand(f"job{n}", 1, Rules(strategy="Single")), FLEET, NOW).assigned)) for n in range(600)]
    assert all(60 <= used.count(candidate.name) <= 140 for candidate in FLEET)


@given(
    st.integers(0, 40),
    st.lists(st.sampled_from([c.name for c in FLEET]), unique=True),
    st.sampled_from(["Spread", "Pack", "Single"]),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 9),
    st.dictionaries(st.sampled_from([c.name for c in FLEET]), st.integers(0, 3)),
    st.integers(0, 1000),
)
def test_bounds_hold_and_order_does_not_matter(
    count: int, names: list[str], strategy: Any, clusters: Any, each: Any, weights: dict[str, int], seed: int
) -> None:
    rules = Rules(strategy, tuple(names), {}, clusters, each, weights)
    shuffled = random.Random(seed).sample(FLEET, len(FLEET))
    decision = place(Demand("job", count, rules), FLEET, NOW)
    assert decision == place(Demand("job", count, rules), shuffled, NOW)
    assert sum(decision.assigned.values()) + decision.unplaced == count
    assert len(decision.verdicts) == len(FLEET)
    limit = 1 if strategy == "Single" else clusters
    assert limit is None or len(decision.assigned) <= limit
    for name, assigned in decision.assigned.items():
        assert each is None or assigned <= each
        assert not names or name in names
        assert weights.get(name, 1) > 0


@pytest.mark.parametrize("size", [1000])
def test_a_large_fleet_is_decided_fast(size: int) -> None:
    import time

    fleet = [Candidate(f"c{n}") for n in range(size)]
    started = time.perf_counter()
    assert put(5000, fleet).unplaced == 0
    assert time.perf_counter() - started < 1
