"""What a scenario is: a name, the clusters it needs, and a coroutine from its stage to figures."""

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
"""Objects that are there before a switch or a storm."""

USERS_PER_SECOND = 20.0
"""Changes that users make through a switch or a storm."""


@dataclass
class Outcome:
    """One run. ``latencies`` in seconds are pooled over runs into the standard figures; ``own`` are the scenario's; ``curves`` are
    for the plot: name → points (seconds since the run's start, value); ``phases`` of each switch: name → seconds."""

    latencies: list[float] = field(default_factory=list)
    missing: int = 0
    own: Figures = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    phases: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Stage:
    """Where a run plays. ``policy`` is raycp or fifo; ``scale`` shrinks counts (tests use 0.05)."""

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


Play = Callable[[Stage], Awaitable[Outcome]]
OpenRay = Callable[[str, Mapping[str, Any]], AbstractAsyncContextManager[RayAtHand]]


@dataclass(frozen=True)
class Scenario:
    """``clusters``: how many embedded clusters it wants; ``peer``: whether kopf can do the same; ``policies``: the parties where
    none is asked for; ``offers``: those that can be asked for beside raycp; ``plays``: those of them that are no raycp fleet, with
    what they do; ``variants``: an option and its values, each played by itself; ``only``: of a policy, the variants that it suits;
    ``ray``: the Ray that it wants, by address and options; ``objective`` in seconds.
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
        """Whether the policy can play the variant."""
        return variant in self.only.get(policy, (variant,))


SCENARIOS: dict[str, Scenario] = {}


def scenario(**what: Any) -> Callable[[Play], Play]:
    """Register the decorated coroutine as a scenario."""

    def register(play: Play) -> Play:
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
