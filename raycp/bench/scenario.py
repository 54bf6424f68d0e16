"""A scenario: a name, the clusters that it needs, and a coroutine from its stage to figures."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from raycp.bench.driver import Driver
from raycp.bench.fleets import RayAtHand, ray_at_hand
from raycp.bench.ground import Ground
from raycp.bench.latencies import Figures

Row = tuple[str, float, float]
"""Name, sent (seconds of the load process's clock), latency in seconds."""

EXISTING = 10_000
"""Objects that exist before a switch or a storm."""

USERS_PER_SECOND = 20.0
"""Users' changes a second during a switch or a storm."""


@dataclass
class RunOutcome:
    """One run. ``latencies`` in seconds are pooled over runs into the standard figures; ``own`` are the scenario's; ``curves`` are
    for the plot: name → points (seconds since the run's start, value); ``phases`` of each switch: name → seconds."""

    latencies: list[float] = field(default_factory=list)
    missing: int = 0
    own: Figures = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    phases: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Stage:
    """The environment of a run. ``policy`` is raycp or fifo; ``scale`` shrinks counts (tests use 0.05)."""

    ground: Ground
    load: Driver
    ray: RayAtHand
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


Play = Callable[[Stage], Awaitable[RunOutcome]]
OpenRay = Callable[[str, Mapping[str, Any]], AbstractAsyncContextManager[RayAtHand]]


@dataclass(frozen=True)
class Scenario:
    """``clusters``: how many embedded clusters it needs. ``peer``: whether kopf can do the same work. ``policies``: the default
    policies. ``offers``: the policies that can be requested beside raycp. ``plays``: those that are not a raycp fleet, with
    their coroutines. ``variants``: an option and its values, each run by itself. ``only``: for a policy, the variants that it
    suits. ``ray``: the Ray that it needs, by address and options. ``objective`` in seconds.
    """

    name: str
    about: str
    play: Play
    clusters: int = 1
    peer: Play | None = None
    runs: int = 3
    policies: tuple[str, ...] = ("raycp",)
    offers: tuple[str, ...] = ("fifo",)
    plays: Mapping[str, Play] = field(default_factory=dict)
    variants: tuple[str, tuple[str, ...]] = ("", ())
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ray: OpenRay = ray_at_hand
    objective: float = 1.0

    def suits(self, policy: str, variant: str) -> bool:
        """Whether the policy can run the variant."""
        return variant in self.only.get(policy, (variant,))


SCENARIOS: dict[str, Scenario] = {}


def scenario(**what: Any) -> Callable[[Play], Play]:
    """Register the decorated coroutine as a scenario."""

    def register(play: Play) -> Play:
        made = Scenario(play=play, **what)
        SCENARIOS[made.name] = made
        return play

    return register


def outcome_of(answer: dict[str, Any], **own: Any) -> RunOutcome:
    """From the load process's response to ``wait``."""
    rows: list[Row] = answer["rows"]
    begin = min((sent for _, sent, _ in rows), default=0.0)
    curve = sorted((sent - begin, latency * 1000) for _, sent, latency in rows)
    return RunOutcome(
        [latency for _, _, latency in rows],
        answer["missing"],
        {"duplicates": answer["duplicates"], **own},
        {"latency_ms": curve},
    )
