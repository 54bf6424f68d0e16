"""Runs a scenario several times, with raycp and peers in the same run, and returns one JSON object."""

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
from raycp.bench.scenario import Play, RunOutcome, Scenario, Stage
from raycp.driver.fleet_client import FleetError
from raycp.runtime.local_ray import RayError


@dataclass
class Request:
    """The arguments of the command line."""

    scenario: Scenario
    runs: int | None = None
    kubeconfigs: Sequence[Path] = ()
    policies: Sequence[str] = ()
    peer: str | None = None
    clusters: int | None = None
    scale: float = 1.0
    address: str = "local"
    options: dict[str, Any] = field(default_factory=dict)
    progress: Callable[[str], None] = lambda _: None


@dataclass
class RunResult:
    """Figures per system: ``raycp``, and ``fifo`` or a peer if requested; ``outcomes`` for the plot."""

    figures: dict[str, Figures]
    outcomes: dict[str, list[RunOutcome]]


async def run(request: Request) -> RunResult:
    """Run it. Every run has new clusters (unless kubeconfigs are given), so that no run inherits state from another."""
    wanted = request.scenario
    outcomes: dict[str, list[RunOutcome]] = {}
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
                request.progress(f"{title(request)}: run {number + 1}, {party}")
                outcomes.setdefault(party, []).append(await play(stage))
                await where.load.order("forget")
            await where.end()
    return RunResult({party: _figures(wanted, party, runs) for party, runs in outcomes.items()}, outcomes)


def title(request: Request) -> str:
    """The name of the scenario, with its variant if it has one."""
    option, _ = request.scenario.variants
    return f"{request.scenario.name} {request.options[option]}" if option in request.options else request.scenario.name


async def run_variants(request: Request, values: Sequence[str]) -> dict[str, RunResult | str]:
    """Run each variant by itself; the failure of one does not affect the others. A policy that does not suit a variant is left
    out."""
    option, _ = request.scenario.variants
    found: dict[str, RunResult | str] = {}
    for value in values:
        suited = tuple(policy for policy in request.policies if request.scenario.suits(policy, value))
        one = replace(request, options={**request.options, option: value}, policies=suited)
        try:
            found[value] = await run(one)
        except Exception as error:
            known = isinstance(error, (GroundError, LoadError, FleetError, RayError))
            found[value] = str(error) if known else f"{type(error).__name__}: {error}"
            request.progress(f"{title(one)}: {found[value]}")
    return found


class _Run(contextlib.AbstractAsyncContextManager["_Run"]):
    """The clusters and the load process of one run."""

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
    """The systems of this run. A policy that is only compared with runs once: its figures are far off, and its runs are the
    longest."""
    policies = request.policies or request.scenario.policies
    policies = policies if number == 0 else policies[:1]
    found: list[tuple[str, Play]] = [(policy, request.scenario.plays.get(policy, request.scenario.play)) for policy in policies]
    if request.peer:
        if request.scenario.peer is None:
            raise ValueError(f"{request.scenario.name} has no peer; steady and cold have")
        found.append((request.peer, request.scenario.peer))
    return found


def _figures(wanted: Scenario, party: str, runs: Sequence[RunOutcome]) -> Figures:
    standard = pooled([o.latencies for o in runs], sum(o.missing for o in runs), wanted.objective)
    own = median_of([o.own for o in runs])
    if any("duplicates" in o.own for o in runs):
        own["duplicates"] = sum(o.own.get("duplicates", 0) for o in runs)
    for key in _WORST_RUN:  # no run may be worse
        if found := [o.own[key] for o in runs if o.own.get(key) is not None]:
            own[key] = max(found)
    for key in _EACH_RUN:  # all runs must be so
        if any(key in o.own for o in runs):
            own[key] = all(o.own.get(key) for o in runs)
    return {**standard, **own, "runs": len(runs)}


def document(request: Request, result: RunResult) -> dict[str, Any]:
    """The JSON object: the first system's figures at the top level, which ``--check`` reads, the others under ``peers``."""
    return {"scenario": request.scenario.name, **_systems(result), **_setting(request)}


def variants_document(request: Request, found: Mapping[str, RunResult | str]) -> dict[str, Any]:
    """One JSON object of several variants: the figures (or the error) of each by name, and at the top level the worst value of
    each figure that has a bound, and the sums of counts."""
    option, _ = request.scenario.variants
    variants = {name: {"failed": r} if isinstance(r, str) else _systems(r) for name, r in found.items()}
    rows = [row for row in variants.values() if "failed" not in row]
    worst = {key: max((row[key] for row in rows if row.get(key) is not None), default=None) for key in _WORST}
    sums = {key: sum(int(row.get(key) or 0) for row in rows) for key in _SUMS}
    return {"scenario": request.scenario.name, **sums, **worst, f"{option}s": variants, **_setting(request)}


_WORST_RUN = ("deaths", "others_max_ms")
_EACH_RUN = ("culprit_found",)
_WORST = ("max_gap_ms", "gap_p50_ms", "gap_p99_ms")
_SUMS = ("n", "missing", "duplicates", "stale_writes", "repetitions")


def _systems(result: RunResult) -> dict[str, Any]:
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
    """The machine: a figure without its machine means nothing."""
    import psutil

    return {
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[2], 2),
    }
