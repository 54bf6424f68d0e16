"""The transitions between the states of a reflector."""

import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.objects import Meta
from raycp.cache.states import (
    EXPIRY_SECONDS,
    Listing,
    Replaying,
    Restored,
    ServerFacts,
    State,
    Streaming,
    Watching,
    after_error,
    after_list,
    after_replay,
    initial,
    verified,
    without_stream,
)
from raycp.cache.unreadable import UnreadableObjects
from raycp.kube import ApiError, CircuitOpen, Fenced, NoSuchKind, Unreachable, UnreadableObject

SERVER = ServerFacts()
LISTS_ONLY = ServerFacts(streams=False)
EXPIRED = ApiError(410, "Expired")
TOO_LARGE = ApiError(504, "Timeout", "Too large resource version: 9, current: 7", retry_after=1.0)
STATES: list[State] = [
    Streaming(SERVER),
    Streaming(SERVER, watermark=5),
    Streaming(SERVER, void=True),
    Listing(SERVER),
    Listing(LISTS_ONLY, watermark=5),
    Replaying(SERVER, 5, 9),
    Watching(SERVER, 9),
    Watching(LISTS_ONLY, 9),
]
ERRORS: list[Exception] = [
    Restored("x"),
    EXPIRED,
    TOO_LARGE,
    ApiError(404),
    ApiError(429, retry_after=2.0),
    ApiError(500),
    Unreachable("x", sent=True),
    CircuitOpen("c", "down", 1.0),
    NoSuchKind("c", "Foo"),
    Fenced("x"),
    msgspec.ValidationError("bad line"),
    RuntimeError("bug"),
]


def test_the_first_state_streams_only_if_asked_to() -> None:
    assert initial(stream=True, watermark=5) == Streaming(SERVER, 5)
    assert initial(stream=False, watermark=None) == Listing(LISTS_ONLY)


def test_a_list_is_followed_by_a_watch_from_its_version() -> None:
    assert after_list(Streaming(SERVER), 9, fresh=True) == Watching(SERVER, 9)
    assert after_list(Listing(SERVER, void=True), 9, fresh=False) == Watching(SERVER, 9)


@pytest.mark.parametrize(("watermark", "fresh"), [(9, True), (12, True), (5, False), (0, True)])
def test_a_watermark_is_not_replayed_unless_it_is_older_than_the_first_list(watermark: int, fresh: bool) -> None:
    assert after_list(Listing(SERVER, watermark), 9, fresh=fresh) == Watching(SERVER, 9)


def test_a_watermark_is_replayed_up_to_the_version_of_the_list() -> None:
    replaying = after_list(Streaming(SERVER, 5), 9, fresh=True)
    assert replaying == Replaying(SERVER, 5, 9)
    assert after_replay(msgspec.structs.replace(replaying, since=9)) == Watching(SERVER, 9)


def test_a_stream_without_an_end_is_followed_by_a_list_and_the_next_whole_state_is_streamed_again() -> None:
    listing = without_stream(Streaming(SERVER, 5), supported=True)
    assert listing == Listing(SERVER, 5)
    assert after_error(listing, ApiError(500), 0.0) == (listing, 0.0), "until a list succeeds"
    watching = after_list(listing, 9, fresh=False)
    assert after_error(watching, TOO_LARGE, 0.0) == (Streaming(SERVER), 1.0)


def test_a_server_that_rejects_the_stream_is_not_asked_again() -> None:
    listing = without_stream(Streaming(SERVER, void=True), supported=False)
    assert listing == Listing(LISTS_ONLY, void=True)
    watching = after_list(listing, 9, fresh=False)
    assert after_error(watching, Restored("x"), 0.0) == (Listing(LISTS_ONLY, void=True), None)


@pytest.mark.parametrize("state", STATES)
def test_a_restored_cluster_voids_cache_and_watermark_at_once(state: State) -> None:
    after, wait = after_error(state, Restored("x"), 0.0)
    assert isinstance(after, Streaming | Listing)
    assert (after.void, after.watermark, wait) == (True, None, None)


