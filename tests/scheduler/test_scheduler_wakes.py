"""Each thing that a decision reads wakes the scheduler, and a decision its job's key. The clock of these tests stands still: what
is not woken is never decided."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from raycp.base.clock import VirtualClock
from raycp.base.objects import Obj
from raycp.kube.codec import decode_object
from raycp.scheduler.core import SETTLE, FleetScheduler
from raycp.scheduler.term import AGAIN, AT_ONCE
from raycp.scheduling.capacity import CapacitySummary, DeclaredNodes, declared_capacity
from raycp.scheduling.labels import TaintSpec
from raycp.scheduling.model import Candidate


def capacity(name: str, nodes: int = 1, cpu: int = 4000) -> CapacitySummary:
    return declared_capacity(name, [DeclaredNodes(nodes, {"cpu": cpu, "pods": 110})])


def queue(name: str = "q", cpu: int = 4, **spec: Any) -> Obj:
    flavors = [{"name": "default", "resources": [{"name": "cpu", "nominalQuota": cpu}]}]
    return obj("raycp.io/v1alpha1", "Queue", {"name": name}, {"flavors": flavors, **spec})


def obj(version: str, kind: str, meta: dict[str, Any], spec: dict[str, Any], **parts: Any) -> Obj:
    meta = {"uid": meta["name"], "resourceVersion": "1", **meta}
    return decode_object(msgspec.json.encode({"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec, **parts}))


class Hub:
    """Jobs by name, and what became of them. A write waits while ``stuck``."""

    writable = True
    listed = True

    def __init__(self, succeeds: bool = False) -> None:
        self.succeeds = succeeds
        self.jobs: dict[str, dict[str, Any]] = {}
        self.due: list[str] = []
        self.priorities: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.writing = self.most = 0
        self.scheduler: FleetScheduler

    def job(self, name: str, pods: int = 1, cpu: int = 1, **spec: Any) -> None:
        """A job is created."""
        container = {"name": "main", "resources": {"requests": {"cpu": str(cpu)}}}
        spec = {"parallelism": pods, "completions": pods, "queue": "q", "template": {"spec": {"containers": [container]}}, **spec}
        meta = {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1"}
        meta["creationTimestamp"] = f"2026-01-01T00:00:{len(self.jobs) % 60:02}Z"
        self.jobs[name] = {"apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": meta, "spec": spec}
        self.tell(name)

    def set_status(self, name: str, **status: Any) -> None:
        """Its reconcile writes."""
        job = self.jobs[name]
        job["metadata"]["resourceVersion"] = str(int(job["metadata"]["resourceVersion"]) + 1)
        job["status"] = {**(job.get("status") or {}), **status}
        self.tell(name)

    def end(self, name: str, how: str = "Complete") -> None:
        self.set_status(name, conditions=[{"type": how, "status": "True"}])

    def tell(self, name: str, gone: bool = False) -> None:
        if (found := self.cached("default", name)) is not None:
            self.scheduler.take_jobs([(found, gone)])

    def admission(self, name: str) -> dict[str, Any]:
        return (self.jobs[name].get("status") or {}).get("admission") or {}

    # what the scheduler asks

    def cached(self, namespace: str, name: str) -> Obj | None:
        return decode_object(msgspec.json.encode(self.jobs[name])) if name in self.jobs else None

    async def read(self, namespace: str, name: str) -> Obj | None:
        return self.cached(namespace, name)

    def all_cached(self) -> Iterable[Obj]:
        return [decode_object(msgspec.json.encode(job)) for job in self.jobs.values()]

    async def all_jobs(self) -> AsyncIterator[Obj]:
        for job in self.all_cached():
            yield job

    def wake(self, obj: Obj) -> None:
        self.due.append(obj.meta.name)

    async def priority_of(self, name: str) -> int | None:
        return self.priorities.get(name)

    async def patch_status(self, namespace: str, name: str, body: bytes) -> Obj:
        self.writing += 1
        self.most = max(self.most, self.writing)
        await self.gate.wait()
        self.writing -= 1
        patch = msgspec.json.decode(body)["status"]["admission"]
        old = self.admission(name)
        merged = {key: value for key, value in {**old, **patch}.items() if value is not None}
        for key in ("clusters", "nodeSelector"):
            merged[key] = {k: v for k, v in (merged.get(key) or {}).items() if v is not None}
        self.set_status(name, admission=merged)
        found = self.cached(namespace, name)
        assert found is not None
        return found


class World:
    """A scheduler whose loop runs, on a clock that nobody moves."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.clock = hub, VirtualClock()
        self.scheduler = hub.scheduler = FleetScheduler(hub, self.clock)
        self.running = asyncio.ensure_future(self.scheduler.run())

    def queues(self, *objs: Obj) -> None:
        self.scheduler.take_queues(objs)

    def member(self, name: str = "east", nodes: int = 1, reachable: bool = True, refusal: str = "", **labels: str) -> None:
        reason = "" if reachable else "it does not answer"
        self.scheduler.set_cluster(Candidate(name, labels, reachable, reason, refusal=refusal), capacity(name, nodes), heard=True)

    async def settle(self) -> None:
        """Until nothing runs any more that does not wait for time."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def waits(self, name: str, reason: str) -> None:
        """It waits for that, and nothing happens any more."""
        await self.settle()
        assert (self.hub.admission(name).get("state"), self.hub.admission(name).get("reason")) == ("Pending", reason)
        self.hub.due.clear()
        await self.settle()
        assert self.hub.due == []

    async def admitted(self, name: str) -> None:
        """It is admitted, and due, and no time has passed."""
        before = self.clock.now()
        await self.settle()
        assert self.hub.admission(name).get("state") == "Admitted", self.hub.admission(name)
        assert name in self.hub.due
        assert self.clock.now() == before


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World(Hub())
    made.queues(queue())
    made.member()
    await made.settle()
    yield made
    made.running.cancel()


class _Waiting(Hub):
    """It may not write; ``asked`` counts how often that was looked at."""

    asked = 0

    @property
    def writable(self) -> bool:  # type: ignore[override]
        self.asked += 1
        return False


async def test_what_it_hears_before_its_term_keeps_it_no_busier() -> None:
    """The shard's loop is shared: a wait that ends at once, again and again, takes a whole core."""
    hub = _Waiting()
    world = World(hub)
    world.scheduler.set_cluster(Candidate("east", {}), None, heard=False)
    await world.settle()
    for nodes in range(3):
        world.member(nodes=nodes)
        world.queues(queue())
        await world.settle()
    world.running.cancel()
    assert hub.asked <= 8


