"""The gap in users' changes caused by a switch. Pure."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from raycp.bench.latencies import percentile
from raycp.bench.scenario import Row


def undisturbed(windows: Sequence[Sequence[Row]], each: int) -> float:
    """The median latency of the first ``each`` changes of each repetition: those before the switch."""
    first = [row for window in windows for row in sorted(window, key=lambda row: row[1])[:each]]
    return statistics.median([latency for _, _, latency in first] or [0.0])


def gaps_of(windows: Sequence[Sequence[Row]], median: float) -> list[float]:
    """For each repetition, the longest wait of a change above ``median``, in seconds."""
    return [max((latency for _, _, latency in window), default=0.0) - median for window in windows]


def stale_writes(stamps: Iterable[tuple[int, str, int]]) -> int:
    """The number of writes that took effect after the first write of a newer epoch, or of a newer term of their shard (law 6).
    ``stamps``: (epoch, shard, term), in the order in which the writes took effect."""
    newest: dict[str, tuple[int, int]] = {}
    epoch, stale = 0, 0
    for number, shard, term in stamps:
        if number < epoch or (number, term) < newest.get(shard, (0, 0)):
            stale += 1
        else:
            epoch, newest[shard] = number, (number, term)
    return stale


def gap_figures(gaps: Sequence[float]) -> dict[str, Any]:
    """The figures that ``--check`` reads; ``gaps`` is not empty."""
    ordered = sorted(gaps)
    return {
        "repetitions": len(ordered),
        "max_gap_ms": round(ordered[-1] * 1000, 1),
        "gap_p50_ms": round(percentile(ordered, 0.5) * 1000, 1),
        "gap_p99_ms": round(percentile(ordered, 0.99) * 1000, 1),
    }
