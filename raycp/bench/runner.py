"""Plays a scenario several times, raycp and peers in the same run, and makes one JSON object of it."""

import contextlib
import datetime
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raycp.bench.driver import load_process
from raycp.bench.fleets import ray_at_hand
from raycp.bench.ground import ground
from raycp.bench.latencies import Figures, median_of, pooled
from raycp.bench.scenario import Outcome, Scenario, Stage


@dataclass
class Request:
    """What the command line asks for."""

    scenario: Scenario
    runs: int | None = None
    kubeconfigs: Sequence[Path] = ()
    policies: Sequence[str] = ()
    peer: str | None = None
    clusters: int | None = None
    scale: float = 1.0
    address: str = "local"
    options: dict[str, Any] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _: None


@dataclass
class Result:
    """Figures per party: ``raycp``, and ``fifo`` or a peer where asked for; ``outcomes`` for the plot."""

    figures: dict[str, Figures]
    outcomes: dict[str, list[Outcome]]


async def run(request: Request) -> Result:
    """Play it. Every run has fresh clusters (unless they are given), so that no run inherits from another."""
    wanted = request.scenario
    outcomes: dict[str, list[Outcome]] = {}
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(ray_at_hand(request.address))
        for number in range(request.runs or wanted.runs):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raycp-bench-")))
            where = await stack.enter_async_context(_Run(request, directory, number))
            for party, play in _parties(request):
                policy = party if party in ("raycp", "fifo") else "raycp"
                stage = Stage(where.ground, where.load, number, policy, request.scale, request.options)
                request.tell(f"{wanted.name}: run {number + 1}, {party}")
                outcomes.setdefault(party, []).append(await play(stage))
                await where.load.order("forget")
            await where.end()
    return Result({party: _figures(wanted, party, runs) for party, runs in outcomes.items()}, outcomes)


class _Run(contextlib.AbstractAsyncContextManager["_Run"]):
    """Clusters and load process of one run, ended as soon as the run is over."""

    def __init__(self, request: Request, directory: Path, number: int) -> None:
        self._request = request
        self._directory = directory
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "_Run":
        count = self._request.clusters or self._request.scenario.clusters
        spec = self._request.options.get("cluster")
        self.ground = await self._stack.enter_async_context(
            ground(count, self._directory, self._request.kubeconfigs, spec)
        )
        self.load = await self._stack.enter_async_context(load_process(self.ground))
        return self

    async def end(self) -> None:
        await self._stack.aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.end()


def _parties(request: Request) -> list[tuple[str, Any]]:
    policies = request.policies or request.scenario.policies
    found: list[tuple[str, Any]] = [(policy, request.scenario.play) for policy in policies]
    if request.peer:
        if request.scenario.peer is None:
            raise ValueError(f"{request.scenario.name} has no peer; steady and cold have")
        found.append((request.peer, request.scenario.peer))
    return found


def _figures(wanted: Scenario, party: str, runs: Sequence[Outcome]) -> Figures:
    standard = pooled([o.latencies for o in runs], sum(o.missing for o in runs), wanted.objective)
    own = median_of([o.own for o in runs])
    if any("duplicates" in o.own for o in runs):
        own["duplicates"] = sum(o.own.get("duplicates", 0) for o in runs)
    return {**standard, **own, "runs": len(runs)}


def document(request: Request, result: Result) -> dict[str, Any]:
    """The JSON object: the first party's figures at the top level (what checks read), the others under ``peers``."""
    parties = list(result.figures)
    main, others = parties[0], parties[1:]
    naive = result.figures.get("fifo", {}).get("depth_mean")
    return {
        "scenario": request.scenario.name,
        "policy": main,
        **result.figures[main],
        **({"depth_mean_naive": naive} if main != "fifo" and naive is not None else {}),
        "objective_ms": request.scenario.objective * 1000,
        **({"peers": {party: result.figures[party] for party in others}} if others else {}),
        "clusters": len(request.kubeconfigs) or request.clusters or request.scenario.clusters,
        "ground": "given" if request.kubeconfigs else "embedded",
        **({"scale": request.scale} if request.scale != 1.0 else {}),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def machine() -> Mapping[str, Any]:
    """Where it was measured: a figure without its machine means nothing."""
    import psutil

    return {
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[2], 2),
    }
