"""A command that talks to Ray answers promptly, whatever Ray does (law 14).

Ray's calls wait for minutes for a head that is gone, and Python's own Ctrl-C waits for them: its handler runs between two of the
main thread's instructions. Here a thread of its own hears the signal and asks the head whether it still answers.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from raycp.cli.printer import say

INTERRUPTED = 130
_ENDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
GRACE = 0.7
"""Seconds that a command has to end by itself after Ctrl-C or SIGTERM."""

EVERY, WITHIN, SILENCES = 1.0, 1.5, 2
"""Seconds between two questions to the head, seconds for an answer, and how many must be missing in a row."""


class Promptness:
    """Ends this process where it does not end by itself: ``GRACE`` after Ctrl-C or SIGTERM, or when ``silence`` (why the head does
    not answer, empty while it does) has been heard ``SILENCES`` times in a row: then ``lost`` prints the error.
    """

    def __init__(
        self, silence: Callable[[], str] | None, lost: Callable[[str], None], end: Callable[[int], None] = os._exit
    ) -> None:
        self._silence = silence
        self._lost = lost
        self._end = end
        self._over = threading.Event()
        self._read, self._write = socket.socketpair()
        self._before = -1

    def begin(self) -> None:
        """From now on; in the main thread, where Python handles signals."""
        self._write.setblocking(False)
        with contextlib.suppress(ValueError):  # not the main thread: a test, or a library's user, who handles signals
            self._before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="ctrl-c", daemon=True).start()
        if self._silence is not None:
            threading.Thread(target=self._watch, args=(self._silence,), name="head", daemon=True).start()

    def over(self) -> None:
        """The command may take its time again."""
        if not self._over.is_set():
            self._over.set()
            with contextlib.suppress(ValueError):
                signal.set_wakeup_fd(self._before)
            self._write.close()  # wakes the listener

    def _listen(self) -> None:
        with self._read:
            while heard := self._read.recv(64):
                asked = next((each for each in _ENDS if each in heard), None)
                if asked is not None and not self._over.wait(GRACE):
                    say(_ENDS[asked], error=True)
                    self._end(128 + asked)
                    return

    def _watch(self, silence: Callable[[], str]) -> None:
        missing = 0
        while not self._over.wait(EVERY):
            why = silence()
            missing = missing + 1 if why else 0
            if missing >= SILENCES and not self._over.is_set():
                self._lost(why)
                self._end(1)
                return


_current: list[Promptness] = []


@contextlib.contextmanager
def prompt(promptness: Promptness) -> Iterator[None]:
    """The block answers promptly, up to ``unhurried``."""
    _current.append(promptness)
    promptness.begin()
    try:
        yield
    finally:
        promptness.over()
        _current.remove(promptness)


def end_on_term() -> None:
    """SIGTERM ends the command as Ctrl-C does, what it was doing on the terminal included, with exit code 143. To be called after
    connecting to Ray, whose own handler prints a stack trace. Outside the main thread it does nothing."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def unhurried() -> None:
    """From here on the command lasts as long as the fleet does, and handles its signals itself."""
    for each in _current:
        each.over()
