"""The circuit breaker, by the numbered rules of its module."""

from hypothesis import example, given
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


async def test_a_late_failure_does_not_open_the_breaker_of_a_server_that_is_back() -> None:
    """Requests that hung while the link was dead end after it is back: they say how the server was."""
    clock = VirtualClock()
    breaker = opened(clock)
    hung = clock.now()
    await clock.advance(1.0)
    assert breaker.allow()
    breaker.failure("no answer", hung)
    assert breaker.state is BreakerPhase.HALF_OPEN
    breaker.success()
    assert breaker.allow()
    breaker.success()
    assert breaker.state is BreakerPhase.CLOSED
    await clock.advance(1.0)
    for _ in range(10):
        breaker.failure("no answer", hung)
    assert breaker.state is BreakerPhase.CLOSED
    for _ in range(3):
        breaker.failure("no answer", clock.now())
    assert breaker.state is BreakerPhase.OPEN


async def test_answers_to_calls_that_passed_unasked_close_it() -> None:
    """An urgent call passes an open breaker: nobody else may ask."""
    clock = VirtualClock()
    breaker = opened(clock)
    breaker.success()
    assert breaker.state is BreakerPhase.OPEN, "it was sent before"
    await clock.advance(1.0)
    breaker.success()
    assert breaker.state is BreakerPhase.HALF_OPEN
    breaker.success()
    assert breaker.state is BreakerPhase.CLOSED


# A late failure that arrives when the wait has just ended, before the next probe.
@example(outage=24.0, late=[(7.0, False)])
@given(
    st.floats(0.0, 120.0),
    st.lists(st.tuples(st.floats(0.0, 20.0), st.booleans()), max_size=40),
)
def test_a_server_that_is_back_is_found_in_time(outage: float, late: list[tuple[float, bool]]) -> None:
    """Whoever probes while it is not closed, at a tenth of a second, with a deadline of 2 s, finds it ``retry_max`` + 2 s after it
    is back at the latest, whatever late failures arrive of calls that were sent before.
    """
    clock = ManualClock()
    breaker = Breaker(clock, POLICY)
    for _ in range(3):
        breaker.failure("down")
    begun, back = clock.time, clock.time + outage
    pending = sorted((back + after, sent) for after, sent in late)
    while breaker.state is not BreakerPhase.CLOSED:
        while pending and pending[0][0] <= clock.time:
            breaker.failure("late", begun if pending.pop(0)[1] else back - 0.001)
        if not breaker.allow():
            clock.time += 0.1
            continue
        sent = clock.time
        if sent < back:
            clock.time += 2.0
            breaker.failure("no answer", sent)
        else:
            breaker.success()
        assert clock.time <= back + POLICY.retry_max + 2.5
    assert clock.time <= back + POLICY.retry_max + 2.5


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
