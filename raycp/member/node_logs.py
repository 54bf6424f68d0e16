"""``node_logs``: what the processes of a fleet have logged on this node, from the files beside their flight recordings."""

from collections.abc import Sequence

from raycp.metrics.recorder import RecorderDir
from raycp.metrics.recorder.log_files import last_stamp
from raycp.metrics.recorder.stderr_file import past_the_log
from raycp.protocol.control import ProcessLog

MOST_OF_PROCESS = 1024 * 1024
MOST = 6 * 1024 * 1024
"""Bytes of one process's lines in an answer, and of all."""


def node_logs(directory: RecorderDir, since: float, wanted: Sequence[Sequence[str]]) -> list[ProcessLog]:
    """The logs of the recordings in ``directory`` since ``since``, in Unix seconds; see ``LogsOf``. Reads the disk."""
    found: list[ProcessLog] = []
    left = MOST
    for info in directory.recordings():
        origin = directory.origin(info.name)
        stderr = origin.stderr if origin is not None else ""
        past = past_the_log(stderr, last_stamp(directory.path, info.name), since) if stderr else []
        part = directory.log(info.name, since, wanted, min(left, MOST_OF_PROCESS))
        left -= len(part.lines)
        if part.lines or past or part.cut:
            actor = origin.actor if origin is not None else info.actor
            found.append(ProcessLog(info.name, actor, info.living, part.lines, past, part.cut))
    return found
