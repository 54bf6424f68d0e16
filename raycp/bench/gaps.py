"""The gap that users see when something switches. Pure."""

import statistics
from collections.abc import Sequence
from typing import Any

from raycp.bench.latencies import percentile
from raycp.bench.scenario import Row


def gaps_of(windows: Sequence[Sequence[Row]], median: float | None = None) -> list[float]:
    """Of each repetition, the longest wait of a change above ``median`` (else that of all changes), in seconds."""
    if median is None:
        median = statistics.median([latency for window in windows for _, _, latency in window] or [0.0])
    return [max((latency for _, _, latency in window), default=0.0) - median for window in windows]


def gap_figures(gaps: Sequence[float]) -> dict[str, Any]:
    """What checks read; ``gaps`` is not empty."""
    ordered = sorted(gaps)
    return {
        "repetitions": len(ordered),
        "max_gap_ms": round(ordered[-1] * 1000, 1),
        "gap_p50_ms": round(percentile(ordered, 0.5) * 1000, 1),
        "gap_p99_ms": round(percentile(ordered, 0.99) * 1000, 1),
    }