@pytest.mark.parametrize("error", [Unreachable("x", sent=True), CircuitOpen("c", "down", 1.0)])
def test_a_lost_connection_keeps_the_version_and_asks_for_the_identity(error: Unreachable) -> None:
    after, wait = after_error(Watching(SERVER, 9), error, 0.0)
    assert (after, wait) == (Watching(ServerFacts(contact_lost=True), 9), 0.0)
    assert verified(after) == Watching(SERVER, 9)
    again, _ = after_error(Replaying(SERVER, 5, 9), error, 0.0)
    assert again == Replaying(ServerFacts(contact_lost=True), 5, 9)


@pytest.mark.parametrize("error", [ApiError(429, retry_after=2.0), ApiError(500), NoSuchKind("c", "Foo"), Fenced("x")])
@pytest.mark.parametrize("state", STATES)
def test_other_errors_of_the_server_change_nothing_and_keep_retry_after(state: State, error: Exception) -> None:
    assert after_error(state, error, 0.0) == (state, getattr(error, "retry_after", None) or 0.0)


def test_a_single_410_is_followed_by_a_list_at_once_and_a_second_one_by_the_backoff() -> None:
    first, wait = after_error(Watching(SERVER, 9), EXPIRED, 100.0)
    assert (first, wait) == (Streaming(ServerFacts(expired_at=100.0)), None)
    soon, wait = after_error(first, EXPIRED, 100.0 + EXPIRY_SECONDS)
    assert (soon, wait) == (Streaming(ServerFacts(expired_at=105.0)), 0.0)
    _, wait = after_error(soon, EXPIRED, 106.0 + EXPIRY_SECONDS)
    assert wait is None


def test_a_watermark_that_is_too_old_to_replay_ends_the_replay_at_the_version_of_the_list() -> None:
    assert after_error(Replaying(SERVER, 5, 9), EXPIRED, 100.0) == (Watching(SERVER, 9), None)


@pytest.mark.parametrize("error", [TOO_LARGE, ApiError(404), msgspec.ValidationError("bad line"), RuntimeError("bug")])
@pytest.mark.parametrize("state", [Replaying(SERVER, 5, 9), Watching(SERVER, 9)])
def test_an_error_that_voids_the_version_is_followed_by_backoff_and_list(state: State, error: Exception) -> None:
    assert after_error(state, error, 0.0) == (Streaming(SERVER), getattr(error, "retry_after", None) or 0.0)


@given(st.sampled_from(STATES), st.lists(st.tuples(st.sampled_from(ERRORS), st.floats(0, 10)), max_size=30))
def test_a_void_cache_and_a_pending_watermark_outlive_all_errors_but_a_restore(
    state: State, errors: list[tuple[Exception, float]]
) -> None:
    now = 0.0
    for error, seconds in errors:
        now += seconds
        before, (state, wait) = state, after_error(state, error, now)
        assert wait is None or wait >= 0.0
        if isinstance(before, Streaming | Listing):
            assert type(state) is type(before)
            assert isinstance(state, Streaming | Listing)
            assert state.void >= before.void
            assert state.watermark == (None if isinstance(error, Restored) else before.watermark)


def test_objects_that_can_not_be_read_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever writes to a server, or is it, decides how many there are, and how often each of them changes."""
    left_out = UnreadableObjects("east v1/Pod")
    with caplog.at_level(logging.WARNING):
        for number in range(5_000):
            left_out.add(UnreadableObject(Meta(f"p-{number % 2_500}", "default", "", ""), f"reason {number}"))
    assert 100 <= len(caplog.records) < 120
    assert "p-0" in caplog.records[0].getMessage()
    assert "the 4096th such finding" in caplog.records[-1].getMessage()
    assert left_out.count >= 2_500
