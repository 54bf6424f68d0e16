"""A worker's tokens of one cluster's client budget: those that come with hand-outs, and those that it requests from the shard.

Implements ``raycp.kube.gate.TokenSource`` for the worker's client of that cluster. Lives on the user loop.
"""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable

from raycp.base.clock import Clock
from raycp.kube import Unreachable
from raycp.kube.budget import LIVE, URGENT, Waiter

AskTokens = Callable[[str, int, int], Awaitable[int]]
"""(cluster, how many, priority) -> how many were granted; 0 after a while without any. Raises ``Unreachable``."""

ASK_AT_MOST = 256
RETRY = 0.1
"""Seconds until a shard that did not answer is asked again."""

PAUSE = 1.0
"""After a 429 that named no time, in seconds: the shard learns of it with the acknowledgement."""


class TokenPool:
    """See the module.

    ``held`` came with hand-outs and is unspent, ``reserved`` of it is for those that run. Tokens asked for are used at once.
    """

    def __init__(self, cluster: str, clock: Clock, ask: AskTokens, waited: Callable[[str, float], None]) -> None:
        self.held = 0
        self.reserved = 0
        self._used = 0
        self._cluster = cluster
        self._clock = clock
        self._ask = ask
        self._waited = waited
        self._waiters: list[tuple[int, int, Waiter]] = []
        self._order = itertools.count()
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._hold_until = 0.0

    # with hand-outs

    def add(self, tokens: int) -> None:
        """A task has brought ``tokens``."""
        self.held += tokens
        self.reserved += tokens

    def settle(self, tokens: int) -> tuple[int, int]:
        """That task has ended: (lent tokens used since the last time, those not needed here)."""
        self.reserved = max(0, self.reserved - tokens)
        unused = max(0, self.held - self.reserved)
        self.held -= unused
        used, self._used = self._used, 0
        return used, unused

    @property
    def waiting(self) -> int:
        """Requests that wait for a token."""
        return sum(not waiter.dead for *_, waiter in self._waiters)

    # TokenSource

    def try_take(self, priority: int = LIVE) -> bool:
        """Take a token that is held already. False if none is."""
        if priority <= URGENT:
            return True
        if self.held and self._clock.now() >= self._hold_until:
            self.held -= 1
            self._used += 1
            return True
        return False

    def enqueue(self, priority: int, on_grant: Callable[[], None]) -> Waiter:
        """Wait for a token."""
        since = self._clock.now()

        def granted() -> None:
            self._waited(self._cluster, self._clock.now() - since)
            on_grant()

        waiter = Waiter(granted)
        heapq.heappush(self._waiters, (priority, next(self._order), waiter))
        self._ask_for(priority)
        return waiter

    def pump(self) -> float | None:
        """Answers arrive on their own; this requests tokens for the waiting callers."""
        self._drop_dead()
        for priority in {priority for priority, *_ in self._waiters}:
            self._ask_for(priority)
        return 1.0 if self._waiters else None

    def give_back(self, n: int) -> None:
        """Tokens granted to a caller that no longer waits go to the next one."""
        self._serve(n)

    def throttled(self, retry_after: float | None) -> None:
        """The server answered 429."""
        wait = PAUSE if retry_after is None else max(0.0, retry_after)
        self._hold_until = max(self._hold_until, self._clock.now() + wait)

    # asking

    def _ask_for(self, priority: int) -> None:
        """One request at a time for each priority: an urgent one does not wait for the answer to another."""
        if priority not in self._asking:
            self._asking[priority] = asyncio.get_running_loop().create_task(self._keep_asking(priority))

    async def _keep_asking(self, priority: int) -> None:
        try:
            while wanted := sum(each == priority and not waiter.dead for each, _, waiter in self._waiters):
                wait = self._hold_until - self._clock.now()
                if wait > 0:
                    await self._clock.sleep(wait)
                    continue
                try:
                    granted = await self._ask(self._cluster, min(wanted, ASK_AT_MOST), priority)
                except Unreachable:
                    await self._clock.sleep(RETRY)
                    continue
                self._serve(granted)
        finally:
            del self._asking[priority]

    def _serve(self, granted: int) -> None:
        self._drop_dead()
        while granted and self._waiters:
            granted -= 1
            *_, waiter = heapq.heappop(self._waiters)
            waiter.on_grant()
            self._drop_dead()

    def _drop_dead(self) -> None:
        while self._waiters and self._waiters[0][2].dead:
            heapq.heappop(self._waiters)
