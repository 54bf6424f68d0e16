"""Counts a shard's samples: into metrics, and into a compact report of absolute values for the observer."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from raycp.metrics.catalog import SliMetrics
from raycp.slo.clocks import Overdue, SliClocks
from raycp.slo.histogram import LogHistogram
from raycp.slo.objectives import Objective, Objectives
from raycp.slo.sample import SEGMENTS, Sample, Segments

COUNTED_AT_ONCE = 64
"""Samples: one to two milliseconds of the shard's loop (law 5)."""


class SeriesTotals(msgspec.Struct, array_like=True, gc=False):
    """All samples of one (controller, cluster, tier, kind) so far: counts, latencies (a ``LogHistogram``'s buckets), sums
    of seconds."""

    controller: str
    cluster: str
    tier: str
    kind: str
    count: float
    failed: float
    waited: float
    latency_sum: float
    buckets: dict[int, float]


class ObjectiveTotals(msgspec.Struct, array_like=True, gc=False):
    """All changes of one cluster judged by one objective so far; ``segments`` and ``bad_segments`` sum the seconds of each
    segment, of all changes and of those that missed."""

    name: str
    cluster: str
    total: float
    bad: float
    latency_sum: float
    buckets: dict[int, float]
    segments: list[float]
    bad_segments: list[float]


class SloReport(msgspec.Struct, array_like=True, gc=False):
    """Everything that one process has counted since its start."""

    series: list[SeriesTotals]
    objectives: list[ObjectiveTotals]


ALL_TIERS = "all"
"""The label ``tier`` of an objective for all tiers."""

_encode = msgspec.msgpack.Encoder().encode
decode_report = msgspec.msgpack.Decoder(SloReport).decode


class SloTracker:
    """Counts the samples of clocks. One per shard.

    Those in ``taken`` are counted together by ``count``, before metrics are read and with each ``report`` (about once a second), so
    that the path of a change does not pay for it; whoever adds to them counts when they are ``COUNTED_AT_ONCE``, so that nobody
    waits for more. ``wall`` gives the Unix time of exemplars."""

    def __init__(self, objectives: Objectives, metrics: SliMetrics, wall: Callable[[], float]) -> None:
        self._metrics = metrics
        self._wall = wall
        self.taken: list[Sample] = []
        """Samples of changes that have ended, to be counted."""
        self._series: dict[tuple[str, str, str, str], tuple[SeriesTotals, LogHistogram]] = {}
        self._judged: dict[tuple[str, str], tuple[ObjectiveTotals, LogHistogram]] = {}
        self.set_objectives(objectives)

    def set_objectives(self, objectives: Objectives) -> None:
        """Judge by these from now on; the counts of former objectives stay in the report."""
        if self.taken:
            self.count()
        self._objectives = objectives
        self._metrics.objective.replace({_labels(objective): objective.objective for objective in objectives})
        self._metrics.within.replace({_labels(objective): objective.within for objective in objectives})

    def show_overdue(self, counts: Mapping[str, int]) -> None:
        """How many open changes have missed each objective, by its name."""
        self._metrics.open_overdue.replace({_labels(each): counts.get(each.name, 0) for each in self._objectives})

    def count(self) -> None:
        """Count the changes that were taken since the last time."""
        at = self._wall() if self.taken else 0.0
        for sample in self.taken:
            key = sample.key
            self._count_series(sample, at)
            for objective in self._objectives.of(key.controller, sample.tier, sample.kind):
                charged = objective.name in sample.charged
                bad = sample.times if charged or not objective.kept(sample) else 0
                totals, latencies = self._totals(objective.name, key.cluster)
                latencies.record(sample.seconds, sample.times)
                spent = msgspec.structs.astuple(sample.segments)
                for i, seconds in enumerate(spent):
                    totals.segments[i] += seconds * sample.times
                    if bad:
                        totals.bad_segments[i] += seconds * sample.times
                if not charged:  # else counted by ``take_overdue``
                    self._count(objective.name, objective.controller, objective.tier, key.cluster, sample.times, bad)

        self.taken.clear()

    async def sweep(self, clocks: SliClocks) -> None:
        """``take_overdue`` of all of ``clocks``; others get their turn meanwhile."""
        while clocks.sweeps:
            self.take_overdue(clocks.sweep())
            await asyncio.sleep(0)

    def take_overdue(self, overdue: list[Overdue]) -> None:
        """Charge changes that are still open past their threshold: they count now, as missed."""
        for late in overdue:
            objective = late.objective
            self._count(objective.name, objective.controller, objective.tier, late.key.cluster, late.times, late.times)

    def report(self) -> bytes:
        """Absolute values, for ``SloBook.feed``."""
        self.count()
        series, judged = [], []
        for series_totals, latencies in self._series.values():
            series_totals.buckets, series_totals.latency_sum = latencies.buckets, latencies.sum
            series.append(series_totals)
        for totals, latencies in self._judged.values():
            totals.buckets, totals.latency_sum = latencies.buckets, latencies.sum
            judged.append(totals)
        return _encode(SloReport(series, judged))

    def _count_series(self, sample: Sample, at: float) -> None:
        key = sample.key
        labels = (key.controller, key.cluster, sample.tier, sample.kind)
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = (SeriesTotals(*labels, 0, 0, 0.0, 0.0, {}), LogHistogram())
        totals, latencies = found
        totals.count += sample.times
        totals.waited += sample.waited * sample.times
        if sample.ok:
            latencies.record(sample.seconds, sample.times)
            cell = self._metrics.latency.labels(*labels)
            cell.observe(sample.seconds, sample.times)
            if sample.rv:
                cell.trace(sample.seconds, at, (("change", sample.change), ("object", f"{key.namespace}/{key.name}")))
        else:
            totals.failed += sample.times
        if sample.waited:
            self._metrics.declared_wait.labels(key.controller, key.cluster, sample.tier, sample.waiting).inc(
                sample.waited * sample.times
            )
        if sample.kind == "user":
            self._count_segments(key.controller, sample.tier, sample.segments, sample.times)

    def _count_segments(self, controller: str, tier: str, segments: Segments, times: int) -> None:
        for name, seconds in zip(SEGMENTS, msgspec.structs.astuple(segments), strict=True):
            if seconds:
                self._metrics.segments.labels(controller, tier, name).inc(seconds * times)

    def _count(self, name: str, controller: str, tier: str | None, cluster: str, total: float, bad: float) -> None:
        totals, _ = self._totals(name, cluster)
        totals.total += total
        totals.bad += bad
        labels = (name, controller, tier or ALL_TIERS, cluster)
        self._metrics.slo_total.labels(*labels).inc(total)
        self._metrics.slo_bad.labels(*labels).inc(bad)

    def _totals(self, name: str, cluster: str) -> tuple[ObjectiveTotals, LogHistogram]:
        found = self._judged.get((name, cluster))
        if found is None:
            none = [0.0] * len(SEGMENTS)
            found = (ObjectiveTotals(name, cluster, 0, 0, 0.0, {}, none, none.copy()), LogHistogram())
            self._judged[(name, cluster)] = found
        return found


def _labels(objective: Objective) -> tuple[str, str, str]:
    return objective.name, objective.controller, objective.tier or ALL_TIERS
