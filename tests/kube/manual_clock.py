"""A clock for synchronous tests."""


class ManualClock:
    """``time`` is set by the test; nobody can sleep on it."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time + 1_700_000_000.0

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError
