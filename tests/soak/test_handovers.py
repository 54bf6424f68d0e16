"""Hand-overs in a row under users' changes, 500 in ``make soak``, 40 in ``make test-wide``: none lost, nothing created twice."""

import asyncio
import json
import os
import statistics
import time
from pathlib import Path

import invariants
import latencies
import pytest
from rayhouse import house
from soakrun import CONFIG_MAPS, Scale, Soak, ground
from users import changing

from raycp.protocol.control import HandOver

CLUSTERS = ["hub", "east", "west", "north"]
MANY = int(os.environ.get("RAYCP_SOAK_HANDOVERS") or 500)
RATE = 20.0
LAST = 20.0
"""Seconds after which a change without a reconcile is lost."""
GRACE = 1.0
"""A change sent within this time after a hand-over counts to it, in seconds."""


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(40, id="few", marks=[pytest.mark.wide, pytest.mark.timeout(300)]),
        pytest.param(MANY, id="many", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_hand_overs_in_a_row_lose_no_key(tmp_path: Path, wanted: int) -> None:
    """All shards at once, under 20 changes a second."""
    with house(tmp_path) as at:
        asyncio.run(_hand_over(Scale(0, 0.0, CLUSTERS, shards=len(CLUSTERS), keys=0), at, wanted))


async def _hand_over(scale: Scale, at: object, wanted: int) -> None:
    async with ground(scale, at) as made:  # type: ignore[arg-type]
        members = {name: made.apis[name] for name in CLUSTERS[1:]}
        moments: list[tuple[float, float]] = []
        took: list[float] = []
        done = 0
        async with changing(members, RATE / len(members)) as users:
            await asyncio.sleep(5.0)  # the first reconcile of a worker is slow, and must not count to a hand-over
            while done < wanted:
                await _warm(made)
                begun = time.time()
                rows = await made.client.ask(HandOver(), timeout=40.0)
                moments.append((begun - GRACE / 5, time.time() + GRACE))
                problems = [row.problem for row in rows if row.problem]
                assert not problems, f"after {done} hand-overs: {problems}"
                took += [row.took for row in rows]
                done += len(rows)
                for api in members.values():
                    await api.gather()
                await _forget(made, sum(each.count for each in users.values()))
            await asyncio.sleep(2.0)
        sent = sum(each.count for each in users.values())
        deadline = time.monotonic() + LAST
        while True:  # the last changes were sent a moment ago
            for api in members.values():
                await api.gather()
            waits = {(name, key): wait for name, api in members.items() for key, wait in latencies.waits(api.writes).items()}
            lost = [key for key, (_, seconds) in waits.items() if seconds == float("inf")]
            if not lost or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        twice = [name for api in members.values() for name in latencies.twice(api.writes)]
        every = [seconds for _, seconds in waits.values()]
        median = statistics.median(every)
        gaps = [
            max((seconds for at, seconds in waits.values() if begun <= at <= end), default=median) - median
            for begun, end in moments
        ]
        shown = ", ".join(f"{label} {1000 * latencies.percentile(gaps, share):.0f}" for label, share in LABELS)
        all_of = ", ".join(f"{label} {1000 * latencies.percentile(every, share):.0f}" for label, share in LABELS)
        print(
            f"{done} hand-overs ({len(moments)} times {len(CLUSTERS)} shards), {sent} changes: "
            f"{len(lost)} lost, {len(twice)} twice; "
            f"gap in ms: {shown}; each change in ms: {all_of}; a hand-over took p50 {1000 * statistics.median(took):.0f} ms, "
            f"max {1000 * max(took):.0f} ms",
            flush=True,
        )
        assert not lost
        assert not twice
        assert len(waits) == sent
        entries = [json.loads(line) for line in made.diary.read_bytes().splitlines()]
        assert not invariants.overlaps(invariants.spans(entries, {}))
        assert not invariants.late_writes({name: api.writes for name, api in made.apis.items()}, same_object=True)


LABELS = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))


async def _warm(made: Soak) -> None:
    """Wait until every shard has a new warm standby."""
    deadline = time.monotonic() + 60.0
    while True:
        status = await made.client.status()
        if not status["unsettled"] and len(status["standbys"]) == len(CLUSTERS) and all(row["ready"] for row in status["standbys"]):
            return
        assert time.monotonic() < deadline, f"no warm standbys: {status['reasons']} {status['standbys']}"
        await asyncio.sleep(0.05)


async def _forget(made: Soak, count: int) -> None:
    """Delete old objects, so that caches do not grow."""
    if count % 5 == 0:
        for name in CLUSTERS[1:]:
            listed = await made.apis[name].sure("GET", CONFIG_MAPS, query={"labelSelector": "app=diary"})
            have = {row["name"] for row in made.apis[name].writes if row["resource"] == "secrets"}
            old = [each["metadata"]["name"] for each in listed["items"] if each["metadata"]["name"] in have][:-100]
            await asyncio.gather(*(made.apis[name].sure("DELETE", f"{CONFIG_MAPS}/{key}", done=(404,)) for key in old))
