"""Questions about flight recordings. Any process of a fleet answers them, the leader too, while its core's loop is busy."""

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
