"""The phases of switches as the seed measured them (its Table 1 and Figure 7), from the fleet's own history. Pure."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PHASES = ("drain", "leaderless", "ramp_up", "backlog")
"""In the order in which they happen; ``raycp.leadership.switches`` says what each is."""

_NAMES = {"ramp_up": "rampUp"}


def phases_between(history: Iterable[Mapping[str, Any]], begun: float, ended: float, killed: bool) -> dict[str, float]:
    """The phases of the one switch of a primary between two moments (Unix seconds); empty where there was none.

    The fleet counts ``leaderless`` from its notice of a death. Of a process that was ``killed`` at ``begun`` we know better: the
    time until it was noticed is leaderless, too. Where several shards switched, the longest.
    """
    found = []
    for row in history:
        if row["what"] == "leader" or row["cause"] == "start" or not begun <= row["at"] <= ended:
            continue
        phases = {phase: row[_NAMES.get(phase, phase)] or 0.0 for phase in PHASES}
        if killed:
            phases["leaderless"] = max(phases["leaderless"], row["at"] - begun)
        found.append(phases)
    return max(found, key=lambda phases: sum(phases.values()), default={})


def phase_figures(switches: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """``PHASE_p50_ms`` of each phase; ``total_p50_ms``, ``total_mean_ms``, ``total_max_ms``, and of how many switches."""
    if not switches:
        return {}
    totals = [sum(phases.values()) for phases in switches]
    told: dict[str, Any] = {"switches": len(switches)}
    for phase in PHASES:
        told[f"{phase}_p50_ms"] = round(statistics.median(phases.get(phase, 0.0) for phases in switches) * 1000, 1)
    told["total_p50_ms"] = round(statistics.median(totals) * 1000, 1)
    told["total_mean_ms"] = round(statistics.fmean(totals) * 1000, 1)
    told["total_max_ms"] = round(max(totals) * 1000, 1)
    return told


def phase_means(switches: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds of each phase on average: what Figure 7 stacks."""
    return {phase: statistics.fmean(phases.get(phase, 0.0) for phases in switches) for phase in PHASES} if switches else {}
