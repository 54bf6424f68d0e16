"""Objects and children of many bytes: what fits is reconciled and stalls nobody; what can't fit is a condition on its object."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import CLOCK, Stack, stack, until

from raycp.base.keys import RequestKey
from raycp.base.problems import FLEET, FleetProblem, ProblemCode, ProblemOwner
from raycp.protocol.frames import LARGEST_TASK
from raycp.protocol.status_builder import fleet_status
from raycp.shard import read_pages, tasks, watches
from raycp.worker import shard_reads, task_memory
from raycp.worker.refusals import REASON

CHILD = 128 * 1024
"""Bytes of one child: nine Pods of 14 KB, in one object, so that the test is about bytes."""

JOB = 600 * CHILD
"""5 500 Pods of 14 KB: more than a frame may have."""


async def child(fleet: Stack, cluster: str, owner: str, name: str, size: int) -> None:
    obj = fleet.child_of(owner, "Secret", cluster, name)
    await fleet.clusters[cluster].api.create("secrets", {**obj, "data": {"blob": "A" * size}})


async def children(fleet: Stack, cluster: str, owner: str, count: int, size: int) -> list[str]:
    """So many children, while their owner is held: it sees all of them at once."""
    key = RequestKey("census", "hub", "default", owner)
    fleet.shard().queue.hold(key, "its children are being made")
    await fleet.put("hub", "census", owner)
    names = [f"{owner}-{number:04}" for number in range(count)]
    for name in names:
        await child(fleet, cluster, owner, name, size)
        await asyncio.sleep(0)

    def cached() -> int:
        caches = [informer.store for core in fleet.substrate.living("shard") for _, _, informer in core.caches.informers()]
        return sum(name in {obj.meta.name for obj in store} for store in caches for name in (names[-1],))

    await until(cached, 30.0)
    fleet.shard().queue.release(key, "its children are being made")
    fleet.shard().dispatcher.dispatch_soon()
    return names


@contextlib.asynccontextmanager
async def neighbours(fleet: Stack, cluster: str) -> AsyncIterator[list[float]]:
    """Somebody else's keys in ``cluster``: one after the other is created, and reconciled. Yields how long each took."""
    took: list[float] = []
    stop = asyncio.Event()

    async def go_on() -> None:
        while not stop.is_set():
            begun, name = CLOCK.now(), f"calm-{len(took)}"
            await fleet.put(cluster, "tracked", name)
            await until(lambda: ("tracked", cluster, name) in samples.RAN, 30.0, f"{name} beside a large job")  # noqa: B023
            took.append(CLOCK.now() - begun)

    running = asyncio.ensure_future(go_on())
    try:
        yield took
    finally:
        stop.set()
        await running


@pytest.mark.parametrize("homes", [{"hub": "0", "east": "0"}, {"hub": "0", "east": "1"}], ids=["one shard", "two shards"])
async def test_a_job_with_thousands_of_pods_is_reconciled_and_its_neighbours_go_on(homes: dict[str, str]) -> None:
    async with stack(["census", "tracked"], homes) as fleet:
        connections = {seat.connection for core in fleet.substrate.living("shard") for seat in core.dispatcher.seats.values()}
        names = await children(fleet, "east", "job", JOB // CHILD, CHILD)
        async with neighbours(fleet, "east") as took:
            await until(lambda: samples.CHILDREN.get(("hub", "job")) == names, 90.0, "the job sees all of its children")
            await until(lambda: len(took) >= 3, 60.0)
        await until(lambda: fleet.worker().memory.used == 0, 30.0, "what it read is accounted for no longer")
        now = {seat.connection for core in fleet.substrate.living("shard") for seat in core.dispatcher.seats.values()}
        assert now == connections, "no frame was refused"
        assert not fleet.shard().rests.unfinished


async def test_large_jobs_take_turns_where_a_worker_has_no_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_memory, "HOLDS", 3_000_000)
    async with stack(["census", "tracked"], {"hub": "0", "east": "0"}) as fleet:
        wanted = {f"job-{number}": await children(fleet, "east", f"job-{number}", 16, CHILD) for number in range(4)}
        for job, names in wanted.items():
            await until(lambda: samples.CHILDREN.get(("hub", job)) == names, 60.0, job)  # noqa: B023
        assert fleet.worker().memory.most <= 3_000_000
        assert fleet.worker().memory.used == 0


