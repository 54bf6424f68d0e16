"""Work at the clusters' APIs beside supervision: one task per subject, retried with backoff, its last error kept for the status."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import Subject, first_words
from raycp.kube import KubeError
from raycp.leadership.locks import LockProblem
from raycp.leadership.records import Conflict
from raycp.protocol.substrate import MemberUnavailable

log = logging.getLogger(__name__)

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 10.0


class Retries:
    """One per leader. ``start`` is called at each step of the leader; it does nothing while the task runs or backs off."""

    def __init__(self, clock: Clock, loops: Loops) -> None:
        self._clock = clock
        self._loops = loops
        self._busy: set[Subject] = set()
        self._due: dict[Subject, float] = {}
        self._backoff: dict[Subject, float] = {}
        self._problems: dict[Subject, str] = {}

    @property
    def problems(self) -> Mapping[Subject, str]:
        """The newest problem of each subject that has one."""
        return self._problems

    def note(self, subject: Subject, problem: str) -> None:
        """A problem that is no failure of a task; it stands until ``clear``, or until the subject's task ends."""
        self._problems[subject] = problem

    def clear(self, subject: Subject) -> None:
        """The subject has no problem any more."""
        self._problems.pop(subject, None)

    def start(self, subject: Subject, work: Callable[[], Coroutine[Any, Any, object]]) -> asyncio.Task[Any] | None:
        """Run ``work`` in the background; None if it is too early for that."""
        if subject in self._busy or self._clock.now() < self._due.get(subject, 0.0):
            return None
        self._busy.add(subject)
        return self._loops.spawn(self._run(subject, work), _name(subject))

    async def _run(self, subject: Subject, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await work()
        except Exception as error:
            wait = self._backoff[subject] = min(MAX_BACKOFF, self._backoff.get(subject, FIRST_BACKOFF / 2) * 2)
            self._due[subject] = self._clock.now() + wait
            foreseen = isinstance(error, (KubeError, LockProblem, Conflict, MemberUnavailable, TimeoutError))
            problem = str(error) if foreseen and str(error) else first_words(error)
            if self._problems.get(subject) != problem:
                log.warning("%s: %s; retried in %.1f s", _name(subject), problem, wait, exc_info=None if foreseen else error)
            if not foreseen:
                self._loops.failed(LoopName.LEADER_RETRY)
            self._problems[subject] = problem
        else:
            self._backoff.pop(subject, None)
            self._problems.pop(subject, None)
        finally:
            self._busy.discard(subject)


def _name(subject: Subject) -> str:
    code, owner = subject
    return f"{code} ({owner})" if str(owner) else str(code)
