"""The client budget of one cluster: a token bucket with priorities that obeys 429 and Retry-After.

Rules:

1. With ``qps`` > 0, at most ``burst`` + ``qps``·t tokens are granted in any t seconds.
2. A token goes to the waiter with the lowest ``priority`` number, then to the longest waiting. No request of the same or a less
   urgent priority overtakes a waiter.
3. After a 429, only ``URGENT`` requests pass until Retry-After is over. Then the rate starts at half of what it was and doubles
   every second without a 429 until it is restored (for ``qps`` 0: until it is unlimited again).
4. Lent tokens (``lend``), which travel with hand-outs, count as burst until they are reported as ``used`` or ``returned``: rule 1
   holds for the requests, not only for the tokens, however late a token is used. At most half of the burst is lent, and only
   while there are no waiters and half of the burst is left: scarce tokens are granted on request only.

Plain state and an injected clock: no task runs, and an idle, unlimited budget costs one comparison.
"""

import heapq
import itertools
from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.kube.errors import RETRY_AFTER_MAX

URGENT = 0
"""reads of locks and permits: never delayed by a 429 for other requests"""
LIVE = 10
"""work from the live lanes"""
BACKGROUND = 20
"""polls, resyncs, backlog"""


_UNLIMITED = 5_000.0  # requests per second at which a recovering unlimited budget stops counting


class BudgetState(msgspec.Struct):
    """``rate`` in requests per second (0: unlimited); ``held``: the seconds until Retry-After is over."""

    rate: float
    tokens: float
    held: float


class Waiter:
    """One request for a token. ``pump`` calls ``on_grant`` at most once, and never once ``dead`` is set."""

    __slots__ = ("dead", "on_grant")

    def __init__(self, on_grant: Callable[[], None]) -> None:
        self.on_grant = on_grant
        self.dead = False