async def test_a_list_of_many_bytes_comes_in_pages() -> None:
    async with stack(["everything", "lister"]) as fleet:
        for number in range(60):
            await fleet.put("here", "other", f"big-{number:02}", blob="x" * 500_000)
        await until(lambda: len([name for who, _, name in samples.RAN if who == "everything"]) >= 60, 60.0)
        await fleet.put("here", "lister", "l")
        await until(lambda: ("here", "l") in samples.CHILDREN, 30.0)
        assert {f"big-{number:02}" for number in range(60)} <= set(samples.CHILDREN["here", "l"])
        await until(lambda: fleet.worker().memory.used == 0)


# what can't fit


def key_of(controller: str, cluster: str, name: str) -> RequestKey:
    return RequestKey(controller, cluster, "default", name)


def too_large(fleet: Stack) -> list[FleetProblem]:
    return [each for each in fleet.shard().report().problems if each.code is ProblemCode.OBJECT_TOO_LARGE]


async def refused(fleet: Stack, key: RequestKey, text: str) -> None:
    """The key is refused, and says so everywhere."""
    shard = fleet.shard()
    owner = ProblemOwner(object=shard.convictions.name_of(key), controller=key.controller)

    def problem() -> str:
        return next((each.message for each in too_large(fleet) if each.owner == owner), "")

    await until(lambda: text in problem(), 30.0, f"a problem that says {text!r}, not {problem()!r}")

    def why() -> Any:
        return shard.queue.why(key)

    await until(lambda: why().delay_left > 60.0, 10.0, "it is not tried again and again")
    assert text in why().error
    found = shard.reporter.timeline(key.cluster, "ConfigMap", key.namespace, key.name)
    assert found is not None
    assert text in str(found["controllers"])
    events = fleet.clusters[key.cluster].api
    await until(lambda: [e for e in events.list("events.events.k8s.io", "default")[0] if e["reason"] == REASON], 20.0, "an Event")
    (event,) = (e for e in events.list("events.events.k8s.io", "default")[0] if e["regarding"]["name"] == key.name)
    assert event["type"] == "Warning"
    assert text in event["note"]
    assert shard.ledger.marks.due_of(key), "an exception of the watermark: it is looked at again after a restart"
    members = {slot: _Known(member, fleet.report(member)) for slot, member in fleet.members.items()}
    other = FleetProblem(ProblemCode.OTHER, FLEET, "problem", 0.0)
    status = fleet_status(fleet.plan(), list(members), members, [other])
    assert other in status.problems
    assert [text in each.message for each in status.problems if each.owner == owner] == [True]


class _Known:
    def __init__(self, member: Any, report: Any) -> None:
        self.member, self.report, self.problem, self.refusal, self.node = member, report, "", "", ""


async def test_an_object_that_is_too_large_is_a_condition_and_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LARGEST", 600_000)
    async with stack(["tracked"]) as fleet:
        await fleet.put("here", "tracked", "large", blob="x" * 700_000)
        for number in range(3):
            await fleet.put("here", "tracked", f"small-{number}", blob="x" * 300_000)
        await refused(fleet, key_of("tracked", "here", "large"), "the object has 0.7 MiB")
        await until(lambda: {name for _, _, name in samples.RAN} == {"small-0", "small-1", "small-2"})
        samples.SEEN.clear()
        await fleet.put("here", "tracked", "large", blob="fits")
        await until(lambda: ("tracked", "large", {"blob": "fits"}) in samples.SEEN, 10.0, "its change is reconciled at once")
        await until(lambda: not too_large(fleet))


