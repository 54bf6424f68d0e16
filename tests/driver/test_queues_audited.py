"""Gangs, preemption and deaths of the scheduler, where each single change on the hub and the members is judged (``Audit``)."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from inprocess import Led, led, until
from queued_jobs import (
    SHAPES,
    Audit,
    admission,
    change_queue,
    doc_of,
    is_over,
    job,
    pods,
    queue,
    queue_status,
    status,
    submit,
    succeed,
)

from raycp.protocol.members import Role

pytestmark = pytest.mark.wide

LARGE = {
    "east": {"embedded": {"nodes": 4, "node": {"cpu": "8", "memory": "32Gi"}, "podRuntime": "1h"}},
    "west": {"embedded": {"nodes": 2, "node": {"cpu": "12", "memory": "64Gi"}, "podRuntime": "1h"}},
    "north": {"embedded": {"nodes": 4, "node": {"cpu": "2", "memory": "8Gi"}, "podRuntime": "1h"}},
}
"""64 cores on ten nodes of three shapes."""


def shapes(monkeypatch: pytest.MonkeyPatch, runtime: str = "1h") -> None:
    for name, shape in LARGE.items():
        monkeypatch.setitem(SHAPES, name, {"embedded": {**shape["embedded"], "podRuntime": runtime}})


async def test_gangs_of_64_run_one_after_the_other_over_three_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """They fill every core of three shapes of nodes. Neither has a Pod before all 64 have a place."""
    shapes(monkeypatch)
    async with led() as fleet:
        await fleet.apply(doc_of("east", "west", "north"))
        audit = Audit().follow(fleet, *LARGE)
        await queue(fleet, "batch", 100, namespaces=["default"])
        await submit(fleet, "small", parallelism=3, completions=3, priority=3)
        await until(lambda: sum(pods(fleet, "small").values()) == 3)
        await submit(fleet, "first", parallelism=64, completions=64, priority=2, gang={})
        await submit(fleet, "second", parallelism=64, completions=64, priority=1, gang={})
        await until(lambda: admission(fleet, "first").get("reason") == "NoRoom" and admission(fleet, "second").get("reason"))
        assert pods(fleet) == pods(fleet, "small")
        await succeed(fleet, "small-")
        for name in ("first", "second"):
            await until(lambda name=name: sum(pods(fleet, name).values()) == 64, 60.0)  # type: ignore[misc]
            assert admission(fleet, name)["clusters"] == pods(fleet, name) == {"east": 32, "west": 24, "north": 8}
            assert pods(fleet) == pods(fleet, name)
            await succeed(fleet, f"{name}-")
            await until(lambda name=name: is_over(fleet, name), 60.0)  # type: ignore[misc]
        for name in ("first", "second"):
            found = status(fleet, name)
            assert (found["succeeded"], found.get("failed", 0), found.get("active", 0)) == (64, 0, 0)
        assert audit.order == ["small", "first", "second"]
        assert len(audit.created) == len(audit.succeeded) == 131
        assert set(audit.created.values()) == {1}
        shown = await until(lambda: (found := queue_status(fleet, "batch")).get("admitted") == 0 and found)
        assert [each["used"] for each in shown["usage"]] == ["0"]
        audit.check()


async def test_a_gang_takes_its_quota_back_from_the_youngest_borrowers_and_they_return_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One queue has borrowed the fleet, with jobs of eight priorities. Of these the lowest go, and no more than have to; when the
    gang is over, they run again, the highest first, and nothing of them is counted as a failure."""
    shapes(monkeypatch)
    async with led() as fleet:
        await fleet.apply(doc_of("east", "west", "north"))
        audit = Audit().follow(fleet, *LARGE)
        await queue(fleet, "a", 32, namespaces=["default"], cohort="all")
        await queue(fleet, "b", 32, cohort="all")
        names = [f"j{number}" for number in range(8)]
        for number, name in enumerate(names):
            await submit(fleet, name, parallelism=8, completions=8, priority=10 - number)
        await until(lambda: sum(pods(fleet).values()) == 64)
        assert sorted(audit.order) == names
        await submit(fleet, "owner", parallelism=24, completions=24, queue="b", gang={})
        await until(lambda: sum(pods(fleet, "owner").values()) == 24, 60.0)
        await until(lambda: [status(fleet, name).get("phase") for name in names[5:]] == ["Queued"] * 3)
        assert sorted(audit.evicted) == names[5:]
        assert [sum(pods(fleet, name).values()) for name in names] == [8] * 5 + [0] * 3
        for name in names[5:]:
            found = status(fleet, name)
            assert (found.get("failed", 0), found.get("succeeded", 0), found.get("active", 0)) == (0, 0, 0)
            assert "startTime" not in found
        del audit.order[:]
        await succeed(fleet, "owner-")
        await until(lambda: sum(pods(fleet).values()) == 64, 60.0)
        for name in names:
            await succeed(fleet, f"{name}-")
        await until(lambda: all(is_over(fleet, name) for name in [*names, "owner"]), 60.0)
        assert [status(fleet, name)["succeeded"] for name in names] == [8] * 8
        assert [status(fleet, name).get("failed", 0) for name in [*names, "owner"]] == [0] * 9
        assert sorted(audit.order) == names[5:]
        assert sorted(audit.evicted) == names[5:], "nobody else had to go"
        assert set(audit.succeeded.values()) == {1}
        assert len(audit.succeeded) == 64 + 24
        audit.check()


