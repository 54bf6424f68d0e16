"""Objects that claim to be children: without proof they wake nobody, are no child, and keep no key from its reconcile."""

import asyncio
import json
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import Stack, holds, stack, until

from raycp.base.events import Source
from raycp.base.keys import GVK
from raycp.base.owner_marks import MARK, MarkKeys
from raycp.base.tasks import FOREIGN_SHOWN
from raycp.cache import Store
from raycp.kube.codec import decode_object
from raycp.sdk.foreign import REASON
from raycp.sdk.owner import OWNER_UID, mark
from raycp.shard import tasks
from raycp.shard.owned_objects import Claims, owned_objects

APART = {"hub": "0", "east": "1", "west": "1"}
TOGETHER = {"hub": "0", "east": "0", "west": "0"}


def runs(name: str) -> int:
    return [seen for *_, seen in samples.RAN].count(name)


async def create(fleet: Stack, cluster: str, obj: dict[str, Any]) -> None:
    if fleet.clusters[cluster].api.get("namespaces", "", "evil") is None:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "evil"}}
        await fleet.clusters[cluster].api.create("namespaces", space)
    await fleet.clusters[cluster].api.create("secrets", obj)


def forgeries(fleet: Stack, owner: str) -> list[tuple[str, dict[str, Any]]]:
    """By somebody who reads all marks, and writes in another namespace and in a member without children: a mark that is copied to
    another namespace, to another cluster, to another name; none; a made-up one; an owner reference beside."""
    real = fleet.child_of(owner, "Secret", "east", "real")
    found: list[tuple[str, dict[str, Any]]] = []
    for number, (cluster, namespace, change) in enumerate(
        [
            ("east", "evil", {}),
            ("west", "default", {}),
            ("east", "evil", {MARK: None}),
            ("east", "evil", {MARK: "key-1/AAAAAAAAAAAAAAAAAAAAAA"}),
            ("west", "evil", {MARK: "other/AAAA"}),
        ]
    ):
        obj = msgspec.json.decode(msgspec.json.encode(real))
        meta = obj["metadata"]
        meta |= {"name": "real" if number < 2 else f"forged-{number}", "namespace": namespace}
        annotations = {**meta["annotations"], **change}
        meta["annotations"] = {name: value for name, value in annotations.items() if value is not None}
        uid = meta["labels"]["raycp.io/owner-uid"]
        meta["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid}]
        found.append((cluster, obj))
    return found


@pytest.mark.parametrize("homes", [TOGETHER, APART], ids=["one shard", "two shards"])
async def test_forged_children_wake_nobody_and_are_no_children(homes: dict[str, str]) -> None:
    async with stack(["census"], homes) as fleet:
        if homes is APART:
            await fleet.lists_reported()
        await fleet.put("hub", "census", "k")
        await until(lambda: runs("k"))
        lies = forgeries(fleet, "k")
        await until(lambda: not fleet.shard().ledger.working)
        before = runs("k")
        for cluster, obj in lies:
            await create(fleet, cluster, obj)
        for cluster in ("east", "west"):
            await until(lambda: _cached(fleet, cluster) == sum(at == cluster for at, _ in lies))  # noqa: B023
        await holds(lambda: runs("k") == before, 0.3, "a stranger woke it")
        await create(fleet, "east", fleet.child_of("k", "Secret", "east", "real"))
        await until(lambda: samples.CHILDREN["hub", "k"] == ["real"])
        assert runs("k") == before + 1
        api = fleet.clusters["hub"].api
        (event,) = await until(lambda: [e for e in api.list("events.events.k8s.io", "default")[0] if e["reason"] == REASON])
        assert event["regarding"]["name"] == "k"
        assert "east/evil/forged-2" in event["note"]
        assert "east/default/real" not in event["note"]
        for cluster, obj in lies:
            meta = obj["metadata"]
            assert fleet.clusters[cluster].api.get("secrets", meta["namespace"], meta["name"]) is not None, "left alone"


def _cached(fleet: Stack, cluster: str) -> int:
    return sum(len(i.store) for core in fleet.substrate.living("shard") for at, kind, i in core.caches.informers() if at == cluster)


async def test_forged_bytes_do_not_make_an_object_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may create objects in a member can't take a job out of work by their size."""
    monkeypatch.setattr(tasks, "LARGEST_TASK", 200_000)
    async with stack(["census"], TOGETHER) as fleet:
        await fleet.put("hub", "census", "k")
        await until(lambda: runs("k"))
        for number in range(4):
            obj = fleet.child_of("k", "Secret", "east", f"big-{number}")
            obj["metadata"]["namespace"] = "evil"
            await create(fleet, "east", {**obj, "data": {"blob": "A" * 100_000}})
        await create(fleet, "east", fleet.child_of("k", "Secret", "east", "real"))
        await until(lambda: samples.CHILDREN["hub", "k"] == ["real"])


@pytest.mark.parametrize("homes", [TOGETHER, APART], ids=["one shard", "two shards"])
async def test_children_are_unknown_until_the_keys_are_known_and_the_keys_wake_their_owners(homes: dict[str, str]) -> None:
    async with stack(["census"], homes) as fleet:
        await fleet.put("hub", "census", "k")
        await until(lambda: runs("k"))
        keys, fleet.marks = fleet.marks, None
        child = fleet_child(fleet, keys, "k")
        await fleet.configure()
        await create(fleet, "east", child)
        await until(lambda: "east" in samples.UNKNOWN["hub", "k"])
        assert samples.CHILDREN["hub", "k"] == []
        fleet.marks = keys
        await fleet.configure()
        await until(lambda: samples.CHILDREN["hub", "k"] == ["real"])
        assert samples.UNKNOWN["hub", "k"] == []


def fleet_child(fleet: Stack, keys: MarkKeys | None, owner: str) -> dict[str, Any]:
    before, fleet.marks = fleet.marks, keys
    child = fleet.child_of(owner, "Secret", "east", "real")
    fleet.marks = before
    return child


async def test_a_key_that_is_removed_proves_nothing_any_more() -> None:
    async with stack(["census"], TOGETHER) as fleet:
        await fleet.put("hub", "census", "k")
        await until(lambda: runs("k"))
        await create(fleet, "east", fleet.child_of("k", "Secret", "east", "real"))
        await until(lambda: samples.CHILDREN["hub", "k"] == ["real"])
        fleet.marks = MarkKeys({"key-1": bytes(32), "key-2": b"n" * 32}, "key-2")
        await fleet.configure()
        await create(fleet, "east", fleet.child_of("k", "Secret", "east", "newer"))
        await until(lambda: samples.CHILDREN["hub", "k"] == ["newer", "real"])
        fleet.marks = MarkKeys({"key-2": b"n" * 32}, "key-2")
        await fleet.configure()
        await until(lambda: samples.CHILDREN["hub", "k"] == ["newer"])


async def test_an_owner_reference_counts_in_its_own_namespace_only() -> None:
    """In the owner's cluster: as in Kubernetes, whose garbage collector deletes the others."""
    async with stack(["parent"], {"here": "0"}) as fleet:
        await fleet.put("here", "parent", "k")
        await until(lambda: fleet.clusters["here"].api.get("secrets", "default", "k-child"))
        found = fleet.clusters["here"].api.get("configmaps", "default", "k")
        assert found is not None
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "k", "uid": found["metadata"]["uid"]}
        meta = {"name": "far", "namespace": "evil", "ownerReferences": [reference]}
        await create(fleet, "here", {"apiVersion": "v1", "kind": "Secret", "metadata": meta})
        await until(lambda: _cached(fleet, "here") >= 3)
        await fleet.put("here", "parent", "k", again="yes")
        count = runs("k")
        await until(lambda: runs("k") > count or samples.CHILDREN["here", "k"] == ["k-child"])
        await asyncio.sleep(0)
        assert samples.CHILDREN["here", "k"] == ["k-child"]


