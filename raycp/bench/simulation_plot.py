"""The figure of ``raycp simulate``: utilisation and waiting jobs over time, and the waits of each priority."""

from collections.abc import Sequence
from pathlib import Path

from raycp.bench.plot import pyplot_for
from raycp.scheduling.simulation import SimulationReport

_COLORS = ("#2563eb", "#d97706", "#7c3aed")


def draw_simulation(reports: Sequence[SimulationReport], path: Path) -> None:
    """Write a PNG or SVG, by the suffix of ``path``. Raises ``PlotError``."""
    pyplot = pyplot_for(path)
    figure, axes = pyplot.subplots(3, 1, figsize=(9, 9), layout="constrained")
    figure.suptitle("raycp simulate")
    for report, color in zip(reports, _COLORS, strict=False):
        for axis, name in zip(axes, ("utilisation", "waiting jobs"), strict=False):
            points = report.curves[name]
            hours = [at / 3600 for at, _ in points]
            axis.plot(hours, [value for _, value in points], lw=1.1, color=color, label=report.name)
            axis.set(xlabel="hours", ylabel=name)
    priorities = sorted({each.priority for report in reports for each in report.classes}, reverse=True)
    width = 0.8 / len(reports)
    for at, (report, color) in enumerate(zip(reports, _COLORS, strict=False)):
        waits = {each.priority: max(1.0, each.wait_p99_s) for each in report.classes}
        places = [number + at * width for number in range(len(priorities))]
        axes[2].bar(places, [waits.get(each, 1.0) for each in priorities], width, color=color, label=report.name)
    axes[2].set(xlabel="priority", ylabel="wait p99, s", yscale="log")
    axes[2].set_xticks([number + 0.4 - width / 2 for number in range(len(priorities))], [str(each) for each in priorities])
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.legend(loc="best", fontsize=8)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
