"""Objectives: the share of users' changes that must be done within a threshold."""

import functools
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from raycp.slo.sample import JUDGED, Sample

MONTH = 30 * 86400.0


class ObjectiveConfig(Protocol):
    """The fields of the fleet file's ``spec.slo[]`` that an objective needs."""

    @property
    def controller(self) -> str: ...
    @property
    def tier(self) -> str | None: ...
    @property
    def objective(self) -> float: ...
    @property
    def within(self) -> float: ...
    @property
    def window(self) -> float: ...


class Objective(msgspec.Struct, frozen=True):
    """``objective`` (0..1, below 1) of the changes of ``controller`` (``*``: all) in ``tier`` (None: all) are done
    ``within`` seconds, counted over ``window`` seconds."""

    controller: str
    tier: str | None
    objective: float
    within: float
    window: float = MONTH

    @property
    def name(self) -> str:
        """Unique among a fleet's objectives: controller, tier and threshold, such as ``batchjob-critical-1s``."""
        return _name(self.controller, self.tier, self.within)

    @property
    def budget(self) -> float:
        """The share of changes that may miss."""
        return 1.0 - self.objective

    def judges(self, controller: str, tier: str) -> bool:
        return self.controller in ("*", controller) and self.tier in (None, tier)

    def kept(self, sample: Sample) -> bool:
        """Whether the sample met the objective; a failure never does."""
        return sample.ok and sample.seconds <= self.within


class Objectives:
    """All objectives of a fleet. Every objective that matches a change counts it."""

    def __init__(self, objectives: Iterable[Objective] = ()) -> None:
        self._all = tuple(objectives)
        names = [o.name for o in self._all]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two objectives for the same changes and threshold: {', '.join(twice)}")
        self._cache: dict[tuple[str, str], tuple[Objective, ...]] = {}

    @classmethod
    def compile(cls, configs: Iterable[ObjectiveConfig]) -> "Objectives":
        """From the fleet file's ``spec.slo``. Raises ``ValueError`` for two of the same name."""
        return cls(Objective(c.controller, c.tier, c.objective, c.within, c.window) for c in configs)

    def __iter__(self) -> Iterator[Objective]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def get(self, name: str) -> Objective | None:
        return next((o for o in self._all if o.name == name), None)

    def of(self, controller: str, tier: str, kind: str = "user") -> tuple[Objective, ...]:
        """The objectives that judge a change of this kind; none for system work and backlog."""
        if kind not in JUDGED:
            return ()
        key = (controller, tier)
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = tuple(o for o in self._all if o.judges(controller, tier))
        return found


@functools.cache
def _name(controller: str, tier: str | None, within: float) -> str:
    """Each change asks for it several times."""
    return f"{'all' if controller == '*' else controller}-{tier or 'all'}-{seconds_text(within)}"


def seconds_text(seconds: float) -> str:
    """``0.25`` → ``250ms``, ``1`` → ``1s``, ``90`` → ``90s``, ``3600`` → ``1h``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    if seconds >= 1 and seconds == int(seconds):
        return f"{int(seconds)}s"
    return f"{round(seconds * 1000, 3):g}ms"
