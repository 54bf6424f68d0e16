"""The bounds promised for each scenario (``bounds.yaml``), and whether figures keep them."""

from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

Kind = Literal["max", "min"]


class Bound(NamedTuple):
    """``figure`` of ``scenario`` is at most (or at least) ``value``; with the source of that value."""

    scenario: str
    figure: str
    kind: Kind
    value: float
    machine: str
    trials: int
    date: str
    why: str
    optional: bool = False
    """The figure may be missing, for instance on real clusters; then it is not judged."""

    def kept(self, figures: Mapping[str, Any]) -> bool | None:
        """None if the figure is missing."""
        found = figures.get(self.figure)
        if not isinstance(found, (int, float)):
            return None
        return found <= self.value if self.kind == "max" else found >= self.value


def load_bounds() -> list[Bound]:
    """The committed bounds."""
    text = (resources.files("raycp.bench") / "bounds.yaml").read_text()
    found = []
    for scenario, bounds in yaml.safe_load(text).items():
        for figure, bound in bounds.items():
            kind: Kind = "max" if "max" in bound else "min"
            where = (bound["machine"], bound["trials"], str(bound["date"]), bound["why"])
            found.append(Bound(scenario, figure, kind, float(bound[kind]), *where, bound.get("optional", False)))
    return found


def judge(scenario: str, figures: Mapping[str, Any]) -> list[tuple[Bound, bool | None, Any]]:
    """Each bound of the scenario, whether it is kept, and the measured value. A switch is also compared with the bounds of its
    cause (``switch CAUSE``), or of each of its causes."""
    mine = [bound for bound in load_bounds() if bound.scenario == scenario]
    found = [(b, b.kept(figures), figures.get(b.figure)) for b in mine if not b.optional or figures.get(b.figure) is not None]
    if cause := figures.get("cause"):
        found += judge(f"{scenario} {cause}", {**figures, "cause": None})
    for cause, row in (figures.get("causes") or {}).items():
        found += judge(f"{scenario} {cause}", {**row, "cause": None})
    return found
