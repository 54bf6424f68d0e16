"""Forgetting of dead processes: what a process counted stays in the sums, its own last values are kept for a while only."""

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from raycp.base.clock import Clock

FORGET_AFTER = 600.0
"""Seconds without a connection, and without being in the plan, after which a process is dead for certain."""


class ProcessValues(Protocol):
    """Values by process (``Merger``, ``SloBook``)."""

    def actors(self) -> list[str]: ...

    def forget(self, actor: str) -> None: ...


class DeadProcesses:
    """Drops processes from ``stores`` that have not been among ``living`` for ``FORGET_AFTER``. ``living`` is None while nothing is
    known."""

    def __init__(self, clock: Clock, stores: Collection[ProcessValues], living: Callable[[], Collection[str] | None]) -> None:
        self._clock = clock
        self._stores = stores
        self._living = living
        self._missing_since: dict[str, float] = {}

    async def forget(self) -> None:
        """One round; called every few seconds."""
        living = self._living()
        if living is None:
            return
        for name in self.expired([name for store in self._stores for name in store.actors()], living):
            for store in self._stores:
                store.forget(name)

    def expired(self, known: Iterable[str], living: Collection[str]) -> list[str]:
        """Names of ``known`` that were missing in each round for ``FORGET_AFTER``."""
        now = self._clock.now()
        self._missing_since = {name: self._missing_since.get(name, now) for name in known if name not in living}
        return [name for name, since in self._missing_since.items() if now - since > FORGET_AFTER]
