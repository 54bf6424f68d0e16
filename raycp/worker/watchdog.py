"""``Watchdog``: ends a worker whose user code can't be stopped.

It reports the culprits first: the reconcile that holds the user loop, or those that outlived their time limits. Where it can't tell
which one it is, it reports that it is one of those in work. The worker's keys return on its certain death, never before (law 11).
While the interpreter itself is held, ``Alarm`` ends the process.
"""

import logging
import os
from collections.abc import Callable
from typing import Protocol

from raycp.base.clock import Clock
from raycp.worker.runs import Run, Runs
from raycp.worker.user_loop import UserLoop

log = logging.getLogger(__name__)

SILENT = 5.0
"""Seconds without a turn of the user loop after which it counts as blocked."""

STUCK_AFTER = 2.0
"""Seconds after its timeout in which a reconcile must have ended; later it counts as unstoppable."""

REPORT_TIME = 1.0
"""Seconds between the report of the culprits and the end of the process."""


class Alarm(Protocol):
    """Ends the process unless it is postponed in time (``gil_alarm``)."""

    def postpone(self, seconds: float) -> None: ...

    def cancel(self) -> None: ...


class Watchdog:
    """``stop_accepting`` makes the worker accept no further tasks. ``alarm``: None where other workers share this process. Lives on
    the actor's loop."""

    def __init__(
        self, clock: Clock, user: UserLoop, runs: Runs, stop_accepting: Callable[[], None], alarm: Alarm | None = None
    ) -> None:
        self.ending = False
        """Whether this process is about to end itself."""
        self._alarm = alarm
        self._armed = False
        self._clock = clock
        self._user = user
        self._runs = runs
        self._stop_accepting = stop_accepting

    async def check(self) -> None:
        """Look once for a blocked user loop, and for reconciles that outlived their timeout."""
        self._set_alarm()
        if self.ending or not self._runs:
            return
        silent = self._user.silent_for()
        if silent > SILENT:
            blocking = self._runs.holding(self._user.current())
            error = f"the reconciler blocked its event loop for {silent:.1f} s: use a plain def, or await"
            log.error("%s %s\n%s", error, [str(run.task.key) for run in blocking], self._user.stack())
            runs = self._runs.all()
            certain = bool(blocking) or len(runs) == 1
            await self._end(blocking or runs, error, certain)
            return
        now = self._clock.now()
        stuck = [run for run in self._runs.all() if now - run.started > run.known.timeout + STUCK_AFTER]
        if stuck:
            await self._end(stuck, "the reconciler went on after its timeout and could not be stopped")

    def _set_alarm(self) -> None:
        """While anything runs, this check has to come again before ``SILENT`` seconds have passed."""
        if self._alarm is None:
            return
        if self._runs:
            self._alarm.postpone(SILENT)
        elif self._armed:
            self._alarm.cancel()
        self._armed = bool(self._runs)

    async def _end(self, culprits: list[Run], error: str, certain: bool = True) -> None:
        self.ending = True
        self._stop_accepting()
        for run in culprits:
            log.error("ending this worker: %s%s: %s", run.task.key, "" if certain else ", perhaps", error)
            run.link.report_culprit([run.task.id], error, certain)
        await self._clock.sleep(REPORT_TIME)
        os._exit(70)
