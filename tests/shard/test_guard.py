"""One cluster fails, hangs or asks for a pause: its keys wait, those of others go on."""

import asyncio
from collections import Counter

import fleet_samples as samples
import pytest
from inprocess import CLOCK, Stack, holds, stack, until

from raycp.config.embedded import FaultSpec
from raycp.member.limits import in_flight_limits
from raycp.worker.core import WorkerCore

CREATES = {"verbs": ["create"], "resources": ["secrets"]}


def ran() -> Counter[str]:
    return Counter(name for *_, name in samples.RAN)


def breaker(fleet: Stack, cluster: str) -> str:
    row = next(c for c in fleet.shard().report().clusters if c.name == cluster)
    return row.breaker


def silence(fleet: Stack, cluster: str) -> None:
    """End its watches, and forbid watching and listing."""
    for fault in ({"kind": "error", "status": 503, "verbs": ["watch", "list"]}, {"kind": "closeWatch", "for": "100ms"}):
        fleet.clusters[cluster].faults.add(FaultSpec.model_validate(fault))


async def test_a_failing_cluster_is_blocked_until_a_probe_succeeds() -> None:
    async with stack(["parent"], homes={"hub": "0", "bad": "0", "good": "0"}) as fleet:
        faults = fleet.clusters["bad"].faults
        faults.add(FaultSpec.model_validate({"kind": "error", "status": 503, **CREATES}))
        for number in range(8):
            await fleet.put("bad", "parent", f"b{number}")
        await until(lambda: breaker(fleet, "bad") == "open")
        blocked = fleet.shard().queue.blocked_clusters()
        assert "breaker open" in blocked["bad"]
        await fleet.put("good", "parent", "g")
        await until(lambda: fleet.clusters["good"].api.get("secrets", "default", "g-child"))
        faults.clear(None)
        await until(lambda: breaker(fleet, "bad") == "closed", 15.0)
        there = fleet.clusters["bad"].api
        await until(lambda: all(there.get("secrets", "default", f"b{n}-child") for n in range(8)), 15.0)


async def test_a_429_pauses_the_cluster_for_as_long_as_it_asks() -> None:
    async with stack(["parent"], homes={"hub": "0", "busy": "0", "good": "0"}) as fleet:
        faults = fleet.clusters["busy"].faults
        number = faults.add(FaultSpec.model_validate({"kind": "tooManyRequests", "retryAfter": "4s", **CREATES}))
        await fleet.put("busy", "parent", "a")
        await until(lambda: breaker(fleet, "busy") == "throttled")
        faults.clear(number)
        begun = CLOCK.now()
        await fleet.put("busy", "parent", "b")
        await fleet.put("good", "parent", "g")
        await until(lambda: ran()["g"])
        await holds(lambda: not ran()["b"], 0.5, "it asked for a pause")
        await until(lambda: ran()["b"])
        assert CLOCK.now() - begun > 3.0
        await until(lambda: breaker(fleet, "busy") == "closed", 20.0)


async def test_a_hanging_cluster_never_takes_all_slots() -> None:
    async with stack(["gated"], homes={"hub": "0", "one": "0", "two": "0"}) as fleet:
        plan = fleet.plan()
        limits = in_flight_limits(plan, ["hub", "one", "two"])
        slots = plan.fleet.doc.spec.workers.slots
        assert limits["one"] == limits["two"] <= slots // 3
        assert limits["hub"] < slots
        for number in range(slots * 2):
            await fleet.put("one", "gated", f"h{number}")
        await until(lambda: len(ran()) == limits["one"])
        await fleet.put("two", "gated", "other")
        await until(lambda: ran()["other"])
        for name in list(ran()):
            samples.OPEN[name] = True
        await asyncio.sleep(0)


HOMES = {"hub": "0", "bad": "1", "good": "1"}


def state_of(fleet: Stack, cluster: str) -> str:
    """At the shard that has the cluster."""
    return fleet.shard(HOMES[cluster]).guard.state_of(cluster)[0]


