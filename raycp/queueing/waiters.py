"""Long-polls that wait for work and wake one at a time, and the one timer that wakes them.

An item that becomes ready wakes one waiter. The woken one pulls; if it leaves something, the queue wakes the next. So a
burst does not wake a herd of which all but one find nothing.
"""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable

from raycp.base.clock import Clock


class Waiters:
    """``next_due`` says when the next delayed item is due, ``on_due`` promotes what is."""

    def __init__(self, clock: Clock, next_due: Callable[[], float], on_due: Callable[[], None]) -> None:
        self._clock = clock
        self._next_due = next_due
        self._on_due = on_due
        self._by_tier: dict[str | None, deque[asyncio.Future[bool]]] = {}
        self._count = 0
        self._woken = 0
        self._deadlines: list[tuple[float, int, asyncio.Future[bool]]] = []
        self._sequence = 0
        self._timer: asyncio.Task[None] | None = None
        self._armed = math.inf

    def __len__(self) -> int:
        return self._count

    async def wait(self, timeout: float, prefer: str | None) -> bool:
        """Wait to be woken, ``timeout`` seconds at most. Returns whether it was."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._by_tier.setdefault(prefer, deque()).append(future)
        self._count += 1
        deadline = self._clock.now() + timeout
        self._sequence += 1
        heapq.heappush(self._deadlines, (deadline, self._sequence, future))
        self.arm()
        woken = False
        try:
            woken = await future
            return woken
        except asyncio.CancelledError:
            if future.cancelled() or not future.done():
                self._count -= 1
            elif future.result():
                # Woken and cancelled at once: what it was woken for belongs to the next.
                self._woken -= 1
                self.wake()
            raise
        finally:
            if woken:
                self._woken -= 1

    def wake(self, tier: str | None = None) -> None:
        """Work is there: wake one waiter, unless one is awake and on its way. Those that prefer ``tier`` first."""
        if not self._count or self._woken:
            return
        queues = [self._by_tier.get(tier), self._by_tier.get(None), *self._by_tier.values()]
        for queue in queues:
            while queue:
                future = queue.popleft()
                if not future.done():
                    self._count -= 1
                    self._woken += 1
                    future.set_result(True)
                    return

    def arm(self) -> None:
        """See to it that the timer rings for the next delayed item or the next waiter's deadline, if anyone waits."""
        if not self._count:
            return
        while self._deadlines and self._deadlines[0][2].done():
            heapq.heappop(self._deadlines)
        due = self._next_due()
        if self._deadlines and self._deadlines[0][0] < due:
            due = self._deadlines[0][0]
        if due >= self._armed and self._timer is not None and not self._timer.done():
            return
        if due == math.inf:
            return
        self._stop()
        self._armed = due
        self._timer = asyncio.get_running_loop().create_task(self._ring(due))

    async def _ring(self, due: float) -> None:
        while True:
            await self._clock.sleep(max(0.0, due - self._clock.now()))
            now = self._clock.now()
            if now < due:  # the loop's timers may be early by their resolution
                continue
            self._on_due()
            while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].done()):
                _, _, future = heapq.heappop(self._deadlines)
                if not future.done():
                    self._count -= 1
                    future.set_result(False)
            if not self._count:
                self._armed = math.inf
                self._timer = None
                return
            due = self._next_due()
            if self._deadlines:
                due = min(due, self._deadlines[0][0])
            self._armed = due

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed = math.inf

    def close(self) -> None:
        """Release all waiters and the timer."""
        self._stop()
        for queue in self._by_tier.values():
            for future in queue:
                if not future.done():
                    future.set_result(False)
        self._by_tier.clear()
        self._deadlines.clear()
        self._count = 0
