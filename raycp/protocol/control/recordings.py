"""Questions about flight recordings. Any process of a fleet answers them, the leader too, while its core's loop is busy."""

from typing import Any

import msgspec

from raycp.metrics.recorder import RecordingInfo
from raycp.protocol.control.question import Question


class RecordingShelf(msgspec.Struct, array_like=True, frozen=True):
    """The recordings in ``directory`` of a node, the newest first, and the name of the answering process's own; empty where it
    records nothing, for the reason in ``problem``. ``node`` is Ray's id of the node."""

    node: str
    directory: str
    own: str
    recordings: list[RecordingInfo] = []
    problem: str = ""


class RecordingsOf(Question[RecordingShelf], frozen=True):
    """Which recordings there are on this node, those of dead processes too. The answering process writes its own first."""


class RecordingContent(Question[list[bytes]], frozen=True):
    """The files of a recording on this node, the older first; not those last written before ``since``, in Unix seconds. Error:
    ``NOT_FOUND``."""

    name: str
    since: float = 0.0


class RecordingTail(Question[list[str]], frozen=True):
    """The last lines, ``count`` at most, that the newest dead process of ``actor`` on this node has recorded; none for none."""

    actor: str
    count: int


class ProcessLog(msgspec.Struct, array_like=True, frozen=True):
    """The log of one process: ``lines`` as they are in its files, and ``past`` records of what it printed beside them
    (``raycp.metrics.recorder.stderr_file``). ``cut``: older lines that were asked for are left out."""

    name: str
    actor: str
    living: bool
    lines: bytes
    past: list[dict[str, Any]] = []
    cut: bool = False


class LogShelf(msgspec.Struct, array_like=True, frozen=True):
    """The logs of a node's processes; those that have nothing to tell are left out. ``problem``: why there are none."""

    node: str
    host: str
    logs: list[ProcessLog] = []
    problem: str = ""


class LogsOf(Question[LogShelf], frozen=True):
    """What the processes of this fleet on this node, the dead too, have logged since ``since``, in Unix seconds. Of each line
    one of the texts of each of ``wanted`` must be in it: an answer is bounded, and what the asker drops would take the place
    of what it wants."""

    since: float
    wanted: list[list[str]] = []
