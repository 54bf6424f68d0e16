"""What a term does when its writes fail, and when jobs become another kind of job while it runs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest_asyncio
from test_scheduler_wakes import Hub, World, queue

from raycp.base.objects import Obj
from raycp.kube.errors import ApiError, KubeError
from raycp.scheduler.term import AGAIN

DENIED = ApiError(422, "Invalid", "a policy of the cluster denies it")
BUSY = ApiError(503, "ServiceUnavailable", "it is busy")


class FailingHub(Hub):
    """``refuse(name, admission)``: the error that a write of that ``status.admission`` meets; None where it succeeds."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, KubeError] = {}
        """By state that is written, or ``NAME/STATE``."""
        self.held: dict[str, asyncio.Event] = {}
        """Writes to the job of that name wait."""
        self.tries = 0

    async def patch_status(self, namespace: str, name: str, body: bytes) -> Obj:
        self.tries += 1
        state = msgspec.json.decode(body)["status"]["admission"].get("state", self.admission(name).get("state"))
        if name in self.held:
            await self.held[name].wait()
        error = self.failures.get(f"{name}/{state}") or self.failures.get(state)
        if error is not None:
            raise error
        if msgspec.json.decode(body)["metadata"]["resourceVersion"] != self.jobs[name]["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "changed meanwhile")
        return await super().patch_status(namespace, name, body)

    def runs(self, name: str, pods: int) -> None:
        self.set_status(name, active=pods, ready=pods, clusters=[{"name": "east", "assigned": f"0-{pods - 1}", "active": pods}])

    def spec(self, name: str, **spec: Any) -> None:
        """Its user changes it."""
        job = self.jobs[name]
        job["spec"] |= spec
        job["metadata"]["generation"] = job["metadata"].get("generation", 1) + 1
        self.set_status(name)

    def state(self, name: str) -> str:
        return str(self.admission(name).get("state", ""))


class FaultyWorld(World):
    hub: FailingHub

    async def passes(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            await self.clock.advance(1.0)
            await self.settle()

    def charged(self, name: str = "q") -> int:
        (status,) = [each for each in self.scheduler.queue_status() if each.name == name]
        return status.usage[0].used


@pytest_asyncio.fixture
async def world() -> AsyncIterator[FaultyWorld]:
    made = FaultyWorld(FailingHub())
    made.queues(queue())
    made.member(nodes=9)
    await made.settle()
    yield made
    made.running.cancel()


async def test_a_victim_whose_eviction_is_refused_keeps_its_quota(world: FaultyWorld) -> None:
    hub = world.hub
    hub.job("low", pods=4)
    await world.admitted("low")
    hub.runs("low", 4)
    hub.failures["low/Evicting"] = DENIED
    hub.job("high", pods=4, priority=9)
    for _ in range(3):
        await world.passes(AGAIN + 1)
        assert (hub.state("low"), hub.state("high")) == ("Admitted", "Pending")
        assert world.charged() == 4000
    assert hub.tries < 40  # not again and again
    hub.failures.clear()
    await world.passes(AGAIN + 1)
    assert hub.state("low") == "Evicting"
    hub.set_status("low", active=0, ready=0, clusters=[])
    await world.admitted("high")


async def test_a_job_on_which_others_wait_is_admitted_when_its_namespace_gets_a_queue(world: FaultyWorld) -> None:
    hub = world.hub
    hub.job("first", queue=None, suspend=True)
    hub.job("second", dependsOn=[{"job": "first"}])
    await world.settle()
    world.queues(queue(), queue("late", namespaces=["default"]))
    hub.spec("first", suspend=False)
    await world.admitted("first")
    assert world.charged("late") == 1000


async def test_what_runs_on_when_its_namespace_gets_a_queue_is_charged_though_others_wait_for_it(world: FaultyWorld) -> None:
    hub = world.hub
    hub.job("first", pods=2, queue=None)
    hub.job("second", dependsOn=[{"job": "first", "condition": "Started"}], suspend=True)
    hub.job("third", dependsOn=[{"job": "first"}])
    await world.settle()
    hub.set_status("first", startTime="2026-01-01T00:00:00Z")
    hub.runs("first", 2)
    await world.settle()
    world.queues(queue(), queue("late", namespaces=["default"]))
    await world.settle()
    assert world.charged("late") == 2000
    hub.spec("second", suspend=False)
    await world.admitted("second")  # it had started before
    hub.end("first")
    await world.admitted("third")


async def test_a_job_that_is_suspended_while_two_decisions_on_it_are_written_holds_nothing(world: FaultyWorld) -> None:
    hub = world.hub
    hub.held["low"] = asyncio.Event()
    hub.job("low", pods=4)
    await world.settle()
    hub.job("high", pods=4, priority=9)  # preempts what is not yet written as admitted
    await world.settle()
    hub.spec("low", suspend=True)
    hub.held["low"].set()
    await world.passes(3)
    assert hub.state("high") == "Admitted"
    hub.end("high")
    hub.spec("low", suspend=False)
    await world.passes(3)
    assert hub.state("low") == "Admitted"
    assert world.charged() == 4000


async def test_a_suspended_job_gives_its_quota_back_though_the_first_write_fails(world: FaultyWorld) -> None:
    hub = world.hub
    hub.job("low", pods=4)
    await world.admitted("low")
    hub.job("next", pods=4)
    await world.settle()
    hub.failures["low/Pending"] = BUSY
    hub.spec("low", suspend=True)
    await world.passes(2)
    assert hub.state("low") == "Admitted"
    assert hub.tries < 40
    hub.failures.clear()
    await world.passes(AGAIN + 1)
    assert (hub.state("low"), hub.state("next")) == ("Pending", "Admitted")


async def test_why_jobs_wait_is_not_told_again_and_again_to_a_server_that_refuses_it(world: FaultyWorld) -> None:
    hub = world.hub
    hub.failures["Pending"] = DENIED
    for number in range(3):
        hub.job(f"large-{number}", pods=5)
    await world.passes(2 * AGAIN)
    assert 3 <= hub.tries <= 12
    hub.failures.clear()
    await world.passes(AGAIN + 1)
    assert [hub.admission(f"large-{number}").get("reason") for number in range(3)] == ["ExceedsMaxQuota"] * 3
