"""``FailureWatch``: tells the terminal of ``raycp run`` what fails, while the command waits to be ended."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from raycp.cli.failure_notices import FailureNotices
from raycp.cli.failures import failures_at
from raycp.cli.printer import say
from raycp.driver.fleet_client import NoFleet

EVERY = 0.5
"""Seconds between two looks: what members report once a second is told within two, a problem too, which must be there twice."""

SAID_AFTER = 2
"""Looks that fail one after the other before it is said."""

FIND_EVERY = 10.0
"""Seconds between two questions for the observer's address, while it does not answer."""


class FailureWatch:
    """A context: looks at the observer at ``url`` in a thread of its own until it ends. ``find``: the observer's address now, for
    one that was replaced. What goes wrong with either is tried again."""

    def __init__(self, url: str, find: Callable[[], str]) -> None:
        self._url = url
        self._find = find
        self._stop = threading.Event()
        self._gone = False
        self._thread = threading.Thread(target=self._run, name="raycp-failures", daemon=True)

    def __enter__(self) -> "FailureWatch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(2 * EVERY)  # one that hangs in a request is no reason to stay

    def _run(self) -> None:
        notices = FailureNotices()
        pause, missed = EVERY, 0
        while not self._stop.wait(pause):
            try:
                found = failures_at(self._url)
                fails = notices.lines(found["items"], time.monotonic(), found["failing"])
                for line in [*fails, *notices.problems(found.get("problems") or ())]:
                    say(line, error=True)
                pause, missed, self._gone = EVERY, 0, False
            except Exception as error:  # law 12: nobody answers, or somebody else at that port, or it does not let us in
                missed += 1
                if missed == SAID_AFTER and not self._gone:
                    say(f"note: what fails can't be shown here: {error}", error=True)
                pause = self._find_again()

    def _find_again(self) -> float:
        """Seconds until the next look."""
        try:
            self._url = self._find() or self._url
        except Exception as error:
            if isinstance(error.__cause__, NoFleet) and not self._gone:
                self._gone = True
                gone = "the fleet was taken down by another command; this one goes on until Ctrl-C, and with it its Ray"
                say(f"note: {gone}", error=True)
        return FIND_EVERY
