"""The recent steps of each object, for ``raycp why``: bounded, cheap, in plain words.

Steps are kept packed (``packed_steps``) and made readable on request. The last ``per_key`` steps of each key are kept, at most
``limit`` steps in ``most_bytes`` bytes; the keys without a step for the longest time are forgotten first. Those of a deleted object
are forgotten ``DELETED_SECONDS`` later, so that a shard's memory is bounded by the objects that exist, not by all that ever did.
"""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.tasks import ApiCall
from raycp.slo.packed_steps import HEADERS, MOST_STEPS, Texts, first_size, long_header, pack, steps_of

MOST_CALLS = 20
"""API calls of a step that are kept."""

LONGEST_ERROR = 500
"""Characters of an error that are kept."""

DELETED_SECONDS = 600.0
"""How long the steps of a deleted object are kept, in seconds."""

KEY_BYTES = 150
"""Memory of a key beside its stream, in bytes: its place in the table (80 to 110), the header of the stream (33), roundings."""


class Step(NamedTuple):
    """``at`` in Unix seconds; ``what`` a key of ``MEANINGS``; ``detail`` its facts."""

    at: float
    what: str
    detail: dict[str, Any]


MEANINGS = {
    "received": "a change was observed",
    "queued": "put into a lane",
    "ignored": "needs no reconcile",
    "delayed": "made to wait before it is ready",
    "woken": "made ready before its time by a real event",
    "handed_out": "given to a worker",
    "returned": "came back without a result",
    "succeeded": "reconciled",
    "failed": "the reconcile failed and will be tried again",
    "gave_up": "failed for good until the object changes",
    "waiting": "reconciled, and waits for something outside the control plane",
    "problem": "something about the object is wrong",
    "suspected": "may end the process of its worker, and runs alone",
    "convicted": "has ended the process of a worker, and runs alone after its backoff",
    "cleared": "is suspected no longer",
    "requested": "a person asked for a reconcile",
    "fenced": "a write was refused because its epoch, term or permit had ended",
}

_NAMES = tuple(MEANINGS)
_NUMBERS = {what: number for number, what in enumerate(MEANINGS)}
_RECEIVED, _HANDED_OUT, _DELAYED = (_NUMBERS[what] for what in ("received", "handed_out", "delayed"))

StepListener = Callable[[float, str, RequestKey, tuple[Any, ...] | dict[str, Any]], None]
"""(at, what, key, fields) of each step: a map, or values in the order of the flight recorder's ``SHAPES``."""


