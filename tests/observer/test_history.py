"""An hour of numbers: gaps, clocks that jump, what a later observer goes on with, and how much memory it takes."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.clock import VirtualClock
from raycp.observer.history import (
    FLEET_SERIES,
    OF_FLEET,
    POINTS,
    STEP,
    FleetHistory,
    Metric,
    SavedHistory,
    SavedSeries,
    decode,
    encode,
)

HUB = ("cluster", "hub")


def point(value: float | None) -> dict[tuple[str, str], tuple[float | None, ...]]:
    return {FLEET_SERIES: (value,) * len(OF_FLEET)}


async def recorded(clock: VirtualClock, values: list[float | None]) -> FleetHistory:
    history = FleetHistory(clock)
    for value in values:
        await clock.advance(STEP)
        history.add(point(value))
    return history


def rates(history: FleetHistory, after: int = -1) -> list[float | None]:
    return history.since(after)[FLEET_SERIES][Metric.RATE]


def tail(history: FleetHistory, count: int) -> list[float | None]:
    return rates(history)[-count:]


@given(st.floats(min_value=1e-5, max_value=1e9))
def test_a_value_is_kept_within_a_fraction_of_a_percent(value: float) -> None:
    assert decode(encode(value)) == pytest.approx(value, rel=0.002)


@pytest.mark.parametrize(("value", "kept"), [(None, None), (float("nan"), None), (0.0, 0.0), (-1.0, 0.0), (1e-9, 0.0)])
def test_zero_is_no_gap(value: float | None, kept: float | None) -> None:
    assert decode(encode(value)) == kept


def test_what_is_too_large_is_the_largest() -> None:
    assert encode(float("inf")) == encode(1e300) <= 0xFFFF


async def test_an_hour_and_no_more() -> None:
    history = await recorded(VirtualClock(), [float(at) for at in range(1, POINTS + 41)])
    found = rates(history)
    assert len(found) == POINTS
    assert (found[0], found[-1]) == (pytest.approx(41.0, rel=0.002), pytest.approx(400.0, rel=0.002))


async def test_only_new_points() -> None:
    clock = VirtualClock()
    history = await recorded(clock, [1.0, 2.0])
    known = history.last
    assert rates(history, known) == []
    await clock.advance(STEP)
    history.add(point(3.0))
    assert rates(history, known) == [pytest.approx(3.0, rel=0.002)]


async def test_a_step_that_was_missed_is_a_gap() -> None:
    clock = VirtualClock()
    history = await recorded(clock, [1.0])
    await clock.advance(3 * STEP)
    history.add(point(0.0))
    assert tail(history, 4) == [pytest.approx(1.0, rel=0.002), None, None, 0.0]
    await clock.advance(2 * POINTS * STEP)
    history.add(point(0.0))
    assert rates(history) == [None] * (POINTS - 1) + [0.0]


async def test_a_jump_of_the_wall_clock_moves_no_point() -> None:
    clock = VirtualClock()
    history = await recorded(clock, [1.0, 1.0])
    ended = history.ends()
    clock.shift_wall(-86_400.0)
    await clock.advance(STEP)
    history.add(point(1.0))
    assert tail(history, 4) == [None] + [pytest.approx(1.0, rel=0.002)] * 3
    assert history.ends() == pytest.approx(ended - 86_400.0 + STEP), "points have the time that the clock says now"


async def test_a_later_observer_goes_on_after_a_gap() -> None:
    clock = VirtualClock()
    saved = (await recorded(clock, [5.0, 6.0])).dump()
    await clock.advance(4 * STEP)
    later = await recorded(clock, [7.0])
    later.load(saved)
    five, six, seven = (pytest.approx(value, rel=0.002) for value in (5.0, 6.0, 7.0))
    assert tail(later, 8) == [None, five, six, None, None, None, None, seven]


async def test_own_points_take_precedence() -> None:
    clock = VirtualClock()
    first = await recorded(clock, [5.0])
    later = await recorded(clock, [7.0])
    await clock.advance(STEP)
    first.add(point(6.0))
    later.add(point(8.0))
    later.load(first.dump())
    five, seven, eight = (pytest.approx(value, rel=0.002) for value in (5.0, 7.0, 8.0))
    assert tail(later, 4) == [None, five, seven, eight]


async def test_what_would_lie_in_the_future_ends_now() -> None:
    clock = VirtualClock()
    saved = (await recorded(clock, [5.0, 6.0])).dump()
    clock.shift_wall(-7200.0)
    later = FleetHistory(clock)
    later.load(saved)
    assert tail(later, 3) == [None, pytest.approx(5.0, rel=0.002), pytest.approx(6.0, rel=0.002)]


async def test_what_is_older_than_an_hour_is_forgotten() -> None:
    clock = VirtualClock()
    saved = (await recorded(clock, [5.0])).dump()
    await clock.advance((POINTS + 1) * STEP)
    later = FleetHistory(clock)
    later.load(saved)
    assert set(rates(later)) == {None}


async def test_a_cluster_that_leaves_takes_its_series_with_it() -> None:
    clock = VirtualClock()
    history = await recorded(clock, [1.0])
    history.add({HUB: (0.1, 0.0), ("controller", "a"): (1.0,) * 5})
    history.keep(["a"], [])
    assert set(history.since(-1)) == {FLEET_SERIES, ("controller", "a")}


@pytest.mark.parametrize(
    "series",
    [
        SavedSeries("planet", "x", "rate", b""),
        SavedSeries("cluster", "x", "rate", b""),
        SavedSeries("fleet", "", "rate", b"123"),
        SavedSeries("fleet", "", "rate", bytes(2 * POINTS + 2)),
    ],
)
async def test_what_it_can_not_have_stored_is_refused_and_changes_nothing(series: SavedSeries) -> None:
    history = await recorded(VirtualClock(), [1.0])
    good = SavedSeries("fleet", "", "errors", b"\x01\x00" * POINTS)
    before = msgspec.to_builtins(history.dump())
    with pytest.raises(ValueError, match=r"the history has|series"):
        history.load(SavedHistory(history.ends(), [good, series]))
    with pytest.raises(ValueError, match="no time"):
        history.load(SavedHistory(float("nan"), [good]))
    assert msgspec.to_builtins(history.dump()) == before


async def test_two_hundred_clusters_take_what_the_module_says() -> None:
    clock, numbers = VirtualClock(), random.Random(1)
    history = FleetHistory(clock)
    for _ in range(3):
        await clock.advance(STEP)
        history.add({("cluster", f"edge-{at}"): (numbers.random(), 0.0) for at in range(200)} | point(1.0))
    codes = sum(len(series.codes) for series in history.dump().series)
    assert codes == 200 * 2 * 720 + len(OF_FLEET) * 720
    assert sum(len(series.codes) for series in history.dump(of_clusters=0).series) == len(OF_FLEET) * 720
