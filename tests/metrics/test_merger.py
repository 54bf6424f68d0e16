"""The merger's guarantees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.metrics import Label, Merger, Metrics, catalog
from raycp.metrics import merger as merger_module
from raycp.metrics.cells import OVERFLOW

CLUSTER, X, Y = Label("cluster"), Label("x"), Label("y")


def _process() -> tuple[Metrics, catalog.WorkQueueMetrics]:
    metrics = Metrics()
    return metrics, catalog.WorkQueueMetrics(metrics)


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
    queue.depth.labels("c", "job", "high").set(9)
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
    assert [sum(values[:-1]) for _, values in merger.rows("workqueue_queue_duration_seconds")] == [1]
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
    old.counter("a_total", "A.", (X,)).labels("1").inc()
    new.counter("a_total", "A.", (X, Y)).labels("1", "2").inc(4)
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


def test_clusters_that_left_are_not_shown_whoever_still_sends_them() -> None:
    merger = Merger()
    for actor in ("dead", "alive"):
        metrics = Metrics()
        family = metrics.counter("a_total", "A.", (CLUSTER,))
        for cluster in ("east", "west"):
            family.labels(cluster).inc()
        merger.feed(actor, metrics.snapshot())
    merger.forget("dead")
    assert merger.total("a_total") == 4
    merger.keep_clusters({"east"})
    assert (merger.total("a_total"), merger.total("a_total", cluster="west")) == (2, 0)
    merger.forget("alive")
    assert merger.total("a_total", cluster="east") == 2
    merger.keep_clusters({"east", "west"})
    assert merger.total("a_total") == 2, "it comes back, and counts anew"


def test_sums_of_the_dead_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merger_module, "MAX_DEAD", 5)
    merger = Merger()
    merger.keep_clusters({"east"})
    for generation in range(20):
        metrics = Metrics()
        metrics.counter("a_total", "A.", (CLUSTER, X)).labels("east", f"word{generation}").inc()
        merger.feed(f"g{generation}", metrics.snapshot())
        merger.forget(f"g{generation}")
    rows = merger.rows("a_total")
    assert len(rows) == 6
    assert next(values for labels, values in rows if labels["x"] == OVERFLOW) == [15.0]
    assert merger.total("a_total") == 20


def test_merged_families_do_not_change_under_a_reader() -> None:
    merger = Merger()
    metrics, queue = _process()
    queue.series("c", "job", "high").adds.inc()
    queue.depth.labels("c", "job", "high").set(3)
    merger.feed("a", metrics.snapshot())
    before = merger.merged()
    queue.series("c", "job", "high").adds.inc()
    merger.feed("a", metrics.snapshot())
    merger.silence("a")
    merger.forget("a")
    found = {spec.name: before.family(spec).rows for spec in before.specs()}
    assert found["workqueue_adds_total"] == {("c", "job", "high"): [1.0]}
    assert found["workqueue_depth"] == {("c", "job", "high"): [3.0]}


def test_the_newest_exemplar_of_living_actors_is_shown() -> None:
    merger = Merger()
    for actor, at in (("a", 5.0), ("b", 9.0), ("c", 7.0)):
        metrics = Metrics()
        cell = metrics.histogram("h_seconds", "H.", (X,), (1.0, 2.0)).labels("x")
        cell.observe(0.5)
        cell.trace(0.5, at, (("change", actor),))
        merger.feed(actor, metrics.snapshot())

    def shown() -> list[str]:
        merged = merger.merged()
        return [trace.labels[0][1] for spec in merged.specs() for trace in merged.family(spec).traces.values()]

    assert shown() == ["b"]
    merger.forget("b")
    assert shown() == ["c"]
