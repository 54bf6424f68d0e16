"""The log of one process beside its flight recording: lines of JSON in two files, which take turns as segments do.

The lines are those that the process prints, warnings in any case. They are told from the recording's own records by their ending.
"""

import contextlib
import datetime
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

LOG_BYTES = 2 * 1024 * 1024
"""A file that has reached this is full."""

LONGEST_LINE = 64 * 1024
"""Bytes of a line; a longer one is left out."""

MOST_BUFFERED = 1024 * 1024
"""Bytes in memory beyond which lines are dropped, where the disk takes none."""

CURRENT_LOG = ".log"
PREVIOUS_LOG = ".log1"

JSON_LINE = b'{"ts": "'
"""What each line begins with."""
_LENGTH = len("2026-11-27T13:38:04.123Z")


class LogFiles:
    """Those of the recording ``stem``. ``add`` may be called from any thread; ``flush`` from one at a time."""

    def __init__(self, directory: Path, stem: str, most: int = LOG_BYTES) -> None:
        self._current = directory / f"{stem}{CURRENT_LOG}"
        self._previous = directory / f"{stem}{PREVIOUS_LOG}"
        self._most = most
        self._buffer = bytearray()
        self._file = -1
        self._size = 0

    def add(self, line: str) -> None:
        """Keep a line, without its line feed. Does no I/O, raises nothing."""
        encoded = line.encode("utf-8", "replace")
        if len(self._buffer) < MOST_BUFFERED and len(encoded) < LONGEST_LINE:
            self._buffer += encoded + b"\n"

    def flush(self) -> bool:
        """Write what was added; whether there was anything. Raises ``OSError``; those lines are lost then."""
        if not self._buffer:
            return False
        lines = bytes(self._buffer)
        del self._buffer[: len(lines)]
        if self._file < 0 or self._size >= self._most or not os.fstat(self._file).st_nlink:
            self._begin()
        written = os.write(self._file, lines)
        if written < len(lines):  # the disk is full: no half line stays
            os.ftruncate(self._file, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written
        return True

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self) -> None:
        if self._file >= 0:
            self.close()
            with contextlib.suppress(FileNotFoundError):
                self._current.replace(self._previous)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._current, flags, 0o600)
        self._size = os.fstat(self._file).st_size


class LogPart(NamedTuple):
    """Lines of a log, as they are in its files. ``cut``: older ones that were asked for are left out."""

    lines: bytes
    cut: bool


def read_log(directory: Path, stem: str, since: float, wanted: Sequence[Sequence[str]], most: int) -> LogPart:
    """The newest lines of a log since ``since`` (Unix seconds), ``most`` bytes of them at most. A line is wanted if it has one
    of the texts of each of ``wanted``. Nothing where there is no log."""
    stamp = stamp_of(since)
    needles = [[text.encode() for text in texts] for texts in wanted]
    found: list[bytes] = []
    size = 0
    for ending in (CURRENT_LOG, PREVIOUS_LOG):
        with contextlib.suppress(OSError), _opened(directory / f"{stem}{ending}") as stream:
            if os.fstat(stream.fileno()).st_mtime < since:
                break
            stream.seek(_first_since(stream, stamp))
            lines = [
                line
                for line in stream.read(2 * LOG_BYTES).split(b"\n")
                if stamp_in(line) >= stamp and all(any(needle in line for needle in each) for each in needles)
            ]
            for line in reversed(lines):
                if size + len(line) >= most:
                    return LogPart(b"\n".join(reversed(found)), True)
                found.append(line)
                size += len(line) + 1
    return LogPart(b"\n".join(reversed(found)), False)


def stamp_of(at: float) -> bytes:
    """A time as lines have it, whose order is that of texts."""
    return datetime.datetime.fromtimestamp(max(0.0, at), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].encode()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as stream:
        yield stream


def stamp_in(line: bytes) -> bytes:
    """When a line was logged, as ``stamp_of`` has it, with its ``Z``; empty for what is no line of a log."""
    stamp = line[len(JSON_LINE) : len(JSON_LINE) + _LENGTH] if line.startswith(JSON_LINE) else b""
    return stamp if stamp.endswith(b"Z") and stamp[:1].isdigit() else b""


def _first_since(stream: BinaryIO, stamp: bytes) -> int:
    """Somewhere before the first line that is not older, near it: by halving, as lines are ordered but for those of threads that
    logged within the same second."""
    low, high = 0, stream.seek(0, 2)
    while high - low > LONGEST_LINE:
        middle = (low + high) // 2
        stream.seek(middle)
        stream.readline(LONGEST_LINE)
        if stamp_in(stream.readline(LONGEST_LINE)) < stamp:
            low = middle
        else:
            high = middle
    stream.seek(max(0, low - LONGEST_LINE))
    if stream.tell():
        stream.readline(LONGEST_LINE)
    return stream.tell()


def last_stamp(directory: Path, stem: str) -> bytes:
    """When the last line of a log was logged; empty where there is none."""
    with contextlib.suppress(OSError), _opened(directory / f"{stem}{CURRENT_LOG}") as stream:
        stream.seek(max(0, stream.seek(0, 2) - LONGEST_LINE))
        return max(map(stamp_in, stream.read().split(b"\n")))
    return b""
