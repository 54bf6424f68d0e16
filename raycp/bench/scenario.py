"""What a scenario is: a name, the clusters it needs, and a coroutine from its stage to figures."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from raycp.bench.driver import Driver
from raycp.bench.ground import Ground
from raycp.bench.latencies import Figures

Row = tuple[str, float, float]
"""Name, sent (seconds of the load process's clock), latency in seconds."""


@dataclass
class Outcome:
    """One run. ``latencies`` in seconds are pooled over runs into the standard figures; ``own`` are the scenario's;
    ``curves`` are
    for the plot: name → points (seconds since the run's start, value)."""

    latencies: list[float] = field(default_factory=list)
    missing: int = 0
    own: Figures = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


@dataclass
class Stage:
    """Where a run plays. ``policy`` is raycp or fifo; ``scale`` shrinks counts (tests use 0.05)."""

    ground: Ground
    load: Driver
    run: int
    policy: str = "raycp"
    scale: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def members(self) -> list[str]:
        """The clusters in which workloads are reconciled: all but the hub, or the only one."""
        return self.ground.names[1:] or self.ground.names

    def count(self, full: int) -> int:
        return max(1, round(full * self.scale))


@dataclass(frozen=True)
class Scenario:
    """``clusters``: how many embedded clusters it wants; ``peer``: whether kopf can do the same; ``objective`` in
    seconds.
    """

    name: str
    about: str
    play: Callable[[Stage], Awaitable[Outcome]]
    clusters: int = 1
    peer: Callable[[Stage], Awaitable[Outcome]] | None = None
    runs: int = 3
    policies: tuple[str, ...] = ("raycp",)
    objective: float = 1.0


SCENARIOS: dict[str, Scenario] = {}


def scenario(**what: Any) -> Callable[[Callable[[Stage], Awaitable[Outcome]]], Callable[[Stage], Awaitable[Outcome]]]:
    """Register the decorated coroutine as a scenario."""

    def register(play: Callable[[Stage], Awaitable[Outcome]]) -> Callable[[Stage], Awaitable[Outcome]]:
        made = Scenario(play=play, **what)
        SCENARIOS[made.name] = made
        return play

    return register


def outcome_of(answer: dict[str, Any], **own: Any) -> Outcome:
    """From the load process's answer to ``wait``."""
    rows: list[Row] = answer["rows"]
    begin = min((sent for _, sent, _ in rows), default=0.0)
    curve = sorted((sent - begin, latency * 1000) for _, sent, latency in rows)
    return Outcome(
        [latency for _, _, latency in rows],
        answer["missing"],
        {"duplicates": answer["duplicates"], **own},
        {"latency_ms": curve},
    )
