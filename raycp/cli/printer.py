"""The one module that prints. It is on the path of ``raycp --help``, so it imports next to nothing."""

import os
import re
import sys
from typing import TextIO

from raycp.base.plaintext import harmless


def say(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print a text, on standard error with ``error``, at once, also into a pipe."""
    print(harmless(text), file=sys.stderr if error else sys.stdout, end=end, flush=True)


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
