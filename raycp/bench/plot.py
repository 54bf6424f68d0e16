"""Figures: the distribution of latencies, and the scenario's own curves over time."""

from pathlib import Path
from typing import Any

from raycp.bench.runner import Result

COLORS = {"raycp": "#2563eb", "fifo": "#d97706", "kopf": "#7c3aed"}


class PlotError(Exception):
    """The figure can't be drawn; the message has the remedy."""


def draw(title: str, result: Result, path: Path, objective: float | None = None) -> None:
    """Write a PNG or SVG, by the suffix of ``path``. Raises ``PlotError``."""
    if path.suffix not in (".png", ".svg"):
        raise PlotError(f"{path}: a figure is a .png or a .svg")
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise PlotError("figures need matplotlib: pip install 'raycp[bench]'") from error
    curves = sorted(
        {name for runs in result.outcomes.values() for o in runs for name in o.curves if name != "latency_ms"}
    )
    latencies = any(o.latencies for runs in result.outcomes.values() for o in runs)
    panels = [*(["over time", "distribution"] if latencies else []), *curves]
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
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


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
    else:
        axis.set(xlabel="seconds", ylabel=panel)
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="best", fontsize=8)