class Timelines:
    """The last steps of each key of one shard. Recording costs about a microsecond.

    ``listener`` receives each step. Raises ``ValueError`` for more than ``MOST_STEPS`` steps per key.
    """

    def __init__(
        self,
        clock: Clock,
        per_key: int = 40,
        limit: int = 100_000,
        most_bytes: int = 12_000_000,
        listener: StepListener | None = None,
    ) -> None:
        if not 1 <= per_key <= MOST_STEPS:
            raise ValueError(f"{per_key} steps per key: 1 to {MOST_STEPS} are possible")
        self._clock = clock
        self._per_key = per_key
        self._limit = limit
        self._most_bytes = most_bytes
        self.listener = listener
        """See the class; it may be replaced."""
        self._texts = Texts()
        self._streams: dict[RequestKey, bytes] = {}
        """The key without a step for the longest time first."""
        self._deleted: deque[tuple[float, RequestKey]] = deque()
        """When each object was deleted, by the clock, and its key."""
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Steps kept."""
        return self._count

    def record(self, key: RequestKey, what: str, **detail: Any) -> None:
        """Keep one step, stamped now. ``detail``: texts, numbers, and lists and dictionaries of them."""
        at = self._clock.wall()
        self._add(key, at, _NUMBERS[what], detail)
        if self.listener is not None:
            self.listener(at, what, key, detail)

    def received(self, key: RequestKey, *, reason: str, source: str, tier: str, rv: int, delay: float = 0.0, why: str = "") -> None:
        """A change and the verdict on it; ``why`` explains the choice of the tier."""
        at, number = self._clock.wall(), self._texts
        # a whole number takes a byte, a fraction nine
        self._add(key, at, _RECEIVED, (number[reason], number[source], number[tier], rv, delay or 0, number[why]))
        if self.listener is not None:
            self.listener(at, "received", key, (reason, source, tier, rv, delay, why))

    def delayed(self, key: RequestKey, *, seconds: float, reason: str) -> None:
        """It waits before it is ready again."""
        at = self._clock.wall()
        self._add(key, at, _DELAYED, (seconds, self._texts[reason]))
        if self.listener is not None:
            self.listener(at, "delayed", key, (seconds, reason))

    def handed_out(self, key: RequestKey, *, worker: str, attempt: int, waited: float) -> None:
        """A worker has it."""
        at = self._clock.wall()
        self._add(key, at, _HANDED_OUT, (self._texts[worker], attempt, waited))
        if self.listener is not None:
            self.listener(at, "handed_out", key, (worker, attempt, waited))

    def ended(
        self, key: RequestKey, what: str, *, seconds: float, calls: list[ApiCall], error: str = "", waiting: str = ""
    ) -> None:
        """``what`` is succeeded, failed, gave_up, waiting or returned; at most ``MOST_CALLS`` API calls are kept."""
        at, number, left_out = self._clock.wall(), self._texts, len(calls) - MOST_CALLS
        if left_out > 0:
            calls = calls[:MOST_CALLS]
        shown = [(number[c.verb], number[c.cluster], c.path, c.status, c.seconds) for c in calls]
        self._add(key, at, _NUMBERS[what], (seconds, shown, max(0, left_out), error[:LONGEST_ERROR], number[waiting]))
        if self.listener is not None:
            self.listener(at, what, key, (seconds, calls, max(0, left_out), error, waiting))

    def object_deleted(self, key: RequestKey) -> None:
        """The object of ``key`` is deleted: forget its steps in time, and now those of objects that were deleted long ago."""
        now, wall = self._clock.now(), self._clock.wall()
        self._deleted.append((now, key))
        while now - self._deleted[0][0] > DELETED_SECONDS:
            _, old = self._deleted.popleft()
            if old in self._streams and wall - self.of(old)[-1].at > DELETED_SECONDS / 2:  # else it is reconciled, or exists again
                self._drop(old)

    def of(self, key: RequestKey) -> list[Step]:
        """The steps of one key, oldest first."""
        found = steps_of(self._streams.get(key, b""))
        return [Step(at, _NAMES[what], self._detail(what, fields)) for at, what, fields in found]

    def _add(self, key: RequestKey, at: float, what: int, fields: object) -> None:
        """Put a step at the end of the key's stream, whose last byte is the number of its steps."""
        streams = self._streams
        stream = streams.pop(key, None)  # and back at the end of the table
        if stream is None:
            stream, count = b"", 1
            self._bytes += KEY_BYTES
        else:
            count = stream[-1] + 1
            if count > self._per_key:
                count = self._per_key
                first = first_size(stream)
                stream = stream[first:]
                self._count -= 1
                self._bytes -= first
        step = pack((at, what, fields, count))
        size = len(step)
        header = HEADERS[size] if size < 256 else long_header(size)
        streams[key] = b"".join((stream, header, step))
        self._count += 1
        self._bytes += len(header) + size
        if self._count > self._limit or self._bytes > self._most_bytes:
            self._forget()

    def _forget(self) -> None:
        """Make room, a hundredth of the keys at once: the front of the table is searched once for many of them."""
        while self._count > self._limit or self._bytes > self._most_bytes:
            for key in list(islice(self._streams, 1 + len(self._streams) // 100)):
                self._drop(key)

    def _drop(self, key: RequestKey) -> None:
        stream = self._streams.pop(key)
        self._count -= stream[-1]
        self._bytes -= len(stream) + KEY_BYTES

    def _detail(self, what: int, fields: Any) -> dict[str, Any]:
        text = self._texts.text
        if isinstance(fields, dict):
            return fields
        if what == _RECEIVED:
            reason, source, tier, rv, delay, why = fields
            return _received(text(reason), text(source), text(tier), rv, float(delay), text(why))
        if what == _HANDED_OUT:
            return {"worker": text(fields[0]), "attempt": fields[1], "waited": fields[2]}
        if what == _DELAYED:
            return {"seconds": fields[0], "reason": text(fields[1])}
        return self._ended(*fields)

    def _ended(self, seconds: float, calls: Iterable[Any], left_out: int, error: str, waiting: int | str) -> dict[str, Any]:
        text = self._texts.text
        shown = [
            {"verb": text(verb), "cluster": text(cluster), "path": path, "status": status, "seconds": took}
            for verb, cluster, path, status, took in calls
        ]
        detail: dict[str, Any] = {"seconds": seconds, "calls": shown}
        if left_out:
            detail["calls_left_out"] = left_out
        if error:
            detail["error"] = error
        if waiting := text(waiting):
            detail["waiting"] = waiting
        return detail


def _received(reason: str, source: str, tier: str, rv: int, delay: float, why: str) -> dict[str, Any]:
    return {"reason": reason, "source": source, "tier": tier, "resource_version": rv, "delay": delay, "why": why}
