"""Background work of an actor's core: supervised loops (law 12) and errands, started with an empty context, stopped together."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.problems import FLEET, FleetProblem, ProblemCode, ProblemOwner, first_words

log = logging.getLogger(__name__)

FIRST_BACKOFF = 0.1
MAX_BACKOFF = 5.0
"""Bounds of the seconds between a loop's failure and its next start; they double. Short enough that a cluster is in use again soon
after its fault has ended."""

RAN_WELL = 10.0
"""Seconds without a failure after which a loop counts as well again: its backoff starts anew, and its problem is not shown any
more."""


class SupervisedLoop:
    """One loop: ``work`` runs until it returns, and is started again after each exception. ``Loops.supervise`` makes it."""

    def __init__(
        self,
        work: Callable[[], Awaitable[Any]],
        name: LoopName,
        owner: ProblemOwner,
        clock: Clock,
        most: float,
        failed: Callable[[LoopName], None],
    ) -> None:
        self.name = name
        self.owner = owner
        self.failures = 0
        """Since it was started first."""
        self._work = work
        self._clock = clock
        self._most = most
        self._failed = failed
        self._wait = 0.0
        self._row = 0
        self._since = 0.0
        self._shown_until = float("-inf")
        self._message = ""
        self._logged: object = None
        self._injected: Exception | None = None

    @property
    def problem(self) -> FleetProblem | None:
        """Its last failure, until it has run well."""
        if self._clock.now() >= self._shown_until:
            return None
        return FleetProblem(ProblemCode.LOOP_FAILED, self.owner, self._message, self._since)

    def succeeded(self) -> None:
        """A step of it has succeeded: the next failure begins with the first backoff."""
        self._row, self._wait = 0, 0.0

    def inject(self, error: Exception, task: asyncio.Task[Any]) -> None:
        """End the present run of ``task`` as ``error`` would, wherever it waits. For tests."""
        self._injected = error
        task.cancel()

    async def run(self) -> None:
        """Run until ``work`` returns or this task is cancelled."""
        while True:
            begun = self._clock.now()
            try:
                if self._wait:
                    await self._clock.sleep(self._wait)
                    begun = self._clock.now()
                await self._work()
                return
            except asyncio.CancelledError as cancelled:
                error = self._not_ours(cancelled)
            except Exception as raised:
                error = raised
            self._note(error, self._clock.now() - begun)

    def _not_ours(self, cancelled: asyncio.CancelledError) -> Exception:
        """Why the run ended if nobody cancelled the loop itself: something that it awaited was cancelled. Else raises."""
        task = asyncio.current_task()
        assert task is not None
        injected, self._injected = self._injected, None
        if injected is not None:
            task.uncancel()
        if task.cancelling():
            raise cancelled
        return injected or RuntimeError("what it waited for was cancelled")

    def _note(self, error: Exception, ran: float) -> None:
        now = self._clock.now()
        if ran >= RAN_WELL:
            self._row = 0
        if now >= self._shown_until:
            self._since, self._logged = self._clock.wall(), None
        self._row += 1
        self.failures += 1
        self._wait = min(self._most, FIRST_BACKOFF * 2.0 ** min(self._row - 1, 30))
        self._shown_until = now + self._wait + RAN_WELL
        self._message = first_words(error)
        origin = type(error), _origin(error.__traceback__)
        if origin != self._logged:
            self._logged = origin
            log.error("loop %s%s failed and starts again in %.1f s", self.name, self._whose(), self._wait, exc_info=error)
        else:
            log.debug("loop %s%s failed again (%d): %s", self.name, self._whose(), self.failures, self._message)
        self._failed(self.name)

    def _whose(self) -> str:
        owner = str(msgspec.structs.replace(self.owner, loop=""))
        return f" ({owner})" if owner else ""


class Loops:
    """Owns the tasks of one core.

    The empty context keeps Ray's recursive cancellation of the call that started a loop away from the loop (ray #52476).
    """

    def __init__(self, clock: Clock) -> None:
        self.failed: Callable[[LoopName], None] = lambda _: None
        """Called for each failure of a loop or errand: it is counted, and ``problems`` may have changed."""
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()
        self._supervised: dict[asyncio.Task[Any], SupervisedLoop] = {}
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` once in the background, an errand; its failure is logged. After ``close`` nothing is run."""
        if self._closed:
            work.close()
            work = _nothing()
        task = asyncio.get_running_loop().create_task(work, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def supervise(
        self,
        work: Callable[[], Coroutine[Any, Any, Any]],
        name: LoopName,
        owner: ProblemOwner = FLEET,
        *,
        most: float = MAX_BACKOFF,
    ) -> asyncio.Task[Any]:
        """Run ``work`` until it returns; after an exception, again, with backoff of at most ``most`` seconds. The failure is logged
        once, counted, and shown in ``problems`` until the loop has run well. Cancel the task to end it."""
        return self._begin(SupervisedLoop(work, name, self._owned(owner, name), self._clock, most, self._report))

    def forever(
        self,
        step: Callable[[], Awaitable[Any]],
        name: LoopName,
        every: float = 0.0,
        owner: ProblemOwner = FLEET,
        *,
        most: float = MAX_BACKOFF,
    ) -> asyncio.Task[Any]:
        """Take ``step`` again and again, ``every`` seconds apart, under supervision."""

        async def steps() -> None:
            while True:
                await step()
                loop.succeeded()
                await self._clock.sleep(every)

        loop = SupervisedLoop(steps, name, self._owned(owner, name), self._clock, most, self._report)
        return self._begin(loop)

    def _owned(self, owner: ProblemOwner, name: LoopName) -> ProblemOwner:
        return msgspec.structs.replace(owner, loop=name)

    def _begin(self, loop: SupervisedLoop) -> asyncio.Task[Any]:
        task = self.spawn(loop.run(), str(loop.owner))
        if not self._closed:
            self._supervised[task] = loop
        return task

    def _report(self, name: LoopName) -> None:
        try:
            self.failed(name)
        except Exception:
            log.exception("the failure of loop %s could not be counted", name)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._supervised.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
            self._report(LoopName.ERRAND)

    @property
    def supervised(self) -> list[SupervisedLoop]:
        """The loops that run or wait for their next start."""
        return list(self._supervised.values())

    @property
    def errands(self) -> list[str]:
        """The names of the errands under way."""
        return [task.get_name() for task in self._tasks if task not in self._supervised]

    @property
    def problems(self) -> list[FleetProblem]:
        """The loops that have failed and have not run well since."""
        return [problem for loop in self._supervised.values() if (problem := loop.problem) is not None]

    def inject(self, loop: SupervisedLoop, error: Exception) -> None:
        """Make ``loop`` fail with ``error``, wherever it waits. For tests."""
        for task, known in list(self._supervised.items()):
            if known is loop:
                known.inject(error, task)

    def close(self) -> None:
        """Cancel all loops and start no others: the process ends abruptly. ``stop`` waits for their ends."""
        self._closed = True
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def stop(self) -> None:
        """Cancel all and wait for their ends."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _origin(trace: TracebackType | None) -> object:
    """File and line that raised."""
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno


async def _nothing() -> None:
    """Runs instead of work that is spawned after ``close``."""
