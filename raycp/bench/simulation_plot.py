"""The figure of ``raycp simulate``: utilisation and waiting jobs over time, and of each priority the waits and the preemptions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from raycp.bench.plot import pyplot_for
from raycp.scheduling.simulation import ClassReport, SimulationReport

_COLORS = ("#2563eb", "#d97706", "#7c3aed")
_CURVES = ("utilisation", "waiting jobs")
_BARS: dict[str, Callable[[ClassReport], float]] = {
    "wait p99, s": lambda each: each.wait_p99_s,
    "preemptions": lambda each: each.preemptions,
}


def draw_simulation(reports: Sequence[SimulationReport], path: Path) -> None:
    """Write a PNG or SVG, by the suffix of ``path``; the same reports make the same SVG. Raises ``PlotError``."""
    pyplot = pyplot_for(path)
    with pyplot.rc_context({"svg.hashsalt": "raycp"}):
        figure, axes = pyplot.subplot_mosaic([[each, each] for each in _CURVES] + [[*_BARS]], figsize=(9, 9), layout="constrained")
        figure.suptitle("raycp simulate")
        for report, color in zip(reports, _COLORS, strict=False):
            for name in _CURVES:
                points = report.curves[name]
                mean = report.utilisation.get("cpu") if name == "utilisation" else None
                used = "" if mean is None else f", {100 * mean:.0f} % until the last arrival"
                hours = [at / 3600 for at, _ in points]
                axes[name].plot(hours, [value for _, value in points], lw=1.1, color=color, label=report.name + used)
                axes[name].set(xlabel="hours", ylabel=name)
        for name, value in _BARS.items():
            _bars(axes[name], reports, name, value)
        axes["wait p99, s"].set(yscale="log", ylim=(1.0, None))
        for axis in axes.values():
            axis.grid(alpha=0.25)
        for name in (*_CURVES, "preemptions"):
            axes[name].legend(loc="upper left", fontsize=8)
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _bars(axis: Any, reports: Sequence[SimulationReport], name: str, value: Callable[[ClassReport], float]) -> None:
    """A group for each priority, in it a bar for each report, with its number."""
    priorities = sorted({each.priority for report in reports for each in report.classes}, reverse=True)
    width = 0.8 / len(reports)
    for at, (report, color) in enumerate(zip(reports, _COLORS, strict=False)):
        found = {each.priority: value(each) for each in report.classes}
        bars = axis.bar(
            [number + at * width for number in range(len(priorities))],
            [found.get(each, 0.0) for each in priorities],
            width,
            color=color,
            label=report.name,
        )
        axis.bar_label(bars, [f"{found.get(each, 0.0):.0f}" for each in priorities], fontsize=7)
    axis.set(xlabel="priority", ylabel=name)
    axis.set_xticks([number + 0.4 - width / 2 for number in range(len(priorities))], [str(each) for each in priorities])
    axis.margins(y=0.12)
