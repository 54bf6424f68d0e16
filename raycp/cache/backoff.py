"""How long to wait after a failure."""

import random

from raycp.base.clock import Clock


class Backoff:
    """Exponential with full-interval jitter, as client-go's reflectors: the n-th wait is uniform in [d, (1 +
    ``jitter``)·d], d = ``first``·``factor``^n up to ``cap``; after ``quiet`` seconds without a failure it starts
    over. Seconds throughout.
    """

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        *,
        first: float = 0.8,
        factor: float = 2.0,
        cap: float = 30.0,
        jitter: float = 1.0,
        quiet: float = 120.0,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._first = first
        self._factor = factor
        self._cap = cap
        self._jitter = jitter
        self._quiet = quiet
        self._step = first
        self._last = float("-inf")

    def next(self, at_least: float = 0.0) -> float:
        """The wait after a failure now; ``at_least`` is what the server asked for (Retry-After)."""
        now = self._clock.now()
        if now - self._last > self._quiet:
            self._step = self._first
        wait = max(self._step * (1 + self._jitter * self._rng.random()), at_least)
        self._step = min(self._cap, self._step * self._factor)
        self._last = now + wait
        return wait

    def reset(self) -> None:
        """Start over at once."""
        self._step = self._first
