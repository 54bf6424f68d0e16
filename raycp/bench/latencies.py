"""From latencies to figures. Percentiles are exact (nearest rank): benchmarks keep every sample."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

PERCENTILES = {"p50_ms": 0.50, "p90_ms": 0.90, "p99_ms": 0.99, "p999_ms": 0.999}
Figures = dict[str, Any]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: the least value that at least ``share`` of all samples do not exceed. ``ordered`` is not empty."""
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def figures(seconds: Sequence[float], missing: int = 0, objective: float = 1.0) -> Figures:
    """``n, missing, p50_ms, p90_ms, p99_ms, p999_ms, max_ms, within_objective`` of latencies in seconds.

    ``missing`` changes never had their effect: they are in no percentile, and count against ``within_objective``, the share of all
    changes within ``objective`` seconds.
    """
    ordered = sorted(seconds)
    if not ordered:
        return {"n": 0, "missing": missing, **dict.fromkeys([*PERCENTILES, "max_ms"]), "within_objective": None}
    values = {name: round(percentile(ordered, share) * 1000, 3) for name, share in PERCENTILES.items()}
    within = sum(1 for s in ordered if s <= objective)
    return {
        "n": len(ordered),
        "missing": missing,
        **values,
        "max_ms": round(ordered[-1] * 1000, 3),
        "within_objective": round(within / (len(ordered) + missing), 6),
    }


def pooled(runs: Sequence[Sequence[float]], missing: int = 0, objective: float = 1.0) -> Figures:
    """Several runs as one: p50, p90, p99 are medians of the runs; p99.9, max, n and shares come from all samples together, since a
    p99.9 needs thousands."""
    together = figures([s for run in runs for s in run], missing, objective)
    each = [figures(run, 0, objective) for run in runs if run]
    if each:
        for name in ("p50_ms", "p90_ms", "p99_ms"):
            together[name] = round(statistics.median(f[name] for f in each), 3)
    return together


def median_of(runs: Sequence[Mapping[str, Any]]) -> Figures:
    """Key by key: the median of numbers, the last value of anything else."""
    out: Figures = {}
    for key in {k: None for run in runs for k in run}:
        values = [run[key] for run in runs if run.get(key) is not None]
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if values and len(numbers) == len(values):
            middle = statistics.median(numbers)
            out[key] = int(middle) if all(isinstance(v, int) for v in numbers) and middle == int(middle) else round(middle, 4)
        else:
            out[key] = values[-1] if values else None
    return out
