"""Admission of the requests of one client: breaker, budget, in-flight cap.

``URGENT`` requests (reads of locks and permits) pass all three, since otherwise a hanging cluster would cost the fleet its
leadership. They report their outcome like all others.

The breaker judges the server as a whole. A failure that may be one kind's alone is no evidence against it: what is sent to list or
watch a kind, or to a group of APIs that another process may serve (aggregation), and was not answered well. A connection that
cannot be made is evidence, whatever it was for, and so is an answer beyond the limits, which is an attack on this process.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Protocol

from raycp.base.clock import Clock
from raycp.kube.breaker import Breaker
from raycp.kube.budget import URGENT, Waiter
from raycp.kube.errors import UNABLE, ApiError, CircuitOpen, Throttled, TooLarge, Unreachable


class TokenSource(Protocol):
    """Grants tokens to requests: a ``Budget`` of this process, or one that is shared with other processes."""

    def try_take(self, priority: int) -> bool: ...

    def enqueue(self, priority: int, on_grant: Callable[[], None]) -> Waiter: ...

    def pump(self) -> float | None: ...

    def give_back(self, n: int) -> None: ...

    def throttled(self, retry_after: float | None) -> None: ...


class Gate:
    """Call ``enter`` before a request, ``leave`` and ``report`` after it. Without scarcity each costs a few comparisons."""

    def __init__(self, cluster: str, clock: Clock, max_in_flight: int, budget: TokenSource | None, breaker: Breaker | None) -> None:
        self._cluster = cluster
        self._clock = clock
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._pump: asyncio.Task[None] | None = None
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self.budget = budget
        self.breaker = breaker

    async def enter(self, priority: int, timeout: float) -> None:
        """Raises ``CircuitOpen`` at once, ``Throttled`` without a token or a place after ``timeout`` seconds."""
        breaker = self.breaker
        if breaker is not None and priority > URGENT and not breaker.allow():
            state = breaker.snapshot()
            raise CircuitOpen(self._cluster, state.reason, state.retry_in)
        try:
            if self.budget is not None and not self.budget.try_take(priority):
                await self._wait_token(priority, timeout)
            if self.in_flight >= self.max_in_flight and priority > URGENT:
                await self._wait_place(priority, timeout)
            else:
                self.in_flight += 1
        except BaseException:
            if breaker is not None:
                breaker.cancelled()
            raise

    def leave(self) -> None:
        """The request has ended: its place goes to the next waiter."""
        while self._waiting and self.in_flight <= self.max_in_flight:
            _, _, place = heapq.heappop(self._waiting)
            if not place.done():
                place.set_result(None)  # the place passes on without becoming free
                return
        self.in_flight -= 1

    def report(self, error: BaseException | None, sent: float | None = None, *, of_server: bool = True) -> None:
        """Report the outcome of the request to breaker and budget. ``sent``: when it was, by the clock. ``of_server``: its failure
        is evidence against the server as a whole."""
        breaker = self.breaker
        if error is None:
            if breaker is not None:
                breaker.success()
            return
        if isinstance(error, ApiError):
            if error.status == 429 and self.budget is not None:
                self.budget.throttled(error.retry_after)
            if breaker is not None:
                if error.status not in UNABLE or error.too_large_version:
                    breaker.success()
                elif of_server:
                    breaker.failure(f"{error.status} {error.reason}", sent)
                else:
                    breaker.cancelled()
        elif breaker is not None:
            whole = of_server or isinstance(error, TooLarge)
            if isinstance(error, Unreachable) and (whole or not error.sent):
                breaker.failure(str(error), sent)
            else:
                breaker.cancelled()

    async def _wait_place(self, priority: int, timeout: float) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), place))
        try:
            async with asyncio.timeout(timeout):
                await place
        except TimeoutError:
            if place.done() and not place.cancelled():
                self.leave()
            raise Throttled(self._cluster, timeout) from None
        except BaseException:
            if place.done() and not place.cancelled():  # granted to a cancelled request: pass it on
                self.leave()
            raise

    async def _wait_token(self, priority: int, timeout: float) -> None:
        assert self.budget is not None
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def give() -> None:
            if granted.done():
                assert self.budget is not None
                self.budget.give_back(1)
            else:
                granted.set_result(None)

        waiter = self.budget.enqueue(priority, give)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._pump_tokens())
        try:
            async with asyncio.timeout(timeout):
                await granted
        except TimeoutError:
            raise Throttled(self._cluster, timeout) from None
        finally:
            waiter.dead = True

    async def _pump_tokens(self) -> None:
        assert self.budget is not None
        while (wait := self.budget.pump()) is not None:
            await self._clock.sleep(min(wait, 1.0))

    async def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
