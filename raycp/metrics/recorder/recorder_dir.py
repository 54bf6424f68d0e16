"""The directory of a node's recordings: which there are, which process is dead, which files are too old.

It is the user's alone (0700, files 0600). Two files make a recording (``segments``), two the log beside it (``log_files``); a
recording whose newer file nobody has locked belongs to a dead process. Dead ones are bounded by number per slot (so that a
worker that dies in a loop does not push out what is known of a shard), by number, size and age in all.
"""

import contextlib
import fcntl
import io
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from raycp.metrics.recorder.log_files import CURRENT_LOG, PREVIOUS_LOG, LogPart, read_log
from raycp.metrics.recorder.record_format import Origin
from raycp.metrics.recorder.segment_reader import SegmentReader
from raycp.metrics.recorder.segments import CURRENT, PREVIOUS, SEGMENT_BYTES, make_private

KEPT_OF_SLOT = 4
"""Dead recordings of one slot that are kept: a slot is an actor's name without its generation."""

KEPT = 48
KEPT_BYTES = 128 * 1024 * 1024
KEPT_SECONDS = 86_400.0

MOST_READ = 2 * SEGMENT_BYTES
"""Bytes of one file that are read: a full one with its last batch."""

ENDINGS = (PREVIOUS, CURRENT, PREVIOUS_LOG, CURRENT_LOG)
"""Of a recording's files."""

_NAME = re.compile(r"[A-Za-z0-9-]+\.[0-9]+\.[0-9]+")
LONGEST_HEADER = 4096
"""Bytes at the beginning of a file that hold its header."""

_GENERATION = re.compile(r"-g[0-9]+$")


class RecordingInfo(msgspec.Struct, array_like=True, frozen=True):
    """One recording. ``name`` is that of its files without their endings; ``modified`` in Unix seconds."""

    name: str
    size: int
    modified: float
    living: bool

    @property
    def actor(self) -> str:
        """The actor's name as files have it (``segments.file_name_of``)."""
        return self.name.rsplit(".", 2)[0]

    @property
    def slot(self) -> str:
        """The actor's name without the generation."""
        return _GENERATION.sub("", self.actor)


class RecorderDir:
    """One directory. All methods read the disk: call them off the loop."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make it, and what is missing above it, for its owner only. Raises ``OSError``, also for a directory of another user."""
        make_private(self.path)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{self.path} is not a directory of user {os.getuid()}")
        if stat.S_IMODE(found.st_mode) != 0o700:
            self.path.chmod(0o700)

    def recordings(self) -> list[RecordingInfo]:
        """All recordings, the newest first; none where the directory can't be read. Files of other names are ignored."""
        parts: dict[str, list[os.stat_result]] = {}
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                name, ending = os.path.splitext(entry.name)
                if ending in ENDINGS and _NAME.fullmatch(name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):  # it took its turn meanwhile
                        parts.setdefault(name, []).append(entry.stat(follow_symlinks=False))
        found = [
            RecordingInfo(name, sum(s.st_size for s in stats), max(s.st_mtime for s in stats), self._locked(name))
            for name, stats in parts.items()
        ]
        return sorted(found, key=lambda info: info.modified, reverse=True)

    def read(self, name: str, since: float = 0.0) -> list[bytes]:
        """The files of a recording, the older first; not one that was written last before ``since``. Raises ``KeyError`` where
        there is no such recording."""
        if not _NAME.fullmatch(name):
            raise KeyError(name)
        found, there = [], False
        for ending in (PREVIOUS, CURRENT):
            with contextlib.suppress(FileNotFoundError):
                file = os.open(self.path / f"{name}{ending}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                with open(file, "rb") as stream:
                    there = True
                    if os.fstat(file).st_mtime >= since:
                        found.append(stream.read(MOST_READ))
        if not there:
            raise KeyError(name)
        return found

    def origin(self, name: str) -> Origin | None:
        """The process of a recording; None where its files can't tell."""
        for ending in (CURRENT, PREVIOUS):
            with contextlib.suppress(OSError):
                file = os.open(self.path / f"{name}{ending}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                with open(file, "rb") as stream:
                    reader = SegmentReader(io.BytesIO(stream.read(LONGEST_HEADER)))
                    next(iter(reader), None)
                    if reader.origin is not None:
                        return reader.origin
        return None

    def log(self, name: str, since: float, wanted: Sequence[Sequence[str]], most: int) -> LogPart:
        """See ``read_log``."""
        return read_log(self.path, name, since, wanted, most)

    def remove_old(self, now: float) -> list[str]:
        """Remove the recordings of dead processes that are beyond the bounds; their names. ``now`` in Unix seconds. What can't be
        removed stays."""
        removed = too_many((info for info in self.recordings() if not info.living), now)
        for name in removed:
            for ending in ENDINGS:
                with contextlib.suppress(OSError):
                    (self.path / f"{name}{ending}").unlink()
        return removed

    def _locked(self, name: str) -> bool:
        try:
            file = os.open(self.path / f"{name}{CURRENT}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(file)
        return False


def too_many(dead: Iterable[RecordingInfo], now: float) -> list[str]:
    """Names of those that are beyond the bounds; ``dead`` the newest first. Pure."""
    slots: Counter[str] = Counter()
    count = size = 0
    removed = []
    for info in dead:
        old = now - info.modified > KEPT_SECONDS
        if old or slots[info.slot] >= KEPT_OF_SLOT or count >= KEPT or size + info.size > KEPT_BYTES:
            removed.append(info.name)
            continue
        slots[info.slot] += 1
        count += 1
        size += info.size
    return removed
