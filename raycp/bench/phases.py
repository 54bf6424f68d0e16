"""The phases of switches, from the fleet's own history. Pure."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PHASES = ("drain", "leaderless", "ramp_up", "backlog")
"""In the order in which they happen; ``raycp.leadership.switches`` defines each."""

_NAMES = {"ramp_up": "rampUp"}


def phases_between(history: Iterable[Mapping[str, Any]], begun: float, ended: float, killed: bool) -> dict[str, float]:
    """The phases of the switch of a primary between two moments (Unix seconds); empty if there was none.

    The fleet counts ``leaderless`` from the moment at which it notices a death. For a process that was ``killed`` at ``begun``
    the time until then is added. If several shards switched, the longest phase counts. A phase without a record (its leader
    died with the primary) is left out.
    """
    found = []
    for row in history:
        if row["what"] == "leader" or row["cause"] == "start" or not begun <= row["at"] <= ended:
            continue
        phase_values = {phase: row[_NAMES.get(phase, phase)] for phase in PHASES}
        phases = {phase: seconds for phase, seconds in phase_values.items() if seconds is not None}
        if killed:
            phases["leaderless"] = max(phases.get("leaderless", 0.0), row["at"] - begun)
        found.append(phases)
    return max(found, key=lambda phases: sum(phases.values()), default={})


def phase_figures(switches: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """``PHASE_p50_ms`` of each phase; ``total_p50_ms``, ``total_mean_ms``, ``total_max_ms``, and the number of switches."""
    if not switches:
        return {}
    totals = [sum(phases.values()) for phases in switches]
    phase_values: dict[str, Any] = {"switches": len(switches)}
    for phase in PHASES:
        if known := [phases[phase] for phases in switches if phase in phases]:
            phase_values[f"{phase}_p50_ms"] = round(statistics.median(known) * 1000, 1)
    phase_values["total_p50_ms"] = round(statistics.median(totals) * 1000, 1)
    phase_values["total_mean_ms"] = round(statistics.fmean(totals) * 1000, 1)
    phase_values["total_max_ms"] = round(max(totals) * 1000, 1)
    return phase_values


def phase_means(switches: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each phase, in seconds."""
    return {phase: statistics.fmean(phases.get(phase, 0.0) for phases in switches) for phase in PHASES} if switches else {}
