"""``init-storm`` and ``resync-storm``: ten thousand reconciles that the system triggered must not delay users' changes."""

import asyncio
from pathlib import Path
from typing import Any

from raycp.bench.depth import DepthCurve, depth_curve
from raycp.bench.fleets import CONTROLLER, fleet_doc, fleet_under_test
from raycp.bench.latencies import percentile
from raycp.bench.scenario import EXISTING, USERS_PER_SECOND, Row, RunOutcome, Stage, scenario
from raycp.bench.workload import MARK, WORK_MS
from raycp.driver.fleet_client import FleetHandle

WORK = {WORK_MS: "5"}
SLOTS = 10


async def observer_url(fleet: FleetHandle) -> str:
    """The URL of the fleet's observer."""
    status = await fleet.status()
    return str((status.get("observer") or {})["url"])


async def _existing(stage: Stage, prefix: str) -> int:
    count = stage.count(int(stage.options.get("existing") or EXISTING))
    await stage.load.post(stage.ground.names[0], prefix, count, annotations=WORK)
    return count


def _first_reconcile(mark: Path) -> float | None:
    times = [float(line) for line in mark.read_text().split()] if mark.exists() else []
    return min(times, default=None)


@scenario(
    name="init-storm",
    about="a fleet starts with 10 000 existing objects while users create 20 a second",
    policies=("raycp", "fifo"),
)
async def init_storm(stage: Stage) -> RunOutcome:
    """``away_max_ms``: the longest wait, from ramp-up (the first reconcile), of a change made while no fleet ran. The latencies
    are those of later changes. With ``--set first=true`` no earlier fleet has reconciled the existing objects."""
    cluster = stage.ground.names[0]
    tag = f"{stage.run}{stage.policy[0]}"
    name = f"init{tag}"
    first = bool(stage.options.get("first"))
    count = await _existing(stage, f"x{tag}")
    if not first:
        async with fleet_under_test(fleet_doc(stage.ground, slots=256, name=name), stage.policy):
            reconciled = await stage.load.wait(f"x{tag}", count, 240)
        if reconciled["missing"]:
            return RunOutcome(
                missing=reconciled["missing"], own={"why": "the earlier fleet did not reconcile all existing objects"}
            )
    mark = stage.ground.directory / f"mark-{tag}"
    away = stage.count(100)
    after = stage.count(int(stage.options.get("count") or 1000))
    prefix = f"u{tag}"
    users = asyncio.create_task(stage.load.post(cluster, prefix, away, rate=USERS_PER_SECOND, annotations=WORK))
    await users
    doc = fleet_doc(stage.ground, slots=SLOTS, name=name, overrides={"ray": {"env": {MARK: str(mark)}}})
    # users' changes go on during the start: those before ramp-up count as made while no fleet ran
    users = asyncio.create_task(stage.load.post(cluster, prefix, after + away, first=away, rate=USERS_PER_SECOND, annotations=WORK))
    async with fleet_under_test(doc, stage.policy) as fleet, depth_curve(await observer_url(fleet)) as depth:
        await users
        answer = await stage.load.wait(prefix, 2 * away + after, 60)
        ramp = _first_reconcile(mark)
    await stage.load.clean(cluster)
    rows: list[Row] = answer["rows"]
    if ramp is None:
        return RunOutcome(missing=answer["missing"], own={"why": "no reconcile was recorded"})
    outcome = RunOutcome(missing=answer["missing"])
    waits = [sent + latency - max(ramp, sent) for _, sent, latency in rows if sent < ramp]
    outcome.latencies = [latency for _, sent, latency in rows if sent >= ramp]
    outcome.own = {
        "first": first,
        "existing": count,
        "away_n": len(waits),
        "away_max_ms": round(max(waits) * 1000, 1) if waits else None,
        "away_p50_ms": round(percentile(sorted(waits), 0.5) * 1000, 1) if waits else None,
        "depth_peak": depth.peak,
        "depth_mean": round(depth.mean, 1),
    }
    outcome.curves = _curves(rows, depth, ramp)
    return outcome


@scenario(
    name="resync-storm",
    about="10 000 objects resync every 15 s while users create 20 a second",
    policies=("raycp", "fifo"),
)
async def resync_storm(stage: Stage) -> RunOutcome:
    cluster = stage.ground.names[0]
    tag = f"{stage.run}{stage.policy[0]}"
    count = await _existing(stage, f"x{tag}")
    controllers: list[dict[str, Any]] = [{"use": CONTROLLER, "resync": "15s"}]
    doc = fleet_doc(stage.ground, controllers=controllers, slots=SLOTS, name=f"resync{tag}")
    users = stage.count(int(stage.options.get("count") or 1000))
    prefix = f"u{tag}"
    async with fleet_under_test(doc, stage.policy) as fleet:
        reconciled = await stage.load.wait(f"x{tag}", count, 240)
        if reconciled["missing"]:
            return RunOutcome(missing=reconciled["missing"], own={"why": "the existing objects were not reconciled in time"})
        await asyncio.sleep(min(20.0, 20.0 * stage.scale * 4))  # until resyncs are periodic
        async with depth_curve(await observer_url(fleet)) as depth:
            await stage.load.post(cluster, prefix, users, rate=USERS_PER_SECOND, annotations=WORK)
            answer = await stage.load.wait(prefix, users, 60)
    await stage.load.clean(cluster)
    rows: list[Row] = answer["rows"]
    begin = min((sent for _, sent, _ in rows), default=0.0)
    own = {"existing": count, "depth_mean": round(depth.mean, 2), "depth_peak": depth.peak}
    return RunOutcome([latency for _, _, latency in rows], answer["missing"], own, _curves(rows, depth, begin))


def _curves(rows: list[Row], depth: DepthCurve, zero: float) -> dict[str, list[tuple[float, float]]]:
    return {
        "latency_ms": sorted((sent - zero, latency * 1000) for _, sent, latency in rows),
        "queue depth": depth.since(zero),
        "instant SLI": instant_sli(rows, zero),
    }


def instant_sli(rows: list[Row], zero: float, within: float = 1.0) -> list[tuple[float, float]]:
    """Per second: the share of the changes of that second that were reconciled ``within`` seconds."""
    seconds: dict[int, list[bool]] = {}
    for _, sent, latency in rows:
        seconds.setdefault(int((sent - zero) // 1), []).append(latency <= within)
    return [(float(s), sum(kept) / len(kept)) for s, kept in sorted(seconds.items())]
