"""The one module that prints. It is on the path of ``raycp --help``, so it imports next to nothing."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from raycp.base.plaintext import harmless


class OutputError(Exception):
    """Standard output can't be written; the message says why, and what to do."""


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """What the block writes goes to standard output. Raises ``OutputError``; ``BrokenPipeError`` where the reader has gone."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output can't be written: {error.strerror}; make room there, or redirect it") from error


def say(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print a text, on standard error with ``error``, at once, also into a pipe.

    Raises as ``writing`` does. Where standard error can't be written, the text is lost, and the exit code stays.
    """
    with contextlib.suppress(OSError) if error else writing():
        print(harmless(text), file=sys.stderr if error else sys.stdout, end=end, flush=True)


def open_closed() -> None:
    """Put the null device where this process was given no standard stream: the number would be that of the next file or socket that
    it opens. Raises ``OutputError`` where standard output is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115  (up to the end of the process)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        raise OutputError("standard output is closed; redirect it, to /dev/null where nobody reads it")


def flush() -> None:
    """Write what ``argparse`` and others have left in standard output's buffer. Raises as ``writing`` does."""
    with writing():
        sys.stdout.flush()


def give_up(stream: TextIO) -> None:
    """Nothing more is written to ``stream``, nor flushed into it at the end of the process, where it would change the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def end_errors() -> None:
    """The last of standard error: what can't be written there is lost."""
    try:
        sys.stderr.flush()
    except OSError:
        give_up(sys.stderr)


def print_logs() -> None:
    """Warnings of this process's modules go to standard error, as harmless as what is said."""
    import logging

    class HarmlessFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return harmless(super().format(record))

    if logging.lastResort is not None:
        logging.lastResort.setFormatter(HarmlessFormatter())


def is_rich(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that shows colours and moves its cursor, and whose user wants that."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb") and not os.environ.get("NO_COLOR")


def without_colours(line: str) -> str:
    """``line`` of a log without the colours that its writer chose."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line)
