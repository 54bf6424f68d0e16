"""``TaskMemory``: what the large reconciles of one worker hold together.

Small tasks come with all that they need, and are limited by the worker's slots. What a task or a read has beyond that is read in
pages, after it has been accounted for here: so a worker is never sent more than it can hold. A large reconcile waits for another
one, a small one for neither.
"""

import asyncio
from collections import deque
from collections.abc import Hashable

from raycp.protocol.frames import LARGEST_TASK

HOLDS = 2 * LARGEST_TASK
"""Bytes of JSON. Decoded to dicts they take several times as much, for as long as the author keeps them."""

WITHIN = 30.0
"""Seconds for which a reconcile waits for room."""


class NoRoom(Exception):
    """There was no room for so much beside other large reconciles of this worker."""


class TaskMemory:
    """One per worker. Lives on the user loop. ``used``: bytes in all; ``most``: the most that were."""

    def __init__(self) -> None:
        self.used = 0
        self.most = 0
        self._held: dict[Hashable, int] = {}
        self._waiting: deque[tuple[Hashable, int, asyncio.Future[None]]] = deque()

    async def reserve(self, holder: Hashable, size: int) -> None:
        """Account for ``size`` bytes of ``holder``, when there is room: in turn, and whatever the size if nothing else is held.
        Raises ``NoRoom``."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((holder, size, turn))
        self._grant()
        try:
            async with asyncio.timeout(WITHIN):
                await turn
        except TimeoutError:
            raise NoRoom(
                f"{size} bytes did not fit within {WITHIN:g} s beside other large reconciles of this worker: "
                f"{self.used} bytes are held"
            ) from None
        finally:
            turn.cancel()  # of one that has given up
            self._grant()

    def take(self, holder: Hashable, size: int) -> None:
        """Account for ``size`` more bytes of ``holder``, which holds others and can't wait. Raises ``NoRoom`` where that would be
        more than twice of what there is."""
        if self.used + size > 2 * HOLDS:
            raise NoRoom(f"{size} bytes are too much beside the {self.used} that large reconciles of this worker hold")
        self._hold(holder, size)

    def release(self, holder: Hashable) -> None:
        """``holder`` has ended."""
        self.used -= self._held.pop(holder, 0)
        self._grant()

    def _fits(self, size: int) -> bool:
        return not self.used or self.used + size <= HOLDS

    def _hold(self, holder: Hashable, size: int) -> None:
        self._held[holder] = self._held.get(holder, 0) + size
        self.used += size
        self.most = max(self.most, self.used)

    def _grant(self) -> None:
        """Those in turn that fit go on, and hold what they asked for until they are released."""
        while self._waiting and (self._waiting[0][2].done() or self._fits(self._waiting[0][1])):
            holder, size, turn = self._waiting.popleft()
            if not turn.done():
                self._hold(holder, size)
                turn.set_result(None)
