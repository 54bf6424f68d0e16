"""Background loops of an actor's core: started with an empty context, run again after a failure, stopped together."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from raycp.base.clock import Clock

log = logging.getLogger(__name__)


class Loops:
    """Owns the tasks of one core.

    A loop that raises is logged and run again after a second. The empty context keeps Ray's recursive cancellation of the
    call that started a loop away from the loop (ray #52476).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` once in the background; its failure is logged. After ``close`` nothing is run."""
        if self._closed:
            work.close()
            work = _nothing()
        task = asyncio.get_running_loop().create_task(work, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def forever(self, step: Callable[[], Awaitable[Any]], name: str, every: float = 0.0) -> asyncio.Task[Any]:
        """Run ``step`` again and again, ``every`` seconds apart, whatever it raises."""

        async def run() -> None:
            while True:
                try:
                    await step()
                except Exception:
                    log.exception("%s failed; it continues in a second", name)
                    await self._clock.sleep(1.0)
                else:
                    await self._clock.sleep(every)

        return self.spawn(run(), name)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

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


async def _nothing() -> None:
    """Runs instead of work that is spawned after ``close``."""
