"""A file that grows by whole pieces."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class LogFile(Protocol):
    """A file that is appended to. All raise ``OSError``."""

    def write(self, data: bytes) -> int:
        """Append as much of ``data`` as there is room for; the number of bytes."""
        ...

    def truncate(self, size: int) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


class DiskFile:
    """Implements ``LogFile``; only its owner can read it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, data: bytes) -> int:
        return os.write(self._file, data)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._file, size)

    def sync(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


OpenLog = Callable[[Path], LogFile]


class Appender:
    """``size``: bytes of the file, those of torn pieces included."""

    def __init__(self, file: LogFile, size: int = 0) -> None:
        self._file = file
        self.size = size

    def append(self, data: bytes) -> None:
        """Append all of ``data``. Raises ``OSError``; what was written of it is then cut off again, if that is possible."""
        done = 0
        try:
            while done < len(data):
                wrote = self._file.write(data[done:] if done else data)
                if wrote <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                done += wrote
        except OSError:
            self._cut(done)
            raise
        self.size += done

    def _cut(self, torn: int) -> None:
        if not torn:
            return
        try:
            self._file.truncate(self.size)
        except OSError:
            self.size += torn

    def sync(self) -> None:
        """All of it is on the disk. Raises ``OSError``."""
        self._file.sync()

    def close(self) -> None:
        self._file.close()
