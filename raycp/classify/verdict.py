"""The result of a classification: whether and why a key is enqueued, its priority, and its SLI clock."""

from enum import IntEnum, StrEnum
from typing import Literal

import msgspec


class Reason(StrEnum):
    """Why a key is in the queue, or why it is not. The texts appear in metrics, in ``raycp why`` and on the wire."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    AWAY = "away"
    """made by a user while no shard watched; deletions too"""
    BACKLOG = "backlog"
    """listed at a start that knows of no earlier one"""
    EXISTING = "existing"
    """listed at a start, and already reconciled at this version"""
    RESYNC = "resync"
    STATUS = "status"
    """something other than the object's version changed, and not by this controller"""
    OWNED = "owned"
    """a child changed"""
    OWNED_AWAY = "owned-away"
    """a child changed while no shard watched"""
    OWN_WRITE = "own-write"
    """the echo of this controller's own write: never enqueued"""
    UNCHANGED = "unchanged"
    """nothing to do: never enqueued"""
    POLL = "poll"
    """``Result(requeue_after)``"""
    RETRY = "retry"
    INTERRUPTED = "interrupted"
    """revoked before its end, by a hand-over or a drain"""
    WORKER_LOST = "worker-lost"
    WATCHED = "watched"
    """an object that its reconciles read has changed (``watches=``)"""
    CLUSTER = "cluster"
    """a cluster that its decision depends on is lost, usable again, new, or changed in the fleet file"""
    FLEET = "fleet"
    """the fleet file has changed what its reconciles read, or its controller another kind"""
    CODE = "code"
    """its controller has new code, and its last reconcile failed"""
    REQUESTED = "requested"
    """a person asked for it (``raycp reconcile``)"""


class Priority(IntEnum):
    """Order within a lane: higher first, always. Between lanes the shares decide.

    A poll that names a tier is in that tier's lane, yet behind every change; so polls never ratchet up.
    """

    LIVE = 100
    """users' changes as they happen, and changes of children"""
    AWAY = 80
    """users' changes made while no shard watched"""
    OWNED_AWAY = 70
    STATUS = 60
    BACKLOG = 40
    POLL = 20
    SYSTEM = 0
    """resyncs and existing objects at a start"""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """How to handle an event.

    ``background``: into the background lane, else into the lane of the object's tier (a child's owner's tier).
    ``spread``: after a random delay, see ``spread_delay``. ``debounce``: the shard may wait a little for more of the
    same. ``user``: a user made this change, so it is not system-triggered work. ``clock``: which clock of the SLI
    starts (law 9): at the observation (``live``), at the time the API server recorded (``away``), or apart (``backlog``).

    ``real`` is derived: something happened that the controller must react to, so it cancels a system delay and shortens a
    backoff (law 3). Status writes of others and a backlog are not, else a flapping status would defeat every backoff.
    """

    enqueue: bool
    reason: Reason
    priority: Priority = Priority.LIVE
    background: bool = False
    spread: bool = False
    debounce: bool = False
    user: bool = False
    clock: Literal["live", "away", "backlog"] | None = None
    real: bool = False

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "real", self.enqueue and self.priority >= Priority.OWNED_AWAY)
