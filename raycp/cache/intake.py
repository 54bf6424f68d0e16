"""How many events of one cluster are processed per second: beyond that, changes of the same object are folded to the latest.

Rules (law 5):

1. A cluster may send ``EVENTS_PER_SECOND`` events a second on average, and twice as many at once. Initial lists do not count.
2. Beyond that, events are collected for at least ``DEBOUNCE`` seconds before they are processed. Of several changes of one object
   (uid) only the latest counts; the deletion of an object stays, and so does a new object of the same name (law 7). What is left
   is processed evenly over the next such time, so that changes of other clusters wait for a few events, not for all.
3. What is still too much waits: nothing is read meanwhile, and TCP slows the server down. It ends the watch of a reader that is too
   slow, and the list that follows folds everything.
4. This ends when less than half of the rate has arrived for a whole second.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from raycp.base.clock import Clock

EVENTS_PER_SECOND = 2_000.0
DEBOUNCE = 0.05
_SLICE = 256  # lines that are folded before other tasks get their turn
_FOLD_COST = 1 / 16  # of processing an event: what it costs to find out that it is outdated


class _KeyMeta(msgspec.Struct, gc=False):
    uid: str = ""


class _KeyObject(msgspec.Struct, gc=False):
    metadata: _KeyMeta


class _KeyEvent(msgspec.Struct, gc=False):
    type: str
    object: _KeyObject


_event = msgspec.json.Decoder(_KeyEvent)


class EventBudget:
    """One cluster's, shared by the reflectors of its kinds.

    A reflector subtracts the lines that have arrived from ``tokens``, which costs no call; it calls ``arrived`` if that is below
    zero, or ``flooded``.
    """

    def __init__(self, clock: Clock, rate: float = EVENTS_PER_SECOND) -> None:
        self.rate = rate
        self.tokens = 2 * rate
        self.flooded = False
        """more events arrive than are processed one by one"""
        self.folded = 0
        """events that were outdated when they were read, so far"""
        self._taken = 0
        self._clock = clock
        self._at = self._second = clock.now()
        self._arrived = 0

    def arrived(self, lines: int) -> None:
        """So many lines of a watch were subtracted; ``flooded`` says whether to fold them."""
        if self.flooded:
            self.tokens += lines  # ``processed`` subtracts what it costs
            still = self.review()
            self._arrived += lines
            if not still:
                self.tokens -= lines
        else:
            self._refill()
        if not self.flooded and self.tokens < 0:
            self.flooded, self._second, self._arrived = True, self._at, lines
            self.tokens += lines

    def review(self) -> bool:
        """Whether it is flooded, also if nothing arrives any more."""
        self._refill()
        if self.flooded and (passed := self._at - self._second) >= 1.0:
            self.flooded = self.tokens < 0 or self._arrived >= self.rate / 2 * passed
            self._second, self._arrived = self._at, 0
        return self.flooded

    def _refill(self) -> None:
        now = self._clock.now()
        self.tokens = min(2 * self.rate, self.tokens + (now - self._at) * self.rate)
        self._at = now

    def take_folded(self) -> int:
        """How many events were folded since the last call."""
        found, self._taken = self.folded - self._taken, self.folded
        return found

    def processed(self, lines: int, of: int) -> float:
        """While ``flooded``: of ``of`` lines, so many were left to process. The seconds in which to process them, before
        more are read."""
        self.folded += of - lines
        self.tokens -= lines + (of - lines) * _FOLD_COST
        return max(DEBOUNCE, -self.tokens / self.rate)


async def folded(lines: Sequence[bytes]) -> list[bytes]:
    """The lines of a watch without the changes of an object that a later one of them outdates, in their order."""
    last: dict[str, int] = {}
    outdated: set[int] = set()
    for number, line in enumerate(lines):
        if number % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
        try:
            event = _event.decode(line)
        except Exception:  # not for this function to judge
            continue
        uid = event.object.metadata.uid
        if event.type == "BOOKMARK":
            uid = ""  # no object has it
        elif not uid or event.type not in ("ADDED", "MODIFIED", "DELETED"):
            continue
        before = last.get(uid)
        if before is not None:
            outdated.add(before)
        if event.type == "DELETED":
            last.pop(uid, None)  # stays, whatever follows
        else:
            last[uid] = number
    return [line for number, line in enumerate(lines) if number not in outdated]
