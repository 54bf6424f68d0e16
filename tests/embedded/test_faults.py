"""Faults: schedule, matching requests, effects. In virtual time."""

import asyncio
import random
from typing import Any

import pytest

from raycp.base.clock import VirtualClock
from raycp.config.embedded import FaultSpec
from raycp.embedded.faults import Fault, Faults, delay, in_force, next_edge, request_of


class Notes:
    """A ``World`` that records its calls."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def compact(self) -> None:
        self.done.append("compact")

    def skew(self, seconds: float) -> None:
        self.done.append(("skew", seconds))

    def rotate_certificate(self) -> None:
        self.done.append("certificate")

    def expire_token(self) -> None:
        self.done.append("token")


class AWatch:
    def __init__(self) -> None:
        self.paused = False
        self.stopped = 0
        self.resumed = 0

    def stop(self) -> None:
        self.stopped += 1

    def resume(self) -> None:
        self.resumed += 1


def spec(kind: str, **more: Any) -> FaultSpec:
    return FaultSpec.model_validate({"kind": kind, **more})


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("given", "on"),
    [
        ({}, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]),
        ({"for": "3s"}, [5, 6, 7]),
        ({"for": "1s", "every": "4s"}, [5, 9, 13]),
    ],
)
def test_schedule_of_a_fault(given: dict[str, Any], on: list[int]) -> None:
    found = spec("error", **given)
    assert [t for t in range(15) if in_force(found, 5.0, float(t))] == on


@pytest.mark.parametrize(
    ("given", "edges"), [({}, [5]), ({"for": "3s"}, [5, 8]), ({"for": "1s", "every": "4s"}, [5, 6, 9, 10, 13, 14])]
)
def test_next_edge_finds_each_begin_and_end(given: dict[str, Any], edges: list[float]) -> None:
    found, now, seen = spec("error", **given), 0.0, []
    while (edge := next_edge(found, 5.0, now)) is not None and edge < 15:
        seen.append(edge)
        now = edge
    assert seen == edges


@pytest.mark.parametrize(
    ("method", "path", "watch", "request_"),
    [
        ("GET", "/api/v1/pods?limit=1", False, ("list", "pods")),
        ("GET", "/api/v1/namespaces/a/pods", True, ("watch", "pods")),
        ("GET", "/api/v1/namespaces/a/pods/b/log", False, ("get", "pods/log")),
        ("POST", "/apis/batch/v1/namespaces/a/jobs", False, ("create", "jobs.batch")),
        ("PATCH", "/apis/batch/v1/namespaces/a/jobs/b/status", False, ("patch", "jobs.batch/status")),
        ("DELETE", "/api/v1/namespaces/a", False, ("delete", "namespaces")),
        ("PUT", "/api/v1/namespaces/a/finalize", False, ("update", "namespaces/finalize")),
        ("DELETE", "/apis/x.io/v1/things", False, ("deletecollection", "things.x.io")),
        ("GET", "/version", False, ("get", "")),
    ],
)
def test_verb_and_resource_of_a_request(method: str, path: str, watch: bool, request_: tuple[str, str]) -> None:
    assert request_of(method, path, watch) == request_


@pytest.mark.parametrize("distribution", ["constant", "uniform", "normal", "lognormal", "exponential"])
def test_the_median_of_an_injected_latency_is_as_configured(distribution: str) -> None:
    found, rng = spec("latency", latency="1s", jitter="200ms", distribution=distribution), random.Random(1)
    drawn = sorted(delay(found, rng) for _ in range(2001))
    assert 0.9 < drawn[1000] < 1.2
    assert drawn[0] >= 0


async def test_a_fault_affects_only_matching_requests() -> None:
    faults = Faults([spec("error", status=503, retryAfter="2s", verbs=["create"], resources=["pods"])], VirtualClock(), Notes())
    met = await faults.before("POST", "/api/v1/namespaces/a/pods")
    assert met is not None
    assert met.action == "answer"
    assert met.error is not None
    assert (met.error.code, met.error.headers["Retry-After"]) == (503, "2")
    assert await faults.before("GET", "/api/v1/namespaces/a/pods") is None
    assert await faults.before("POST", "/api/v1/namespaces/a/configmaps") is None
    assert await faults.before("POST", "/raycp/admin/faults") is None


async def test_probability_is_a_share_and_repeats_with_the_seed() -> None:
    async def drawn(seed: int) -> list[bool]:
        faults = Faults([spec("tooManyRequests", probability="30%")], VirtualClock(), Notes(), seed)
        return [await faults.before("GET", "/api/v1/pods") is not None for _ in range(1000)]

    first = await drawn(1)
    assert 250 < sum(first) < 350
    assert first == await drawn(1)
    assert first != await drawn(2)


async def test_a_fault_begins_and_ends_in_time_and_arms_the_hook() -> None:
    clock = VirtualClock()
    faults = Faults([spec("reset", after="10s", **{"for": "5s"})], clock, Notes())
    task = asyncio.create_task(faults.run())
    seen = []
    for _ in range(4):
        seen.append((faults.armed, await faults.before("GET", "/api/v1/pods")))
        await clock.advance(6)
    task.cancel()
    assert seen == [(False, None), (False, None), (True, Fault("reset")), (False, None)]


async def test_latency_is_slept_on_the_clusters_clock() -> None:
    clock = VirtualClock()
    faults = Faults([spec("latency", latency="3s", distribution="constant"), spec("halfOpen")], clock, Notes())
    asking = asyncio.create_task(faults.before("GET", "/api/v1/pods"))
    await clock.advance(2.9)
    assert not asking.done()
    await clock.advance(0.2)
    assert await asking == Fault("halfOpen")


async def test_a_read_only_cluster_refuses_only_writes() -> None:
    faults = Faults([spec("readOnly")], VirtualClock(), Notes())
    assert await faults.before("GET", "/api/v1/pods") is None
    met = await faults.before("PUT", "/api/v1/namespaces/a/pods/b")
    assert met is not None
    assert met.error is not None
    assert met.error.code == 500


async def test_watches_stall_and_resume() -> None:
    clock, watch, other, later = VirtualClock(), AWatch(), AWatch(), AWatch()
    faults = Faults([spec("stallWatch", after="1s", resources=["pods"], **{"for": "5s"})], clock, Notes())
    task = asyncio.create_task(faults.run())
    faults.opened(watch, "/api/v1/pods")
    faults.opened(other, "/api/v1/configmaps")
    await clock.advance(2)
    faults.opened(later, "/api/v1/namespaces/a/pods")
    assert (watch.paused, other.paused, later.paused) == (True, False, True)
    await clock.advance(5)
    task.cancel()
    assert (watch.paused, watch.resumed, other.resumed, later.paused) == (False, 1, 0, False)


async def test_watches_are_closed_early_repeatedly() -> None:
    clock, watch = VirtualClock(), AWatch()
    faults = Faults([spec("closeWatch", after="1s", every="10s", **{"for": "1s"})], clock, Notes())
    task = asyncio.create_task(faults.run())
    faults.opened(watch, "/api/v1/pods")
    await clock.advance(25)
    await settle()
    faults.closed(watch)
    await clock.advance(10)
    task.cancel()
    assert watch.stopped == 3


async def test_faults_of_the_cluster_happen_once_or_with_their_period() -> None:
    clock, world = VirtualClock(), Notes()
    specs = [
        spec("compact", after="1s", every="10s"),
        spec("clockSkew", skew="60s", behind=True, after="5s", **{"for": "1s"}),
        spec("rotateCertificate", after="7s"),
        spec("expireToken"),
    ]
    faults = Faults(specs, clock, world)
    task = asyncio.create_task(faults.run())
    await clock.advance(15)
    task.cancel()
    assert world.done == ["token", "compact", ("skew", -60.0), ("skew", 0.0), "certificate", "compact"]


async def test_faults_can_be_set_listed_and_cleared() -> None:
    world = Notes()
    faults = Faults([], VirtualClock(), world)
    assert not faults.armed
    number = faults.add(spec("clockSkew", skew="5s"))
    assert faults.describe() == [{"id": number, "inForce": True, "met": 0, "kind": "clockSkew", "skew": 5.0}]
    faults.clear(number)
    assert world.done == [("skew", 5.0), ("skew", 0.0)]
    with pytest.raises(KeyError):
        faults.clear(number)
    faults.set([spec("error"), spec("reset")])
    assert len(faults.describe()) == 2
    faults.clear()
    assert faults.describe() == []
    assert not faults.armed
