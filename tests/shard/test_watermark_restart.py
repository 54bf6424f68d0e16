"""A shard that restarts after its death: changes made meanwhile go first, existing objects wait, deletions are reconciled."""

import asyncio
from collections import Counter
from typing import Any

import fleet_samples as samples
from inprocess import CLOCK, Stack, holds, stack, until

from raycp.base.keys import GVK, RequestKey
from raycp.kube import ConnectSpec
from raycp.kube.client import ClusterClient
from raycp.leadership.records import Records
from raycp.metrics import ReflectorMetrics

STATE = {"namespace": "default", "watermark": "50ms"}
SLOW = {"spread": "60s"}


def ran() -> Counter[str]:
    return Counter(name for _, _, name in samples.RAN)


def verdicts(fleet: Stack, shard: str = "0") -> Counter[str]:
    """How often each reason was given, by the living shard."""
    found: Counter[str] = Counter()
    for labels, child in ReflectorMetrics(fleet.shard(shard).metrics).verdicts.items():
        found[labels[2]] += int(child.value)
    return found


async def stored(fleet: Stack, shard: str = "0") -> bool:
    """Nothing is due, and the hub knows it."""
    core = fleet.shard(shard)
    return core.watermarks.stored and not core.ledger.marks.due_keys()


async def restart(fleet: Stack, shard: str = "0", work: Any = None) -> None:
    """The shard dies; ``work`` happens; it starts again."""
    await fleet.kill("shard", shard)
    samples.RAN.clear()
    if work is not None:
        await work()
    await fleet.new_shard(shard)
    await fleet.configure()
    await fleet.synced()


async def test_a_restarted_shard_reconciles_only_changed_objects_at_once() -> None:
    async with stack(["tracked"], state=STATE, timeouts=SLOW) as fleet:
        for number in range(20):
            await fleet.put("here", "tracked", f"cm-{number}")
        await until(lambda: len(ran()) == 20)
        await until(lambda: stored(fleet))

        async def work() -> None:
            await fleet.put("here", "tracked", "cm-3", changed="1")
            await fleet.put("here", "tracked", "new")
            await fleet.clusters["here"].api.delete("configmaps", "default", "cm-7")

        await restart(fleet, work=work)
        await until(lambda: {"cm-3", "new", "cm-7"} <= set(ran()))
        assert ("tracked", "cm-7") not in [(who, name) for who, name, data in samples.SEEN[-3:] if data]
        await holds(lambda: set(ran()) - {"cm-3", "new", "cm-7"} <= {f"cm-{n}" for n in range(20)}, 0.2)
        depths = fleet.shard().queue.depths()
        delayed = sum(depth.delayed for depth in depths if depth.tier == "background")
        assert delayed >= 15, "what existed waits in the background, spread"
        assert len(set(ran()) - {"cm-3", "new", "cm-7"}) <= 3


async def test_a_start_without_a_watermark_reconciles_every_object_as_backlog() -> None:
    async with stack(["tracked"], state=STATE, timeouts=SLOW) as fleet:
        for number in range(10):
            await fleet.put("here", "tracked", f"cm-{number}")
        await until(lambda: len(ran()) == 10)
        await until(lambda: stored(fleet))

        async def work() -> None:
            client = await ClusterClient.connect(fleet.connects["here"], CLOCK)
            await Records(client, "t", "default").delete("watermark-0")
            await client.close()

        await restart(fleet, work=work)
        await until(lambda: len(ran()) == 10)


async def test_failed_and_waiting_keys_are_due_after_a_restart() -> None:
    async with stack(["wild"], state=STATE, timeouts=SLOW) as fleet:
        await fleet.put("here", "wild", "good")
        await fleet.put("here", "wild", "bad", do="raise")
        await until(lambda: ran()["bad"] >= 2)
        core = fleet.shard()
        await until(lambda: core.watermarks.stored)
        await restart(fleet)
        await until(lambda: ran()["bad"] >= 1)
        assert ran()["good"] == 0


async def test_a_deletion_that_was_due_when_the_shard_died_is_reconciled() -> None:
    """Observed, not reconciled: neither a list nor a replay could report it."""
    async with stack(["tracked"], state=STATE, timeouts=SLOW) as fleet:
        await fleet.put("here", "tracked", "a")
        await until(lambda: ran()["a"])
        await until(lambda: stored(fleet))
        core = fleet.shard()
        core.dispatcher.paused = True
        await fleet.clusters["here"].api.delete("configmaps", "default", "a")
        await until(lambda: core.ledger.marks.exceptions("here", core.routes.kind_of["tracked"]))
        await until(lambda: core.watermarks.stored)
        await restart(fleet)
        await until(lambda: ran()["a"] == 1)
        assert samples.SEEN[-1] == ("tracked", "a", {})


