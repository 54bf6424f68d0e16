"""``JobPages``: what the hub's shard says of its jobs, one question at a time and no page twice within a second.

However many browsers and scripts ask, the shard has one question of this observer at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable

from raycp.base.clock import Clock
from raycp.observer.view import Json
from raycp.protocol.job_query import JobQuery

FRESH = 1.0
"""Seconds for which an answer serves who asks the same."""

KEPT = 32
"""Answers that are kept."""


class JobPages:
    """One per observer. ``ask`` asks the shard."""

    def __init__(self, clock: Clock, ask: Callable[[JobQuery], Awaitable[Json | None]]) -> None:
        self._clock = clock
        self._ask = ask
        self._one = asyncio.Lock()
        self._known: dict[JobQuery, tuple[float, Json]] = {}
        self._silent_at = float("-inf")

    async def page(self, query: JobQuery) -> Json | None:
        """The answer; None where the shard gives none, or gave none within the last second: questions do not pile up."""
        async with self._one:
            known = self._known.get(query)
            if known is not None and self._clock.now() - known[0] < FRESH:
                return known[1]
            if self._clock.now() - self._silent_at < FRESH:
                return None
            answer = await self._ask(query)
            if answer is None or "items" not in answer:
                self._silent_at = self._clock.now()
                return None
            self._known.pop(query, None)
            self._known[query] = (self._clock.now(), answer)
            for oldest in list(self._known)[:-KEPT]:
                del self._known[oldest]
            return answer