async def test_jobs_run_in_their_order_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each needs the whole quota. They were submitted in another order, while the queue was held."""
    shapes(monkeypatch, "10ms")
    async with led() as fleet:
        await fleet.apply(doc_of("east", "west", "north", stages=True))
        audit = Audit().follow(fleet, *LARGE)
        await queue(fleet, "batch", 4, namespaces=["default"], stopPolicy="Hold")
        numbers = list(range(8))
        random.Random(3).shuffle(numbers)
        for number in numbers:
            await submit(fleet, f"j{number}", parallelism=4, completions=4, priority=100 - number // 2)
        await until(lambda: all(admission(fleet, f"j{n}").get("reason") == "QueueStopped" for n in numbers))
        assert audit.order == []
        await change_queue(fleet, "batch", stopPolicy="None")
        await until(lambda: all(is_over(fleet, f"j{n}") for n in numbers), 60.0)

        def rank(name: str) -> tuple[int, str, str]:
            found = job(fleet, name)
            return -found["spec"]["priority"], found["metadata"]["creationTimestamp"], found["metadata"]["uid"]

        assert audit.order == sorted((f"j{n}" for n in numbers), key=rank)
        audit.check()


@pytest.mark.parametrize(("seed", "reclaim"), [(1, "Never"), (2, "Any")])
async def test_the_scheduler_dies_in_mid_admission_at_random_moments(
    monkeypatch: pytest.MonkeyPatch, seed: int, reclaim: str
) -> None:
    """Three times, each time with the process that hosts it, at the very write of a decision: others are on their way. Two queues
    borrow from each other meanwhile, and gangs are among the jobs."""
    shapes(monkeypatch, "200ms")
    chance = random.Random(seed)
    async with led() as fleet:
        await fleet.apply(doc_of("east", "west", "north", leader={"permit": "2s"}, stages=True))
        await until(lambda: fleet.leader.roster.standby_of("0") is not None)
        audit = Audit().follow(fleet, *LARGE)
        preemption = {"reclaimWithinCohort": reclaim}
        await queue(fleet, "a", 20, namespaces=["default"], cohort="all", stopPolicy="Hold", preemption=preemption)
        await queue(fleet, "b", 12, cohort="all", preemption=preemption)
        sizes = {f"j{number:02}": chance.choice((1, 2, 5, 8)) for number in range(36)}
        deaths: list[asyncio.Task[None]] = []
        counted, next_death = 0, chance.randint(1, 10)

        def admitted(name: str) -> None:
            nonlocal counted, next_death
            counted += 1
            if counted == next_death and len(deaths) < 3:
                deaths.append(asyncio.ensure_future(die(fleet)))
                next_death = counted + chance.randint(4, 12)

        audit.at_admission = admitted
        for name, size in sizes.items():
            gang = {"gang": {}} if chance.random() < 0.5 else {}
            await submit(fleet, name, parallelism=size, completions=size, queue=chance.choice("ab"), **gang)
        await change_queue(fleet, "a", stopPolicy="None")
        await until(lambda: all(is_over(fleet, name) for name in sizes), 120.0, "all jobs end")
        await asyncio.gather(*deaths)
        assert len(deaths) == 3
        done = [name for name in sizes if admission(fleet, name)["state"] == "Evicting"]  # its last Pods succeeded on their way out
        assert Counter(audit.order) + Counter(done) == Counter([*sizes, *audit.evicted]), "once, and again after an eviction"
        assert {name: status(fleet, name)["succeeded"] for name in sizes} == sizes
        assert [status(fleet, name).get("failed", 0) for name in sizes] == [0] * len(sizes)
        assert len(audit.succeeded) == sum(sizes.values())
        if reclaim == "Never":
            assert audit.evicted == []
            assert sum(audit.created.values()) == len(audit.created) == sum(sizes.values())
        audit.check()


async def die(fleet: Led) -> None:
    """The process of the hub's shard dies, as soon as a standby can take over."""

    def primary() -> Any:
        living = [core for role in (Role.SHARD, Role.STANDBY) for core in fleet.substrate.living(role)]
        found = [core for core in living if core.identity.primary]
        return found if len(found) == 1 and fleet.leader.roster.standby_of("0") is not None else None

    (core,) = await until(primary, 60.0, "a primary with a standby")
    await fleet.substrate.kill(core.member)
