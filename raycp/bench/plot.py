"""Figures: the distribution of latencies, and the scenario's own curves over time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raycp.bench.phases import phase_means
from raycp.bench.runner import RunResult

COLORS = {"raycp": "#2563eb", "fifo": "#d97706", "kopf": "#7c3aed", "seed": "#d97706"}
PHASE_COLORS = {"drain": "#94a3b8", "leaderless": "#dc2626", "ramp_up": "#d97706", "backlog": "#2563eb"}


STORM = ("queue depth", "instant SLI")
"""Curves of a storm, from top to bottom."""


class PlotError(Exception):
    """The figure cannot be drawn; the message names the remedy."""


def draw(title: str, result: RunResult, path: Path, objective: float | None = None) -> None:
    """Write a PNG or SVG, by the suffix of ``path``. Raises ``PlotError``."""
    pyplot = pyplot_for(path)
    curves = sorted({name for runs in result.outcomes.values() for o in runs for name in o.curves if name != "latency_ms"})
    latencies = any(o.latencies for runs in result.outcomes.values() for o in runs)
    first = [name for name in STORM if name in curves]  # depth above, SLI below, one time axis
    others = [name for name in curves if name not in STORM]
    panels = [*first, *(["over time", "distribution"] if latencies else []), *others]
    if not panels:
        raise PlotError("nothing to draw: the run has neither latencies nor curves")
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(9, 3.2 * len(panels)), squeeze=False, layout="constrained")
    figure.suptitle(title)
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        for party, runs in result.outcomes.items():
            color = COLORS.get(party)
            if panel == "over time":
                points = [p for o in runs for p in o.curves.get("latency_ms", ())]
                axis.plot(
                    [t for t, _ in points],
                    [v for _, v in points],
                    ".",
                    ms=2,
                    alpha=0.4,
                    color=color,
                    label=party,
                    rasterized=True,  # thousands of dots make an SVG large
                )
            elif panel == "distribution":
                _distribution(axis, sorted(s for o in runs for s in o.latencies), party, color)
            else:
                for i, o in enumerate(runs):
                    points = o.curves.get(panel, [])
                    axis.plot(
                        [t for t, _ in points],
                        [v for _, v in points],
                        lw=1,
                        color=color,
                        label=party if i == 0 else None,
                    )
        _label(axis, panel, objective)
    timed = [axis for axis, panel in zip(axes[:, 0], panels, strict=True) if first and panel in (*STORM, "over time")]
    for axis in timed[1:]:
        axis.sharex(timed[0])
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def draw_phases(title: str, results: Mapping[str, RunResult], path: Path) -> None:
    """Switches by cause: the mean phases of a switch, stacked, and the gaps in users' changes.

    ``results`` by cause. If some switches take seconds, the faster ones are drawn again in a panel of their own, in milliseconds.
    Raises ``PlotError``.
    """
    pyplot = pyplot_for(path)
    bars, gaps = {}, {}
    for cause, result in results.items():
        for party, outcomes in result.outcomes.items():
            name = f"{cause}\n{party}" if len(result.outcomes) > 1 else cause
            if (cause, party) == ("leader-kill", "raycp"):
                name += "\n(nobody waits)"
            if means := phase_means([phases for o in outcomes for phases in o.phases]):
                bars[name, party] = means
            if points := [gap for o in outcomes for _, gap in o.curves.get("gap_ms", ())]:
                gaps[name, party] = points
    if not bars and not gaps:
        raise PlotError("nothing to draw: the run has neither phases nor gaps")
    quick = {key: means for key, means in bars.items() if sum(means.values()) < 1.0}
    panels = [("phases, s", bars, 1.0)] if len(quick) < len(bars) else []
    panels += [("phases below 1 s, ms" if panels else "phases, ms", quick, 1000.0)] if quick else []
    count = len(panels) + (1 if gaps else 0)
    size = (max(7.0, 1.1 * max(len(bars), len(gaps)) + 1.5), 3.6 * count)
    figure, axes = pyplot.subplots(count, 1, figsize=size, squeeze=False, layout="constrained")
    figure.suptitle(title)
    for axis, (label, shown, unit) in zip(axes[:, 0], panels, strict=False):
        _stack(axis, label, shown, unit)
    if gaps:
        _gaps(axes[-1, 0], gaps)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _stack(axis: Any, label: str, shown: Mapping[tuple[str, str], Mapping[str, float]], unit: float) -> None:
    names = [name for name, _ in shown]
    floor = [0.0] * len(shown)
    for phase, color in PHASE_COLORS.items():
        heights = [means[phase] * unit for means in shown.values()]
        axis.bar(range(len(shown)), heights, 0.6, bottom=floor, label=phase.replace("_", "-"), color=color)
        floor = [below + height for below, height in zip(floor, heights, strict=True)]
    for x, total in enumerate(floor):
        axis.annotate(f"{total:.0f}" if total >= 100 else f"{total:.3g}", (x, total), ha="center", va="bottom", fontsize=8)
    axis.set(ylabel=label)
    axis.set_xticks(range(len(shown)), names, fontsize=8, rotation=20 if len(names) > 6 else 0)
    axis.set_ylim(0, max(floor) * 1.12 or 1.0)
    axis.grid(axis="y", alpha=0.25)
    axis.legend(loc="best", fontsize=8)


def _gaps(axis: Any, gaps: Mapping[tuple[str, str], list[float]]) -> None:
    """Every repetition's longest extra wait."""
    for x, ((_, party), points) in enumerate(gaps.items()):
        # a difference of tens of microseconds may fall below the median
        axis.plot([x] * len(points), [max(point, 0.1) for point in points], "o", ms=3, alpha=0.5, color=COLORS.get(party))
    axis.set(ylabel="longest extra wait\nof a user's change, ms", yscale="log")
    axis.set_xticks(range(len(gaps)), [name for name, _ in gaps], fontsize=8, rotation=20 if len(gaps) > 6 else 0)
    axis.grid(axis="y", alpha=0.25)


def pyplot_for(path: Path) -> Any:
    """matplotlib, for a figure of this name. Raises ``PlotError``."""
    if path.suffix not in (".png", ".svg"):
        raise PlotError(f"{path}: a figure is a .png or a .svg")
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise PlotError("figures need matplotlib: pip install 'raycp[bench]'") from error
    return pyplot


def _distribution(axis: Any, ordered: list[float], party: str, color: str | None) -> None:
    n = len(ordered)
    if n:
        # 1 - share on a logarithmic axis: each decade is one more nine
        axis.plot([s * 1000 for s in ordered], [1 - i / n for i in range(n)], lw=1.4, color=color, label=party)


def _label(axis: Any, panel: str, objective: float | None) -> None:
    if panel == "over time":
        axis.set(xlabel="seconds", ylabel="latency, ms", yscale="log")
    elif panel == "distribution":
        axis.set(xlabel="latency, ms", ylabel="share above", xscale="log", yscale="log")
        if objective:
            axis.axvline(objective * 1000, color="#6b7280", ls="--", lw=0.8, label="objective")
    elif panel == "instant SLI":
        axis.set(xlabel="seconds", ylabel="instant SLI", ylim=(-0.03, 1.03))
    else:
        axis.set(xlabel="seconds", ylabel=panel)
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="best", fontsize=8)
