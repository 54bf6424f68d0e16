"""``hostile``: one cluster's server lies without end; users create changes in the others (laws 5 and 12)."""

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psutil

from raycp.bench.child import end_child
from raycp.bench.driver import LoadError
from raycp.bench.fleets import fleet_doc, fleet_under_test
from raycp.bench.latencies import percentile
from raycp.bench.lying_server import LIES
from raycp.bench.scenario import Row, RunOutcome, Stage, scenario
from raycp.config import FleetDoc
from raycp.driver.fleet_client import FleetHandle

LIAR = "liar"
SECONDS = 6.0
"""How long each lie lasts, and how long it is quiet before the first."""
RATE = 50.0
"""The others' changes a second."""
LIMITS = {"memory": "64Mi", "list": "64Mi", "page": "16Mi"}
"""Of the lying cluster: small, so that the lies meet them within seconds."""
BREAKER = {"min": "1s", "max": "4s"}
"""Of the lying cluster: it asks again soon, so that 17 lies do not take an hour."""
BUDGET_MB = 400.0
"""What a process of this fleet may take: some 130 MB when it starts, and the memory of its clusters."""
WELL = 120.0
"""Seconds that the lying cluster may take to be well again: a reflector may wait 30 s for its next list, several times."""
SLOWER = 2.0
"""How much longer the others may wait during a lie, by their p99."""


