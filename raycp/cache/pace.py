"""How fast a reflector may try again: after failures, after voids, and at least so far apart."""

import asyncio
import random

from raycp.base.clock import Clock
from raycp.cache.backoff import Backoff
from raycp.cache.options import ReflectorOptions

_VOID_MEMORY = 600.0
"""Seconds after which a void counts as the first again."""


class RetryPace:
    """One reflector's. Durations in seconds."""

    def __init__(self, clock: Clock, rng: random.Random, options: ReflectorOptions) -> None:
        self._clock = clock
        self._options = options
        first = options.backoff_first
        self._failures = Backoff(clock, rng, first=first, cap=options.backoff_cap, quiet=options.backoff_quiet)
        self._refusals = Backoff(clock, rng, first=first, cap=options.refused_cap, quiet=options.backoff_quiet)
        self._voids = Backoff(clock, rng, first=first, cap=options.void_cap, quiet=_VOID_MEMORY)
        self._last_void = self._list_due = self._watch_due = float("-inf")
        self._woken = asyncio.Event()

    @property
    def until_list(self) -> float:
        """How long to wait before the next list."""
        return max(0.0, self._list_due - self._clock.now())

    @property
    def until_watch(self) -> float:
        """How long to wait before the next watch."""
        return max(0.0, self._watch_due - self._clock.now())

    def list_begins(self) -> None:
        self._list_due = max(self._list_due, self._clock.now() + self._options.list_every)

    def watch_begins(self) -> None:
        self._watch_due = self._clock.now() + self._options.watch_every

    def voided(self) -> None:
        """Each void announces every object of the kind again: the list after another one waits, longer and longer."""
        now, before = self._clock.now(), self._last_void
        self._last_void = now
        if now - before < _VOID_MEMORY:
            self._list_due = max(self._list_due, now + self._voids.next())

    def watched(self, seconds: float, asked: float) -> bool:
        """A watch has ended after ``seconds``, ``asked`` at most. Whether it lived long enough for the backoff to start over."""
        if seconds < min(self._options.settled, 0.8 * asked):
            return False
        self._failures.reset()
        self._refusals.reset()
        return True

    def failed(self, at_least: float, *, refused: bool = False) -> float:
        """How long to wait after a failure now; ``at_least`` is what the server asked for. ``refused``: our credentials are."""
        return (self._refusals if refused else self._failures).next(at_least)

    async def rest(self, seconds: float) -> None:
        """Wait, at most until ``wake``."""
        self._woken.clear()
        waits = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def wake(self) -> None:
        """End a ``rest``."""
        self._woken.set()
