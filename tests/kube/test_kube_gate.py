"""Admission by breaker, budget and in-flight cap."""

import asyncio

import pytest

from raycp.base.clock import VirtualClock
from raycp.kube import ApiError, BadAnswer, CircuitOpen, Throttled, Unreachable
from raycp.kube.breaker import Breaker, BreakerPhase
from raycp.kube.budget import BACKGROUND, LIVE, URGENT, Budget
from raycp.kube.gate import Gate


def gate(clock: VirtualClock, places: int = 2, qps: float = 0.0) -> Gate:
    return Gate("c1", clock, places, Budget(clock, qps, 1 if qps else 0), Breaker(clock))


async def test_places_go_by_priority_and_stay_within_the_cap() -> None:
    found = gate(VirtualClock())
    order: list[str] = []

    async def work(name: str, priority: int) -> None:
        await found.enter(priority, 5)
        assert found.in_flight <= 2
        order.append(name)
        await asyncio.sleep(0)
        found.leave()

    await found.enter(LIVE, 5)
    await found.enter(LIVE, 5)
    tasks = [asyncio.create_task(work(n, p)) for n, p in (("b", BACKGROUND), ("l1", LIVE), ("l2", LIVE))]
    await asyncio.sleep(0)
    found.leave()
    await asyncio.gather(*tasks)
    found.leave()
    assert order == ["l1", "l2", "b"]
    assert found.in_flight == 0


async def test_the_place_of_a_cancelled_waiter_goes_to_the_next_one() -> None:
    found = gate(VirtualClock(), places=1)
    await found.enter(LIVE, 5)
    first = asyncio.create_task(found.enter(LIVE, 5))
    second = asyncio.create_task(found.enter(LIVE, 5))
    await asyncio.sleep(0)
    found.leave()
    first.cancel()
    await second
    assert found.in_flight == 1
    found.leave()
    assert found.in_flight == 0


async def test_a_request_without_a_place_in_time_is_throttled() -> None:
    found = gate(VirtualClock(), places=1)
    await found.enter(LIVE, 5)
    with pytest.raises(Throttled):
        await found.enter(LIVE, 0.01)
    found.leave()
    assert found.in_flight == 0


async def test_requests_are_admitted_at_the_rate_of_the_budget() -> None:
    clock = VirtualClock()
    found = gate(clock, places=100, qps=10)
    tasks = [asyncio.create_task(found.enter(LIVE, 60)) for _ in range(6)]
    await clock.advance(0)
    assert sum(task.done() for task in tasks) == 1
    await clock.advance(0.25)
    assert sum(task.done() for task in tasks) == 3
    await clock.advance(1)
    assert all(task.done() for task in tasks)


async def test_urgent_requests_pass_cap_budget_and_breaker() -> None:
    clock = VirtualClock()
    found = gate(clock, places=1, qps=1)
    await found.enter(LIVE, 1)
    for _ in range(5):
        found.report(Unreachable("down", sent=True))
    assert found.breaker is not None
    assert found.breaker.state is BreakerPhase.OPEN
    with pytest.raises(CircuitOpen) as caught:
        await found.enter(LIVE, 1)
    assert caught.value.retry_after > 0
    await found.enter(URGENT, 0.01)
    found.leave()
    found.leave()
    assert found.in_flight == 0


async def test_only_unavailability_counts_as_failure_for_the_breaker() -> None:
    found = gate(VirtualClock())
    assert found.breaker is not None
    for error in (
        ApiError(409, "Conflict"),
        ApiError(429, retry_after=0.0),
        ApiError(500),
        None,
        asyncio.CancelledError(),
    ):
        for _ in range(10):
            found.report(error)
    assert found.breaker.state is BreakerPhase.CLOSED
    for _ in range(5):
        found.report(ApiError(504, "Timeout"))
    assert found.breaker.state is BreakerPhase.OPEN


async def test_what_may_be_one_kinds_failure_is_no_evidence_unless_no_connection_can_be_made() -> None:
    found = gate(VirtualClock())
    assert found.breaker is not None
    for error in (ApiError(503), ApiError(401), Unreachable("no answer", sent=True), BadAnswer("html")):
        for _ in range(10):
            found.report(error, of_server=False)
    assert found.breaker.state is BreakerPhase.CLOSED
    for _ in range(5):
        found.report(Unreachable("refused", sent=False), of_server=False)
    assert found.breaker.state is BreakerPhase.OPEN
