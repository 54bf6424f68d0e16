"""From clocks through trackers into the observer's book, over deaths and restarts."""

import asyncio
import json
import zlib
from typing import Any

import pytest

from raycp.base import deflated
from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.metrics import Merger, Metrics, SliMetrics
from raycp.slo import Objective, Objectives, SliClocks, SloBook, SloTracker
from raycp.slo.clocks import SWEPT_AT_ONCE
from raycp.slo.sample import SEGMENTS

OBJECTIVE = Objective("echo", None, 0.99, 1.0)


class Shard:
    """A shard's clocks and tracker."""

    def __init__(self, clock: VirtualClock, objectives: Objectives) -> None:
        self.metrics = Metrics()
        self.clock = clock
        self.clocks = SliClocks(clock, objectives)
        self.tracker = SloTracker(objectives, SliMetrics(self.metrics), clock.wall)
        self._next = 0

    async def change(self, seconds: float, *, cluster: str = "east", ok: bool = True) -> None:
        self._next += 1
        key = RequestKey("echo", cluster, "default", str(self._next))
        self.clocks.started(key, "user", self.clock.now())
        await self.clock.advance(seconds / 2)
        self.tracker.take_overdue(self.clocks.sweep())
        self.clocks.handed_out(key)
        await self.clock.advance(seconds / 2)
        self.tracker.take_overdue(self.clocks.sweep())
        self.tracker.taken += self.clocks.done(key, ok, permanent=not ok, work=seconds / 2)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_report_of_a_book(clock: VirtualClock) -> None:
    objectives = Objectives([OBJECTIVE])
    shard, book = Shard(clock, objectives), SloBook(clock, objectives)
    for _ in range(98):
        await shard.change(0.01)
    await shard.change(3.0)
    await shard.change(0.01, ok=False, cluster="west")
    book.feed("shard-0", shard.tracker.report())
    book.feed("shard-0", shard.tracker.report())
    (report,) = book.report()
    assert (report["total"], report["bad"], report["ratio"]) == (100, 2, pytest.approx(0.98))
    assert report["windows"]["5m"]["burn"] == pytest.approx(2.0)
    assert report["budget"]["remaining"] == pytest.approx(-1.0)
    assert report["latency"]["p50"] == pytest.approx(0.01, rel=0.04)
    assert report["latency"]["p999"] == pytest.approx(3.0, rel=0.04)
    assert report["clusters"]["west"] == {"total": 1, "bad": 1, "ratio": 0.0}
    assert report["attribution"]["queue"] == pytest.approx(0.5, abs=0.01)
    assert sum(report["attribution_missed"].values()) == pytest.approx(1.0)
    series = {(s["cluster"], s["kind"]): s for s in book.series()}
    assert series[("west", "user")]["failed"] == 1
    assert sum(total for _, total, _ in book.history(OBJECTIVE.name)) == 100


async def test_an_open_change_counts_as_missed_once_before_it_ends(clock: VirtualClock) -> None:
    objectives = Objectives([OBJECTIVE])
    shard, book = Shard(clock, objectives), SloBook(clock, objectives)
    key = RequestKey("echo", "east", "default", "hangs")
    shard.clocks.started(key, "user", clock.now())
    shard.clocks.handed_out(key)
    await clock.advance(2)
    shard.tracker.take_overdue(shard.clocks.sweep())
    book.feed("s", shard.tracker.report())
    assert book.report()[0]["windows"]["instant"]["ratio"] == 0.0
    shard.tracker.taken += shard.clocks.done(key, True)
    book.feed("s", shard.tracker.report())
    assert (book.report()[0]["total"], book.report()[0]["bad"]) == (1, 1)
    merger = Merger()
    merger.feed("s", shard.metrics.snapshot())
    assert merger.total("raycp_slo_changes_total") == merger.total("raycp_slo_bad_changes_total") == 1


async def test_deaths_and_restarts_lose_or_double_no_counts(clock: VirtualClock) -> None:
    objectives = Objectives([OBJECTIVE])
    book = SloBook(clock, objectives)
    first = Shard(clock, objectives)
    await first.change(0.5)
    old = first.tracker.report()
    book.feed("shard-0 g1", old)
    second = Shard(clock, objectives)
    await second.change(2.0)
    book.feed("shard-0 g2", second.tracker.report())
    assert book.feed("shard-0 g1", old), "both may live: a promoted standby and its own standby are of one place"
    assert book.report()[0]["total"] == 2
    book.forget("shard-0 g1")
    assert not book.feed("shard-0 g1", old)
    assert book.actors() == ["shard-0 g2"]
    saved = book.checkpoint()
    await second.change(0.5)
    reborn_clock = VirtualClock(start=3.0, wall=clock.wall() + 60)
    reborn = SloBook(reborn_clock, objectives)
    reborn.restore(saved)
    assert reborn.report()[0]["total"] == 2
    assert reborn.report()[0]["windows"]["5m"]["total"] == pytest.approx(2)
    assert reborn.report()[0]["windows"]["instant"]["total"] == 0
    reborn.feed("shard-0 g2", second.tracker.report())
    assert (reborn.report()[0]["total"], reborn.report()[0]["bad"]) == (3, 1)
    assert reborn.report()[0]["latency"]["count"] == 3
    assert not reborn.feed("shard-0 g1", old)


