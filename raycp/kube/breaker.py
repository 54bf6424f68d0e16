"""The circuit breaker of one cluster: calls to a failing cluster fail fast, so that its tasks hold no slots that others need.

States and rules:

1. CLOSED: all calls pass. It opens after ``failures`` consecutive failures, or when at least half of ``min_calls`` or more calls
   within ``window`` seconds failed. A call fails if the server is unable to serve this client: no connection, no answer in
   time, 401, 502, 503, 504, or what is no API server's answer; any other (404, 409 and 429 included) is a success.
2. OPEN: no call passes for ``retry`` seconds, which doubles from ``retry_min`` to ``retry_max`` with each failed probe.
3. HALF_OPEN: one probe at a time passes; ``probes`` consecutive successes close it, one failure opens it again. A probe without a
   report counts as failed after ``probe_timeout`` seconds. A call that passed without being asked for (an urgent one) counts as a
   probe.
4. A failure of a call that was sent before the present state began changes nothing: it says how the server was, and would open
   again the breaker of a server that is back.

Whoever owns a breaker probes while it is not closed (``raycp.shard.guard``): a server that is back is then found at most
``retry_max``, the time of a probe that was under way, and ``probes`` answers later.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum

import msgspec

from raycp.base.clock import Clock


class BreakerPhase(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class BreakerPolicy(msgspec.Struct, frozen=True):
    """Counts and seconds of the module's rules."""

    failures: int = 5
    window: float = 10.0
    min_calls: int = 20
    retry_min: float = 1.0
    retry_max: float = 10.0
    probes: int = 2
    probe_timeout: float = 10.0


class BreakerState(msgspec.Struct):
    """The visible state: ``since`` on the injected clock, ``retry_in`` in seconds, why it opened, how often it opened."""

    state: BreakerPhase
    since: float
    retry_in: float
    reason: str
    opened_total: int


class Breaker:
    """See the module's rules. ``on_change(old, new, reason)`` is called at each change of state."""

    def __init__(
        self,
        clock: Clock,
        policy: BreakerPolicy = BreakerPolicy(),  # noqa: B008  (frozen)
        on_change: Callable[[BreakerPhase, BreakerPhase, str], None] | None = None,
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._on_change = on_change
        self._state = BreakerPhase.CLOSED
        self._since = clock.now()
        self._reason = ""
        self._in_row = 0
        self._retry = policy.retry_min
        self._retry_at = 0.0
        self._probe_since: float | None = None
        self._probe_successes = 0
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self.opened_total = 0

    @property
    def state(self) -> BreakerPhase:
        """OPEN becomes HALF_OPEN after its wait, even if no call is made."""
        if self._state is BreakerPhase.OPEN and self._clock.now() >= self._retry_at:
            return BreakerPhase.HALF_OPEN
        return self._state

    @property
    def untroubled(self) -> bool:
        """Closed and without recent failures: a success would change nothing."""
        return self._state is BreakerPhase.CLOSED and not self._in_row and not self._failed

    def allow(self) -> bool:
        """Whether a call may be sent. After True the caller must report ``success``, ``failure`` or ``cancelled``."""
        if self._state is BreakerPhase.CLOSED:
            return True
        now = self._clock.now()
        if self._state is BreakerPhase.OPEN:
            if now < self._retry_at:
                return False
            self._half_open()
        if self._probe_since is not None:
            if now - self._probe_since < self._policy.probe_timeout:
                return False
            self._open(f"probe without an answer for {self._policy.probe_timeout:g} s")
            return False
        self._probe_since = now
        return True

    def success(self) -> None:
        """A call was answered."""
        if self._state is BreakerPhase.CLOSED:
            self._in_row = 0
            if self._failed:
                self._count(False)
        elif self.state is BreakerPhase.HALF_OPEN:
            self._half_open()
            self._probe_since = None
            self._probe_successes += 1
            if self._probe_successes >= self._policy.probes:
                self._retry = self._policy.retry_min
                self._in_row = self._failed = 0
                self._calls.clear()
                self._move(BreakerPhase.CLOSED, "")

    def failure(self, reason: str, sent: float | None = None) -> None:
        """A call failed in the sense of rule 1. ``sent``: when, by the clock; None: in the present state."""
        if sent is not None and sent < self._begun():
            return
        if self._state is BreakerPhase.CLOSED:
            self._in_row += 1
            self._count(True)
            if self._in_row >= self._policy.failures or (
                len(self._calls) >= self._policy.min_calls and self._failed * 2 >= len(self._calls)
            ):
                self._retry = self._policy.retry_min
                self._open(reason, first=True)
        elif self.state is BreakerPhase.HALF_OPEN:
            self._open(reason)

    def reset(self) -> None:
        """The cluster is another, or elsewhere: what failed there says nothing of this one. Close, and forget all failures."""
        self._retry = self._policy.retry_min
        self._probe_since = None
        self._in_row = self._failed = 0
        self._calls.clear()
        self._move(BreakerPhase.CLOSED, "")

    def cancelled(self) -> None:
        """An allowed call ended without an outcome (its caller gave up)."""
        if self._state is BreakerPhase.HALF_OPEN:
            self._probe_since = None

    def snapshot(self) -> BreakerState:
        now = self._clock.now()
        state = self.state
        return BreakerState(
            state=state,
            since=self._since,
            retry_in=max(0.0, self._retry_at - now) if state is BreakerPhase.OPEN else 0.0,
            reason=self._reason,
            opened_total=self.opened_total,
        )

    def _begun(self) -> float:
        """When ``state`` began: half-open it is from the end of the wait on, whether or not a call has been made since."""
        return self._since if self._state is self.state else self._retry_at

    def _half_open(self) -> None:
        if self._state is BreakerPhase.OPEN:
            self._probe_successes = 0
            self._probe_since = None
            self._move(BreakerPhase.HALF_OPEN, self._reason)

    def _count(self, failed: bool) -> None:
        """The window is kept only while it contains failures, so that it costs a healthy cluster nothing."""
        now = self._clock.now()
        self._calls.append((now, failed))
        self._failed += failed
        horizon = now - self._policy.window
        while self._calls and self._calls[0][0] < horizon:
            self._failed -= self._calls.popleft()[1]
        if not self._failed:
            self._calls.clear()

    def _open(self, reason: str, *, first: bool = False) -> None:
        if not first:
            self._retry = min(self._policy.retry_max, self._retry * 2)
        self._retry_at = self._clock.now() + self._retry
        self._probe_since = None
        self._calls.clear()
        self._failed = self._in_row = 0
        self.opened_total += 1
        self._move(BreakerPhase.OPEN, reason)

    def _move(self, new: BreakerPhase, reason: str) -> None:
        old, self._state = self._state, new
        self._reason = reason
        self._since = self._clock.now()
        if old is not new and self._on_change is not None:
            self._on_change(old, new, reason)
