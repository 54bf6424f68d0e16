"""A clock that tests of the queue move by hand, without an event loop."""


class HandClock:
    """Implements ``raycp.base.clock.Clock``; nothing can sleep on it."""

    def __init__(self, start: float = 1000.0) -> None:
        self.time = start

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time + 1_700_000_000.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the queue waits for nothing")
