"""``Resends``: what a shard may not have received, to be sent again on the next connection (law 6g)."""

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from msgspec.structs import replace

from raycp.base.clock import Clock
from raycp.base.tasks import Done, Written
from raycp.protocol.frames import Fold

RESEND_WINDOW = 1.0
"""Frames sent within this window of the last received frame, or later, may be lost: a frozen primary's kernel goes on accepting.
On the next connection, to it or to its successor, acknowledgements with writes and other keys' writes of that time are resent, so
that the cache has them before the keys are handed out. In seconds."""

MOST = 5000
"""Acknowledgements that are kept, and other keys' writes."""

MOST_BYTES = 16 * 1024 * 1024
"""Of written objects that are kept with each of both. Of older ones only the versions are kept: the key waits for those."""

F = TypeVar("F", Done, Fold)


class _Sent(Generic[F]):
    """Frames in the order in which they were sent, the older ones without their objects."""

    def __init__(self) -> None:
        self._bare: deque[tuple[float, F]] = deque()
        self._whole: deque[tuple[float, F, int]] = deque()
        self._bytes = 0

    def add(self, frame: F, now: float) -> None:
        """``frame`` is sent now."""
        size = _bytes(frame.writes)
        self._whole.append((now, frame, size))
        self._bytes += size
        while self._bytes > MOST_BYTES:
            when, oldest, size = self._whole.popleft()
            self._bytes -= size
            self._bare.append((when, replace(oldest, writes=[replace(write, raw=None) for write in oldest.writes])))
        while len(self._bare) + len(self._whole) > MOST:
            self._drop()

    def drop_before(self, time: float) -> None:
        """Forget what was sent before then."""
        while self._bare and self._bare[0][0] < time:
            self._bare.popleft()
        while not self._bare and self._whole and self._whole[0][0] < time:
            self._drop()

    def frames(self) -> list[F]:
        """All that are kept, in their order."""
        return [frame for _, frame in self._bare] + [frame for _, frame, _ in self._whole]

    def clear(self) -> None:
        """Forget all."""
        self._bare.clear()
        self._whole.clear()
        self._bytes = 0

    def _drop(self) -> None:
        if self._bare:
            self._bare.popleft()
        else:
            self._bytes -= self._whole.popleft()[2]


class Resends:
    """One link's. Lives on the actor's loop. ``last_received``: when the link last received a frame, by the clock."""

    def __init__(self, clock: Clock) -> None:
        self.last_received = 0.0
        self._clock = clock
        self._done: _Sent[Done] = _Sent()
        self._folds: _Sent[Fold] = _Sent()

    def add_done(self, done: Done) -> None:
        """An acknowledgement is sent now."""
        self._done.drop_before(self.last_received - RESEND_WINDOW)
        self._done.add(done, self._clock.now())

    def add_fold(self, fold: Fold) -> None:
        """Another key's writes are sent now."""
        self._folds.drop_before(self.last_received - RESEND_WINDOW)
        self._folds.add(fold, self._clock.now())

    def take_done(self) -> list[Done]:
        """The acknowledgements that may be lost; the caller sends them again."""
        self._done.drop_before(self.last_received - RESEND_WINDOW)
        found = self._done.frames()
        self._done.clear()
        return found

    def folds(self) -> list[Fold]:
        """Other keys' writes that may have been lost with the previous connection."""
        return self._folds.frames()


def _bytes(writes: Sequence[Written]) -> int:
    return sum([len(write.raw) for write in writes if write.raw is not None])
