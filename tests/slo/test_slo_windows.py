"""Histograms, windows, budgets: against plain arithmetic."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.slo import LogHistogram, Objective, Objectives, SlotRing, Windows
from raycp.slo.budget import BURN_ALERTS, burn_rate, error_budget, firing, ratio
from raycp.slo.objectives import seconds_text
from raycp.slo.windows import LatencyWindow


@given(st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 0.999]))
def test_quantiles_are_within_three_percent(values: list[float], q: float) -> None:
    histogram = LogHistogram()
    for value in values:
        histogram.record(value)
    exact = sorted(values)[max(0, -(-int(q * len(values) * 1_000_000) // 1_000_000) - 1)]
    found = histogram.quantile(q)
    assert found is not None
    neighbours = [v for v in values if abs(v - found) <= 0.031 * v]
    assert neighbours, (found, exact)


def test_quantile_of_a_known_set() -> None:
    histogram = LogHistogram()
    for i in range(1, 1001):
        histogram.record(i / 1000)
    assert histogram.quantile(0.5) == pytest.approx(0.5, rel=0.04)
    assert histogram.quantile(0.99) == pytest.approx(0.99, rel=0.04)
    assert histogram.quantile(0.999) == pytest.approx(0.999, rel=0.04)
    assert histogram.summary()["mean"] == pytest.approx(0.5005)
    assert LogHistogram().quantile(0.5) is None


@given(st.lists(st.floats(1e-6, 1e6), max_size=50), st.lists(st.floats(1e-6, 1e6), max_size=50))
def test_histograms_add_and_subtract(a: list[float], b: list[float]) -> None:
    first, second = LogHistogram(), LogHistogram()
    for value in a:
        first.record(value)
    for value in b:
        second.record(value)
    both = first.copy()
    both.add(second)
    assert both.count == len(a) + len(b)
    assert both.minus(second).buckets == first.buckets


def test_a_ring_counts_exactly_its_span() -> None:
    ring = SlotRing(60.0, 60)
    for second in range(1000, 1200):
        ring.add(float(second), 10, 1)
    assert ring.sum(1199.5) == pytest.approx((595 + 10, 59.5 + 1), rel=0.02)
    assert ring.sum(1230.0)[0] == pytest.approx(300, abs=11)
    assert ring.sum(1261.0) == (0, 0)
    assert ring.sum(99_999.0) == (0, 0)


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(0, 5)), max_size=60), st.floats(0, 50))
def test_a_ring_is_never_off_by_more_than_its_edge_slots(steps: list[tuple[float, int]], later: float) -> None:
    ring = SlotRing(60.0, 12)
    now, told = 10_000.0, []
    for gap, count in steps:
        now += gap
        ring.add(now, count, 0)
        told.append((now, count))
    now += later
    surely = sum(c for t, c in told if t > now - 60 + 5)
    at_most = sum(c for t, c in told if t > now - 60 - 5 - 1e-6)
    total, _ = ring.sum(now)
    assert surely - 1e-6 <= total <= at_most + 1e-6


def test_windows_survive_a_dump() -> None:
    rng = random.Random(1)
    windows, again = Windows({"window": (7 * 86400.0, 50)}), Windows({"window": (7 * 86400.0, 50)})
    now = 1_700_000_000.0
    for _ in range(500):
        now += rng.random() * 600
        windows.add(now, rng.randrange(1, 50), rng.randrange(2))
    again.load(windows.dump())
    for name in windows.rings:
        assert again.sum(name, now + 1) == pytest.approx(windows.sum(name, now + 1))


def test_latency_windows_drop_old_slots() -> None:
    window = LatencyWindow(60.0, 6)
    one = LogHistogram()
    one.record(1.0)
    window.add(1000.0, one)
    window.add(1030.0, one)
    assert window.total(1031.0).count == 2
    assert window.total(1065.0).count == 1
    assert window.total(1200.0).count == 0


def test_error_budget_and_burn_rate() -> None:
    objective = Objective("*", None, 0.999, 1.0)
    budget = error_budget(objective, 100_000, 25)
    assert (budget.allowed, budget.remaining) == (pytest.approx(100), pytest.approx(0.75))
    assert error_budget(objective, 1000, 5).remaining == pytest.approx(-4)
    assert error_budget(objective, 0, 0).remaining == 1.0
    assert burn_rate(objective, 1000, 14) == pytest.approx(14)
    assert (burn_rate(objective, 0, 0), ratio(0, 0), ratio(4, 1)) == (0.0, None, 0.75)


def test_burn_factors_are_those_of_the_sre_workbook() -> None:
    objective = Objective("*", None, 0.999, 1.0)
    assert [a.factor(objective) for a in BURN_ALERTS] == pytest.approx([14.4, 6, 3, 1])
    assert BURN_ALERTS[0].threshold(objective) == pytest.approx(0.0144)
    assert BURN_ALERTS[0].threshold(Objective("*", None, 0.9, 1.0)) == 0.99
    week = Objective("*", None, 0.99, 1.0, 7 * 86400.0)
    assert BURN_ALERTS[0].factor(week) == pytest.approx(14.4 * 7 / 30)


def test_a_burn_alert_needs_both_windows() -> None:
    objective = Objective("*", None, 0.999, 1.0)
    quiet = dict.fromkeys(("5m", "30m", "1h", "2h", "6h", "1d", "3d"), (1000.0, 0.0))
    assert firing(objective, quiet.__getitem__) == []
    over = {**quiet, "1h": (1000.0, 20.0)}
    assert firing(objective, over.__getitem__) == [], "it is over: the short window is clean"
    now = {**over, "5m": (100.0, 50.0)}
    assert [(a.severity, a.long) for a in firing(objective, now.__getitem__)] == [("page", "1h")]


def test_objectives_match_and_have_names() -> None:
    objectives = Objectives(
        [
            Objective("*", None, 0.99, 0.25),
            Objective("job", "critical", 0.999, 1.0),
            Objective("job", "critical", 0.9, 0.1),
        ]
    )
    assert [o.name for o in objectives.of("job", "critical")] == [
        "all-all-250ms",
        "job-critical-1s",
        "job-critical-100ms",
    ]
    assert [o.name for o in objectives.of("job", "high")] == ["all-all-250ms"]
    assert objectives.of("job", "critical", "system") == ()
    assert objectives.get("job-critical-1s") is not None
    with pytest.raises(ValueError, match="two objectives"):
        Objectives([Objective("a", None, 0.9, 1.0), Objective("a", None, 0.99, 1.0)])
    assert [seconds_text(s) for s in (0.0005, 0.25, 1.5, 90, 3600, 2592000)] == [
        "0.5ms",
        "250ms",
        "1500ms",
        "90s",
        "1h",
        "30d",
    ]
