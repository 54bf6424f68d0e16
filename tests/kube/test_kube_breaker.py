"""The circuit breaker, by the numbered rules of its module."""

from hypothesis import given
from hypothesis import strategies as st
from manual_clock import ManualClock

from raycp.base.clock import VirtualClock
from raycp.kube.breaker import Breaker, BreakerPhase, BreakerPolicy

POLICY = BreakerPolicy(failures=3, window=10, min_calls=8, retry_min=1, retry_max=8, probes=2, probe_timeout=5)


def opened(clock: VirtualClock) -> Breaker:
    breaker = Breaker(clock, POLICY)
    for _ in range(3):
        breaker.failure("down")
    return breaker


def test_consecutive_failures_open_the_breaker() -> None:
    breaker = Breaker(VirtualClock(), POLICY)
    for _ in range(3):
        breaker.failure("a")
        breaker.success()
    assert breaker.state is BreakerPhase.CLOSED
    for _ in range(3):
        breaker.failure("down")
    assert breaker.state is BreakerPhase.OPEN
    assert breaker.snapshot().reason == "down"
    assert not breaker.allow()


def test_failures_of_half_of_the_calls_open_the_breaker() -> None:
    breaker = Breaker(VirtualClock(), POLICY)
    for _ in range(4):
        breaker.failure("slow")
        breaker.success()
    breaker.failure("slow")
    assert breaker.state is BreakerPhase.OPEN


async def test_successful_probes_one_at_a_time_close_the_breaker() -> None:
    clock = VirtualClock()
    breaker = opened(clock)
    await clock.advance(1.0)
    assert breaker.state is BreakerPhase.HALF_OPEN
    assert breaker.allow()
    assert not breaker.allow()
    breaker.success()
    assert breaker.state is BreakerPhase.HALF_OPEN
    assert breaker.allow()
    breaker.success()
    assert breaker.state is BreakerPhase.CLOSED


async def test_failed_probes_double_the_wait_up_to_its_cap() -> None:
    clock = VirtualClock()
    breaker = opened(clock)
    for wait in (1, 2, 4, 8, 8):
        assert abs(breaker.snapshot().retry_in - wait) < 1e-6
        await clock.advance(wait)
        assert breaker.allow()
        breaker.failure("still down")


async def test_a_lost_probe_counts_as_failed_but_a_cancelled_one_does_not() -> None:
    clock = VirtualClock()
    breaker = opened(clock)
    await clock.advance(1)
    assert breaker.allow()
    breaker.cancelled()
    assert breaker.allow()
    await clock.advance(5)
    assert not breaker.allow()
    assert breaker.state is BreakerPhase.OPEN


async def test_each_change_of_state_is_reported() -> None:
    clock = VirtualClock()
    seen: list[str] = []
    breaker = Breaker(clock, POLICY, lambda old, new, reason: seen.append(f"{old}>{new}:{reason}"))
    for _ in range(3):
        breaker.failure("x")
    await clock.advance(1)
    breaker.allow()
    breaker.success()
    breaker.allow()
    breaker.success()
    assert seen == ["closed>open:x", "open>half-open:x", "half-open>closed:"]


@given(st.lists(st.sampled_from(["allow", "ok", "bad", "cancel", "tick"]), max_size=80))
def test_the_breaker_admits_a_call_eventually(steps: list[str]) -> None:
    clock = ManualClock()
    breaker = Breaker(clock, POLICY)
    for step in steps:
        if step == "allow":
            breaker.allow()
        elif step == "ok":
            breaker.success()
        elif step == "bad":
            breaker.failure("x")
        elif step == "cancel":
            breaker.cancelled()
        else:
            clock.time += 0.7
    for _ in range(3):
        clock.time += POLICY.retry_max + POLICY.probe_timeout
        if breaker.allow():
            return
    raise AssertionError(breaker.snapshot())


def test_a_reset_closes_it_and_forgets_what_has_failed() -> None:
    clock, seen = ManualClock(), []
    breaker = Breaker(clock, POLICY, lambda old, new, reason: seen.append(f"{old}>{new}"))
    for _ in range(3):
        breaker.failure("x")
    assert not breaker.allow()
    breaker.reset()
    assert seen == ["closed>open", "open>closed"]
    assert breaker.untroubled
    for _ in range(2):
        breaker.failure("x")
    assert breaker.allow(), "two failures of the new endpoint do not open it"
