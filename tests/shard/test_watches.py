"""Objects that reconciles read (``watches=``): which keys a change requeues, and that no such wake is lost (laws 2, 10, 13)."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import fleet_samples as samples
import msgspec
import pytest_asyncio
from inprocess import Stack, holds, quiet, stack, until

from raycp.base.selections import every, naming

HOMES = {"hub": "0", "near": "0", "far": "1"}
STATE = {"namespace": "default", "watermark": "50ms"}


def ran() -> Counter[tuple[str, str]]:
    """How often each object was reconciled, by cluster and name."""
    return Counter((cluster, name) for _, cluster, name in samples.RAN)


def obj(kind: str, name: str, labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default", "labels": labels or {}}, **fields}


async def secret(fleet: Stack, name: str, value: str) -> None:
    """Create or change a Secret of the hub."""
    api = fleet.clusters["hub"].api
    if api.get("secrets", "default", name) is None:
        await api.create("secrets", obj("Secret", name, stringData={"value": value}))
    else:
        await api.patch_merge("secrets", "default", name, msgspec.json.encode({"stringData": {"value": value}}))


async def policy(fleet: Stack, target: str | None) -> None:
    """Create, change or delete the policy of the hub that is for objects of these names."""
    api = fleet.clusters["hub"].api
    if target is None:
        await api.delete("configmaps", "default", "policy")
    elif api.get("configmaps", "default", "policy") is None:
        await api.create("configmaps", obj("ConfigMap", "policy", {"app": "policy", "for": target}))
    else:
        change = {"metadata": {"labels": {"for": target}}}
        await api.patch_merge("configmaps", "default", "policy", msgspec.json.encode(change))


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[Stack]:
    """Objects ``a`` and ``b`` in two members of different shards; each names a Secret of the hub."""
    async with stack(["member_reader"], HOMES, state=STATE, timeouts={"spread": "60s"}) as made:
        for name in ("s-a", "s-b"):
            await secret(made, name, "old")
        await policy(made, "nobody")
        for cluster in ("near", "far"):
            for name in ("a", "b"):
                await made.put(cluster, "member-reader", name, secret=f"s-{name}")
        await until(lambda: len(ran()) == 4)
        await quiet(made)
        samples.RAN.clear()
        samples.MAPPED.clear()
        yield made


async def test_a_change_requeues_the_objects_whose_field_names_the_object(fleet: Stack) -> None:
    await secret(fleet, "s-a", "new")
    await until(lambda: ran() == {("near", "a"): 1, ("far", "a"): 1})
    await quiet(fleet)
    await holds(lambda: ran() == {("near", "a"): 1, ("far", "a"): 1}, 0.2, "once, and no others")
    await fleet.clusters["hub"].api.delete("secrets", "default", "s-b")
    await until(lambda: ran()["near", "b"] == ran()["far", "b"] == 1, what="a deletion is a change")


async def test_a_map_function_requeues_the_keys_of_all_states_since_it_last_ran(fleet: Stack) -> None:
    await policy(fleet, "a")
    await until(lambda: ran() == {("near", "a"): 1, ("far", "a"): 1})
    await policy(fleet, "b")
    await until(lambda: ran()["near", "b"] == ran()["far", "b"] == 1)
    gone = "what no longer maps to a key has changed for that key too"
    await until(lambda: ran()["near", "a"] == ran()["far", "a"] == 2, what=gone)
    await policy(fleet, None)
    await until(lambda: ran()["near", "b"] == ran()["far", "b"] == 2)
    await quiet(fleet)
    assert sum(ran().values()) == 8


async def test_all_means_every_object_of_the_controllers_clusters(fleet: Stack) -> None:
    await policy(fleet, "all")
    await until(lambda: len(ran()) == 4)
    await quiet(fleet)
    assert set(ran().values()) == {1}


async def test_a_map_function_that_fails_is_retried_and_says_so(fleet: Stack) -> None:
    await policy(fleet, "broken")
    shard = fleet.shard("0")
    failing = await until(lambda: [each for each in shard.queue.snapshot() if each.attempts >= 2])
    assert "ZeroDivisionError: on purpose" in failing[0].error
    timeline = shard.reporter.timeline("hub", "ConfigMap", "default", "policy")
    assert timeline is not None
    assert "member-reader (its map function)" in str(timeline), "raycp why of the watched object shows it"
    assert "ZeroDivisionError: on purpose" in str(timeline)
    assert not ran()


async def test_a_label_selector_narrows_what_is_watched(fleet: Stack) -> None:
    await fleet.clusters["hub"].api.create("configmaps", obj("ConfigMap", "unlabelled", {"for": "a"}))
    await holds(lambda: not ran() and not samples.MAPPED, 0.3)
    change = {"metadata": {"labels": {"app": "policy"}}}
    await fleet.clusters["hub"].api.patch_merge("configmaps", "default", "unlabelled", msgspec.json.encode(change))
    await until(lambda: ran() == {("near", "a"): 1, ("far", "a"): 1})


async def test_a_wake_of_many_keys_is_acknowledged_when_all_are_reconciled(fleet: Stack) -> None:
    """Law 10, for a wake that stands for several keys of the other shard."""
    samples.OPEN["b"] = True
    await fleet.put("far", "member-reader", "b", gate="yes")
    await until(lambda: ran()["far", "b"] == 1)
    await quiet(fleet)
    samples.OPEN["b"] = False
    await policy(fleet, "all")
    wake = every("member-reader", "far")
    await until(lambda: ran()["far", "a"] == 1 and ran()["far", "b"] == 2)
    await until(lambda: [key.name for key in fleet.shard("1").ledger.working] == ["b"])
    await holds(lambda: wake in fleet.shard("0").wakes.pending(), 0.3, "one of its keys is still in work")
    samples.OPEN["b"] = True
    await until(lambda: not fleet.shard("0").wakes.pending())


async def test_a_wake_outlives_the_shard_that_has_the_keys(fleet: Stack) -> None:
    await fleet.kill("shard", "1")
    await secret(fleet, "s-a", "new")
    wake = naming("member-reader", "far", 0, "default", "s-a")
    await until(lambda: wake in fleet.shard("0").wakes.pending())
    await fleet.new_shard("1")
    await fleet.configure()
    await until(lambda: not fleet.shard("0").wakes.pending(), 15.0, "sent again to the new primary")
    await until(lambda: ran()["far", "a"] >= 1)


async def test_a_change_while_the_watching_shard_is_away_requeues_its_keys(fleet: Stack) -> None:
    """The shard of the hub starts again with its watermark: a policy that changed meanwhile may have had any state before."""
    await until(lambda: fleet.shard("0").watermarks.stored and not fleet.shard("0").ledger.marks.due_keys())
    await fleet.kill("shard", "0")
    await policy(fleet, "a")
    await secret(fleet, "s-b", "new")
    await fleet.new_shard("0")
    await fleet.configure()
    await until(lambda: len(ran()) == 4, 15.0)
    assert ran()["far", "b"] >= 1


async def test_an_own_write_of_a_watched_object_requeues_its_other_readers_only() -> None:
    """The writer knows what it has written; for the others it is a change."""
    async with stack(["scribe"]) as fleet:
        api = fleet.clusters["here"].api
        await api.create("secrets", obj("Secret", "shared"))
        for name in ("writer", "reader"):
            await fleet.put("here", "scribe", name, secret="shared")
        await until(lambda: len(ran()) == 2)
        await quiet(fleet)
        samples.RAN.clear()
        await fleet.put("here", "scribe", "writer", kind="v1/Secret")
        await until(lambda: ran()["here", "reader"] == 1)
        await quiet(fleet)
        await holds(lambda: ran() == {("here", "writer"): 1, ("here", "reader"): 1}, 0.3)
