"""``poison``: one object ends the process of each worker that reconciles it; users create changes in other clusters (law 11)."""

import asyncio
from pathlib import Path
from typing import Any

from raycp.bench.driver import LoadError
from raycp.bench.fleets import fleet_doc, fleet_under_test
from raycp.bench.latencies import percentile
from raycp.bench.scenario import Row, RunOutcome, Stage, outcome_of, scenario
from raycp.bench.workload import DEADLY, DEATHS
from raycp.driver.fleet_client import FleetHandle

WORKERS = 3
"""Two die before the object is suspected, within milliseconds: a third serves the others until they are replaced."""

SECONDS = {"exit": 20.0, "gil": 40.0, "block": 40.0}
"""How long the others' changes go on, by how the object ends its worker: blocked processes end themselves after 5 s."""

BEFORE = 1.0
"""Seconds of the others' changes before the object is created."""

VICTIM = ["bench-0"]
NAME = "poison"


async def _found(fleet: FleetHandle, deaths: Path, deadline: float) -> tuple[bool, int]:
    """Wait until the fleet names the object as convicted. Whether it has, and how many workers the object has ended by then."""
    loop = asyncio.get_running_loop()
    while loop.time() < deadline:
        suspects: list[dict[str, Any]] = (await fleet.status()).get("suspects") or []
        if any(row["convicted"] and row["object"].rpartition("/")[2].startswith(NAME) for row in suspects):
            return True, _lines(deaths)
        await asyncio.sleep(0.05)
    return False, _lines(deaths)


def _lines(deaths: Path) -> int:
    return len(deaths.read_text().splitlines()) if deaths.exists() else 0


@scenario(
    name="poison",
    about="one object ends the process of each worker that it meets, others create 100 a second in other clusters",
    clusters=4,
    offers=(),
)
async def poison(stage: Stage) -> RunOutcome:
    """``--set how=exit``, ``gil`` or ``block``; ``--set workers=N``. ``deaths``: workers that the object had ended when it was
    found; ``deaths_total``: by the end, with its retries, which cost only the worker in which it is alone."""
    how = str(stage.options.get("how") or "exit")
    names = stage.members
    if how not in SECONDS:
        raise LoadError(f"--set how={how}: a poisonous object ends its worker by {', '.join(SECONDS)}")
    if len(names) < 2:
        raise LoadError("poison needs at least three clusters, including the hub: one with the object, and others")
    victim, others = names[0], names[1:]
    rate = float(stage.options.get("rate") or 100.0)
    each = max(1, round(stage.count(int(stage.options.get("count") or rate * SECONDS[how])) / len(others)))
    tag = f"{stage.run}"
    deaths = stage.ground.directory / f"deaths-{tag}"
    workers = int(stage.options.get("workers") or WORKERS)
    doc = fleet_doc(stage.ground, workers=workers, name=f"poison{tag}", overrides={"ray": {"env": {DEATHS: str(deaths)}}})
    async with fleet_under_test(doc, stage.policy) as fleet:
        await asyncio.gather(*(stage.load.post(name, f"w{tag}", 50, rate=rate / len(others)) for name in others))
        await stage.load.wait(f"w{tag}", 50 * len(others), 30)
        posting = [stage.load.post(name, f"o{tag}", each, rate=rate / len(others)) for name in others]
        load = asyncio.gather(*posting)
        await asyncio.sleep(BEFORE)
        begun = asyncio.get_running_loop().time()
        await stage.load.post(victim, NAME, 1, namespaces=VICTIM, annotations={DEADLY: how})
        found, count = await _found(fleet, deaths, begun + max(60.0, SECONDS[how]))
        after = asyncio.get_running_loop().time() - begun
        await load
        answer = await stage.load.wait(f"o{tag}", each * len(others), 30)
        total = _lines(deaths)
    for name in names:
        await stage.load.clean(name)
    rows: list[Row] = answer["rows"]
    latencies = sorted(latency for _, _, latency in rows)
    own = {
        "how": how,
        "workers": workers,
        "rate": rate,
        "culprit_found": found,
        "deaths": count,
        "deaths_total": total,
        "found_after_s": round(after, 2) if found else None,
        "others_max_ms": round(percentile(latencies, 1.0) * 1000, 1) if latencies else None,
    }
    return outcome_of(answer, **own)
