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
    time until it was noticed is leaderless, too. Where several shards switched, the longest. A phase that was not recorded (the
    leader that would have died with the primary) is left out.
    """
    found = []
    for row in history:
        if row["what"] == "leader" or row["cause"] == "start" or not begun <= row["at"] <= ended:
            continue
        told = {phase: row[_NAMES.get(phase, phase)] for phase in PHASES}
        phases = {phase: seconds for phase, seconds in told.items() if seconds is not None}
        if killed:
            phases["leaderless"] = max(phases.get("leaderless", 0.0), row["at"] - begun)
        found.append(phases)
    return max(found, key=lambda phases: sum(phases.values()), default={})


def phase_figures(switches: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """``PHASE_p50_ms`` of each phase; ``total_p50_ms``, ``total_mean_ms``, ``total_max_ms``, and of how many switches."""
    if not switches:
        return {}
    totals = [sum(phases.values()) for phases in switches]
    told: dict[str, Any] = {"switches": len(switches)}
    for phase in PHASES:
        if known := [phases[phase] for phases in switches if phase in phases]:
            told[f"{phase}_p50_ms"] = round(statistics.median(known) * 1000, 1)
    told["total_p50_ms"] = round(statistics.median(totals) * 1000, 1)
    told["total_mean_ms"] = round(statistics.fmean(totals) * 1000, 1)
    told["total_max_ms"] = round(max(totals) * 1000, 1)
    return told


def phase_means(switches: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds of each phase on average: what Figure 7 stacks."""
    return {phase: statistics.fmean(phases.get(phase, 0.0) for phases in switches) for phase in PHASES} if switches else {}
