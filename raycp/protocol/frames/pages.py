"""Frames that fit: what a sender has is cut into frames by bytes, and encoded before the sender gives anything up.

A receiver closes the connection for a frame above ``transport.MAX_FRAME``, and a message that can't be encoded is no frame at all.
A sender that takes its parts out first and encodes then loses all of them to one bad part, or repeats a frame that is refused for
ever. So every sender of an unbounded number of parts goes through ``pages``:

1. No frame is larger than ``MAX_SENT``, whatever the parts are; a frame of several parts is closed at about ``PAGE`` bytes.
2. A part that fits in no frame, or can't be encoded, takes no other part with it: ``mend`` replaces it, or drops it.
3. Nothing is raised.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from raycp.protocol.frames.message import Message, encode_body

PAGE = 1024 * 1024
"""Bytes after which a frame takes no further part."""

LARGEST = 8 * PAGE
"""Bytes of the largest object that is sent. An API server accepts requests of 3 MiB and etcd objects of 1.5 MiB by default."""

MAX_SENT = 2 * LARGEST
"""Bytes of the largest frame that is sent: one part of ``LARGEST`` with what belongs to it. A quarter of what is accepted."""

LARGEST_TASK = 16 * LARGEST
"""Bytes that one reconcile is given, its object and its children: what decodes in about a second."""

T = TypeVar("T")


class Unsendable(ValueError):
    """A message is no frame: it can't be encoded, or has more than ``MAX_SENT`` bytes. Nothing of it was sent."""


def encode(message: Message) -> bytes:
    """The body of a frame. Raises ``Unsendable``."""
    try:
        body = encode_body(message)
    except Exception as error:
        raise Unsendable(f"a {type(message).__name__} frame can't be encoded: {error}") from error
    if len(body) > MAX_SENT:
        raise Unsendable(f"a {type(message).__name__} frame would have {len(body)} bytes, {MAX_SENT} at most are sent")
    return body


def pages(
    parts: Sequence[T],
    frame: Callable[[Sequence[T], bool], Message],
    weigh: Callable[[T], int],
    mend: Callable[[T, str], T | None],
) -> Iterator[bytes]:
    """The bodies of the frames that carry ``parts``, in order; one at least.

    ``frame`` makes a message of some parts, and is told whether they are the last. ``weigh`` estimates a part's bytes. ``mend``
    gives what takes the place of a part that can't be sent, for the reason given (None: nothing does); it is asked once for each.
    """
    groups = _groups(parts, weigh)
    for number, group in enumerate(groups, 1):
        yield from _encoded(group, number == len(groups), frame, mend)


def _groups(parts: Sequence[T], weigh: Callable[[T], int]) -> list[Sequence[T]]:
    groups: list[Sequence[T]] = []
    start, total = 0, 0
    for at, part in enumerate(parts):
        weight = weigh(part)
        if at > start and total + weight > PAGE:
            groups.append(parts[start:at])
            start, total = at, 0
        total += weight
    groups.append(parts[start:])
    return groups


def _encoded(
    group: Sequence[T], last: bool, frame: Callable[[Sequence[T], bool], Message], mend: Callable[[T, str], T | None]
) -> Iterator[bytes]:
    """The frames of one group: one, unless a part of it is bad or its weight was underestimated."""
    try:
        yield encode(frame(group, last))
        return
    except Unsendable as error:
        why = str(error)
    if len(group) > 1:
        half = len(group) // 2
        yield from _encoded(group[:half], False, frame, mend)
        yield from _encoded(group[half:], last, frame, mend)
        return
    mended = mend(group[0], why) if group else None
    try:
        if mended is not None:
            yield encode(frame([mended], last))
            return
    except Unsendable:
        pass
    if last:
        yield encode(frame([], True))
