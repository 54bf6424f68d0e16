"""From a primary to its standbys: everything that is known of a key, as it changes."""

import msgspec

from raycp.base.keys import RequestKey
from raycp.queueing import Saved
from raycp.slo.clock_state import KeyState


class Due(msgspec.Struct, array_like=True, frozen=True):
    """That changes of ``kind`` in ``cluster``, the first at version ``first`` and the last at ``last``, make a key due."""

    cluster: str
    kind: str
    first: int
    last: int


class SuspicionMark(msgspec.Struct, array_like=True, frozen=True):
    """A death of a worker on a key's record, ``age`` seconds ago; ``weight`` as in ``raycp.shard.suspects.Level``."""

    worker: str
    age: float
    weight: int
    reason: str = ""


class Suspicion(msgspec.Struct, array_like=True):
    """What is held against a key (law 11): the newest deaths with it in flight, and the number of all of them."""

    marks: list[SuspicionMark]
    deaths: int


class KeyNote(msgspec.Struct, array_like=True, frozen=True):
    """What a key's last reconcile said of its inputs: what it waits for (``Done.waiting``), the clusters that it found unusable,
    and whether it gave up until something changes (``Permanent``)."""

    waiting: str = ""
    unusable: tuple[str, ...] = ()
    gave_up: bool = False


class KeyProgress(msgspec.Struct, array_like=True):
    """How a key stands at the primary: version reconciled, place in the queue, clocks (None where there is none), what it is due
    for, what is held against it, and the note of its last reconcile."""

    key: RequestKey
    version: int | None = None
    saved: Saved | None = None
    clocks: KeyState | None = None
    due: list[Due] = []
    suspicion: Suspicion | None = None
    note: KeyNote | None = None


class MarkedKind(msgspec.Struct, array_like=True, frozen=True):
    """A watermark that the primary has: its version (``Reached`` goes on from there) and until when it was fed by a predecessor."""

    cluster: str
    kind: str
    rv: int
    until: float


class ControllerStart(msgspec.Struct, array_like=True, frozen=True):
    """A controller's first start in a cluster: see ``watermarks.FirstStart``."""

    controller: str
    cluster: str
    selection: str
    rv: int


class Reached(msgspec.Struct, array_like=True):
    """The primary has judged all events of ``kind`` (``str(GVK)``) up to ``rv``."""

    cluster: str
    kind: str
    rv: int


class Progress(msgspec.Struct, tag="progress", array_like=True):
    """From a primary to its standbys. ``wakes`` are owners elsewhere whose wake is not acknowledged yet, ``acknowledged`` those
    whose wake is; ``complete`` ends the full account. ``marks`` and ``starts`` are sent whole, and only when they have changed."""

    seq: int
    changed: list[KeyProgress]
    reached: list[Reached]
    wakes: list[RequestKey]
    acknowledged: list[RequestKey]
    complete: bool = False
    marks: list[MarkedKind] = []
    starts: list[ControllerStart] = []