class Budget:
    """See the module's rules."""

    def __init__(self, clock: Clock, qps: float = 0.0, burst: int = 0) -> None:
        self._clock = clock
        self._qps = qps
        self._burst = float(burst or max(1, round(qps * 2)))
        self._tokens = self._burst
        self._lent = 0
        self._at = clock.now()
        self._limit = qps  # the rate in force; 0 is unlimited
        self._hold_until = 0.0
        self._recover_at = 0.0
        self._waiters: list[tuple[int, int, Waiter]] = []
        self._order = itertools.count()
        self._window_start = self._at
        self._window_count = 0
        self._recent_rate = 0.0

    def configure(self, qps: float, burst: int = 0) -> None:
        """Change the limit (`raycp apply`)."""
        self._refill(self._clock.now())
        self._qps = qps
        self._burst = float(burst or max(1, round(qps * 2)))
        self._limit = qps
        self._tokens = min(self._tokens, self._burst - self._lent)

    def empty(self) -> None:
        """Drop all tokens: the previous owner of the bucket may just have granted them."""
        self._refill(self._clock.now())
        self._tokens = min(self._tokens, 0.0)

    def try_take(self, priority: int = LIVE) -> bool:
        """One token now, or False."""
        return self.grant(1, priority) == 1

    def grant(self, n: int, priority: int = LIVE) -> int:
        """Up to ``n`` tokens now, 0 while equally or more urgent requests wait."""
        if self._waiters and priority > URGENT:
            self._drop_dead()
            if self._waiters and self._waiters[0][0] <= priority:
                return 0
        return self._take(n, priority)

    def _take(self, n: int, priority: int) -> int:
        now = self._clock.now()
        if now < self._hold_until and priority > URGENT:
            return 0
        self._refill(now)
        given = n
        if self._limit > 0:
            if priority > URGENT:
                given = max(0, min(n, int(self._tokens)))
            self._tokens -= given  # urgent requests may take it below zero, at the expense of the others
        self._window_count += given
        return given

    def give_back(self, n: int) -> None:
        """Return ``n`` unused tokens."""
        self._window_count = max(0, self._window_count - n)
        if self._limit > 0:
            self._tokens = min(self._burst - self._lent, self._tokens + n)

    def lend(self, n: int, priority: int = LIVE) -> int:
        """Up to ``n`` tokens to travel with hand-outs; 0 if they are scarce, or if there is no limit and so no need for tokens."""
        if self._limit <= 0 or self._waiters or self._lent + n > self._burst / 2:
            return 0
        self._refill(self._clock.now())
        if self._tokens - n < self._burst / 2:
            return 0
        given = self._take(n, priority)
        self._lent += given
        return given

    def used(self, n: int) -> None:
        """``n`` lent tokens were used."""
        self._refill(self._clock.now())
        self._lent = max(0, self._lent - n)

    def returned(self, n: int) -> None:
        """``n`` lent tokens come back unused."""
        self.used(n)
        self.give_back(n)

    def throttled(self, retry_after: float | None = None) -> None:
        """The server answered 429. ``retry_after`` in seconds, at most ``RETRY_AFTER_MAX``; None counts as 1."""
        now = self._clock.now()
        self._refill(now)
        pause = 1.0 if retry_after is None else min(RETRY_AFTER_MAX, max(0.0, retry_after))
        self._hold_until = max(self._hold_until, now + pause)
        if now >= self._recover_at - 1.0 or self._recover_at == 0.0:  # halve at most once per second
            current = self._limit if self._limit > 0 else max(self._rate_now(now), 2.0)
            self._limit = max(1.0, current / 2)
        self._tokens = min(self._tokens, 1.0)
        self._recover_at = self._hold_until + 1.0

    def enqueue(self, priority: int, on_grant: Callable[[], None]) -> Waiter:
        """Wait for a token: a later ``pump`` calls ``on_grant``."""
        waiter = Waiter(on_grant)
        heapq.heappush(self._waiters, (priority, next(self._order), waiter))
        return waiter

    def pump(self) -> float | None:
        """Grant tokens to waiters. Returns the seconds after which to pump again, None if there are no waiters."""
        self._drop_dead()
        while self._waiters:
            priority, _, waiter = self._waiters[0]
            if self._take(1, priority) == 0:
                return self.ready_in(priority)
            heapq.heappop(self._waiters)
            waiter.on_grant()
            self._drop_dead()
        return None

    def ready_in(self, priority: int = LIVE) -> float:
        """Seconds until a token may be available, at least 1 ms."""
        now = self._clock.now()
        self._refill(now)
        wait = 0.0 if priority == URGENT else max(0.0, self._hold_until - now)
        if self._limit > 0 and self._tokens < 1:
            wait = max(wait, (1 - self._tokens) / self._limit)
        return max(wait, 0.001)

    def state(self) -> BudgetState:
        now = self._clock.now()
        self._refill(now)
        return BudgetState(
            rate=self._limit,
            tokens=self._tokens if self._limit > 0 else 0.0,
            held=max(0.0, self._hold_until - now),
        )

    def _drop_dead(self) -> None:
        while self._waiters and self._waiters[0][2].dead:
            heapq.heappop(self._waiters)

    def _rate_now(self, now: float) -> float:
        """Recent requests per second, from which the slow start after a 429 begins if there is no limit."""
        elapsed = max(now - self._window_start, 0.1)
        return max(self._recent_rate, self._window_count / max(elapsed, 1.0))

    def _refill(self, now: float) -> None:
        elapsed = now - self._at
        if now - self._window_start >= 1.0:
            self._recent_rate = self._window_count / (now - self._window_start)
            self._window_start, self._window_count = now, 0
        if self._limit <= 0:
            self._at = now
            return
        if elapsed > 0:
            start = max(self._at, min(self._hold_until, now))  # nothing accrues while held
            self._tokens = min(self._burst - self._lent, self._tokens + max(0.0, now - start) * self._limit)
            self._at = now
        while self._recover_at and now >= self._recover_at:
            self._limit *= 2
            self._recover_at += 1.0
            if (self._qps > 0 and self._limit >= self._qps) or (self._qps <= 0 and self._limit >= _UNLIMITED):
                self._limit = self._qps
                self._recover_at = 0.0
