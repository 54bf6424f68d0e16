"""Frames that fit: a correct sender never meets a receiver's limit, whatever the sizes of what it sends."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.base.keys import RequestKey
from raycp.base.tasks import Done, Outcome
from raycp.protocol.frames import Message, Pull, TimelineReply, Unsendable, WakesDone, decode_body, encode, pages
from raycp.protocol.frames.pages import LARGEST, MAX_SENT, PAGE
from raycp.protocol.transport import MAX_BACKLOG, MAX_FRAME

KEY = RequestKey("c", "here", "default", "a")
SIZES = st.one_of(st.integers(0, 300), st.integers(0, 3 * PAGE), st.integers(LARGEST - 10, MAX_SENT + 10))


def done(identity: int, size: int, bad: bool) -> Done:
    return Done(identity, KEY, Outcome.OK, 0.0, error="\ud800" if bad else "", waiting="x" * size)


@given(st.lists(st.tuples(SIZES, st.booleans()), max_size=6), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_frame_fits_and_a_bad_part_takes_no_other_with_it(parts: list[tuple[int, bool]], weighed: bool) -> None:
    sent = [done(number, size, bad) for number, (size, bad) in enumerate(parts)]
    mended: list[int] = []

    def mend(each: Done, why: str) -> Done | None:
        assert "frame" in why
        mended.append(each.id)
        return Done(each.id, KEY, Outcome.RETRY, 0.0) if each.id % 2 else None

    def frame(part: Sequence[Done], last: bool) -> Message:
        return Pull(int(last), list(part))

    bodies = list(pages(sent, frame, lambda each: len(each.waiting) if weighed else 1, mend))
    assert max(map(len, bodies)) <= MAX_SENT
    received = [decode_body(body) for body in bodies]
    assert [message.credit for message in received] == [0] * (len(received) - 1) + [1], "the last one knows that it is"  # type: ignore[union-attr]
    found = [each for message in received for each in message.done]  # type: ignore[union-attr]
    bad = {each.id for each in sent if each.error or len(each.waiting) > MAX_SENT - 100}
    assert set(mended) == bad
    assert len(mended) == len(bad), "asked once for each"
    assert [each.id for each in found] == [each.id for each in sent if each.id not in bad or each.id % 2]
    for each in found:
        assert each == (Done(each.id, KEY, Outcome.RETRY, 0.0) if each.id in bad else sent[each.id])


def test_frames_are_closed_at_a_page_and_few_are_needed() -> None:
    def frame(part: Sequence[int], last: bool) -> Message:
        return TimelineReply(0, b"x" * sum(part))

    bodies = list(pages([PAGE // 4] * 12, frame, lambda size: size, lambda *_: None))
    assert len(bodies) == 3
    assert max(map(len, bodies)) < PAGE + 100
    assert len(list(pages([], lambda part, last: WakesDone(list(part)), lambda _: 0, lambda *_: None))) == 1


def test_the_limits_fit_into_each_other() -> None:
    assert PAGE < LARGEST < MAX_SENT < MAX_FRAME < MAX_BACKLOG
    assert 3 * MAX_SENT < MAX_FRAME, "the copies of one frame together are less than what a receiver takes at once"


@pytest.mark.parametrize("message", [TimelineReply(1, b"x" * MAX_SENT), WakesDone([2**70]), Pull(1, [done(1, 1, True)])])
def test_what_is_no_frame_says_so(message: Message) -> None:
    with pytest.raises(Unsendable, match=type(message).__name__):
        encode(message)
