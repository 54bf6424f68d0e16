"""Work at the clusters' APIs beside supervision: one task per subject, retried with backoff, its last error kept for the status."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.kube import KubeError
from raycp.leadership.locks import LockProblem
from raycp.leadership.records import Conflict

log = logging.getLogger(__name__)

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 10.0


class Retries:
    """One per leader. ``start`` is called at each step of the leader; it does nothing while the task runs or backs off."""

    def __init__(self, clock: Clock, loops: Loops) -> None:
        self._clock = clock
        self._loops = loops
        self._busy: set[str] = set()
        self._due: dict[str, float] = {}
        self._backoff: dict[str, float] = {}
        self._problems: dict[str, str] = {}

    @property
    def problems(self) -> Mapping[str, str]:
        """The newest problem of each subject that has one."""
        return self._problems

    def note(self, subject: str, problem: str) -> None:
        """A problem that is no failure of a task; it stands until ``clear``, or until the subject's task ends."""
        self._problems[subject] = problem

    def clear(self, subject: str) -> None:
        """The subject has no problem any more."""
        self._problems.pop(subject, None)

    def start(self, subject: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any] | None:
        """Run ``work`` in the background; None if it is too early for that."""
        if subject in self._busy or self._clock.now() < self._due.get(subject, 0.0):
            work.close()
            return None
        self._busy.add(subject)
        return self._loops.spawn(self._run(subject, work), subject)

    async def _run(self, subject: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except (KubeError, LockProblem, Conflict, TimeoutError) as error:
            wait = self._backoff[subject] = min(MAX_BACKOFF, self._backoff.get(subject, FIRST_BACKOFF / 2) * 2)
            self._due[subject] = self._clock.now() + wait
            if self._problems.get(subject) != str(error):
                log.warning("%s: %s; retried in %.1f s", subject, error, wait)
            self._problems[subject] = str(error)
        else:
            self._backoff.pop(subject, None)
            self._problems.pop(subject, None)
        finally:
            self._busy.discard(subject)
