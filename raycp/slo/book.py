"""The observer's view of the SLO: reports of all shards in, windows, budgets and alerts out, kept over a restart.

Rules:

1. A shard process sends absolute values under its name, which is never reused; only the difference to its last report is
   added to the windows. A report of a removed process is ignored, so that nothing counts twice.
2. A checkpoint holds the windows *and* each process's last values: after a restart, the first report of a living process
   adds the changes in between.
3. Window time starts at Unix time and advances with ``Clock.now()``: a jump of the wall clock leaves no gap.
"""

import zlib
from typing import Annotated, Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.deflated import inflated
from raycp.base.recent_names import RecentNames
from raycp.slo.budget import burn_rate, error_budget, firing, ratio
from raycp.slo.histogram import LogHistogram
from raycp.slo.objectives import MONTH, Objective, Objectives
from raycp.slo.sample import SEGMENTS
from raycp.slo.tracker import ObjectiveTotals, SeriesTotals, SloReport, decode_report
from raycp.slo.windows import LatencyWindow, SlotRing, Windows

SHOWN = ("instant", "5m", "1h", "6h", "3d", "30d")
LATEST = 253_402_300_800.0
"""The year 10000, in Unix seconds."""

RECENT = (900.0, 900)
"""Span and slots of the history in the plots of the instant SLI: a quarter of an hour by the second."""


class _Counted:
    """The counts of one objective."""

    def __init__(self, window: float) -> None:
        self.windows = Windows({"window": (window, 120)} if window != MONTH else None)
        self.recent = SlotRing(*RECENT)
        self.latency = LogHistogram()
        self.latency_1h = LatencyWindow(3600.0, 30)
        self.total = 0.0
        self.bad = 0.0
        self.clusters: dict[str, list[float]] = {}
        self.segments = [0.0] * len(SEGMENTS)
        self.bad_segments = [0.0] * len(SEGMENTS)


_Pair = Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)]
_Segments = Annotated[list[float], msgspec.Meta(min_length=len(SEGMENTS), max_length=len(SEGMENTS))]


class _SavedObjective(msgspec.Struct):
    name: str
    windows: dict[str, tuple[int, list[tuple[int, float, float]]]]
    latency: dict[int, float]
    latency_sum: float
    total: float
    bad: float
    clusters: dict[str, _Pair]
    segments: _Segments
    bad_segments: _Segments


class _Saved(msgspec.Struct):
    at: float
    objectives: list[_SavedObjective]
    series: list[SeriesTotals]
    last: dict[str, SloReport] = {}
    forgotten: list[str] = []


