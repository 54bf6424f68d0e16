"""Latencies to figures, bounds, plots."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raycp.bench.storms  # noqa: F401 - registers its scenarios
from raycp.bench.bounds import judge, load_bounds
from raycp.bench.latencies import figures, median_of, percentile, pooled
from raycp.bench.plot import PlotError, draw
from raycp.bench.runner import Request, RunResult, document
from raycp.bench.scenario import SCENARIOS, RunOutcome, outcome_of


def test_nearest_rank() -> None:
    ordered = [float(i) for i in range(1, 101)]
    assert [percentile(ordered, s) for s in (0.5, 0.9, 0.99, 0.999, 1.0)] == [50, 90, 99, 100, 100]
    assert percentile([7.0], 0.5) == 7.0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_is_what_it_says(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert sum(v <= found for v in ordered) >= share * len(ordered) - 1e-6
    assert sum(v < found for v in ordered) <= share * len(ordered) + 1e-6


def test_missing_changes_count_against_the_objective() -> None:
    told = figures([0.010] * 90, missing=10, objective=0.05)
    assert (told["n"], told["missing"], told["p99_ms"], told["within_objective"]) == (90, 10, 10.0, 0.9)
    empty = figures([], missing=3)
    assert (empty["p50_ms"], empty["within_objective"]) == (None, None)


def test_runs_are_pooled_as_promised() -> None:
    runs = [[0.001] * 100, [0.003] * 100, [0.002] * 99 + [0.9]]
    told = pooled(runs)
    assert (told["n"], told["p50_ms"], told["max_ms"], told["p999_ms"]) == (300, 2.0, 900.0, 900.0)


def test_medians_key_by_key() -> None:
    assert median_of([{"a": 1, "b": 0.5, "c": "x"}, {"a": 3, "b": 1.5}, {"a": 2, "c": "y"}]) == {
        "a": 2,
        "b": 1.0,
        "c": "y",
    }


def test_every_bound_says_where_it_comes_from() -> None:
    bounds = load_bounds()
    assert {"steady", "cold"} <= {b.scenario for b in bounds}
    assert all(b.machine and b.date and b.why for b in bounds)
    verdicts = {b.figure: kept for b, kept, _ in judge("steady", {"p50_ms": 4.0, "p99_ms": 80.0})}
    assert (verdicts["p50_ms"], verdicts["p99_ms"], verdicts["p999_ms"]) == (True, False, None)


def test_the_naive_depth_stands_beside_ours() -> None:
    found = {"raycp": {"depth_mean": 30.0}, "fifo": {"depth_mean": 1000.0}}
    told = document(Request(SCENARIOS["resync-storm"]), RunResult(found, {}))
    assert (told["policy"], told["depth_mean"], told["depth_mean_naive"], told["depth_reduction"]) == ("raycp", 30.0, 1000.0, 0.97)
    assert {b.figure: kept for b, kept, _ in judge("resync-storm", told)}["depth_reduction"] is True
    alone = document(Request(SCENARIOS["resync-storm"]), RunResult({"raycp": {"depth_mean": 30.0}}, {}))
    assert "depth_mean_naive" not in alone
    assert "depth_reduction" not in {b.figure for b, _, _ in judge("resync-storm", alone)}  # nothing to compare with


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_figure_is_drawn(tmp_path: Path, suffix: str) -> None:
    answer = {"rows": [["a", 1.0, 0.004], ["b", 1.5, 0.006]], "missing": 0, "duplicates": 0}
    outcome = outcome_of(answer)
    outcome.curves["queue depth"] = [(0.0, 10.0), (1.0, 3.0)]
    path = tmp_path / f"figure{suffix}"
    draw("steady", RunResult({}, {"raycp": [outcome], "kopf": [outcome]}), path, 1.0)
    assert path.stat().st_size > 5000


def test_what_can_not_be_drawn_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlotError, match=r"\.png"):
        draw("x", RunResult({}, {}), tmp_path / "x.pdf")
    with pytest.raises(PlotError, match="nothing to draw"):
        draw("x", RunResult({}, {"raycp": [RunOutcome()]}), tmp_path / "x.png")
