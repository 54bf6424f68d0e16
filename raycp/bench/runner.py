"""Plays a scenario several times, raycp and peers in the same run, and makes one JSON object of it."""

import contextlib
import datetime
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raycp.bench.child import end_on_term
from raycp.bench.driver import LoadError, load_process
from raycp.bench.ground import GroundError, ground
from raycp.bench.latencies import Figures, median_of, pooled
from raycp.bench.scenario import Outcome, Play, Scenario, Stage
from raycp.driver.fleet_client import FleetError
from raycp.runtime.local_ray import RayError


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
        end_on_term()
        ray = await stack.enter_async_context(wanted.ray(request.address, request.options))
        end_on_term()
        for number in range(request.runs or wanted.runs):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raycp-bench-")))
            where = await stack.enter_async_context(_Run(request, directory, number))
            for party, play in _parties(request, number):
                policy = party if party in ("raycp", "fifo") else "raycp"
                stage = Stage(where.ground, where.load, ray, number, policy, request.scale, request.options)
                request.tell(f"{title(request)}: run {number + 1}, {party}")
                outcomes.setdefault(party, []).append(await play(stage))
                await where.load.order("forget")
            await where.end()
    return Result({party: _figures(wanted, party, runs) for party, runs in outcomes.items()}, outcomes)


def title(request: Request) -> str:
    """The scenario, with its variant where it has some."""
    option, _ = request.scenario.variants
    return f"{request.scenario.name} {request.options[option]}" if option in request.options else request.scenario.name


async def run_variants(request: Request, values: Sequence[str]) -> dict[str, Result | str]:
    """Play each variant by itself; what one failed of, others don't suffer from. A policy that a variant does not suit is left
    out of it."""
    option, _ = request.scenario.variants
    found: dict[str, Result | str] = {}
    for value in values:
        suited = tuple(policy for policy in request.policies if request.scenario.suits(policy, value))
        one = replace(request, options={**request.options, option: value}, policies=suited)
        try:
            found[value] = await run(one)
        except Exception as error:
            known = isinstance(error, (GroundError, LoadError, FleetError, RayError))
            found[value] = str(error) if known else f"{type(error).__name__}: {error}"
            request.tell(f"{title(one)}: {found[value]}")
    return found


class _Run(contextlib.AbstractAsyncContextManager["_Run"]):
    """Clusters and load process of one run, ended as soon as the run is over."""

    def __init__(self, request: Request, directory: Path, number: int) -> None:
        self._request = request
        self._directory = directory
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "_Run":
        count = self._request.clusters or self._request.scenario.clusters
        spec = self._request.options.get("cluster")
        self.ground = await self._stack.enter_async_context(ground(count, self._directory, self._request.kubeconfigs, spec))
        self.load = await self._stack.enter_async_context(load_process(self.ground))
        return self

    async def end(self) -> None:
        await self._stack.aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.end()


def _parties(request: Request, number: int) -> list[tuple[str, Play]]:
    """The parties of this run. A party for comparison alone plays once: it is far off, and its runs are the longest."""
    policies = request.policies or request.scenario.policies
    policies = policies if number == 0 else policies[:1]
    found: list[tuple[str, Play]] = [(policy, request.scenario.plays.get(policy, request.scenario.play)) for policy in policies]
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
    return {"scenario": request.scenario.name, **_parties_told(result), **_setting(request)}


def variants_document(request: Request, found: Mapping[str, Result | str]) -> dict[str, Any]:
    """One JSON object of several variants: each with its figures by its name (or what went wrong), at the top level the worst of
    each figure that a bound may be held against, and what was counted in all."""
    option, _ = request.scenario.variants
    told = {name: {"failed": r} if isinstance(r, str) else _parties_told(r) for name, r in found.items()}
    rows = [row for row in told.values() if "failed" not in row]
    worst = {key: max((row[key] for row in rows if row.get(key) is not None), default=None) for key in _WORST}
    sums = {key: sum(int(row.get(key) or 0) for row in rows) for key in _SUMS}
    return {"scenario": request.scenario.name, **sums, **worst, f"{option}s": told, **_setting(request)}


_WORST = ("max_gap_ms", "gap_p50_ms", "gap_p99_ms")
_SUMS = ("n", "missing", "duplicates", "stale_writes", "repetitions")


def _parties_told(result: Result) -> dict[str, Any]:
    parties = list(result.figures)
    main, others = parties[0], parties[1:]
    naive = result.figures.get("fifo", {}).get("depth_mean")
    ours = result.figures[main].get("depth_mean")
    depths: dict[str, Any] = {}
    if main != "fifo" and naive is not None:
        depths["depth_mean_naive"] = naive
        if ours is not None and naive > 0:
            depths["depth_reduction"] = round(1 - ours / naive, 5)
    return {
        "policy": main,
        **result.figures[main],
        **depths,
        **({"peers": {party: result.figures[party] for party in others}} if others else {}),
    }


def _setting(request: Request) -> dict[str, Any]:
    return {
        "objective_ms": request.scenario.objective * 1000,
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