async def test_a_new_job_wakes_it(world: World) -> None:
    world.hub.job("j")
    await world.admitted("j")


async def test_quota_wakes_it(world: World) -> None:
    world.member(nodes=2)
    world.hub.job("j", pods=5)
    await world.waits("j", "ExceedsMaxQuota")
    world.queues(queue(cpu=5))
    await world.admitted("j")


async def test_a_queue_that_is_held_no_longer_wakes_it(world: World) -> None:
    world.queues(queue(stopPolicy="Hold"))
    world.hub.job("j")
    await world.waits("j", "QueueStopped")
    world.queues(queue())
    await world.admitted("j")


async def test_a_queue_that_is_there_again_wakes_it(world: World) -> None:
    world.queues()
    world.hub.job("j")
    await world.waits("j", "NoQueue")
    world.queues(queue())
    await world.admitted("j")


async def test_a_queue_that_gets_the_jobs_namespace_wakes_it(world: World) -> None:
    world.queues(queue("mine", stopPolicy="Hold", namespaces=["default"]))
    world.hub.job("j", queue=None)
    await world.waits("j", "QueueStopped")
    world.queues(queue("mine", stopPolicy="Hold"), queue("other", namespaces=["default"]))
    await world.admitted("j")
    assert world.hub.admission("j")["queue"] == "other"


async def test_capacity_wakes_it(world: World) -> None:
    world.queues(queue(cpu=100))
    world.hub.job("j", pods=8)
    await world.waits("j", "NoClusterFit")
    world.member(nodes=2)
    await world.admitted("j")


async def test_labels_of_a_member_wake_it(world: World) -> None:
    world.hub.job("j", placement={"clusterSelector": {"region": "north"}})
    await world.waits("j", "NoClusterFit")
    world.member(region="north")
    await world.admitted("j")


async def test_a_member_that_answers_again_wakes_it(world: World) -> None:
    world.member(reachable=False)
    world.hub.job("j")
    await world.waits("j", "NoClusterFit")
    world.member()
    await world.admitted("j")


@pytest.mark.parametrize("before", [{"refusal": "it is drained"}, {"taints": (TaintSpec("gpu", "", "NoSchedule"),)}])
async def test_a_member_that_takes_pods_again_wakes_it(world: World, before: dict[str, Any]) -> None:
    world.scheduler.set_cluster(Candidate("east", **before), capacity("east"), heard=True)
    world.hub.job("j")
    await world.waits("j", "NoClusterFit")
    world.member()
    await world.admitted("j")


async def test_a_new_member_wakes_it(world: World) -> None:
    world.scheduler.remove_cluster("east")
    world.hub.job("j")
    await world.waits("j", "NoClusterFit")
    world.member("west")
    await world.admitted("j")


