"""Durations and shares."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.config.units import UnitError, format_duration, format_percent, parse_duration, parse_percent


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10h", 36000),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("7d", 604800),
        ("0", 0),
        ("0s", 0),
        ("100us", 1e-4),
        ("3m20s", 200),
        (30, 30),
        (2.5, 2.5),
        (0, 0),
        (" 5s ", 5),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-1h", "negative"),
        (-1, "negative"),
        (-0.1, "negative"),
        (math.nan, "not a number"),
        (math.inf, "finite"),
        ("30", "without a unit"),
        ("", "not a duration"),
        ("1y", "not a duration"),
        ("h", "not a duration"),
        ("1h 30m", "not a duration"),
        (True, "not a duration"),
        (None, "not a duration"),
        ([], "not a duration"),
        ("nan", "not a duration"),
        ("9" * 400 + "d", "finite"),
        (10**400, "finite"),
    ],
)
def test_invalid_durations(value: object, message: str) -> None:
    with pytest.raises(UnitError, match=message) as caught:
        parse_duration(value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("value", "fraction"),
    [("40%", 0.4), ("99.9%", 0.999), ("99.99%", 0.9999), (0.5, 0.5), (1, 1), (0, 0), (" 5 % ", 0.05)],
)
def test_shares(value: object, fraction: float) -> None:
    assert parse_percent(value) == fraction


@pytest.mark.parametrize("value", ["140%", "-1%", -0.1, 40, 1.01, 101, math.nan, math.inf, "0.4", "40", "", True, None, {}])
def test_invalid_shares(value: object) -> None:
    with pytest.raises(UnitError) as caught:
        parse_percent(value)
    assert caught.value.remedy


def test_a_share_above_one_says_what_was_meant() -> None:
    with pytest.raises(UnitError) as caught:
        parse_percent(40)
    assert '"40%"' in caught.value.remedy


@given(st.integers(min_value=0, max_value=10**9))
def test_formatted_milliseconds_round_trip(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, rel=1e-6)


@given(st.integers(min_value=0, max_value=100_000))
def test_formatted_shares_round_trip(thousandths: int) -> None:
    assert parse_percent(format_percent(thousandths / 100_000)) == pytest.approx(thousandths / 100_000)


@given(st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.none(), st.booleans()))
def test_parse_duration_returns_only_finite_non_negative_seconds(value: object) -> None:
    try:
        seconds = parse_duration(value)
    except UnitError:
        return
    assert math.isfinite(seconds)
    assert seconds >= 0
