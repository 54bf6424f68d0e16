"""The two files of one process, which take turns: when the newer one is full it replaces the older one, and a new one begins.

A batch is written by one ``write`` to a file opened with ``O_APPEND``: from then on the kernel has it, whatever becomes of the
process. A write that fails half-way (a full disk) is cut off again, so that what follows can be read. Mapped memory would save the
call, and end the process by SIGBUS where the disk is full or somebody shortens the file.

The newer file is locked (``flock``) for as long as the process lives: the kernel unlocks it at its death, which is how others know.
"""

import contextlib
import fcntl
import os
import re
import zlib
from pathlib import Path

import msgpack
import msgspec

from raycp.metrics.recorder.record_format import BATCH, FORMAT, SHAPES, VERSION, Header, Origin

SEGMENT_BYTES = 4 * 1024 * 1024
"""A file that has reached this is full."""

CURRENT = ".rec"
PREVIOUS = ".old"


def file_name_of(actor: str) -> str:
    """An actor's name as file names have it."""
    return re.sub(r"[^A-Za-z0-9]+", "-", actor)


def stem_of(origin: Origin) -> str:
    """The name of a process's files: its actor, its pid, and when it started in milliseconds, joined by dots."""
    return f"{file_name_of(origin.actor)}.{origin.pid}.{int(1000 * origin.started)}"


def make_private(path: Path) -> None:
    """Make a directory and those above it with mode 0700, as far as they are missing. Raises ``OSError``."""
    if not path.is_dir():
        make_private(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


class SegmentFiles:
    """The files of one process in ``directory``. ``append`` may be called from any thread, one at a time."""

    def __init__(self, directory: Path, origin: Origin, most: int = SEGMENT_BYTES) -> None:
        self.stem = stem_of(origin)
        self._origin = origin
        self._most = most
        self._current = directory / f"{self.stem}{CURRENT}"
        self._previous = directory / f"{self.stem}{PREVIOUS}"
        self._file = -1
        self._size = 0

    def append(self, records: bytes) -> None:
        """Write a batch of packed records. Raises ``OSError``; nothing of the batch is in the file then."""
        batch = msgpack.packb(msgpack.ExtType(BATCH, zlib.compress(records, 1)))
        if self._file < 0 or self._size >= self._most or not os.fstat(self._file).st_nlink:  # somebody has removed it
            self._begin()
        self._write(batch)

    def close(self) -> None:
        """Close the file, and with it the lock."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self) -> None:
        """A new file, under a header of its own."""
        if self._file >= 0:
            with contextlib.suppress(FileNotFoundError):
                self._current.replace(self._previous)
            self.close()
        make_private(self._current.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._current, flags, 0o600)
        self._size = os.fstat(self._file).st_size
        with contextlib.suppress(OSError):  # a file system without locks: the process is taken for dead, and its file is read
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not self._size:
            shapes = {what: list(names) for what, names in SHAPES.items()}
            header = Header(format=FORMAT, version=VERSION, origin=self._origin, shapes=shapes)
            self._write(msgpack.packb(msgspec.to_builtins(header)))

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
