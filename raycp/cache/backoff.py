"""The wait after a failure."""

import random

from raycp.base.clock import Clock

_FACTOR = 2.0
_JITTER = 1.0


class Backoff:
    """Exponential with full-interval jitter, as in client-go's reflectors: the n-th wait is uniform in [d, 2·d], d =
    ``first``·2^n up to ``cap``; after ``quiet`` seconds without a failure it starts over. Seconds throughout.
    """

    def __init__(self, clock: Clock, rng: random.Random, *, first: float, cap: float, quiet: float) -> None:
        self._clock = clock
        self._rng = rng
        self._first = first
        self._cap = cap
        self._quiet = quiet
        self._step = first
        self._last = float("-inf")

    def next(self, at_least: float = 0.0) -> float:
        """The wait after a failure now; ``at_least`` is what the server asked for (Retry-After)."""
        now = self._clock.now()
        if now - self._last > self._quiet:
            self._step = self._first
        wait = max(self._step * (1 + _JITTER * self._rng.random()), at_least)
        self._step = min(self._cap, self._step * _FACTOR)
        self._last = now + wait
        return wait

    def reset(self) -> None:
        """Start over with the first wait."""
        self._step = self._first