@pytest.mark.parametrize("references", [False, True])
def test_however_many_claim_an_owner_a_few_are_shown_and_all_of_its_own_are_found(references: bool) -> None:
    """Others decide how many there are, and each task of the owner would go through all of them."""
    keys = MarkKeys({"key-1": b"k" * 32}, "key-1")
    kind, meta = GVK.parse("v1/Secret"), {"uid": "owner-uid", "name": "k", "namespace": "default"}
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
    children: list[dict[str, Any]] = []
    for number in range(400):
        child: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"c-{number}", "namespace": "default"}}
        children.append(child)
        if number % 10 == 0:
            mark(child, owner, "hub", "east", keys)
        else:
            child["metadata"]["labels"] = {OWNER_UID: "owner-uid"}
        if number % 10 == 1:
            reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "k", "uid": "owner-uid"}
            child["metadata"]["ownerReferences"] = [reference]
    store = Store()
    Claims("east", kind, keys, lambda: 0.0).index(store)
    store.replace([decode_object(json.dumps(child).encode()) for child in children], 9, Source.INITIAL, 0.0)
    found, foreign = owned_objects(store, "owner-uid", references=references, namespace="default")
    assert {int(obj.meta.name[2:]) % 10 for obj in found} == ({0, 1} if references else {0})
    assert len(found) == (80 if references else 40)
    assert len(foreign) == FOREIGN_SHOWN
    assert not {id(obj) for obj in found} & {id(obj) for obj in foreign}
