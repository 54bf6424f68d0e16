"""The reflector on the embedded API server: real semantics of lists, watches, WatchList, 410 and own writes."""

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest
from watched import Watched

from raycp.base.clock import SystemClock
from raycp.base.events import Source
from raycp.base.keys import GVK
from raycp.base.tasks import Written
from raycp.cache import Phase
from raycp.config.embedded import EmbeddedSpec, FaultSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ApiError, ClusterClient, ConnectSpec
from raycp.kube.codec import decode_object, split_list

CM = GVK("", "v1", "ConfigMap")


def body(name: str, **data: str) -> bytes:
    meta = {"name": name, "labels": {"test": "yes"}}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}).encode()


@pytest.fixture
async def cluster() -> AsyncIterator[EmbeddedCluster]:
    found = EmbeddedCluster("c1", EmbeddedSpec())
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def client(cluster: EmbeddedCluster) -> AsyncIterator[ClusterClient]:
    end = cluster.endpoint
    assert end is not None
    spec = ConnectSpec(name="c1", mode="direct", server=end.server, ca_pem=end.ca_pem, token=end.token, timeout=10.0)
    found = await ClusterClient.connect(spec, SystemClock())
    yield found
    await found.close()


@pytest.fixture
async def watched(client: ClusterClient) -> AsyncIterator[Watched]:
    found = Watched(None, client)
    yield found
    await found.stop()


async def listed(client: ClusterClient) -> dict[str, int]:
    answer = await client.request("GET", "/api/v1/configmaps", query={"labelSelector": "test=yes"})
    return {obj.meta.name: obj.rv for obj in map(decode_object, split_list(answer.body)[1])}


async def agrees(watched: Watched) -> None:
    """Wait until the cache equals a consistent list."""
    async with asyncio.timeout(10):
        while True:
            there = await listed(watched.client)
            if not watched.store.emitting and there == {o.meta.name: o.rv for o in watched.store}:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("watch_list", [True, False])
async def test_the_cache_follows_random_changes(client: ClusterClient, watched: Watched, watch_list: bool) -> None:
    rng = random.Random(7)
    for n in range(40):
        await client.create(CM, "default", body(f"c{n}"))
    watched.start(label_selector="test=yes", watch_list=watch_list, watch_timeout=(1.0, 2.0))
    await watched.synced()
    assert len(watched.store) == 40
    alive = {f"c{n}" for n in range(40)}
    for step in range(200):
        name = f"c{rng.randrange(60)}"
        if name not in alive:
            await client.create(CM, "default", body(name))
            alive.add(name)
        elif rng.random() < 0.3:
            await client.delete(CM, "default", name)
            alive.discard(name)
        else:
            await client.patch(CM, "default", name, json.dumps({"data": {"n": str(step)}}).encode())
    await agrees(watched)
    assert watched.reflector.status().lists == 1
    assert watched.reflector.status().last_error == ""
    known: dict[str, str] = {}
    for event in watched.events:
        name = event.obj.meta.name
        assert (name in known) == (event.type.value != "added")
        known[name] = event.obj.meta.uid
        if event.type.value == "deleted":
            del known[name]
    assert set(known) == alive


async def test_objects_have_one_form_from_list_watch_and_write(client: ClusterClient, watched: Watched) -> None:
    answers = [await client.create(CM, "default", body("a", x="1"))]
    watched.start(label_selector="test=yes", watch_list=False)
    await watched.synced()
    by_list = watched.store.get("default", "a")
    await watched.until(lambda: watched.reflector.status().phase is Phase.WATCHING)
    answers.append(await client.create(CM, "default", body("b", x="1")))
    await agrees(watched)
    by_watch = watched.store.get("default", "b")
    for answer, cached in zip(answers, (by_list, by_watch), strict=True):
        written = decode_object(answer)
        assert cached is not None
        assert json.loads(written.raw) == json.loads(cached.raw)
        assert written.version == cached.version
        assert cached.changed_at > 0
        assert b"managedFields" not in cached.raw


