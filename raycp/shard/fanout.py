"""One change that concerns many keys: all of them are due, paced, in slices that block the loop only briefly."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Protocol

from raycp.base.keys import RequestKey
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.objects import Obj
from raycp.classify import Verdict, pace_width
from raycp.shard.caches import Caches
from raycp.shard.ledger import Change, Ledger
from raycp.shard.wakes import RemoteOwners
from raycp.shard.watches import Watches

log = logging.getLogger(__name__)

SLICE = 500
"""Keys that one turn of the loop makes due: some milliseconds."""


class MakesDue(Protocol):
    """``EventHandler.due``."""

    def __call__(
        self,
        key: RequestKey,
        verdict: Verdict,
        obj: Obj | None,
        event: None,
        *,
        spread: float | None = None,
        change: Change | None = None,
    ) -> None: ...


class FanOut:
    """One shard's. ``due`` and ``dispatch`` are the event handler's."""

    def __init__(self, rng: Random, loops: Loops, caches: Caches, ledger: Ledger, remote: RemoteOwners, watches: Watches) -> None:
        self.due: MakesDue
        self.dispatch: Callable[[], None] = lambda: None
        self._rng = rng
        self._loops = loops
        self._caches = caches
        self._ledger = ledger
        self._remote = remote
        self._watches = watches

    def delays(self, count: int) -> Callable[[], float | None]:
        """The delay of each of ``count`` keys: None, the verdict's own, where they are few."""
        width = pace_width(count)
        return (lambda: self._rng.uniform(0.0, width)) if width else lambda: None

    def objects(self, selection: RequestKey) -> list[tuple[RequestKey, Obj]]:
        """The objects here that ``selection`` selects."""
        return self._watches.expand(selection)

    def wake(self, key: RequestKey, verdict: Verdict, change: Change | None = None) -> list[RequestKey]:
        """What ``key`` stands for (``raycp.base.selections``) is due because of ``change``. Returns the keys that are due here;
        another shard finds its own."""
        if key.cluster not in self._caches:
            if self._remote.wake(key, str(verdict.reason), verdict.real) and change is not None:
                self._ledger.exception(key, change)
            return []
        found = self._watches.expand(key)
        self.all_due(found, verdict, change, of=key)
        return [each for each, _ in found]

    def all_due(
        self,
        found: Sequence[tuple[RequestKey, Obj]],
        verdict: Verdict,
        change: Change | None = None,
        of: RequestKey | None = None,
    ) -> None:
        """All these keys are due because of ``change``. ``of``: the selection that they are; it is an exception of the watermark
        until each of them is."""
        delay = self.delays(len(found))
        if len(found) <= SLICE:
            self._slice(found, verdict, change, delay)
            return
        if change is not None and of is not None:
            self._ledger.exception(of, change)
        self._loops.supervise(partial(self._slices, found, verdict, change, delay, of), LoopName.DUE_KEYS)

    async def _slices(
        self,
        found: Sequence[tuple[RequestKey, Obj]],
        verdict: Verdict,
        change: Change | None,
        delay: Callable[[], float | None],
        of: RequestKey | None,
    ) -> None:
        for start in range(0, len(found), SLICE):
            self._slice(found[start : start + SLICE], verdict, change, delay)
            await asyncio.sleep(0)
        if change is not None and of is not None:
            self._ledger.settled(of)

    def _slice(
        self,
        found: Sequence[tuple[RequestKey, Obj]],
        verdict: Verdict,
        change: Change | None,
        delay: Callable[[], float | None],
    ) -> None:
        for key, obj in found:
            try:
                self.due(key, verdict, obj, None, spread=delay(), change=change)
            except Exception:  # law 11: of one key
                log.exception("%s is not due, though %s", key, verdict.reason)
        self.dispatch()
