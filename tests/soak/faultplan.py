"""The faults of a soak, their times and targets: a pure function of a seed, so that a failure can be repeated.

Processes are named by place (``shard 0``, ``standby 1``, ``worker 1``, ``leader``, ``observer``), API servers by their cluster.
``faultplayer`` finds the process at a place when the fault is due.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PROCESS_KINDS = {"kill": 5, "kill several": 2, "freeze": 4, "handover": 3}
"""Kinds and weights: SIGKILL, SIGKILL of two or three at once, SIGSTOP then SIGCONT, ``raycp handover``."""

API_KINDS = {
    "drop watches": 3,
    "410 storm": 3,
    "429": 3,
    "latency": 3,
    "slow watches": 2,
    "stalled watches": 3,
    "errors": 2,
    "resets": 2,
    "half open": 1,
    "read only": 1,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """``at``: seconds from the begin of the round. ``specs``: fault specifications of an embedded cluster (docs/embedded.md)."""

    at: float
    kind: str
    targets: tuple[str, ...]
    seconds: float = 0.0
    specs: tuple[dict[str, Any], ...] = ()

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:6.1f} s  {self.kind} {', '.join(self.targets)}{lasts}"


def faults(
    seed: int, turn: int, seconds: float, clusters: Sequence[str], shards: int, workers: int, permit: float
) -> tuple[Fault, ...]:
    """The faults of round ``turn``, in order; all are over when ``seconds`` are. ``clusters``: the hub first."""
    rng = random.Random(f"{seed}/{turn}")
    places = [
        "leader",
        "observer",
        *(f"{role} {number}" for role in ("shard", "standby") for number in range(shards)),
        *(f"worker {number}" for number in range(workers)),
    ]
    found: list[Fault] = []
    at = rng.uniform(0.5, 3.0)
    while at < seconds - 3.0:
        left = seconds - at - 1.0
        if rng.random() < 0.4:
            found.append(_of_processes(rng, at, left, places, shards, permit))
        else:
            found.append(_of_an_api(rng, at, left, clusters))
        at += rng.uniform(0.8, 4.5)
    return tuple(found)


def _of_processes(rng: random.Random, at: float, left: float, places: list[str], shards: int, permit: float) -> Fault:
    kind = _drawn(rng, PROCESS_KINDS)
    if kind == "kill":
        return Fault(at, kind, (rng.choice(places),))
    if kind == "kill several":
        return Fault(at, kind, tuple(sorted(rng.sample(places, rng.choice((2, 2, 3))))))
    if kind == "handover":
        return Fault(at, kind, tuple(f"shard {number}" for number in range(shards) if rng.random() < 0.7) or ("shard 0",))
    # Shorter than its permit it resumes, longer it is replaced: both cases, and those near the edge.
    lasts = rng.choice((rng.uniform(0.2, 0.8), rng.uniform(0.8, 1.2), rng.uniform(1.2, 3.0))) * permit
    return Fault(at, kind, (rng.choice(places),), min(lasts, left))


def _of_an_api(rng: random.Random, at: float, left: float, clusters: Sequence[str]) -> Fault:
    kind = _drawn(rng, API_KINDS)
    cluster = rng.choice(list(clusters))
    lasts = min(left, rng.uniform(0.5, 6.0))
    specs: list[dict[str, Any]]
    match kind:
        case "drop watches":
            specs = [{"kind": "closeWatch", "every": "1s", "for": "100ms"}]
        case "410 storm":
            specs = [{"kind": "compact", "every": "500ms"}, {"kind": "closeWatch", "every": "500ms", "for": "100ms"}]
        case "429":
            share, pause = rng.choice((0.2, 0.6, 1.0)), rng.choice((1, 1, 2))
            specs = [{"kind": "tooManyRequests", "retryAfter": f"{pause}s", "probability": share}]
        case "latency":
            median = rng.choice((20, 100, 400))
            specs = [{"kind": "latency", "latency": f"{median}ms", "jitter": f"{median}ms", "distribution": "lognormal"}]
        case "slow watches":
            # Silence and catching up alternate.
            specs = [{"kind": "stallWatch", "every": "600ms", "for": "400ms"}]
        case "stalled watches":
            specs = [{"kind": "stallWatch"}]
        case "errors":
            specs = [{"kind": "error", "status": rng.choice((500, 503, 504)), "probability": rng.choice((0.3, 0.7, 1.0))}]
        case "resets":
            specs = [{"kind": "reset", "probability": rng.choice((0.2, 0.5))}]
        case "half open":
            specs = [{"kind": "halfOpen", "probability": rng.choice((0.2, 0.5))}]
        case _:
            specs = [{"kind": "readOnly"}]
    return Fault(at, kind, (cluster,), lasts, tuple(specs))


def _drawn(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