@pytest.mark.parametrize("homes", [{"hub": "0", "east": "0"}, {"hub": "0", "east": "1"}], ids=["one shard", "two shards"])
async def test_children_that_are_too_many_are_a_condition(monkeypatch: pytest.MonkeyPatch, homes: dict[str, str]) -> None:
    monkeypatch.setattr(tasks, "LARGEST_TASK", 1_500_000)
    monkeypatch.setattr(shard_reads, "LARGEST_TASK", 1_000_000)  # beyond the first page
    async with stack(["census"], homes) as fleet:
        names = await children(fleet, "east", "job", 14, CHILD)
        await refused(fleet, key_of("census", "hub", "job"), "a reconcile is given")
        assert ("hub", "job") not in samples.CHILDREN
        for name in names[4:]:
            await fleet.clusters["east"].api.delete("secrets", "default", name)
        await until(lambda: samples.CHILDREN.get(("hub", "job")) == names[:4], 20.0, "children that are gone wake it")
        await until(lambda: not too_large(fleet))


@pytest.mark.parametrize("homes", [{"hub": "0", "east": "0"}, {"hub": "0", "east": "1"}], ids=["one shard", "two shards"])
async def test_a_child_that_is_too_large_is_a_condition(monkeypatch: pytest.MonkeyPatch, homes: dict[str, str]) -> None:
    monkeypatch.setattr(tasks, "LARGEST", 200_000)
    monkeypatch.setattr(read_pages, "LARGEST", 200_000)
    async with stack(["census"], homes) as fleet:
        await children(fleet, "east", "job", 1, 400_000)
        await refused(fleet, key_of("census", "hub", "job"), "v1/Secret")


# watched objects, and the states of them that a map function gets


async def test_a_watched_object_of_many_bytes_reaches_its_map_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LARGEST", 900_000)
    monkeypatch.setattr(watches, "LARGEST", 900_000)
    async with stack(["member_reader"], {"hub": "0", "near": "0"}, timeouts={"spread": "60s"}) as fleet:
        for name in ("a", "b"):
            await fleet.put("near", "member-reader", name)
        await until(lambda: len(samples.RAN) == 2)
        api = fleet.clusters["hub"].api

        async def policy(target: str, size: int) -> None:
            meta = {"name": "policy", "namespace": "default", "labels": {"app": "policy", "for": target}}
            obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"blob": "x" * size}}
            if api.get("configmaps", "default", "policy") is None:
                await api.create("configmaps", obj)
            else:
                await api.patch_merge("configmaps", "default", "policy", msgspec.json.encode(obj))

        await policy("a", 700_000)
        await until(lambda: [name for _, _, name in samples.RAN].count("a") == 2, 20.0, "read in pages, and mapped")
        await policy("b", 700_001)
        await until(lambda: [name for _, _, name in samples.RAN].count("a") == 3, 20.0, "its earlier state is mapped too")
        await until(lambda: [name for _, _, name in samples.RAN].count("b") == 2)
        await until(lambda: fleet.worker().memory.used == 0)
        assert not fleet.shard().rests.unfinished
        await policy("b", 1_000_000)
        await until(lambda: "the object has 1.0 MiB" in str(too_large(fleet)), 20.0, "it is a problem")
        await policy("b", 10)
        await until(lambda: not fleet.shard().report().problems, 20.0)
        await until(lambda: [name for _, _, name in samples.RAN].count("b") == 3, 20.0, "and mapped again when it fits")
        await until(lambda: [name for _, _, name in samples.RAN].count("a") == 4, 60.0, "what the state had named is not known")


def test_a_job_of_this_size_is_no_exception() -> None:
    assert LARGEST_TASK > 5_500 * 14_000