async def test_a_checkpoint_restored_after_the_first_reports_loses_or_doubles_no_counts(clock: VirtualClock) -> None:
    """A new observer receives reports of living shards before it has read its predecessor's checkpoint."""
    objectives = Objectives([OBJECTIVE])
    book, known, new = SloBook(clock, objectives), Shard(clock, objectives), Shard(clock, objectives)
    await known.change(0.1)
    book.feed("known", known.tracker.report())
    saved = book.checkpoint()
    await known.change(0.1)
    await new.change(0.1)
    again = SloBook(clock, objectives)
    again.feed("known", known.tracker.report())
    again.feed("new", new.tracker.report())
    again.restore(saved)
    again.feed("known", known.tracker.report())
    again.feed("new", new.tracker.report())
    assert again.report()[0]["total"] == 3
    assert sum(series["count"] for series in again.series()) == 3


async def test_a_wall_clock_set_back_leaves_no_gap_in_windows(clock: VirtualClock) -> None:
    objectives = Objectives([OBJECTIVE])
    shard, book = Shard(clock, objectives), SloBook(clock, objectives)
    await shard.change(0.1)
    book.feed("s", shard.tracker.report())
    clock.shift_wall(-7200)
    await shard.change(0.1)
    book.feed("s", shard.tracker.report())
    assert book.report()[0]["windows"]["5m"]["total"] == 2
    again = SloBook(clock, objectives)
    again.restore(book.checkpoint())
    assert again.report()[0]["windows"]["5m"]["total"] == 2


def changed_objective(**fields: Any) -> bytes:
    """A checkpoint of one objective, with these fields instead of what belongs there."""
    row = {
        "name": OBJECTIVE.name, "windows": {}, "latency": {}, "latency_sum": 0.0, "total": 1.0, "bad": 0.0, "clusters": {},
        "segments": [0.0] * len(SEGMENTS), "bad_segments": [0.0] * len(SEGMENTS),
    }  # fmt: skip
    return stored({"at": 1.0, "objectives": [row | fields], "series": []})


def stored(content: Any) -> bytes:
    return zlib.compress(json.dumps(content).encode())


@pytest.mark.parametrize(
    "saved",
    [
        b"{}",
        b"",
        zlib.compress(b"{}"),
        zlib.compress(bytes(deflated.MOST + 1)),
        zlib.compress(b'{"at":1,"other":' + 10_000 * b"[" + 10_000 * b"]" + b"}"),
        stored({"at": 1e300, "objectives": [], "series": []}),
        changed_objective(segments=[1.0]),
        changed_objective(clusters={"a": [1.0]}),
        changed_objective(windows={"5m": [1]}),
        changed_objective(windows={"5m": [1, [[0, "x", 0]]]}),
    ],
)
def test_restore_refuses_bytes_that_are_no_checkpoint_and_changes_nothing(clock: VirtualClock, saved: bytes) -> None:
    book = SloBook(clock, Objectives([OBJECTIVE]))
    book.restore(changed_objective(total=7.0))
    with pytest.raises(ValueError, match="no SLO checkpoint"):
        book.restore(saved)
    assert book.report()[0]["total"] == 7


async def test_a_checkpoint_of_a_large_fleet_fits_into_a_configmap(clock: VirtualClock) -> None:
    objectives = Objectives([Objective(f"c{i}", tier, 0.999, 1.0) for i in range(5) for tier in ("critical", "standard")])
    book = SloBook(clock, objectives)
    for shard_number in range(20):
        tracker = SloTracker(objectives, SliMetrics(Metrics()), clock.wall)
        clocks = SliClocks(clock, objectives)
        for cluster in range(5):
            for controller in range(5):
                for tier in ("critical", "standard"):
                    key = RequestKey(f"c{controller}", f"cluster-{shard_number}-{cluster}", "ns", "x")
                    for delay in (0.003, 0.02, 0.4):
                        clocks.started(key, "user", clock.now() - delay, tier=tier)
                        clocks.handed_out(key)
                        tracker.taken += clocks.done(key, True, work=delay)
        book.feed(f"shard-{shard_number}", tracker.report())
    assert len(book.checkpoint()) < 700_000


async def test_feeding_a_book_costs_little_per_change(clock: VirtualClock) -> None:
    """Clocks and tracker together, per change; CPU time, best of three."""
    import time

    objectives = Objectives([OBJECTIVE])
    best = 9.0
    for _ in range(3):
        shard = Shard(clock, objectives)
        keys = [RequestKey("echo", "east", "default", str(i)) for i in range(3000)]
        start = time.process_time()
        for key in keys:
            shard.clocks.started(key, "user", clock.now(), version=1)
            shard.clocks.handed_out(key)
            shard.tracker.taken += shard.clocks.done(key, True, work=0.001)
        best = min(best, (time.process_time() - start) / len(keys))
    assert best < 100e-6


async def test_a_sweep_of_many_gives_others_their_turn(clock: VirtualClock) -> None:
    shard, turns = Shard(clock, Objectives([OBJECTIVE])), 0
    for number in range(3 * SWEPT_AT_ONCE):
        shard.clocks.started(RequestKey("echo", "east", "default", str(number)), "user", clock.now())
    await clock.advance(2)
    sweeping = asyncio.ensure_future(shard.tracker.sweep(shard.clocks))
    while not sweeping.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 3
    assert SliMetrics(shard.metrics).slo_bad.labels(OBJECTIVE.name, "echo", "all", "east").value == 3 * SWEPT_AT_ONCE
