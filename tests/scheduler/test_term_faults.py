"""What a term does when its writes fail, and when jobs become another kind of job while it runs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from test_scheduler_wakes import Hub, World, queue

from raycp.base.objects import Obj
from raycp.kube.errors import ApiError, KubeError
from raycp.scheduler.term import AGAIN

DENIED = ApiError(422, "Invalid", "a policy of the cluster denies it")
BUSY = ApiError(503, "ServiceUnavailable", "it is busy")


class FailingHub(Hub):
    """Writes fail, or are late."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, KubeError] = {}
        """By state that is written, or ``NAME/STATE``."""
        self.held: dict[str, asyncio.Event] = {}
        """Writes to the job of that name wait."""
        self.slow: dict[str, asyncio.Event] = {}
        """Answers to them wait: the write has taken effect."""
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
        answer = await super().patch_status(namespace, name, body)
        if name in self.slow:
            await self.slow[name].wait()
        return answer

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

    async def is_told(self, name: str, reason: str) -> None:
        await self.passes(2)
        assert (self.hub.state(name), self.hub.admission(name).get("reason")) == ("Pending", reason)

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
    assert world.scheduler.waits("default", "high").reason == "Preempting"  # type: ignore[union-attr]
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


async def test_why_jobs_wait_is_not_told_again_and_again_to_a_server_that_refuses_it(
    world: FaultyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try wakes the scheduler by itself."""
    monkeypatch.setattr("raycp.scheduler.core.IDLE", 3600.0)
    monkeypatch.setattr("raycp.scheduler.term.IDLE", 3600.0)
    hub = world.hub
    hub.failures["Pending"] = DENIED
    for number in range(3):
        hub.job(f"large-{number}", pods=5)
    await world.passes(2 * AGAIN)
    assert 3 <= hub.tries <= 12
    hub.failures.clear()
    await world.passes(AGAIN + 1)
    assert [hub.admission(f"large-{number}").get("reason") for number in range(3)] == ["ExceedsMaxQuota"] * 3


async def test_what_ran_before_its_namespace_got_a_queue_can_be_preempted(world: FaultyWorld) -> None:
    hub = world.hub
    hub.job("old", pods=3, queue=None)
    hub.set_status("old", startTime="2026-01-01T00:00:00Z")
    hub.runs("old", 3)
    world.queues(queue(namespaces=["default"]))
    hub.job("new", pods=4, priority=9)
    await world.settle()
    assert (hub.state("old"), hub.admission("new")["reason"]) == ("Evicting", "Preempting")


async def test_a_job_whose_pods_are_gone_before_its_eviction_is_known_to_be_written_is_queued_again(world: FaultyWorld) -> None:
    """Nothing more is told of it."""
    hub = world.hub
    hub.job("low", pods=4)
    await world.admitted("low")
    hub.runs("low", 4)
    hub.slow["low"] = asyncio.Event()
    hub.job("high", pods=4, priority=9)
    await world.settle()
    assert hub.state("low") == "Evicting"
    hub.set_status("low", active=0, ready=0, clusters=[])
    await world.settle()
    hub.slow.pop("low").set()
    await world.admitted("high")
    assert hub.state("low") == "Pending"


async def test_a_job_that_is_suspended_before_its_admission_is_known_to_be_written_holds_nothing(world: FaultyWorld) -> None:
    hub = world.hub
    hub.slow["low"] = asyncio.Event()
    hub.job("low", pods=4)
    await world.settle()
    hub.spec("low", suspend=True)
    await world.settle()
    hub.slow.pop("low").set()
    await world.passes(AGAIN + 1)
    assert hub.state("low") == "Pending"
    hub.job("next", pods=4)
    await world.admitted("next")
    hub.spec("low", suspend=False)
    await world.passes(AGAIN + 1)
    assert hub.state("low") == "Pending"
    assert world.charged() == 4000


async def test_a_suspended_job_is_there_for_those_that_depend_on_it(world: FaultyWorld) -> None:
    hub = world.hub
    hub.job("second", dependsOn=[{"job": "first"}])
    await world.is_told("second", "DependencyMissing")
    hub.job("first", suspend=True)
    await world.is_told("second", "DependsOn")
    hub.job("third", suspend=True)
    hub.job("fourth", dependsOn=[{"job": "third"}])
    await world.is_told("fourth", "DependsOn")
    for name in ("first", "third"):
        hub.spec(name, suspend=False)
        await world.admitted(name)
        hub.spec(name, suspend=True)
        await world.settle()
    await world.is_told("second", "DependsOn")
    hub.tell("first", gone=True)
    await world.is_told("second", "DependencyMissing")


@pytest.mark.parametrize("clusters", [{"east": -4}, {"east": 4, "west": -4}])
async def test_a_record_of_fewer_than_no_pods_is_none(world: FaultyWorld, clusters: dict[str, int]) -> None:
    """It would make room for others in the queue."""
    hub = world.hub
    hub.job("j", pods=2)
    forged = hub.jobs.pop("j")
    world.running.cancel()
    again = FaultyWorld(hub)
    hub.jobs["j"] = forged | {
        "status": {"admission": {"state": "Admitted", "queue": "q", "flavor": "default", "clusters": clusters}}
    }
    again.queues(queue())
    again.member(nodes=9)
    await again.admitted("j")
    assert hub.admission("j")["clusters"].get("east") == 2
    assert again.charged() == 2000
    again.running.cancel()
