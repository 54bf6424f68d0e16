"""The rules of SliClocks, by number."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.slo import Objective, Objectives, Sample, SliClocks
from raycp.slo.clocks import MAX_PENDING, SWEPT_AT_ONCE, away_start

KEY = RequestKey("echo", "east", "default", "a")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def _one(samples: list[Sample]) -> Sample:
    (sample,) = samples
    return sample


async def test_latency_from_observed_to_done_with_segments(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    observed = clock.now()
    await clock.advance(0.01)
    clocks.started(KEY, "user", observed, tier="high", lag=0.5)
    await clock.advance(0.02)
    clocks.handed_out(KEY)
    await clock.advance(0.10)
    sample = _one(clocks.done(KEY, True, work=0.07, api=0.04))
    assert sample.seconds == pytest.approx(0.13)
    assert (sample.tier, sample.kind, sample.ok, sample.attempts, sample.waited) == ("high", "user", True, 1, 0)
    told = sample.segments
    assert (told.watch_lag, told.queue, told.dispatch, told.work, told.api) == pytest.approx((0.51, 0.02, 0.03, 0.03, 0.04))
    assert len(clocks) == 0


async def test_law_1_a_change_during_a_reconcile_waits_for_the_next(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    clocks.started(KEY, "user", clock.now())
    clocks.handed_out(KEY)
    await clock.advance(1)
    clocks.started(KEY, "user", clock.now())
    await clock.advance(1)
    assert _one(clocks.done(KEY, True)).seconds == pytest.approx(2)
    clocks.handed_out(KEY)
    await clock.advance(3)
    second = _one(clocks.done(KEY, True, work=3))
    assert second.seconds == pytest.approx(4)
    assert second.segments.dispatch == pytest.approx(1), "it waited for the running reconcile"
    assert clocks.done(KEY, True) == []


async def test_law_2_retries_and_dead_workers_do_not_restart_the_clock(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    clocks.started(KEY, "user", clock.now())
    clocks.handed_out(KEY)
    await clock.advance(1)
    assert clocks.done(KEY, False, work=1) == []
    clocks.delayed(KEY, clock.now() + 5)
    await clock.advance(6)
    clocks.handed_out(KEY)
    await clock.advance(1)
    clocks.returned(KEY)
    await clock.advance(1)
    clocks.handed_out(KEY)
    await clock.advance(1)
    sample = _one(clocks.done(KEY, True, work=1))
    assert sample.seconds == pytest.approx(10)
    assert sample.attempts == 3
    assert (sample.segments.delay, sample.segments.queue, sample.segments.work) == pytest.approx((5, 2, 2))


async def test_a_real_event_cuts_a_delay_short(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    clocks.started(KEY, "user", clock.now())
    clocks.delayed(KEY, clock.now() + 100)
    await clock.advance(4)
    clocks.woken(KEY)
    await clock.advance(1)
    clocks.handed_out(KEY)
    told = _one(clocks.done(KEY, True)).segments
    assert (told.delay, told.queue) == pytest.approx((4, 1))


async def test_law_3_declared_waits_are_counted_separately(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    clocks.started(KEY, "user", clock.now())
    clocks.handed_out(KEY)
    await clock.advance(1)
    assert clocks.done(KEY, True, waiting="quota") == []
    await clock.advance(100)
    clocks.woken(KEY)
    await clock.advance(2)
    clocks.handed_out(KEY)
    await clock.advance(1)
    assert clocks.done(KEY, True, waiting="capacity") == []
    clocks.delayed(KEY, clock.now() + 10)
    await clock.advance(20)
    clocks.handed_out(KEY)
    sample = _one(clocks.done(KEY, True))
    assert (sample.seconds, sample.waited, sample.waiting) == (pytest.approx(4), pytest.approx(120), "capacity")


async def test_a_change_during_a_declared_wait_is_credited_only_its_part_of_the_wait(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    clocks.started(KEY, "user", clock.now())
    clocks.handed_out(KEY)
    clocks.done(KEY, True, waiting="quota")
    await clock.advance(10)
    clocks.started(KEY, "user", clock.now())
    clocks.woken(KEY)
    await clock.advance(3)
    clocks.handed_out(KEY)
    first, second = clocks.done(KEY, True)
    assert (first.seconds, first.waited) == pytest.approx((3, 10))
    assert (second.seconds, second.waited) == pytest.approx((3, 0))


async def test_law_4_permanent_failures_miss_and_open_changes_are_charged_once(clock: VirtualClock) -> None:
    objective = Objective("echo", None, 0.999, 2.0)
    clocks = SliClocks(clock, Objectives([objective]))
    clocks.started(KEY, "user", clock.now())
    await clock.advance(1.9)
    assert clocks.sweep() == []
    await clock.advance(0.2)
    assert [(o.key, o.times) for o in clocks.sweep()] == [(KEY, 1)]
    assert clocks.sweep() == []
    clocks.handed_out(KEY)
    sample = _one(clocks.done(KEY, False, permanent=True))
    assert (sample.ok, sample.charged) == (False, {objective.name})


async def test_a_declared_wait_postpones_the_charge(clock: VirtualClock) -> None:
    clocks = SliClocks(clock, Objectives([Objective("*", None, 0.9, 2.0)]))
    clocks.started(KEY, "user", clock.now())
    clocks.handed_out(KEY)
    await clock.advance(1)
    clocks.done(KEY, True, waiting="quota")
    for _ in range(20):
        await clock.advance(1)
        assert clocks.sweep() == []
    clocks.woken(KEY)
    await clock.advance(0.5)
    assert clocks.sweep() == []
    await clock.advance(3)
    assert len(clocks.sweep()) == 1


async def test_only_user_changes_count_for_objectives(clock: VirtualClock) -> None:
    clocks = SliClocks(clock, Objectives([Objective("*", None, 0.9, 2.0)]))
    clocks.started(KEY, "system", clock.now())
    clocks.started(KEY._replace(name="b"), "backlog", clock.now())
    clocks.started(KEY._replace(name="c"), "away", clock.now())
    await clock.advance(10)
    assert [o.key.name for o in clocks.sweep()] == ["c"]


async def test_law_5_kinds_are_counted_separately(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    clocks.started(KEY, "system", clock.now())
    await clock.advance(30)
    clocks.started(KEY, "user", clock.now())
    await clock.advance(1)
    clocks.handed_out(KEY)
    samples = {s.kind: s.seconds for s in clocks.done(KEY, True)}
    assert samples == {"system": pytest.approx(31), "user": pytest.approx(1)}


async def test_the_same_version_observed_twice_is_one_change(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    clocks.started(KEY, "user", clock.now(), version=7)
    clocks.started(KEY, "user", clock.now(), version=7)
    clocks.handed_out(KEY)
    clocks.started(KEY, "user", clock.now(), version=8)
    clocks.started(KEY, "user", clock.now(), version=7)
    assert len(clocks.done(KEY, True)) == 1
    clocks.handed_out(KEY)
    assert len(clocks.done(KEY, True)) == 2


async def test_clocks_of_one_key_are_bounded_and_all_changes_counted(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    start = clock.now()
    for _ in range(1000):
        await clock.advance(0.001)
        clocks.started(KEY, "user", clock.now())
    clocks.handed_out(KEY)
    samples = clocks.done(KEY, True)
    assert len(samples) == MAX_PENDING
    assert sum(s.times for s in samples) == 1000
    assert max(s.seconds for s in samples) == pytest.approx(clock.now() - start - 0.001)


async def test_hand_over_keeps_ages_attempts_and_waits(clock: VirtualClock) -> None:
    objective = Objective("echo", None, 0.999, 1000.0)
    old = SliClocks(clock, Objectives([objective]))
    waits = KEY._replace(name="w")
    old.started(KEY, "user", clock.now(), tier="high", version=5)
    old.started(waits, "user", clock.now())
    for key in (KEY, waits):
        old.handed_out(key)
    await clock.advance(1)
    old.done(KEY, False, work=1)
    old.done(waits, True, waiting="quota")
    await clock.advance(2)
    other_host = VirtualClock(start=5.0, wall=clock.wall() + 0.5)  # half a second in transit
    new = SliClocks(other_host, Objectives([objective]))
    new.started(KEY, "user", other_host.now(), version=5)  # the standby's own watch observed it too
    new.started(KEY, "user", other_host.now(), version=6)  # and one that the old primary never observed
    new.adopt(old.export())
    await other_host.advance(1)
    for key in (KEY, waits):
        new.handed_out(key)
    first, second = new.done(KEY, True)
    assert (first.seconds, first.attempts, first.tier) == (pytest.approx(4.5), 2, "high")
    assert second.seconds == pytest.approx(1)
    waited = _one(new.done(waits, True))
    assert (waited.seconds, waited.waited) == pytest.approx((1, 3.5))


async def test_dropped_keys_and_clusters_stop_their_clocks(clock: VirtualClock) -> None:
    clocks = SliClocks(clock, Objectives([Objective("*", None, 0.9, 1.0)]))
    clocks.started(KEY, "user", clock.now())
    clocks.started(KEY._replace(cluster="west"), "user", clock.now())
    assert clocks.drop_where(cluster="east") == 1
    await clock.advance(5)
    assert [o.key.cluster for o in clocks.sweep()] == ["west"]
    assert clocks.oldest() == pytest.approx(5)
    for call in (clocks.handed_out, clocks.returned, clocks.woken, clocks.drop):
        call(KEY)  # unknown keys are tolerated
    assert clocks.done(KEY, True) == []


async def test_new_objectives_apply_to_open_changes(clock: VirtualClock) -> None:
    clocks = SliClocks(clock)
    clocks.started(KEY, "user", clock.now(), tier="high")
    await clock.advance(5)
    clocks.set_objectives(Objectives([Objective("echo", "high", 0.9, 1.0), Objective("echo", "critical", 0.9, 1.0)]))
    assert [o.objective.tier for o in clocks.sweep()] == ["high"]


def test_start_of_an_away_change() -> None:
    clock = VirtualClock(start=1000.0, wall=50_000.0)
    assert away_start(clock, 49_990.0, ramp_up=999.0) == pytest.approx(990)
    assert away_start(clock, 49_990.0, ramp_up=999.0, server_ahead=4.0) == pytest.approx(986)
    assert away_start(clock, 0.0, ramp_up=999.0) == 999.0
    assert away_start(clock, 60_000.0, ramp_up=999.0) == 1000.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
async def test_every_change_ends_exactly_once_and_segments_add_up(seed: int) -> None:
    """Random histories of a few keys: each started change gives one sample, whose segments and wait sum to its age."""
    rng = random.Random(seed)
    clock = VirtualClock()
    clocks = SliClocks(clock)
    keys = [KEY._replace(name=str(i)) for i in range(3)]
    started = dict.fromkeys(keys, 0)
    busy: set[RequestKey] = set()
    ended: list[Sample] = []
    for _ in range(60):
        await clock.advance(rng.random())
        key = rng.choice(keys)
        step = rng.choice(["start", "hand", "ok", "fail", "wait", "return", "delay", "wake", "move"])
        if step == "start":
            clocks.started(key, rng.choice(["user", "away", "system"]), clock.now())
            started[key] += 1
        elif step == "hand" and key not in busy:
            clocks.handed_out(key)
            busy.add(key)
        elif step in ("ok", "fail", "wait") and key in busy:
            waiting = "quota" if step == "wait" else ""
            ended += clocks.done(key, step != "fail", work=rng.random(), api=rng.random(), waiting=waiting)
            busy.discard(key)
        elif step == "return" and key in busy:
            clocks.returned(key)
            busy.discard(key)
        elif step == "delay" and key not in busy:
            clocks.delayed(key, clock.now() + rng.random())
        elif step == "wake" and key not in busy:
            clocks.woken(key)
        elif step == "move":
            for k in busy:
                clocks.returned(k)
            busy.clear()
            moved = SliClocks(clock)
            moved.adopt(clocks.export())
            clocks = moved
    for key in keys:
        clocks.returned(key)
        clocks.handed_out(key)
        await clock.advance(0.5)
        ended += clocks.done(key, True, work=0.2)
    assert sum(s.times for s in ended) == sum(started.values())
    assert len(clocks) == 0
    for s in ended:
        parts = s.segments
        total = parts.watch_lag + parts.delay + parts.queue + parts.dispatch + parts.work + parts.api
        assert total == pytest.approx(s.seconds, abs=1e-6)
        assert s.waited >= 0


async def test_many_overdue_changes_are_swept_in_parts(clock: VirtualClock) -> None:
    clocks = SliClocks(clock, Objectives([Objective("*", None, 0.9, 2.0)]))
    many = 2 * SWEPT_AT_ONCE + 10
    for number in range(many):
        clocks.started(KEY._replace(name=str(number)), "user", clock.now())
    await clock.advance(3)
    parts = []
    while clocks.sweeps:
        parts.append(len(clocks.sweep()))
    assert parts == [SWEPT_AT_ONCE, SWEPT_AT_ONCE, 10]


async def test_the_overdue_are_counted_until_they_end_however_they_end(clock: VirtualClock) -> None:
    late = Objective("*", None, 0.9, 2.0)
    clocks, next_shard = (SliClocks(clock, Objectives([late])) for _ in range(2))
    keys = [KEY._replace(name=name) for name in ("done", "dropped", "handed-over", "open")]
    for key in keys:
        clocks.started(key, "user", clock.now())
    for _ in range(MAX_PENDING + 1):
        clocks.started(keys[3], "user", clock.now())
    await clock.advance(3)
    clocks.sweep()
    assert clocks.overdue == {late.name: 3 + 1 + MAX_PENDING + 1}
    clocks.started(keys[3], "user", clock.now())
    assert clocks.overdue[late.name] == 3 + 1 + MAX_PENDING + 2, "it has joined one that is overdue"
    next_shard.started(keys[2], "user", clock.now())
    next_shard.adopt(clocks.export([keys[2]]))
    assert next_shard.overdue == {late.name: 1}
    clocks.drop(keys[3])
    clocks.drop(keys[1])
    assert clocks.overdue == {late.name: 2}
    clocks.handed_out(keys[0])
    clocks.done(keys[0], True)
    assert clocks.overdue == {late.name: 1}