class SloBook:
    """Merges reports and computes windows, budgets and alerts. Single-threaded."""

    def __init__(self, clock: Clock, objectives: Objectives) -> None:
        self._clock = clock
        self._zero = clock.wall() - clock.now()
        self._objectives = objectives
        self._counted: dict[str, _Counted] = {}
        self._series: dict[tuple[str, str, str, str], SeriesTotals] = {}
        self._last: dict[str, SloReport] = {}
        self._removed = RecentNames()

    def set_objectives(self, objectives: Objectives) -> None:
        """Replace the objectives; objectives of the same name keep their counts."""
        self._objectives = objectives

    def feed(self, actor: str, report: bytes) -> bool:
        """Add the report of a shard process. False if the process was removed. Raises ``msgspec.DecodeError``."""
        current = decode_report(report)
        if actor in self._removed:
            return False
        last = self._last.get(actor)
        before_o = {(o.name, o.cluster): o for o in last.objectives} if last else {}
        before_s = {(s.controller, s.cluster, s.tier, s.kind): s for s in last.series} if last else {}
        now = self._now()
        for totals in current.objectives:
            self._count(now, totals, before_o.get((totals.name, totals.cluster)))
        for series in current.series:
            self._sum_series(series, before_s.get((series.controller, series.cluster, series.tier, series.kind)))
        self._last[actor] = current
        return True

    def actors(self) -> list[str]:
        """The processes that have reported and were not removed."""
        return list(self._last)

    def forget(self, actor: str) -> None:
        """Remove a dead process; its last report stays counted."""
        if self._last.pop(actor, None) is not None:
            self._removed.add(actor)

    def report(self) -> list[dict[str, Any]]:
        """Per objective: windows with ratio and burn rate, budget, firing alerts, latency, attribution, clusters. JSON-able."""
        return [self._report(objective) for objective in self._objectives]

    def series(self) -> list[dict[str, Any]]:
        """Per controller, cluster, tier and kind, since the fleet started: count, failed, declared wait, latency percentiles."""
        found = []
        for (controller, cluster, tier, kind), totals in sorted(self._series.items()):
            latency = LogHistogram(totals.buckets, totals.latency_sum).summary()
            found.append(
                {"controller": controller, "cluster": cluster, "tier": tier, "kind": kind, "count": totals.count,
                 "failed": totals.failed, "waited_seconds": totals.waited, "latency": latency}
            )  # fmt: skip
        return found

    def history(self, name: str) -> list[tuple[float, float, float]]:
        """(Unix second, total, bad) of the last quarter of an hour, oldest first: the instant SLI as a curve."""
        counted = self._counted.get(name)
        return counted.recent.series(self._now()) if counted else []

    def checkpoint(self) -> bytes:
        """The state that a restart needs: compact JSON, deflated (a ConfigMap's ``binaryData`` holds 1 MiB)."""
        objectives = [
            _SavedObjective(
                name,
                c.windows.dump(),
                c.latency.buckets,
                c.latency.sum,
                c.total,
                c.bad,
                c.clusters,
                c.segments,
                c.bad_segments,
            )
            for name, c in self._counted.items()
        ]
        saved = _Saved(self._now(), objectives, list(self._series.values()), self._last, list(self._removed))
        return zlib.compress(msgspec.json.encode(saved), 6)

    def restore(self, saved: bytes) -> None:
        """Replace the state by a checkpoint; the next ``feed`` of each process adds what it counted since.

        Raises ``ValueError`` for bytes that are no checkpoint, and then changes nothing.
        """
        try:
            state = msgspec.json.decode(inflated(saved), type=_Saved)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise ValueError(f"this is no SLO checkpoint: {error}") from error
        if not 0.0 <= state.at < LATEST:  # the windows' time would stand still
            raise ValueError(f"this is no SLO checkpoint: it was made at {state.at}, which is no time")
        # a wall clock set back since the checkpoint must not make the windows' time go back
        self._zero += max(0.0, state.at - self._now())
        self._counted = {}
        for o in state.objectives:
            counted = self._counted_of(o.name)
            counted.windows.load(o.windows)
            counted.latency = LogHistogram(o.latency, o.latency_sum)
            counted.total, counted.bad, counted.clusters = o.total, o.bad, o.clusters
            counted.segments, counted.bad_segments = o.segments, o.bad_segments
        self._series = {(s.controller, s.cluster, s.tier, s.kind): s for s in state.series}
        self._last, self._removed = dict(state.last), RecentNames(state.forgotten)

    def _now(self) -> float:
        return self._zero + self._clock.now()

    def _counted_of(self, name: str) -> _Counted:
        counted = self._counted.get(name)
        if counted is None:
            objective = self._objectives.get(name)
            counted = self._counted[name] = _Counted(objective.window if objective else MONTH)
        return counted

    def _count(self, now: float, totals: ObjectiveTotals, before: ObjectiveTotals | None) -> None:
        latencies = LogHistogram(totals.buckets, totals.latency_sum)
        total, bad, segments, bad_segments = totals.total, totals.bad, totals.segments, totals.bad_segments
        if before is not None:
            latencies = latencies.minus(LogHistogram(before.buckets, before.latency_sum))
            total, bad = total - before.total, bad - before.bad
            segments = [a - b for a, b in zip(segments, before.segments, strict=True)]
            bad_segments = [a - b for a, b in zip(bad_segments, before.bad_segments, strict=True)]
        counted = self._counted_of(totals.name)
        counted.windows.add(now, total, bad)
        counted.recent.add(now, total, bad)
        counted.total += total
        counted.bad += bad
        if latencies.buckets:
            counted.latency.add(latencies)
            counted.latency_1h.add(now, latencies)
        cluster = counted.clusters.setdefault(totals.cluster, [0.0, 0.0])
        cluster[0] += total
        cluster[1] += bad
        counted.segments = [a + b for a, b in zip(counted.segments, segments, strict=True)]
        counted.bad_segments = [a + b for a, b in zip(counted.bad_segments, bad_segments, strict=True)]

    def _sum_series(self, totals: SeriesTotals, before: SeriesTotals | None) -> None:
        key = (totals.controller, totals.cluster, totals.tier, totals.kind)
        sums = self._series.setdefault(key, SeriesTotals(*key, 0, 0, 0.0, 0.0, {}))
        latencies = LogHistogram(sums.buckets, sums.latency_sum)
        latencies.add(LogHistogram(totals.buckets, totals.latency_sum))
        if before is not None:
            latencies.add(LogHistogram(before.buckets, before.latency_sum), -1.0)
        sums.count += totals.count - (before.count if before else 0)
        sums.failed += totals.failed - (before.failed if before else 0)
        sums.waited += totals.waited - (before.waited if before else 0)
        sums.buckets, sums.latency_sum = latencies.buckets, latencies.sum

    def _report(self, objective: Objective) -> dict[str, Any]:
        now = self._now()
        counted = self._counted_of(objective.name)
        windows: dict[str, dict[str, float | None]] = {}
        for name in SHOWN:
            total, bad = counted.windows.sum(name, now)
            windows[name] = {
                "total": round(total, 3),
                "bad": round(bad, 3),
                "ratio": ratio(total, bad),
                "burn": burn_rate(objective, total, bad),
            }
        whole = "30d" if objective.window == MONTH else "window"
        budget = error_budget(objective, *counted.windows.sum(whole, now))
        hour = counted.latency_1h.total(now)
        return {
            "name": objective.name,
            "controller": objective.controller,
            "tier": objective.tier or "all",
            "objective": objective.objective,
            "within_seconds": objective.within,
            "window_seconds": objective.window,
            "total": counted.total,
            "bad": counted.bad,
            "ratio": ratio(counted.total, counted.bad),
            "windows": windows,
            "budget": budget._asdict(),
            "alerts": [
                {"severity": a.severity, "long": a.long, "short": a.short, "factor": a.factor(objective)}
                for a in firing(objective, lambda name: counted.windows.sum(name, now))
            ],
            "latency": counted.latency.summary(),
            "latency_1h": hour.summary(),
            "attribution": _shares(counted.segments),
            "attribution_missed": _shares(counted.bad_segments),
            "clusters": {
                name: {"total": total, "bad": bad, "ratio": ratio(total, bad)}
                for name, (total, bad) in sorted(counted.clusters.items())
            },
        }


def _shares(segments: list[float]) -> dict[str, float]:
    """Each segment's share of the total time; empty if that is zero."""
    whole = sum(segments)
    return {name: max(0.0, s) / whole for name, s in zip(SEGMENTS, segments, strict=True)} if whole > 0 else {}
