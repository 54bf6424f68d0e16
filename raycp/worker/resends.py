"""``Resends``: what a shard may not have received, to be sent again on the next connection (law 6g)."""

from collections import deque

from raycp.base.clock import Clock
from raycp.base.tasks import Done
from raycp.protocol.frames import Fold

RESEND_WINDOW = 1.0
"""Frames sent within this window of the last received frame, or later, may be lost: a frozen primary's kernel goes on accepting.
On the next connection, to it or to its successor, acknowledgements with writes and other keys' writes of that time are resent, so
that the cache has them before the keys are handed out. In seconds."""


class Resends:
    """One link's. Lives on the actor's loop. ``last_received``: when the link last received a frame, by the clock."""

    def __init__(self, clock: Clock) -> None:
        self.last_received = 0.0
        self._clock = clock
        self._done: deque[tuple[float, Done]] = deque(maxlen=5000)
        self._folds: deque[tuple[float, Fold]] = deque(maxlen=5000)

    def add_done(self, done: Done) -> None:
        """An acknowledgement is sent now."""
        self._drop_received()
        self._done.append((self._clock.now(), done))

    def add_fold(self, fold: Fold) -> None:
        """Another key's writes are sent now."""
        self._drop_received()
        self._folds.append((self._clock.now(), fold))

    def take_done(self) -> list[Done]:
        """The acknowledgements that may be lost; the caller sends them again."""
        self._drop_received()
        found = [done for _, done in self._done]
        self._done.clear()
        return found

    def folds(self) -> list[Fold]:
        """Other keys' writes that may have been lost with the previous connection."""
        return [fold for _, fold in self._folds]

    def _drop_received(self) -> None:
        since = self.last_received - RESEND_WINDOW
        for sent in (self._done, self._folds):
            while sent and sent[0][0] < since:
                sent.popleft()
