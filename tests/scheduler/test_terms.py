"""``FleetScheduler`` over a hub in memory: when a term decides first, and what it remembers of jobs that others depend on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec
import pytest

from raycp.base.clock import VirtualClock
from raycp.base.objects import Obj
from raycp.kube.codec import decode_object
from raycp.kube.errors import ApiError
from raycp.scheduler.core import HEARING, FleetScheduler
from raycp.scheduling import Candidate
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity


class MemoryHub:
    """Jobs of namespace ``ns``, by name; their status is written through ``patch_status`` alone."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.revision = 0
        self.writable = self.listed = True
        self.succeeds = False
        self.scheduler: FleetScheduler | None = None

    def put(self, name: str, status: dict[str, Any] | None = None, **spec: Any) -> None:
        self.revision += 1
        old = self.jobs.get(name)
        meta = {"name": name, "namespace": "ns", "uid": old["metadata"]["uid"] if old else f"{name}-{self.revision}"}
        meta |= {"resourceVersion": str(self.revision), "creationTimestamp": "2026-01-01T00:00:00Z"}
        made = {"apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": meta}
        made["spec"] = old["spec"] if old and not spec else {"template": {"spec": {}}, **spec}
        made["status"] = {**((old or {}).get("status") or {}), **(status or {})}
        self.jobs[name] = made
        self._tell(name, gone=False)

    def delete(self, name: str) -> None:
        self._tell(name, gone=True)
        del self.jobs[name]

    def _tell(self, name: str, *, gone: bool) -> None:
        if self.scheduler is not None:
            self.scheduler.take_jobs([(self._obj(name), gone)])

    def admission(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.jobs[name]["status"].get("admission") or {}
        return found

    def _obj(self, name: str) -> Obj:
        return decode_object(msgspec.json.encode(self.jobs[name]))

    # HubJobs

    def cached(self, namespace: str, name: str) -> Obj | None:
        return self._obj(name) if name in self.jobs else None

    async def read(self, namespace: str, name: str) -> Obj | None:
        return self.cached(namespace, name)

    async def patch_status(self, namespace: str, name: str, body: bytes) -> Obj:
        patch = msgspec.json.decode(body)
        if name not in self.jobs:
            raise ApiError(404, "NotFound", "gone")
        if patch["metadata"]["resourceVersion"] != self.jobs[name]["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "changed meanwhile")
        merged = {**self.admission(name), **patch["status"]["admission"]}
        self.put(name, {"admission": {key: value for key, value in merged.items() if value is not None}})
        return self._obj(name)

    def all_cached(self) -> Iterable[Obj]:
        return [self._obj(name) for name in self.jobs]

    async def all_jobs(self) -> AsyncIterator[Obj]:
        for name in list(self.jobs):
            yield self._obj(name)

    def wake(self, obj: Obj) -> None:
        """Nothing reconciles here."""

    async def priority_of(self, name: str) -> int | None:
        return None


def member(scheduler: FleetScheduler, name: str, *, heard: bool = True) -> None:
    capacity = declared_capacity(name, [DeclaredNodes(1, {"cpu": 8000, "pods": 10})]) if heard else None
    scheduler.set_cluster(Candidate(name, reachable=heard), capacity, heard=heard)


@contextlib.asynccontextmanager
async def running(hub: MemoryHub, clock: VirtualClock) -> AsyncIterator[FleetScheduler]:
    """One scheduler; the next one knows what is on the hub."""
    scheduler = FleetScheduler(hub, clock)
    scheduler.take_queues([])
    hub.scheduler = scheduler
    task = asyncio.ensure_future(scheduler.run())
    try:
        yield scheduler
    finally:
        hub.scheduler = None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def comes(clock: VirtualClock, condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """In virtual time."""
    for _ in range(int(seconds / 0.25)):
        if condition():
            return
        await clock.advance(0.25)
    raise AssertionError("it does not come")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_the_first_decision_of_a_term_waits_until_all_members_are_heard_of(clock: VirtualClock) -> None:
    hub = MemoryHub()
    async with running(hub, clock) as scheduler:
        member(scheduler, "west", heard=False)
        member(scheduler, "east")
        hub.put("j", parallelism=8, gang={})
        await clock.advance(HEARING / 2)
        assert hub.admission("j") == {}
        member(scheduler, "west")
        await comes(clock, lambda: hub.admission("j").get("clusters") == {"east": 4, "west": 4})


async def test_a_member_that_tells_nothing_does_not_hold_the_others_back_for_long(clock: VirtualClock) -> None:
    hub = MemoryHub()
    async with running(hub, clock) as scheduler:
        member(scheduler, "west", heard=False)
        member(scheduler, "east")
        hub.put("j", parallelism=8, gang={})
        await comes(clock, lambda: hub.admission("j").get("clusters") == {"east": 8}, HEARING + 2.0)


async def test_a_long_pause_keeps_no_job_that_is_gone(clock: VirtualClock) -> None:
    hub = MemoryHub()
    hub.writable = False
    async with running(hub, clock) as scheduler:
        member(scheduler, "east")
        for number in range(20):
            hub.put(f"j{number}", parallelism=1, gang={})
        assert scheduler.engaged
        for number in range(19):
            hub.delete(f"j{number}")
        hub.writable = True
        await comes(clock, lambda: hub.admission("j19").get("state") == "Admitted")
        hub.writable = False
        await comes(clock, lambda: not scheduler.ready)
        hub.put("late", parallelism=1, gang={})
        hub.delete("j19")
        hub.delete("late")
        assert not scheduler.engaged


async def test_a_job_that_goes_while_the_jobs_are_listed_holds_nothing(clock: VirtualClock) -> None:
    hub = MemoryHub()
    hub.put("old", {"admission": {"state": "Admitted", "clusters": {"east": 8}}}, parallelism=8, gang={})
    hub.put("new", parallelism=8, gang={})
    listed = hub.all_jobs

    async def slowly() -> AsyncIterator[Obj]:
        async for obj in listed():
            yield obj
            if obj.meta.name == "old":
                hub.delete("old")

    hub.all_jobs = slowly  # type: ignore[method-assign]
    async with running(hub, clock) as scheduler:
        member(scheduler, "east")
        await comes(clock, lambda: hub.admission("new").get("clusters") == {"east": 8})


COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}


async def test_what_was_fulfilled_counts_when_that_job_is_deleted_and_another_scheduler_decides(clock: VirtualClock) -> None:
    """``first`` is deleted as soon as it is complete (``ttlSecondsAfterFinished: 0``), while ``last`` waits for another too."""
    hub = MemoryHub()
    async with running(hub, clock) as scheduler:
        member(scheduler, "east")
        hub.put("last", dependsOn=[{"job": "first"}, {"job": "second"}])
        await comes(clock, lambda: hub.admission("last").get("reason") == "DependencyMissing")
        hub.put("first")
        await comes(clock, lambda: hub.admission("last").get("reason") == "DependsOn")
        hub.put("second")
        hub.put("first", COMPLETE)
        hub.delete("first")
        await comes(clock, lambda: hub.admission("last").get("fulfilled") == ["first/Complete"])
    async with running(hub, clock) as scheduler:
        member(scheduler, "east")
        await comes(clock, lambda: scheduler.ready)
        await clock.advance(5.0)
        assert hub.admission("last")["reason"] == "DependsOn"
        assert "second" in hub.admission("last")["message"]
        hub.put("second", COMPLETE)
        await comes(clock, lambda: hub.admission("last").get("state") == "Admitted")
        assert hub.admission("last")["fulfilled"] == ["first/Complete", "second/Complete"]


async def test_a_dependency_that_is_deleted_before_it_is_complete_is_missing_until_it_is_made_again(clock: VirtualClock) -> None:
    hub = MemoryHub()
    async with running(hub, clock) as scheduler:
        member(scheduler, "east")
        hub.put("first", {"startTime": "2026-01-01T00:00:00Z"})
        hub.put("last", dependsOn=[{"job": "first"}])
        await comes(clock, lambda: hub.admission("last").get("reason") == "DependsOn")
        hub.delete("first")
        await comes(clock, lambda: hub.admission("last").get("reason") == "DependencyMissing")
        assert "ns/first" in hub.admission("last")["message"]
        hub.put("first", COMPLETE)
        await comes(clock, lambda: hub.admission("last").get("state") == "Admitted")


@pytest.mark.parametrize("status", [{"ready": 1}, {"succeeded": 1}, COMPLETE])
async def test_a_job_that_takes_no_part_has_started_when_a_pod_of_it_ran(clock: VirtualClock, status: dict[str, Any]) -> None:
    hub = MemoryHub()
    async with running(hub, clock) as scheduler:
        member(scheduler, "east")
        hub.put("last", dependsOn=[{"job": "first", "condition": "Started"}])
        hub.put("first", {"startTime": "2026-01-01T00:00:00Z"})
        await comes(clock, lambda: hub.admission("last").get("reason") == "DependsOn")
        hub.put("first", status)
        await comes(clock, lambda: hub.admission("last").get("state") == "Admitted")


async def test_refusals_of_a_job_are_read_and_void_when_their_time_is_over(clock: VirtualClock) -> None:
    hub = MemoryHub()
    until = "2023-11-14T22:14:00Z"  # 40 s after the clock's start
    refusal = {"reason": "PodsRefused", "message": "exceeded quota", "times": 3, "until": until}
    hub.put("j", {"clusters": [{"name": "east", "refusal": refusal}]}, parallelism=2, gang={})
    async with running(hub, clock) as scheduler:
        member(scheduler, "east")
        await comes(clock, lambda: hub.admission("j").get("reason") == "NoClusterFit")
        found = scheduler.explain("ns", "j")
        assert found is not None
        assert [(each.reason, each.message) for each in found.clusters] == [
            ("Refused", f"exceeded quota (refused 3 times, until {until})")
        ]
        await comes(clock, lambda: hub.admission("j").get("clusters") == {"east": 2}, 60.0)
