"""Connections whose other end has not proven that it is a member: how many there are, for how long, and what is logged of them."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

log = logging.getLogger(__name__)

MOST = 256
"""Connections that are not authenticated, at a time. One more, and the oldest is closed: a member needs some milliseconds, so the
oldest is none, and whoever opens connections and says nothing keeps no member out."""

PATIENCE = 2.0
"""Seconds from a connection until its other end has proven itself."""

LOG_EVERY = 10.0
"""Seconds between two lines about strangers."""


class Strangers:
    """One listener's. Each has a function that closes it. Closed are the oldest beyond ``most``, and all after ``patience``."""

    def __init__(self, most: int = MOST, patience: float = PATIENCE) -> None:
        self._most = most
        self._patience = patience
        self._known: dict[object, tuple[Callable[[], None], asyncio.TimerHandle]] = {}
        self.log = StrangerLog()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, stranger: object, close: Callable[[], None]) -> None:
        """A connection has been accepted."""
        timer = asyncio.get_running_loop().call_later(self._patience, partial(self._late, stranger))
        self._known[stranger] = close, timer
        while len(self._known) > self._most:
            self._close(next(iter(self._known)), f"there are more than {self._most} connections that say nothing of use")

    def closes_by(self, stranger: object, close: Callable[[], None]) -> None:
        """It is another function now that closes it."""
        known = self._known.get(stranger)
        if known is not None:
            self._known[stranger] = close, known[1]

    def remove(self, stranger: object) -> bool:
        """It has proven itself, or is closed. Whether it was known."""
        known = self._known.pop(stranger, None)
        if known is not None:
            known[1].cancel()
        return known is not None

    def close(self) -> None:
        """Close all of them."""
        for stranger in list(self._known):
            self._close(stranger, "")

    def _late(self, stranger: object) -> None:
        self._close(stranger, f"it has not proven within {self._patience:g} s that it is a member")

    def _close(self, stranger: object, why: str) -> None:
        known = self._known.pop(stranger, None)
        if known is None:
            return
        close, timer = known
        timer.cancel()
        if why:
            self.log.closed(why)
        close()


class StrangerLog:
    """One line in ``LOG_EVERY`` seconds at most, however many connections are closed: a log is no memory for strangers to fill."""

    def __init__(self, every: float = LOG_EVERY) -> None:
        self._every = every
        self._next = 0.0
        self.unsaid = 0
        """Connections that no line has counted."""

    def closed(self, why: str) -> None:
        """A connection is closed."""
        now = asyncio.get_running_loop().time()
        if now < self._next:
            self.unsaid += 1
            return
        before, self.unsaid, self._next = self.unsaid, 0, now + self._every
        more = f" ({before} more since the last such line)" if before else ""
        log.warning("closing a connection to this member's port: %s%s", why, more)
