"""Law 10: a wake is kept until it is acknowledged. Two shards in one process, the hub in one, a member in the other."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import fleet_samples as samples
import msgspec
from inprocess import Stack, holds, until
from inprocess import stack as started

from raycp.base.keys import RequestKey
from raycp.protocol.frames import Wake

HOMES = {"hub": "0", "east": "1"}


def ran() -> Counter[str]:
    return Counter(name for _, _, name in samples.RAN)


def pending(fleet: Stack) -> dict[RequestKey, Wake]:
    """What the member's shard keeps for the hub's: wakes of owners."""
    return fleet.shard("1").wakes.outbox("0").owners()


@contextlib.asynccontextmanager
async def stack(uses: list[str], homes: dict[str, str]) -> AsyncIterator[Stack]:
    """A stack whose start is over."""
    async with started(uses, homes) as fleet:
        await fleet.lists_reported()
        yield fleet


async def child(fleet: Stack, owner: str, name: str) -> None:
    await fleet.clusters["east"].api.create("secrets", fleet.child_of(owner, "Secret", "east", name))


async def test_a_wake_is_acknowledged_only_after_a_reconcile_that_started_after_it() -> None:
    async with stack(["keeper"], HOMES) as fleet:
        await fleet.put("hub", "keeper", "k")
        await until(lambda: ran()["k"] == 1)
        # In work since before the child came: this reconcile can't have seen it.
        await child(fleet, "k", "first")
        await until(lambda: pending(fleet))
        await holds(lambda: len(pending(fleet)) == 1, 0.15)
        samples.OPEN["k"] = True
        await until(lambda: not pending(fleet))
        assert ran()["k"] == 2
        assert samples.CHILDREN["hub", "k"] == ["first"]


async def test_a_newer_wake_is_not_acknowledged_with_an_older() -> None:
    async with stack(["keeper"], HOMES) as fleet:
        samples.OPEN["k"] = True
        await fleet.put("hub", "keeper", "k")
        await until(lambda: ran()["k"] == 1 and not samples.RUNNING["keeper", "hub", "k"])
        samples.OPEN["k"] = False
        await child(fleet, "k", "first")
        await until(lambda: ran()["k"] == 2)
        before = next(iter(pending(fleet).values())).seq
        await child(fleet, "k", "second")
        await until(lambda: any(wake.seq > before for wake in pending(fleet).values()))
        samples.OPEN["k"] = True
        await until(lambda: not pending(fleet))
        assert ran()["k"] == 3
        assert samples.CHILDREN["hub", "k"] == ["first", "second"]


async def test_wakes_outlive_the_receivers_death() -> None:
    async with stack(["keeper"], HOMES) as fleet:
        samples.OPEN["k"] = True
        await fleet.put("hub", "keeper", "k")
        await until(lambda: ran()["k"] == 1)
        await fleet.kill("shard", "0")
        await child(fleet, "k", "first")
        await until(lambda: pending(fleet))
        await fleet.new_shard("0")
        await fleet.configure()
        await until(lambda: not pending(fleet), 10.0, "sent again to the new primary")
        assert samples.CHILDREN["hub", "k"] == ["first"]


async def test_a_wake_received_but_not_reconciled_is_sent_again_to_the_next_term() -> None:
    async with stack(["keeper"], HOMES) as fleet:
        samples.OPEN["k"] = True
        await fleet.put("hub", "keeper", "k")
        await until(lambda: ran()["k"] == 1 and not samples.RUNNING["keeper", "hub", "k"])
        fleet.shard("0").dispatcher.paused = True
        await child(fleet, "k", "first")
        await until(lambda: any(incoming.waiting for incoming in fleet.shard("0").wakes.incoming))
        await fleet.kill("shard", "0")
        assert pending(fleet), "received is not acknowledged"
        await fleet.new_shard("0")
        await fleet.configure()
        await until(lambda: not pending(fleet))
        await until(lambda: samples.CHILDREN["hub", "k"] == ["first"])


async def test_a_broken_connection_loses_no_wake() -> None:
    async with stack(["keeper"], HOMES) as fleet:
        for number in range(10):
            samples.OPEN[f"k{number}"] = True
            await fleet.put("hub", "keeper", f"k{number}")
        await until(lambda: sum(ran().values()) == 10)
        outgoing = fleet.shard("1").wakes.outbox("0")
        for number in range(10):
            await child(fleet, f"k{number}", f"c{number}")
            if number % 3 == 0:
                outgoing.disconnect()
        await until(lambda: all(samples.CHILDREN["hub", f"k{n}"] == [f"c{n}"] for n in range(10)))
        await until(lambda: not pending(fleet))


async def test_a_wake_for_a_deleted_owner_is_not_kept() -> None:
    async with stack(["keeper"], HOMES) as fleet:
        samples.OPEN["k"] = True
        await fleet.put("hub", "keeper", "k")
        await until(lambda: ran()["k"] == 1)
        await child(fleet, "k", "first")
        await until(lambda: ran()["k"] == 2 and not pending(fleet))
        await fleet.clusters["hub"].api.delete("configmaps", "default", "k")
        hub = fleet.shard("0").caches.clusters["hub"]
        await until(lambda: not any(len(informer.store) for informer in hub.informers.values()))
        await fleet.clusters["east"].api.patch_merge(
            "secrets", "default", "first", msgspec.json.encode({"metadata": {"annotations": {"more": "1"}}})
        )
        await holds(lambda: ran()["k"] == 2, 0.2)
        await until(lambda: not pending(fleet))