async def test_an_own_write_is_emitted_once(client: ClusterClient, watched: Watched) -> None:
    watched.start(label_selector="test=yes")
    await watched.synced()
    raw = await client.create(CM, "default", body("mine"))
    meta = decode_object(raw).meta
    rv = int(meta.resource_version)
    watched.events += watched.store.fold(Written("c1", str(CM), "default", "mine", meta.uid, rv, raw), 0.0)
    await client.create(CM, "default", body("theirs"))
    await agrees(watched)
    assert watched.emitted().count(("added", "mine")) == 1
    assert watched.store.reached("default", "mine", meta.uid, rv)


async def test_changes_since_the_watermark_are_replayed(client: ClusterClient, watched: Watched) -> None:
    for name in ("kept", "deleted"):
        await client.create(CM, "default", body(name))
    watermark = max((await listed(client)).values())
    await client.delete(CM, "default", "deleted")
    await client.patch(CM, "default", "kept", b'{"data":{"x":"1"}}')
    watched.start(label_selector="test=yes", watermark=watermark)
    await watched.synced()
    await watched.until(watched.reflector.replayed.is_set)
    replayed = {(e.type.value, e.obj.meta.name) for e in watched.events if e.source is Source.REPLAY}
    assert replayed == {("deleted", "deleted"), ("modified", "kept")}


async def test_conflicts_and_failed_preconditions_are_api_errors(client: ClusterClient) -> None:
    made = decode_object(await client.create(CM, "default", body("a")))
    stale = json.loads(made.raw)
    await client.patch(CM, "default", "a", b'{"data":{"x":"1"}}')
    with pytest.raises(ApiError) as caught:
        await client.update(CM, "default", "a", json.dumps(stale).encode())
    assert caught.value.conflict
    with pytest.raises(ApiError) as caught:
        await client.delete(CM, "default", "a", uid="another")
    assert caught.value.conflict


async def test_server_side_apply_of_the_same_object_changes_nothing(client: ClusterClient) -> None:
    first = decode_object(await client.apply(CM, "default", "a", body("a", x="1"), field_manager="raycp"))
    again = decode_object(await client.apply(CM, "default", "a", body("a", x="1"), field_manager="raycp"))
    assert first.rv == again.rv


FAULTS: list[dict[str, object]] = [
    {"kind": "closeWatch"},
    {"kind": "compact"},
    {"kind": "reset", "for": 0.2, "probability": 0.5},
    {"kind": "tooManyRequests", "for": 0.2, "verbs": ["watch", "list"]},
    {"kind": "error", "for": 0.2, "probability": 0.5, "verbs": ["watch", "list"]},
    {"kind": "stallWatch", "for": 0.7},
    {"kind": "rotateCertificate"},
]


@pytest.mark.parametrize("watch_list", [True, False], ids=["watchlist", "list"])
async def test_faults_neither_lose_nor_duplicate_events(
    cluster: EmbeddedCluster, client: ClusterClient, watched: Watched, watch_list: bool
) -> None:
    """The in-process API writes without faults; the reflector reads through all of them."""
    rng = random.Random(11)
    watched.start(label_selector="test=yes", watch_list=watch_list, stall=0.4, watch_timeout=(1.0, 2.0))
    alive: set[str] = set()
    for fault in FAULTS * 2:
        cluster.faults.set([FaultSpec.model_validate(fault)])
        for _ in range(15):
            name = f"c{rng.randrange(30)}"
            if name in alive and rng.random() < 0.4:
                await cluster.api.delete("configmaps", "default", name)
                alive.discard(name)
            elif name in alive:
                patch = json.dumps({"data": {"n": str(rng.random())}}).encode()
                await cluster.api.patch_merge("configmaps", "default", name, patch)
            else:
                await cluster.api.create("configmaps", json.loads(body(name)), "default")
                alive.add(name)
            await asyncio.sleep(0.01)
    cluster.faults.clear()
    await watched.synced()
    await agrees(watched)
    known: dict[str, str] = {}
    for event in watched.events:
        name = event.obj.meta.name
        assert (name in known) == (event.type.value != "added")
        known[name] = event.obj.meta.uid
        if event.type.value == "deleted":
            del known[name]
    assert known == {o.meta.name: o.meta.uid for o in watched.store}
    assert watched.store.voids == 0
    status = watched.reflector.status()
    assert status.failures + status.watches > 5, "the faults have ended watches"