async def test_an_unreachable_hub_stops_no_reconcile(monkeypatch: Any) -> None:
    monkeypatch.setattr("raycp.shard.watermark_store.PATIENCE", 0.3)
    async with stack(["tracked"], homes={"hub": "0", "member": "1"}, state=STATE, timeouts=SLOW) as fleet:
        await fleet.put("member", "tracked", "a")
        await until(lambda: ran()["a"])
        await until(lambda: stored(fleet, "1"))
        right = fleet.connects["hub"]
        fleet.connects["hub"] = ConnectSpec(name="hub", mode="direct", server="https://127.0.0.1:1", token="x")
        await fleet.kill("shard", "1")
        samples.RAN.clear()
        await fleet.new_shard("1")
        await fleet.configure()
        await until(lambda: ran()["a"])
        fleet.connects["hub"] = right


async def test_a_child_lost_meanwhile_wakes_only_its_owner_in_the_hub() -> None:
    homes = {"hub": "0", "one": "1"}
    async with stack(["remote"], homes=homes, state=STATE, timeouts=SLOW) as fleet:
        for number in range(5):
            await fleet.put("hub", "remote", f"p{number}")
        there = fleet.clusters["one"].api
        await until(lambda: all(there.get("secrets", "default", f"p{n}-child") for n in range(5)))
        await until(lambda: stored(fleet, "1"))

        async def work() -> None:
            await fleet.clusters["one"].api.delete("secrets", "default", "p2-child")

        await restart(fleet, "1", work)
        await until(lambda: ran()["p2"])
        await holds(lambda: set(ran()) == {"p2"}, 0.3)


async def test_an_added_controller_reconciles_existing_objects_as_backlog() -> None:
    async with stack(["tracked"], state=STATE, timeouts=SLOW) as fleet:
        await fleet.put("here", "tracked", "a")
        await until(lambda: ran()["a"])
        await until(lambda: stored(fleet))
        marks = fleet.shard().ledger.marks
        marks.restart("tracked", "here")
        marks.changes += 1
        await until(lambda: stored(fleet))
        await restart(fleet)
        await until(lambda: ran()["a"])
        steps = fleet.shard().ledger.timelines.of(RequestKey("tracked", "here", "default", "a"))
        assert any(step.detail.get("reason") == "backlog" for step in steps), steps


async def test_a_restored_cluster_makes_cache_and_watermark_void() -> None:
    async with stack(["tracked"], state=STATE, timeouts=SLOW) as fleet:
        await fleet.put("here", "tracked", "a")
        await until(lambda: ran()["a"])
        await until(lambda: stored(fleet))
        core = fleet.shard()
        kind = core.routes.kind_of["tracked"]
        samples.RAN.clear()
        core.events.void("here", kind)
        await until(lambda: ran()["a"])
        assert core.ledger.marks.rv("here", kind) is None or core.ledger.reconciled


async def test_a_flush_waits_for_the_write_in_progress_and_writes_later_changes() -> None:
    async with stack(["tracked"], state={"namespace": "default", "watermark": "1h"}) as fleet:
        await fleet.put("here", "tracked", "first")
        await until(lambda: ran()["first"] == 1)
        core = fleet.shard()
        await core.watermarks.flush()
        marks, kind = core.ledger.marks, GVK.parse("v1/ConfigMap")

        def due(name: str) -> None:
            marks.due(RequestKey("tracked", "here", "default", name), "here", kind, 1)

        due("one")
        written = asyncio.ensure_future(core.watermarks.flush())
        await asyncio.sleep(0)
        due("two")
        await core.watermarks.flush()
        await written
        client = await ClusterClient.connect(fleet.connects["here"], CLOCK)
        try:
            record = await Records(client, "t", "default").read("watermark-0")
        finally:
            await client.close()
        assert record is not None
        assert '"one' in record.data["here"].replace("\\", "")
        assert '"two' in record.data["here"].replace("\\", "")


async def test_a_flush_writes_again_after_a_conflict() -> None:
    async with stack(["tracked"], state={"namespace": "default", "watermark": "1h"}) as fleet:
        core = fleet.shard()
        await core.watermarks.flush()
        client = await ClusterClient.connect(fleet.connects["here"], CLOCK)
        try:
            records = Records(client, "t", "default")
            record = await records.read("watermark-0")
            assert record is not None
            await records.write("watermark-0", {**record.data, "other": "{}"}, record)  # as a write of ours whose answer was lost
            marks, kind = core.ledger.marks, GVK.parse("v1/ConfigMap")
            marks.due(RequestKey("tracked", "here", "default", "late"), "here", kind, 1)
            await core.watermarks.flush()
            record = await records.read("watermark-0")
            assert record is not None
            assert "late" in record.data["here"]
        finally:
            await client.close()
