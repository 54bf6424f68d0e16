"""A candidate's watch of the lock's object and of the Pod that owns it, with the times at which things were first observed."""

import asyncio
import contextlib
import logging
import math
from functools import partial
from typing import Protocol, Self

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.kube import KubeError
from raycp.leadership.epoch import Leadership
from raycp.leadership.locks.eligibility import LockState, Observation
from raycp.leadership.locks.stores import LockStore
from raycp.leadership.locks.types import EpochFloor, LockProblem, PodRef

log = logging.getLogger(__name__)


class PodWatch(Protocol):
    """What a lock needs to know of Pods."""

    async def until_ended(self, pod: PodRef) -> None:
        """Return when ``pod`` is deleted or has ended. Raises ``KubeError``, ``LockProblem``; ``TimeoutError`` where it has to be
        called again."""
        ...


class LockWatch:
    """Reads the lock once, and watches it from the first ``changed`` to the end of the ``with`` block; without the right to watch
    it polls every ``poll`` seconds. A candidate that need not wait starts no watch."""

    def __init__(self, store: LockStore, pods: PodWatch, clock: Clock, poll: float, loops: Loops) -> None:
        self.problem = ""
        """Why the observation may be stale."""
        self._store = store
        self._pods = pods
        self._clock = clock
        self._poll = poll
        self._loops = loops
        self._known = False
        self._state: LockState | None = None
        self._seen = clock.now()
        self._released = self._knocked = self._missing = math.inf
        self._release: tuple[str, tuple[int, int]] | None = None
        self._knock = ""
        self._ended: set[PodRef] = set()
        self._event = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._pod_task: asyncio.Task[None] | None = None
        self._pod: PodRef | None = None

    async def __aenter__(self) -> Self:
        await self.refresh()
        self._event.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks, *([self._pod_task] if self._pod_task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def observation(self, record: Leadership | None, floor: EpochFloor | None = None) -> Observation:
        """What is known now; ``record`` is who led last by the record of epochs, ``floor`` as in ``Observation``. Raises
        ``LockProblem`` while the lock has never been read."""
        if not self._known:
            raise LockProblem(self.problem or "the lock has not been read yet")
        owner = self._state.owner if self._state is not None else self._pod
        ended = owner is not None and owner in self._ended
        return Observation(self._state, self._seen, self._released, self._knocked, self._missing, ended, record, floor)

    async def changed(self, seconds: float) -> bool:
        """Wait for a change, ``seconds`` at most; whether there was one since the last call."""
        if not self._tasks:
            self._tasks.append(self._loops.supervise(self._follow, LoopName.LOCK_WATCH, most=self._poll))
        waiting = asyncio.ensure_future(self._event.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()
            await asyncio.gather(waiting, sleeping, return_exceptions=True)
        changed = self._event.is_set()
        self._event.clear()
        return changed

    async def refresh(self) -> None:
        """Read the lock now. A failure is kept as ``problem``."""
        try:
            self._observed(await self._store.read())
        except (KubeError, LockProblem, TimeoutError) as error:
            self.problem = str(error) or type(error).__name__

    def _observed(self, state: LockState | None) -> None:
        now, before = self._clock.now(), self._state
        self.problem = ""
        if self._known and (state.version if state else "") == (before.version if before else ""):
            return
        if state is not None and before is not None and state.uid == before.uid and _older(state.version, before.version):
            return  # the watch lags behind the read
        self._state, self._seen = state, now
        if state is None:
            self._missing = now if before is not None or not self._known else self._missing
            self._release, self._released, self._knock, self._knocked = None, math.inf, "", math.inf
        else:
            self._missing = math.inf
            held = state.leadership
            release = (state.uid, held.pair) if held.released else None
            if release != self._release:
                self._release, self._released = release, now if release else math.inf
            knock = state.knock if state.knock != state.answer else ""
            if knock != self._knock:
                self._knock, self._knocked = knock, now if knock else math.inf
            self._watch_pod(state.owner)
        self._known = True
        self._event.set()

    def _watch_pod(self, owner: PodRef | None) -> None:
        if owner == self._pod:
            return
        self._pod = owner
        if self._pod_task is not None:
            self._pod_task.cancel()
        watching = partial(self._until_ended, owner) if owner is not None else None
        self._pod_task = self._loops.supervise(watching, LoopName.LOCK_POD, most=self._poll) if watching is not None else None

    async def _until_ended(self, owner: PodRef) -> None:
        while True:
            try:
                await self._pods.until_ended(owner)
            except LockProblem as error:
                log.warning("%s; the lock can be acquired only when its object is garbage-collected", error)
                return
            except (KubeError, TimeoutError) as error:
                log.debug("the Pod %s can't be watched: %s", owner, error)
                await self._clock.sleep(self._poll)
                continue
            self._ended.add(owner)
            self._event.set()
            return

    async def _follow(self) -> None:
        logged = ""
        while True:
            try:
                async with contextlib.aclosing(self._store.follow()) as states:
                    async for state in states:
                        self._observed(state)
            except LockProblem as error:
                if str(error) != logged:
                    logged = str(error)
                    log.warning("%s; the lock is polled every %.1f s instead of watched", error, self._poll)
                await self.refresh()
            except (KubeError, TimeoutError) as error:
                self.problem = str(error) or type(error).__name__
                self._event.set()
            await self._clock.sleep(self._poll)


def _older(version: str, than: str) -> bool:
    """Resource versions of one object are increasing integers (KEP-5504; all servers comply)."""
    return version.isdigit() and than.isdigit() and int(version) < int(than)
