"""The merger's guarantees, and the text that it renders."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.metrics import Merger, Metrics, catalog


def _process() -> tuple[Metrics, catalog.WorkQueueMetrics]:
    metrics = Metrics()
    return metrics, catalog.WorkQueueMetrics(metrics)


def _all_families(metrics: Metrics) -> None:
    for group in (
        catalog.WorkQueueMetrics, catalog.ReconcileMetrics, catalog.ReflectorMetrics,
        catalog.ApiMetrics, catalog.SliMetrics, catalog.FleetMetrics, catalog.PoisonMetrics,
    ):  # fmt: skip
        made = group(metrics)
        for family in vars(made).values():
            if hasattr(family, "labels") and hasattr(family, "spec"):
                child = family.labels(*(f'v"{i}\\\n' for i in range(len(family.spec.labels))))
                child.observe(0.02) if hasattr(child, "observe") else child.inc()


def test_repeated_and_reordered_snapshots_change_nothing() -> None:
    merger = Merger()
    metrics, queue = _process()
    queue.series("c", "job", "high").adds.inc(5)
    first = metrics.snapshot()
    queue.series("c", "job", "high").adds.inc(2)
    assert merger.feed("shard-0", first)
    assert merger.feed("shard-0", first)
    assert merger.total("workqueue_adds_total") == 5
    merger.feed("shard-0", metrics.snapshot())
    assert merger.total("workqueue_adds_total", tier="high") == 7
    assert merger.total("workqueue_adds_total", tier="low") == 0


def test_a_dead_actor_stays_in_the_sums_and_leaves_the_gauges() -> None:
    merger = Merger()
    metrics, queue = _process()
    series = queue.series("c", "job", "high")
    series.adds.inc(5)
    series.depth.set(9)
    series.queue_duration.observe(0.2)
    old = metrics.snapshot()
    merger.feed("shard-0 g1", old)
    metrics2, queue2 = _process()
    queue2.series("c", "job", "high").adds.inc(1)
    merger.feed("shard-0 g2", metrics2.snapshot())
    assert merger.total("workqueue_adds_total") == 6
    assert merger.total("workqueue_depth") == 9
    merger.silence("shard-0 g1")
    assert (merger.total("workqueue_adds_total"), merger.total("workqueue_depth")) == (6, 0)
    assert merger.feed("shard-0 g1", old), "it lives after all"
    assert (merger.total("workqueue_adds_total"), merger.total("workqueue_depth")) == (6, 9)
    merger.forget("shard-0 g1")
    merger.forget("shard-0 g1")
    assert (merger.total("workqueue_adds_total"), merger.total("workqueue_depth")) == (6, 0)
    assert b"workqueue_queue_duration_seconds_count" in merger.render()
    assert not merger.feed("shard-0 g1", old), "a late send of the dead"
    assert merger.actors() == ["shard-0 g2"]
    assert merger.total("workqueue_adds_total") == 6


def test_gauges_merge_by_the_rule_of_their_family() -> None:
    merger = Merger()
    for actor, value in (("a", 3.0), ("b", 5.0)):
        metrics = Metrics()
        for how in ("sum", "max", "min"):
            metrics.gauge(f"g_{how}", "G.", (), how).labels().set(value)  # type: ignore[arg-type]
        merger.feed(actor, metrics.snapshot())
    assert [merger.total(f"g_{how}") for how in ("sum", "max", "min")] == [8, 5, 3]


def test_another_shape_of_a_family_waits_until_the_old_one_is_unused() -> None:
    merger = Merger()
    old, new = Metrics(), Metrics()
    old.counter("a_total", "A.", ("x",)).labels("1").inc()
    new.counter("a_total", "A.", ("x", "y")).labels("1", "2").inc(4)
    merger.feed("old", old.snapshot())
    merger.feed("new", new.snapshot())
    assert (merger.rejected, merger.total("a_total")) == (1, 1)
    merger.forget("old")
    merger.feed("new", new.snapshot())
    assert merger.total("a_total", y="2") == 4


def test_bytes_that_are_not_a_snapshot_change_nothing() -> None:
    merger = Merger()
    with pytest.raises(Exception, match=r"(?i)expected|invalid|truncated"):
        merger.feed("a", b"\x00nonsense")
    assert merger.actors() == []


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["count", "send", "die", "forget", "silence"])), max_size=60))
def test_merged_sums_lose_and_double_no_count(steps: list[tuple[int, str]]) -> None:
    """Over deaths and replacements the merged sum is what was counted up to each process's last snapshot."""
    merger = Merger()
    generation = [1, 1, 1]
    counters = [_process() for _ in range(3)]
    sent: dict[str, float] = {}
    for actor, step in steps:
        metrics, queue = counters[actor]
        name = f"a{actor} g{generation[actor]}"
        if step == "count":
            queue.series("c", "k", "t").adds.inc()
        elif step == "send":
            if merger.feed(name, metrics.snapshot()):
                sent[name] = queue.series("c", "k", "t").adds.value
        elif step == "die":
            generation[actor] += 1
            counters[actor] = _process()
        elif step == "forget":
            merger.forget(name)
        else:
            merger.silence(name)
        assert merger.total("workqueue_adds_total") == sum(sent.values())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)")
def test_promtool_accepts_the_rendered_page() -> None:
    metrics = Metrics()
    _all_families(metrics)
    merger = Merger()
    merger.feed("a", metrics.snapshot())
    page = merger.render()
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b""), page.decode()