@pytest.mark.parametrize("end", ["Complete", "Failed", "deleted"])
async def test_the_end_of_a_job_wakes_the_next(world: World, end: str) -> None:
    world.hub.job("first", pods=4)
    await world.admitted("first")
    world.hub.job("next", pods=4)
    await world.waits("next", "WaitingForQuota")
    if end == "deleted":
        world.hub.tell("first", gone=True)
    else:
        world.hub.end("first", end)
    await world.admitted("next")


@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize(
    ("condition", "reached", "status"),
    [
        ("Complete", "Complete", {}),
        ("Failed", "Failed", {}),
        ("Started", "", {"active": 1, "ready": 1}),
        ("Started", "Complete", {"succeeded": 1}),
        ("Started", "Failed", {"failed": 1}),
    ],
)
async def test_what_a_job_depends_on_wakes_it(
    world: World, condition: str, reached: str, status: dict[str, Any], queued: bool
) -> None:
    """Also where the other takes no part in scheduling, or was over before anybody saw that it ran."""
    world.hub.job("second", dependsOn=[{"job": "first", "condition": condition}])
    await world.waits("second", "DependencyMissing")
    world.hub.job("first", **({} if queued else {"queue": None}))
    await world.settle()
    found = world.scheduler.explain("default", "second")
    assert found is not None
    assert (found.reason, found.message) == ("DependsOn", f"waits for job default/first: {condition}"), "it is there now"
    world.hub.set_status("first", startTime="2026-01-01T00:00:00Z", **status, conditions=[{"type": reached, "status": "True"}])
    await world.admitted("second")


async def test_a_victim_that_is_gone_wakes_who_it_made_way_for(world: World) -> None:
    world.hub.job("low", pods=4)
    await world.admitted("low")
    world.hub.set_status("low", active=4, clusters=[{"name": "east", "assigned": "0-3", "active": 4}])
    world.hub.job("high", pods=4, priority=9)
    await world.waits("high", "Preempting")
    assert world.hub.admission("low")["state"] == "Evicting"
    world.hub.set_status("low", active=0, clusters=[])
    await world.admitted("high")
    await world.settle()
    assert world.hub.admission("low")["state"] == "Pending"


async def test_a_resumed_job_is_considered(world: World) -> None:
    world.hub.job("j", suspend=True)
    await world.settle()
    assert world.hub.admission("j") == {}
    world.hub.jobs["j"]["spec"]["suspend"] = False
    world.hub.jobs["j"]["metadata"]["generation"] = 2
    world.hub.set_status("j")
    await world.admitted("j")


async def test_time_wakes_it_after_a_backoff(world: World) -> None:
    world.hub.job("gang", pods=4, gang={"timeoutSeconds": 10})
    await world.admitted("gang")
    world.hub.set_status("gang", active=4, clusters=[{"name": "east", "assigned": "0-3", "active": 4}])
    await world.clock.advance(11)
    await world.settle()
    assert world.hub.admission("gang")["reason"] == "PodsReadyTimeout"
    world.hub.set_status("gang", active=0, clusters=[])
    await world.waits("gang", "Backoff")
    await world.clock.advance(61)
    await world.admitted("gang")


async def test_a_priority_class_that_is_made_later_is_found(world: World) -> None:
    """Nothing tells of it: it is looked for every ``AGAIN`` seconds."""
    world.hub.job("j", priorityClassName="urgent")
    await world.waits("j", "NoPriorityClass")
    world.hub.priorities["urgent"] = 1000
    await world.clock.advance(AGAIN + 1)
    await world.admitted("j")
    assert world.hub.admission("j")["priority"] == 1000


async def test_decisions_are_paced(world: World) -> None:
    """No more writes at a time than ``AT_ONCE``, however many jobs may be admitted; and all of them in the end, in order."""
    world.queues(queue(cpu=1000))
    world.member(nodes=60)
    world.hub.gate.clear()
    for number in range(3 * AT_ONCE):
        world.hub.job(f"j{number:03}")
    await world.settle()
    assert world.hub.most == world.hub.writing == AT_ONCE
    world.hub.gate.set()
    for _ in range(10):
        await world.settle()
    assert [world.hub.admission(name).get("state") for name in sorted(world.hub.jobs)] == ["Admitted"] * 3 * AT_ONCE
    assert world.hub.most == AT_ONCE
    assert len(set(world.hub.due)) == 3 * AT_ONCE


async def test_a_new_term_waits_for_what_a_predecessor_may_have_sent() -> None:
    hub = Hub(succeeds=True)
    world = World(hub)
    world.queues(queue())
    world.member()
    hub.job("j")
    await world.settle()
    assert hub.admission("j") == {}
    await world.clock.advance(SETTLE)
    await world.admitted("j")
    world.running.cancel()
