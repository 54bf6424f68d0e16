"""Law 3: what demands for one key become."""

from hypothesis import given
from hypothesis import strategies as st

from raycp.classify import Reason
from raycp.queueing.entry import KeyDemand
from raycp.queueing.merge import after_failure, after_interruption, merge

RANKS = {"critical": 0, "standard": 1, "background": 2}


def _demand(tier: str, priority: int, ready_at: float, real: bool, retry: bool, reason: str) -> KeyDemand:
    return KeyDemand(tier, priority, ready_at, reason, real, ready_at, retry and not real)


demands = st.builds(
    _demand,
    st.sampled_from(sorted(RANKS)),
    st.sampled_from((0, 20, 80, 100)),
    st.sampled_from((1.0, 2.0, 3.0)),
    st.booleans(),
    st.booleans(),
    st.sampled_from(("a", "b")),
)


@given(demands, demands)
def test_merge_takes_the_more_urgent_of_both(have: KeyDemand, more: KeyDemand) -> None:
    both = merge(have, more, RANKS)
    assert RANKS[both.tier] == min(RANKS[have.tier], RANKS[more.tier])
    assert both.priority == max(have.priority, more.priority)
    assert both.real == (have.real or more.real)
    assert both.observed == have.observed
    assert both.reason in (have.reason, more.reason)
    assert not (both.real and both.retry)


@given(demands, demands)
def test_merge_shortens_a_backoff_only_by_something_real(have: KeyDemand, more: KeyDemand) -> None:
    both = merge(have, more, RANKS)
    if have.retry and not more.real:
        assert (both.ready_at, both.retry) == (have.ready_at, True)
    else:
        assert (both.ready_at, both.retry) == (min(have.ready_at, more.ready_at), False)


@given(demands)
def test_merge_of_the_same_changes_nothing(have: KeyDemand) -> None:
    assert merge(have, have, RANKS) == have


@given(demands, st.none() | demands)
def test_after_failure_keeps_the_backoff_unless_something_real_came(ran: KeyDemand, pending: KeyDemand | None) -> None:
    again = after_failure(ran, pending, 99.0, RANKS)
    if pending is not None and pending.real:
        assert (again.ready_at, again.retry, again.real, again.reason) == (pending.ready_at, False, True, pending.reason)
    else:
        assert (again.ready_at, again.retry, again.real, again.reason) == (99.0, True, False, Reason.RETRY)
    assert again.priority >= ran.priority
    assert RANKS[again.tier] <= RANKS[ran.tier]


@given(demands, st.none() | demands)
def test_after_interruption_a_key_is_due_as_it_was_handed_out(ran: KeyDemand, pending: KeyDemand | None) -> None:
    again = after_interruption(ran, pending, "interrupted", RANKS)
    assert (again.ready_at, again.observed) == (ran.ready_at, ran.observed)
    assert again.retry == (ran.retry and not (pending is not None and pending.real))
    assert again.priority >= ran.priority
    assert RANKS[again.tier] <= RANKS[ran.tier]
