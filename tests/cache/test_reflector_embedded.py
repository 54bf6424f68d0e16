"""The same on the embedded API server: real semantics of lists, watches, WatchList, 410 and own writes."""

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
async def seen(client: ClusterClient) -> AsyncIterator[Watched]:
    found = Watched(None, client)  # type: ignore[arg-type]
    yield found
    await found.stop()


async def listed(client: ClusterClient) -> dict[str, int]:
    answer = await client.request("GET", "/api/v1/configmaps", query={"labelSelector": "test=yes"})
    return {obj.meta.name: obj.rv for obj in map(decode_object, split_list(answer.body)[1])}


async def agrees(seen: Watched) -> None:
    """The cache equals a consistent list, soon."""
    async with asyncio.timeout(10):
        while True:
            there = await listed(seen.client)
            if there == {o.meta.name: o.rv for o in seen.store}:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("watch_list", [True, False])
async def test_random_life_is_followed_exactly(client: ClusterClient, seen: Watched, watch_list: bool) -> None:
    rng = random.Random(7)
    for n in range(40):
        await client.create(CM, "default", body(f"c{n}"))
    seen.start(label_selector="test=yes", watch_list=watch_list, watch_timeout=(1.0, 2.0))
    await seen.synced()
    assert len(seen.store) == 40
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
    await agrees(seen)
    assert seen.reflector.status().lists == 1
    assert seen.reflector.status().last_error == ""
    heard: dict[str, str] = {}
    for event in seen.events:
        name = event.obj.meta.name
        assert (name in heard) == (event.type.value != "added")
        heard[name] = event.obj.meta.uid
        if event.type.value == "deleted":
            del heard[name]
    assert set(heard) == alive


async def test_one_form_whoever_brought_it(client: ClusterClient, seen: Watched) -> None:
    answers = [await client.create(CM, "default", body("a", x="1"))]
    seen.start(label_selector="test=yes", watch_list=False)
    await seen.synced()
    by_list = seen.store.get("default", "a")
    await seen.until(lambda: seen.reflector.status().phase is Phase.WATCHING)
    answers.append(await client.create(CM, "default", body("b", x="1")))
    await agrees(seen)
    by_watch = seen.store.get("default", "b")
    for answer, cached in zip(answers, (by_list, by_watch), strict=True):
        written = decode_object(answer)
        assert cached is not None
        assert json.loads(written.raw) == json.loads(cached.raw)
        assert written.version == cached.version
        assert cached.changed_at > 0
        assert b"managedFields" not in cached.raw


async def test_an_own_write_is_told_once(client: ClusterClient, seen: Watched) -> None:
    seen.start(label_selector="test=yes")
    await seen.synced()
    raw = await client.create(CM, "default", body("mine"))
    meta = decode_object(raw).meta
    rv = int(meta.resource_version)
    seen.events += seen.store.fold(Written("c1", str(CM), "default", "mine", meta.uid, rv, raw), 0.0)
    await client.create(CM, "default", body("theirs"))
    await agrees(seen)
    assert seen.told().count(("added", "mine")) == 1
    assert seen.store.reached("default", "mine", meta.uid, rv)


async def test_a_watermark_replays_what_was_missed(client: ClusterClient, seen: Watched) -> None:
    for name in ("kept", "gone"):
        await client.create(CM, "default", body(name))
    watermark = max((await listed(client)).values())
    await client.delete(CM, "default", "gone")
    await client.patch(CM, "default", "kept", b'{"data":{"x":"1"}}')
    seen.start(label_selector="test=yes", watermark=watermark)
    await seen.synced()
    await seen.until(seen.reflector.replayed.is_set)
    replayed = {(e.type.value, e.obj.meta.name) for e in seen.events if e.source is Source.REPLAY}
    assert replayed == {("deleted", "gone"), ("modified", "kept")}


async def test_a_conflict_and_a_precondition_are_errors_with_a_reason(client: ClusterClient) -> None:
    made = decode_object(await client.create(CM, "default", body("a")))
    stale = json.loads(made.raw)
    await client.patch(CM, "default", "a", b'{"data":{"x":"1"}}')
    with pytest.raises(ApiError) as caught:
        await client.update(CM, "default", "a", json.dumps(stale).encode())
    assert caught.value.conflict
    with pytest.raises(ApiError) as caught:
        await client.delete(CM, "default", "a", uid="another")
    assert caught.value.conflict


async def test_server_side_apply(client: ClusterClient) -> None:
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
async def test_faults_lose_and_double_nothing(
    cluster: EmbeddedCluster, client: ClusterClient, seen: Watched, watch_list: bool
) -> None:
    """Writes go in by the in-process client, untouched by the faults; the reflector comes through all of them."""
    rng = random.Random(11)
    seen.start(label_selector="test=yes", watch_list=watch_list, stall=0.4, watch_timeout=(1.0, 2.0))
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
    await seen.synced()
    await agrees(seen)
    heard: dict[str, str] = {}
    for event in seen.events:
        name = event.obj.meta.name
        assert (name in heard) == (event.type.value != "added")
        heard[name] = event.obj.meta.uid
        if event.type.value == "deleted":
            del heard[name]
    assert heard == {o.meta.name: o.meta.uid for o in seen.store}
    assert seen.store.voids == 0
    assert seen.reflector.status().failures > 0
