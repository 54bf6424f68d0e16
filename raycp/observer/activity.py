"""What controllers and clusters did lately: rates and p99 out of the merged metrics, over the last minute at most.

Counted while someone asks: an observer whose page nobody has open samples nothing.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from raycp.metrics import Merger
from raycp.observer.view import Json
from raycp.protocol.report import FailureReport
from raycp.protocol.status import FleetStatus

WINDOW = 60.0
"""Seconds over which rates and percentiles are taken, at most."""

PACE = 1.0
"""Seconds between two samples, at least."""

TOLERATED = frozenset({"404", "409"})
"""Answers with an error's status that are a part of a controller's life."""

Totals = dict[str, list[float]]
"""Absolute values by name; a histogram's counts per bucket are followed by its sum."""


class ActivitySample(msgspec.Struct, frozen=True, gc=False):
    """All totals at one time."""

    at: float
    runs: Totals
    """By controller: reconciles, failed ones."""
    run_seconds: Totals
    calls: Totals
    """By cluster: requests, failed ones."""
    call_seconds: Totals


class Activity:
    """One per observer."""

    def __init__(self) -> None:
        self._samples: deque[ActivitySample] = deque()

    def sample(self, merger: Merger, now: float) -> None:
        """Count, where the last count is older than ``PACE``."""
        while self._samples and now - self._samples[0].at > WINDOW:
            self._samples.popleft()
        if not self._samples or now - self._samples[-1].at >= PACE:
            runs = _totals(merger, "raycp_reconcile_total", "controller", lambda row: row["result"] in ("error", "permanent"))
            calls = _totals(merger, "rest_client_requests_total", "cluster", lambda row: _failed(row["code"]))
            run_seconds = _buckets(merger, "raycp_reconcile_time_seconds", "controller")
            call_seconds = _buckets(merger, "rest_client_request_duration_seconds", "cluster")
            self._samples.append(ActivitySample(now, runs, run_seconds, calls, call_seconds))

    def controllers(self, status: FleetStatus, merger: Merger, failures: Sequence[FailureReport]) -> list[Json]:
        """See ``View.controllers``."""
        objects = {
            (row["cluster"], row["kind"]): values[0] for row, values in merger.rows("raycp_cache_objects") if row["role"] == "shard"
        }
        active, ready = _sums(merger, "raycp_reconcile_active"), _sums(merger, "workqueue_depth")
        bounds = _bounds(merger, "raycp_reconcile_time_seconds")
        retrying: dict[str, set[str]] = {}
        for failure in failures:
            retrying.setdefault(failure.controller, set()).add(failure.object)
        rows = []
        for each in status.controllers:
            rate, errors = self._rates(lambda sample: sample.runs, each.name)
            rows.append(
                {
                    "name": each.name,
                    "kind": each.kind,
                    "paused": each.paused,
                    "clusters": len(each.clusters),
                    "objects": int(sum(objects.get((cluster, each.kind), 0.0) for cluster in each.clusters)),
                    "per_second": rate,
                    "errors_per_second": errors,
                    "p99_seconds": quantile(0.99, self._gain(lambda sample: sample.run_seconds, each.name)[:-1], bounds),
                    "active": int(active.get(each.name, 0.0)),
                    "ready": int(ready.get(each.name, 0.0)),
                    "failing": len(retrying.get(each.name, ())),
                }
            )
        return rows

    def of_clusters(self, status: FleetStatus, merger: Merger) -> list[Json]:
        """Of each cluster of ``status``, in its order: what ``View.clusters`` says of its API requests."""
        in_flight = _sums(merger, "raycp_api_in_flight", "cluster")
        bounds = _bounds(merger, "rest_client_request_duration_seconds")
        rows = []
        for each in status.clusters:
            rate, errors = self._rates(lambda sample: sample.calls, each.name)
            rows.append(
                {
                    "requests_per_second": rate,
                    "errors_per_second": errors,
                    "p99_seconds": quantile(0.99, self._gain(lambda sample: sample.call_seconds, each.name)[:-1], bounds),
                    "in_flight": int(in_flight.get(each.name, 0.0)),
                }
            )
        return rows

    def _rates(self, of: Callable[[ActivitySample], Totals], name: str) -> tuple[float | None, float | None]:
        """Per second, all and failed; None before there are two samples."""
        if len(self._samples) < 2:
            return None, None
        seconds = self._samples[-1].at - self._samples[0].at
        gained = self._gain(of, name) or [0.0, 0.0]
        return round(gained[0] / seconds, 3), round(gained[1] / seconds, 3)

    def _gain(self, of: Callable[[ActivitySample], Totals], name: str) -> list[float]:
        """What was counted since the oldest sample; what was there when a name appeared counts, too."""
        if len(self._samples) < 2:
            return []
        last = of(self._samples[-1]).get(name, [])
        first = of(self._samples[0]).get(name) or [0.0] * len(last)
        return [max(0.0, after - before) for before, after in zip(first, last, strict=False)]


def quantile(q: float, counts: Sequence[float], bounds: Sequence[float]) -> float | None:
    """The value below which a share ``q`` lies, interpolated in its bucket as Prometheus does; the highest bound where it lies
    beyond, None for no counts."""
    total = sum(counts)
    if total <= 0 or not bounds:
        return None
    rank, below = q * total, 0.0
    for at, (count, bound) in enumerate(zip(counts, bounds, strict=False)):
        if count > 0 and below + count >= rank:
            lower = bounds[at - 1] if at else 0.0
            return lower + (bound - lower) * (rank - below) / count
        below += count
    return bounds[-1]


def _failed(code: str) -> bool:
    return code == "error" or (code >= "400" and code not in TOLERATED)


def _totals(merger: Merger, name: str, label: str, failed: Callable[[Mapping[str, str]], bool]) -> Totals:
    found: Totals = {}
    for row, values in merger.rows(name):
        sums = found.setdefault(row[label], [0.0, 0.0])
        sums[0] += values[0]
        sums[1] += values[0] if failed(row) else 0.0
    return found


def _buckets(merger: Merger, name: str, label: str) -> Totals:
    found: Totals = {}
    for row, values in merger.rows(name):
        before = found.get(row[label])
        found[row[label]] = values if before is None else [a + b for a, b in zip(before, values, strict=True)]
    return found


def _sums(merger: Merger, name: str, label: str = "controller") -> dict[str, float]:
    found: dict[str, float] = {}
    for row, values in merger.rows(name):
        found[row[label]] = found.get(row[label], 0.0) + values[0]
    return found


def _bounds(merger: Merger, name: str) -> tuple[float, ...]:
    return next((spec.buckets for spec in merger.merged().specs() if spec.name == name), ())