async def test_failures_of_a_hub_controllers_writes_reach_the_members_shard() -> None:
    async with stack(["remote", "tracked"], homes=HOMES) as fleet:
        faults = fleet.clusters["bad"].faults
        faults.add(FaultSpec.model_validate({"kind": "error", "status": 503, **CREATES}))
        for number in range(8):
            await fleet.put("hub", "remote", f"r{number}")
        await until(
            lambda: fleet.shard("1").guard.breaker("bad").opened_total,
            what="the member's own shard has opened its breaker",
        )
        assert state_of(fleet, "good") == "closed"
        assert fleet.shard("0").guard.breaker("bad") is None, "the hub's shard has no say in it"
        await fleet.put("good", "tracked", "t")
        await until(lambda: ran()["t"])
        faults.clear(None)
        there = fleet.clusters["bad"].api
        await until(lambda: all(there.get("secrets", "default", f"r{n}-child") for n in range(8)), 20.0)
        await until(lambda: state_of(fleet, "bad") == "closed", 20.0)


async def test_an_open_breaker_stops_requests_for_keys_of_other_shards() -> None:
    async with stack(["remote"], homes=HOMES) as fleet:
        faults = fleet.clusters["bad"].faults
        # Nothing at all is answered: each request would hold its slot until its time is up.
        number = faults.add(FaultSpec.model_validate({"kind": "latency", "latency": "20s"}))
        isolation = fleet.shard("1").guard
        for _ in range(5):
            isolation.breaker("bad").failure("a test's")
        await until(lambda: fleet.worker().links["1"].states["bad"].breaker in ("open", "half-open"))
        begun = CLOCK.now()
        await fleet.put("hub", "remote", "r")
        await until(lambda: ran()["r"] >= 2, what="it is tried again")
        assert CLOCK.now() - begun < 5.0, "no request hung: each would for its timeout of 5 s"
        await until(lambda: not samples.RUNNING["remote", "hub", "r"], 1.0)
        timeline = fleet.shard("0").reporter.timeline("hub", "ConfigMap", "default", "r")
        assert timeline is not None
        assert "breaker open" in str(timeline), "it says what it waits for"
        faults.clear(number)
        await until(lambda: fleet.clusters["bad"].api.get("secrets", "default", "r-child"), 20.0)


async def test_workers_are_notified_of_a_silent_cluster_and_of_its_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is an event: no breaker moves, nothing is listed again (soak: a job waited for ever for a cluster that was well)."""
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    async with stack(["parent"], homes={"hub": "0", "away": "0"}) as fleet:
        (worker,) = (core for core in fleet.substrate.cores.values() if isinstance(core, WorkerCore))

        def reported() -> bool:
            return worker.links["0"].states["away"].reachable

        await until(reported)
        silence(fleet, "away")
        await until(lambda: not reported(), 10.0, "workers are notified that it is silent")
        fleet.clusters["away"].faults.clear(None)
        await until(reported, 20.0, "workers are notified that it is back")
        assert fleet.shard().guard.breaker("away").opened_total == 0


@pytest.mark.parametrize("home", ["0", "1"])
async def test_a_key_that_waits_for_a_cluster_is_requeued_when_it_recovers(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """In the shard of its key, and in another one; each waits with a poll in an hour."""
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    async with stack(["patient"], homes={"hub": "0", "away": home}) as fleet:
        silence(fleet, "away")
        (worker,) = (core for core in fleet.substrate.cores.values() if isinstance(core, WorkerCore))
        await until(lambda: not worker.links[home].states["away"].reachable, 10.0)
        for name in ("a", "b"):
            await fleet.put("hub", "patient", name)
        await until(lambda: ran()["a"] == 1 and ran()["b"] == 1)
        await holds(lambda: ran()["a"] == 1, 0.3, "it waits")
        fleet.clusters["away"].faults.clear(None)
        await until(lambda: ran()["a"] == 2 and ran()["b"] == 2, 20.0)
        await holds(lambda: ran()["a"] == 2 and ran()["b"] == 2, 0.3, "once")
        assert not fleet.shard("0").queue.snapshot()
