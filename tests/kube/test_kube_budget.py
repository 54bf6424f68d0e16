"""The client budget, by the numbered rules of its module."""

from hypothesis import given
from hypothesis import strategies as st
from manual_clock import ManualClock

from raycp.base.clock import VirtualClock
from raycp.kube.budget import BACKGROUND, LIVE, URGENT, Budget


async def test_an_unlimited_budget_grants_everything() -> None:
    budget = Budget(VirtualClock())
    assert budget.grant(1000) == 1000
    assert all(budget.try_take() for _ in range(1000))


@given(steps=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 50)), max_size=40), qps=st.floats(0.5, 200))
def test_law_1_grants_stay_within_burst_and_rate(steps: list[tuple[float, int]], qps: float) -> None:
    clock = ManualClock()
    budget = Budget(clock, qps, 10)
    start, total = clock.now(), 0
    for seconds, wanted in steps:
        clock.time += seconds
        total += budget.grant(wanted)
        assert total <= 10 + qps * (clock.now() - start) + 1e-6


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 2), st.sampled_from(["take", "lend", "spend", "return"]), st.integers(1, 12)), max_size=60
    ),
    qps=st.floats(0.5, 50),
    window=st.floats(0.1, 5),
)
def test_laws_1_and_4_hold_for_requests_with_lent_tokens(steps: list[tuple[float, str, int]], qps: float, window: float) -> None:
    clock = ManualClock()
    budget = Budget(clock, qps, 10)
    sent: list[float] = []
    lent = 0
    for seconds, what, n in steps:
        clock.time += seconds
        if what == "take":
            sent += [clock.now()] * budget.grant(n)
        elif what == "lend":
            lent += budget.lend(n)
            assert lent <= 5, "at most half of the burst"
        elif what == "spend":
            n = min(n, lent)
            lent -= n
            sent += [clock.now()] * n
            budget.used(n)
        else:
            n = min(n, lent)
            lent -= n
            budget.returned(n)
        last = clock.now()
        assert sum(at >= last - window for at in sent) <= 10 + qps * window + 1e-6


async def test_law_2_grants_go_by_priority_then_fifo() -> None:
    clock = VirtualClock()
    budget = Budget(clock, 10, 1)
    assert budget.try_take()
    order: list[str] = []
    budget.enqueue(BACKGROUND, lambda: order.append("background"))
    budget.enqueue(LIVE, lambda: order.append("live-1"))
    budget.enqueue(LIVE, lambda: order.append("live-2"))
    assert not budget.try_take(LIVE)
    for _ in range(3):
        wait = budget.pump()
        assert wait is not None
        await clock.advance(wait + 1e-6)
        if len(order) < 2:
            assert not budget.try_take(LIVE)  # no overtaking
    assert budget.pump() is None
    assert order == ["live-1", "live-2", "background"]


async def test_law_3_retry_after_holds_all_but_urgent_requests_then_starts_slowly() -> None:
    clock = VirtualClock()
    budget = Budget(clock, 100, 50)
    budget.throttled(2.0)
    budget.throttled(2.0)  # a second 429 at the same moment does not halve the rate again
    assert not budget.try_take()
    assert budget.try_take(URGENT)
    await clock.advance(1.9)
    assert not budget.try_take()
    assert budget.state().rate == 50
    await clock.advance(0.6)
    assert budget.grant(1000) <= 30
    await clock.advance(3)
    assert budget.state().rate == 100


async def test_law_3_applies_to_an_unlimited_budget() -> None:
    clock = VirtualClock()
    budget = Budget(clock)
    for _ in range(20):
        budget.grant(10)
        await clock.advance(0.1)
    budget.throttled(1.0)
    await clock.advance(2.0)
    assert 0 < budget.grant(10_000) < 200
    await clock.advance(30)
    assert budget.grant(10_000) == 10_000


async def test_unused_tokens_can_be_given_back() -> None:
    budget = Budget(VirtualClock(), 10, 20)
    assert budget.grant(20) == 20
    assert budget.grant(1) == 0
    budget.give_back(5)
    assert budget.grant(20) == 5


async def test_a_dead_waiter_takes_no_token() -> None:
    clock = VirtualClock()
    budget = Budget(clock, 1, 1)
    budget.grant(1)
    called: list[int] = []
    budget.enqueue(LIVE, lambda: called.append(1)).dead = True
    assert budget.pump() is None
    await clock.advance(1)
    assert budget.try_take()
    assert not called