class Liar:
    """The lying server's process."""

    def __init__(self, process: asyncio.subprocess.Process, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._process = process

    async def tell(self, lie: str) -> None:
        """See ``LyingServer.tell``."""
        assert self._process.stdin
        self._process.stdin.write(f"{lie}\n".encode())
        await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def lying_server(directory: Path) -> AsyncIterator[Liar]:
    """One for the time of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "raycp.bench.lying_server", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        kubeconfig = directory / f"{LIAR}.kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(json.loads(await asyncio.wait_for(process.stdout.readline(), 60))["kubeconfig"])
        yield Liar(process, kubeconfig)
    finally:
        await end_child(process)


def with_liar(doc: FleetDoc, kubeconfig: Path) -> FleetDoc:
    """The fleet with one more member."""
    made = doc.model_dump(mode="json", by_alias=True, exclude_unset=True)
    liar = {"name": LIAR, "role": "member", "kubeconfig": {"path": str(kubeconfig)}, "limits": LIMITS, "breaker": BREAKER}
    made["spec"]["clusters"].append(liar)
    return FleetDoc.model_validate(made)


class Sightings:
    """What the fleet looks like meanwhile: the most memory that a process took, in MB, and what its status says of the liar."""

    def __init__(self, fleet: FleetHandle) -> None:
        self.most_mb = 0.0
        self.reasons: set[str] = set()
        self._fleet = fleet

    async def look(self) -> None:
        """For ever."""
        while True:
            status = await self._fleet.status()
            rows: list[dict[str, Any]] = [status["leader"], *status["shards"], *status["standbys"], *status["workers"]]
            for row in [*rows, status.get("observer") or {}]:
                with contextlib.suppress(psutil.NoSuchProcess, KeyError, TypeError):
                    self.most_mb = max(self.most_mb, psutil.Process(int(row["pid"])).memory_info().rss / 1e6)
            self.reasons |= {row["reason"] for row in status["clusters"] if row["name"] == LIAR and row["reason"]}
            await asyncio.sleep(0.25)


async def _well(fleet: FleetHandle) -> bool:
    """Wait until the status has nothing to say of the liar any more, so that what it says next is of the next lie."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WELL
    while loop.time() < end:
        rows = (await fleet.status())["clusters"]
        if not any(row["reason"] for row in rows if row["name"] == LIAR):
            return True
        await asyncio.sleep(0.25)
    return False


class _Case(msgspec.Struct):
    """What was seen of one lie: the others' latencies in seconds, in order of length, and their p99 by that of ``quiet``."""

    lie: str
    found: list[float]
    ratio: float
    lost: int
    most_mb: float
    noticed: bool
    well: bool

    def faults(self) -> list[str]:
        """Why it counts as failed, in words."""
        return [
            *(["the status said nothing"] if not self.noticed else []),
            *([] if self.well else [f"it was not well {WELL:g} s later"]),
            *([f"a process took {self.most_mb:.0f} MB"] if self.most_mb > BUDGET_MB else []),
            *([f"{self.lost} changes were lost"] if self.lost else []),
            *([f"p99 {self.ratio:.1f} times that of before"] if self.ratio > SLOWER else []),
        ]


class _Trial:
    """The fleet, the load and the lying server of one run. ``quiet``: the others' latencies while nobody lies, the newest."""

    def __init__(self, stage: Stage, fleet: FleetHandle, liar: Liar, seconds: float) -> None:
        self.quiet: list[float] = []
        self._stage, self._fleet, self._liar, self._seconds = stage, fleet, liar, seconds
        self._parts = itertools.count()

    async def be_quiet(self) -> None:
        """Measure ``quiet``."""
        self.quiet, lost = await self._changes(2 * self._seconds)
        if lost or not self.quiet:
            raise LoadError(f"{lost} changes are lost while nobody lies")

    async def warm(self) -> None:
        await self._changes(2.0)

    async def tell(self, lie: str) -> _Case:
        """Measure one lie."""
        watch = Sightings(self._fleet)
        looking = asyncio.create_task(watch.look())
        await self._liar.tell(lie)
        found, lost = await self._changes(self._seconds)
        await self._liar.tell("")
        if looking.done():  # it never ends but by an error
            looking.result()
        looking.cancel()
        well = await _well(self._fleet)
        ratio = percentile(found, 0.99) / percentile(self.quiet, 0.99) if found else 0.0
        return _Case(lie, found, ratio, lost, watch.most_mb, bool(watch.reasons), well)

    async def _changes(self, seconds: float) -> tuple[list[float], int]:
        """Users' changes for so long; their latencies, in order of length, and how many got no answer."""
        load, names = self._stage.load, self._stage.members
        prefix = f"h{self._stage.run}-{next(self._parts)}"
        each = max(1, round(self._stage.count(round(RATE * seconds)) / len(names)))
        await asyncio.gather(*(load.post(name, prefix, each, rate=RATE / len(names)) for name in names))
        answer = await load.wait(prefix, each * len(names), 30)
        rows: list[Row] = answer["rows"]
        return sorted(latency for _, _, latency in rows), int(answer["missing"])


@scenario(name="hostile", about="one cluster's server lies in 17 ways, others create 50 a second", clusters=3, offers=(), runs=1)
async def hostile(stage: Stage) -> RunOutcome:
    """``cases``: the lies (``--set lie=NAME``: that one). ``failed``: those of which the status said nothing, after which the
    cluster did not come back, with a process above its budget of memory, or with a change that was lost, or a p99 of the others
    above twice that of before. A p99 of 300 changes is that of three of them: a case that is slower is told once more after a
    new quiet time, and counts as slower if it is so again; ``repeated`` names it. ``p99_ratio``: the others' p99 during all of
    them by that of the first quiet time. ``rss_max_mb``: the largest process. ``worst`` names the slowest case."""
    lies = [str(stage.options["lie"])] if stage.options.get("lie") else list(LIES)
    if unknown := [lie for lie in lies if lie not in LIES]:
        raise LoadError(f"--set lie={unknown[0]}: the lies are {', '.join(LIES)}")
    seconds = float(stage.options.get("seconds") or SECONDS)
    cases: list[_Case] = []
    failed: dict[str, str] = {}
    repeated: list[str] = []
    async with lying_server(stage.ground.directory) as liar:
        doc = with_liar(fleet_doc(stage.ground, name=f"hostile{stage.run}", overrides={"shards": {"standby": 1}}), liar.kubeconfig)
        async with fleet_under_test(doc, stage.policy) as fleet:
            trial = _Trial(stage, fleet, liar, seconds)
            await trial.warm()
            await trial.be_quiet()
            quiet = trial.quiet
            for lie in lies:
                cases.append(await trial.tell(lie))
                if cases[-1].ratio > SLOWER:
                    repeated.append(lie)
                    await trial.be_quiet()
                    cases.append(await trial.tell(lie))
                if why := cases[-1].faults():
                    failed[lie] = "; ".join(why)
    for name in stage.members:
        await stage.load.clean(name)
    pooled = sorted(latency for case in cases for latency in case.found)
    missing = sum(case.lost for case in cases)
    worst = max(cases, key=lambda case: case.ratio)
    own = {
        "cases": len(lies),
        "failed": len(failed),
        "p99_ratio": round(percentile(pooled, 0.99) / percentile(quiet, 0.99), 3),
        "rss_max_mb": round(max(case.most_mb for case in cases), 1),
        "quiet_p99_ms": round(percentile(quiet, 0.99) * 1000, 2),
        "worst": f"{worst.lie}: {worst.ratio:.2f}",
        "repeated": repeated,
        "why_failed": failed,
    }
    return RunOutcome(pooled, missing, own)
