"""A candidate's eyes: the lock's object and the Pod that owns it, watched, with the times at which things were first seen."""

import asyncio
import contextlib
import logging
import math
from typing import Protocol, Self

from raycp.base.clock import Clock
from raycp.kube import KubeError
from raycp.leadership.epoch import Leadership
from raycp.leadership.locks.homes import Home
from raycp.leadership.locks.judge import Sight, State
from raycp.leadership.locks.types import LockProblem, PodRef

log = logging.getLogger(__name__)


class PodWatch(Protocol):
    """What is asked of Pods."""

    async def until_gone(self, pod: PodRef) -> None:
        """Return when ``pod`` does not exist any more, or has ended. Raises ``KubeError``, ``LockProblem``;
        ``TimeoutError`` where it is to be called again."""
        ...


class Observer:
    """Looks once, and keeps a watch open from the first ``changed`` to the end of the ``with`` block; without the right to watch it
    looks every ``poll`` seconds. Who need not wait asks for no watch."""

    def __init__(self, home: Home, pods: PodWatch, clock: Clock, poll: float) -> None:
        self.problem = ""
        """Why what is seen may be old."""
        self._home = home
        self._pods = pods
        self._clock = clock
        self._poll = poll
        self._known = False
        self._state: State | None = None
        self._seen = clock.now()
        self._released = self._knocked = self._missing = math.inf
        self._release: tuple[str, tuple[int, int]] | None = None
        self._knock = ""
        self._gone: set[PodRef] = set()
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

    def sight(self, source: Leadership | None) -> Sight:
        """What is known now. Raises ``LockProblem`` while the lock has never been read."""
        if not self._known:
            raise LockProblem(self.problem or "the lock has not been read yet")
        owner = self._state.owner if self._state is not None else self._pod
        gone = owner is not None and owner in self._gone
        return Sight(self._state, self._seen, self._released, self._knocked, self._missing, gone, source)

    async def changed(self, seconds: float) -> bool:
        """Wait for a change, at most so long; whether there was one since the last call."""
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._follow(), name="watch of the lock"))
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
        """Look now. What goes wrong is kept as ``problem``."""
        try:
            self._saw(await self._home.read())
        except (KubeError, LockProblem, TimeoutError) as error:
            self.problem = str(error) or type(error).__name__

    def _saw(self, state: State | None) -> None:
        now, before = self._clock.now(), self._state
        if self._known and (state.version if state else "") == (before.version if before else ""):
            return
        if state is not None and before is not None and state.uid == before.uid and _older(state.version, before.version):
            return  # a watch that lags behind what was read
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
            self._look_at(state.owner)
        self._known = True
        self.problem = ""
        self._event.set()

    def _look_at(self, owner: PodRef | None) -> None:
        if owner == self._pod:
            return
        self._pod = owner
        if self._pod_task is not None:
            self._pod_task.cancel()
        self._pod_task = asyncio.create_task(self._until_gone(owner), name="watch of the lock's Pod") if owner is not None else None

    async def _until_gone(self, owner: PodRef) -> None:
        while True:
            try:
                await self._pods.until_gone(owner)
            except LockProblem as error:
                log.warning("%s; the lock is taken over only when its object is collected", error)
                return
            except (KubeError, TimeoutError) as error:
                log.debug("the Pod %s can't be watched: %s", owner, error)
                await self._clock.sleep(self._poll)
                continue
            self._gone.add(owner)
            self._event.set()
            return

    async def _follow(self) -> None:
        told = ""
        while True:
            try:
                async with contextlib.aclosing(self._home.follow()) as states:
                    async for state in states:
                        self._saw(state)
            except LockProblem as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("%s; the lock is looked at every %.1f s instead of watched", error, self._poll)
                await self.refresh()
            except (KubeError, TimeoutError) as error:
                self.problem = str(error) or type(error).__name__
                self._event.set()
            await self._clock.sleep(self._poll)


def _older(version: str, than: str) -> bool:
    """Resource versions of one object are numbers that rise (KEP-5504 makes that a promise; all servers keep it)."""
    return version.isdigit() and than.isdigit() and int(version) < int(than)
