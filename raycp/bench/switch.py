"""``switch``: users go on changing things while leadership, a primary or another process changes.

One fleet, many repetitions. ``--set cause=``: graceful (``raycp handover``), leader-kill, shard-kill, standby-kill, worker-kill,
observer-kill (SIGKILL, of a process on this machine). The *gap* of a repetition is the longest wait of any change sent around it,
above the median of all changes.
"""

import asyncio
import os
import signal
import statistics
from typing import Any

import msgspec

from raycp.bench.driver import LoadError
from raycp.bench.fleets import fleet_doc, fleet_under_test
from raycp.bench.latencies import percentile
from raycp.bench.scenario import Outcome, Row, Stage, outcome_of, scenario
from raycp.fleet.launch import FleetHandle

EXISTING = 10_000
USERS_PER_SECOND = 20.0
REPETITIONS = 30
BEFORE = 0.5
"""Seconds of undisturbed changes before each switch."""

AFTER = 1.0
SETTLE = 20.0
"""How long the fleet may take to be whole again, with a warm standby."""

CAUSES = ("graceful", "leader-kill", "shard-kill", "standby-kill", "worker-kill", "observer-kill")


@scenario(
    name="switch",
    about="users create 20 a second while a process is killed, or a shard handed over, 30 times: the longest extra wait",
    runs=1,
)
async def switch(stage: Stage) -> Outcome:
    """See the module."""
    cause = str(stage.options.get("cause") or "graceful")
    if cause not in CAUSES:
        raise LoadError(f"cause={cause!r}: one of {', '.join(CAUSES)}")
    cluster = stage.members[0]
    repetitions = stage.count(int(stage.options.get("repetitions") or REPETITIONS))
    existing = stage.count(int(stage.options.get("existing") or EXISTING))
    rate = float(stage.options.get("rate") or USERS_PER_SECOND)
    tag = f"{stage.run}{cause[0]}"
    await stage.load.post(cluster, f"e{tag}", existing)
    # Two workers: a fleet in which any one process may die.
    doc = fleet_doc(stage.ground, workers=2, overrides={"shards": {"standby": 1}})
    async with fleet_under_test(doc, stage.policy) as fleet:
        await stage.load.wait(f"e{tag}", existing, 240)
        windows: list[list[Row]] = []
        answer: dict[str, Any] = {"duplicates": 0}
        missing = 0
        recovered = []
        for number in range(repetitions):
            await _whole(fleet)
            prefix, count = f"s{tag}{number}", round((BEFORE + AFTER) * rate)
            posting = asyncio.create_task(stage.load.post(cluster, prefix, count, rate=rate))
            await asyncio.sleep(BEFORE)
            recovered.append(await _switch(fleet, cause))
            await posting
            answer = await stage.load.wait(prefix, count, 30)
            windows.append(answer["rows"])
            missing += answer["missing"]
        history = msgspec.json.decode(await fleet.client.ask("switches"))
    rows = [row for window in windows for row in window]
    median = statistics.median([latency for _, _, latency in rows] or [0.0])
    gaps = sorted(max((latency for _, _, latency in window), default=0.0) - median for window in windows)
    own: dict[str, Any] = {
        "cause": cause,
        "repetitions": repetitions,
        "existing": existing,
        "max_gap_ms": round(gaps[-1] * 1000, 1),
        "gap_p50_ms": round(percentile(gaps, 0.5) * 1000, 1),
        "gap_p99_ms": round(percentile(gaps, 0.99) * 1000, 1),
        "recovery_max_s": round(max(recovered), 3),
        **_phases(history),
    }
    outcome = outcome_of({"rows": rows, "missing": missing, "duplicates": answer["duplicates"]}, **own)
    outcome.curves["gap_ms"] = [(float(number), gap * 1000) for number, gap in enumerate(gaps)]
    return outcome


async def _whole(fleet: FleetHandle) -> dict[str, Any]:
    """Wait until everything is there that should be."""
    deadline = asyncio.get_running_loop().time() + SETTLE
    while True:
        status = await fleet.status()
        if status["ready"] and all(row["ready"] for row in status["standbys"]):
            return status
        if asyncio.get_running_loop().time() > deadline:
            raise LoadError(f"the fleet is not whole again after {SETTLE:g} s: {status['reasons']} {status['standbys']}")
        await asyncio.sleep(0.05)


async def _switch(fleet: FleetHandle, cause: str) -> float:
    """Do it; seconds until the leader says that it is over (the kill of a process other than the leader is over at once)."""
    begun = asyncio.get_running_loop().time()
    if cause == "graceful":
        answers = msgspec.json.decode(await fleet.client.ask("handover", msgspec.msgpack.encode([]), timeout=40.0))
        if problems := [row["problem"] for row in answers if row["problem"]]:
            raise LoadError(f"not handed over: {problems}")
        return asyncio.get_running_loop().time() - begun
    if cause == "leader-kill":
        pid, _ = msgspec.msgpack.decode(await fleet.client.ask("ping"))
        os.kill(pid, signal.SIGKILL)
        while True:
            found = msgspec.msgpack.decode(await fleet.client.ask("ping", timeout=2.0))
            if found[0] != pid:
                return asyncio.get_running_loop().time() - begun
            await asyncio.sleep(0.02)
    status = await fleet.status()
    rows = {
        "shard-kill": status["shards"],
        "standby-kill": status["standbys"],
        "worker-kill": status["workers"],
        "observer-kill": [status["observer"]],
    }[cause]
    os.kill(rows[0]["pid"], signal.SIGKILL)
    return 0.0


def _phases(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the phases of promotions, in milliseconds."""
    found = {}
    for phase in ("drain", "leaderless", "rampUp", "backlog"):
        values = [row[phase] for row in history if row["what"] != "leader" and row["term"] > 1 and row[phase] is not None]
        if values:
            found[f"{'ramp_up' if phase == 'rampUp' else phase}_p50_ms"] = round(statistics.median(values) * 1000, 1)
    return found
