"""What a process wrote to its standard error past its log: the stacks of a crash, warnings of Python and of libraries, and the last
lines of the log itself, which a process that ends at once has printed and not recorded.

Ray keeps it in a file on the process's node. Such lines have no time of their own: they take that of the log's line before them,
the last ones that of the file.
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from raycp.base.plaintext import harmless
from raycp.metrics.recorder.log_files import JSON_LINE, stamp_in, stamp_of
from raycp.metrics.recorder.scrubber import scrub

LOGGER = "stderr"
"""The logger of such lines."""

LEVEL = "warning"

MOST_READ = 256 * 1024
"""Bytes at the end of the file that are looked at."""

MOST_LINES = 200

_RAYS = re.compile(rb":(?:actor|task|job)_(?:name|id):")
"""Marks that Ray writes into the file for its own use."""


def own_stderr() -> str:
    """The file that receives this process's standard error; empty where that is none (a terminal, a pipe)."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(2).st_mode):
            return os.path.realpath("/proc/self/fd/2")
    return ""


def past_the_log(path: str, logged: bytes, since: float) -> list[dict[str, Any]]:
    """Records of such lines since ``since`` (Unix seconds), the newest ``MOST_LINES``; none where the file can't be read.
    ``logged``: the stamp of the last line in the process's log. ``offset`` tells a record from its equals."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    with open(file, "rb") as stream:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mtime < since:
            return []
        start = max(0, found.st_size - MOST_READ)
        stream.seek(start)
        data = stream.read(MOST_READ)
    rows = list(_rows(data, start, stamp_of(found.st_mtime) + b"Z", logged))
    earliest = stamp_of(since).decode()
    return [row for row in rows if row["ts"] >= earliest][-MOST_LINES:]


def _rows(data: bytes, start: int, end: bytes, logged: bytes) -> Iterator[dict[str, Any]]:
    lines = data.split(b"\n")
    offsets = [start]
    for line in lines:
        offsets.append(offsets[-1] + len(line) + 1)
    last = max((number for number, line in enumerate(lines) if line.startswith(JSON_LINE)), default=-1)
    stamp = b""
    for number, line in enumerate(lines):
        if number == 0 and start:
            continue  # half a line
        if line.startswith(JSON_LINE):
            stamp = stamp_in(line)
            if stamp > logged:
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        yield row
        elif line.strip() and not _RAYS.match(line):
            at = end if number > last else stamp or end
            text = harmless(scrub(line.decode("utf-8", "replace").rstrip()))
            yield {"ts": at.decode(), "level": LEVEL, "logger": LOGGER, "msg": text, "offset": offsets[number]}
