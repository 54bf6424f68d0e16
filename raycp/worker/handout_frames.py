"""What a worker says of its hand-outs, as frames that fit: ``Hello``, ``Pull`` and ``Held``.

An acknowledgement that can't be sent as it is becomes an error of its key, which is tried again; it takes no other with it.
"""

import logging
from collections.abc import Sequence

import msgspec

from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall, Done, Outcome, Written
from raycp.base.text import clean
from raycp.protocol.frames import PAGE, Held, Hello, HelloPart, Pull, Unsendable, encode, pages

log = logging.getLogger(__name__)

CALLS = 2_000
"""Requests that an acknowledgement lists; of more, those that succeeded are summed up. A timeline shows 20."""

CALLS_IN_FULL = 50
"""Of the first ones, the path is kept then."""

WRITES = 20_000
"""Writes that an acknowledgement lists. The watch event of one that it leaves out counts as a change: the key is due again."""

InFlight = list[tuple[int, RequestKey]]
"""Tasks that run here, or whose acknowledgements are unsent."""


def fit(done: Done) -> None:
    """Cut what is listed in ``done`` to what one frame takes."""
    if len(done.calls) > CALLS:
        done.calls = _summed_up(done.calls)
    if len(done.writes) > WRITES:
        log.warning("%s wrote %d objects in one reconcile: %d are reported", done.key, len(done.writes), WRITES)
        done.writes = done.writes[:WRITES]


def pull_frames(credit: int, done: Sequence[Done]) -> list[bytes]:
    """The encoded frames that acknowledge ``done`` and grant ``credit``."""
    if sum([_weigh(each) for each in done]) <= PAGE:
        try:
            return [encode(Pull(credit, list(done)))]
        except Unsendable:
            pass
    return list(pages(done, lambda part, last: Pull(credit if last else 0, list(part)), _weigh, _as_error))


def held_frames(frames: int, outstanding: int, ids: Sequence[int]) -> list[bytes]:
    """The encoded report of the hand-outs ``ids``; see ``Held``."""
    return list(pages(ids, lambda part, last: Held(frames, outstanding, list(part), not last), lambda _: 9, lambda _, why: None))


def hello_frames(hello: Hello) -> tuple[Hello, list[bytes]]:
    """``Hello`` as a frame of moderate size, and the encoded ones with the rest of ``in_flight``."""
    count, room = 0, PAGE // 4
    for each in hello.in_flight:
        room -= _weigh_key(each)
        if room < 0:
            break
        count += 1
    rest = hello.in_flight[count:]
    if not rest:
        return hello, []
    first = msgspec.structs.replace(hello, in_flight=hello.in_flight[:count], more=True)
    return first, list(pages(rest, lambda part, last: HelloPart(list(part), not last), _weigh_key, lambda _, why: None))


def _weigh(done: Done) -> int:
    weight = 200 + 150 * len(done.calls)
    if done.wakes:
        weight += sum([_weigh_key((0, key)) for key in done.wakes])
    for write in done.writes:
        weight += 300 if write.raw is None else 300 + len(write.raw)
    return weight


def _weigh_key(each: tuple[int, RequestKey]) -> int:
    return 32 + 4 * sum(map(len, each[1]))


def _as_error(done: Done, why: str) -> Done:
    """Instead of an acknowledgement that can't be sent."""
    log.error("the acknowledgement of %s can't be sent: %s", done.key, why)
    error = clean(f"its acknowledgement could not be sent: {why}")
    writes = [written for write in done.writes[:WRITES] if (written := _without_body(write)) is not None]
    return Done(done.id, done.key, Outcome.RETRY, 0.0, error=error, writes=writes, used=done.used, unused=done.unused)


def _without_body(write: Written) -> Written | None:
    """The key waits for this write to arrive by its watch; None for one that can't be named either."""
    shown = msgspec.structs.replace(write, raw=None)
    try:
        return shown if len(msgspec.msgpack.encode(shown)) < 8_000 else None
    except Exception:
        return None


def _summed_up(calls: Sequence[ApiCall]) -> list[ApiCall]:
    """The first calls, then those that failed, then a sum for each verb and cluster of those that did not."""
    failed: list[ApiCall] = []
    sums: dict[tuple[str, str], list[float]] = {}
    for call in calls[CALLS_IN_FULL:]:
        if 200 <= call.status < 300:
            sums.setdefault((call.verb, call.cluster), []).append(call.seconds)
        else:
            failed.append(call)
    summed = [ApiCall(*what, f"{len(seconds)} further requests", 200, sum(seconds)) for what, seconds in sums.items()]
    return [*calls[:CALLS_IN_FULL], *failed[:CALLS], *summed[:CALLS]]
