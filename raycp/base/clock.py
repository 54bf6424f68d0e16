"""Time as a parameter: everything that waits or measures takes a ``Clock``."""

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """A source of time. All durations are seconds as ``float``."""

    def now(self) -> float:
        """Seconds since boot, suspended time included (``CLOCK_BOOTTIME``); never goes back; comparable on one host only."""
        ...

    def wall(self) -> float:
        """Unix time in seconds; may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""
        ...


class SystemClock:
    """The machine's clock. ``CLOCK_BOOTTIME`` counts through suspend, so that a permit expires on a frozen host too."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that tests move: ``await clock.advance(5)`` wakes the sleepers of the next 5 seconds in order."""

    def __init__(self, start: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = start
        self._wall_offset = wall - start
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._wall_offset

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        await woken

    def shift_wall(self, seconds: float) -> None:
        """Make the wall clock jump, as NTP may."""
        self._wall_offset += seconds

    async def advance(self, seconds: float) -> None:
        """Advance by ``seconds``, waking sleepers in the order of their deadlines and letting them run."""
        end = self._now + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not woken.done():
                woken.set_result(None)
            await self._settle()
        self._now = end
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
