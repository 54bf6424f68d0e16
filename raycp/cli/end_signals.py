"""How a command in the foreground is asked to end: Ctrl-C, SIGTERM, or the end of its terminal (SIGHUP)."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from raycp.cli.printer import say

ASKS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending:
    """From ``with`` on, in the main thread. The first of ``ASKS`` is ``came`` (0 before). It interrupts what runs, as Ctrl-C does,
    up to ``patient``; ``wait`` returns it. Each later one, and each from ``ends`` on, says ``doing``, and that the end takes its
    time.

    SIGHUP that is ignored (``nohup``) stays so.
    """

    def __init__(self, doing: str) -> None:
        self.came = 0
        self._doing = doing
        self._patient = False
        self._ends = False
        self._stop = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Ending":
        if threading.current_thread() is threading.main_thread():  # elsewhere signals are the caller's
            asks = [each for each in ASKS if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN]
            self._before = {each: signal.signal(each, self._asked) for each in asks}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def patient(self) -> None:
        """From here on nothing is interrupted: ``wait`` follows."""
        self._patient = True

    def ends(self) -> None:
        """From here on it is done what ``doing`` says, though nobody may have asked for it."""
        self._ends = True

    def wait(self) -> int:
        """Until the command is asked to end; the signal."""
        self.patient()
        while not self._stop.wait(0.2):
            pass
        return self.came

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.came or self._ends:
            say(f"{self._doing}; SIGKILL would leave processes and files behind", error=True)
            return
        self.came = signal.Signals(number)
        self._stop.set()
        if not self._patient:
            raise KeyboardInterrupt
