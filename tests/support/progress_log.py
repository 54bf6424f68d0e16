"""Which tests have begun and ended, and when, as lines of the file that ``RAYCP_PROGRESS_LOG`` names.

When a step of ``.ci/run`` is stopped at its limit, pytest prints nothing any more: this file then tells which test was at work, and
which took long. ``python tests/support/progress_log.py FILE`` prints both.
"""

import os
import sys
import time
from pathlib import Path

VARIABLE = "RAYCP_PROGRESS_LOG"
SHOWN = 8
"""Tests of each kind that are printed."""


class ProgressLog:
    """The plugin. Several processes may append to one file: a line is one write."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._append("begin", nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._append("end", nodeid)

    def _append(self, what: str, nodeid: str) -> None:
        name = nodeid.encode("ascii", "backslashreplace").decode()
        with self._path.open("a") as file:
            file.write(f"{time.time():.1f} {what} {name}\n")


def wanted(environment: "os._Environ[str] | dict[str, str]" = os.environ) -> Path | None:
    """The file, where the environment names one. Processes of pytest-xdist write nothing: the one that started them does."""
    named = environment.get(VARIABLE, "")
    return Path(named) if named and "PYTEST_XDIST_WORKER" not in environment else None


def summary(lines: list[str], now: float) -> list[str]:
    """The tests that have begun and not ended, and the slowest of the others, with their seconds."""
    begun: dict[str, float] = {}
    took: dict[str, float] = {}
    for line in lines:
        at, what, name = line.rstrip("\n").split(" ", 2)
        if what == "begin":
            begun[name] = float(at)
        elif name in begun:
            took[name] = float(at) - begun.pop(name)
    slowest = sorted(took.items(), key=lambda each: -each[1])[:SHOWN]
    return [
        *(f"at work for {now - at:.0f} s: {name}" for name, at in list(begun.items())[:SHOWN]),
        *(f"took {seconds:.0f} s: {name}" for name, seconds in slowest),
    ]


if __name__ == "__main__":
    print("\n".join(summary(Path(sys.argv[1]).read_text().splitlines(), time.time())))
