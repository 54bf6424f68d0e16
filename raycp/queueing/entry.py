"""One key's state in the queue, the counts that it is part of, and what a worker is handed."""

from collections import OrderedDict
from enum import IntEnum

import msgspec

from raycp.base.keys import RequestKey
from raycp.queueing.events import SeriesEvents
from raycp.queueing.fair import ClusterLoad, ControllerLoad, Leaf


class KeyPlace(IntEnum):
    """Where a key is. From ``RUNNING`` on, what is added waits in ``Entry.pending``."""

    READY = 0
    DELAYED = 1
    RUNNING = 2
    HELD = 3


class KeyDemand(msgspec.Struct, gc=False):
    """What a key is due for. ``observed``: when the first of what was added came; ``ready_at``: not before this time.

    ``real``: something happened that the controller must react to; ``retry``: due because the last reconcile failed, and
    nothing real has happened since (so never both). Times as ``Clock.now()``.
    """

    tier: str
    priority: int
    ready_at: float
    reason: str
    real: bool
    observed: float
    retry: bool = False


class Entry(msgspec.Struct, gc=False):
    """A key that is queued, running or held; all times as ``Clock.now()``.

    Its first fields are what it is queued for, as in ``KeyDemand``. ``since``: ready since, for the waiting time; ``lane_since``:
    ready in this lane since, for ``maxWait``. ``pending``: what was added while the key ran or was held, the one rerun that it
    makes (law 1).
    """

    key: RequestKey
    id: int
    tier: str
    priority: int
    reason: str
    real: bool
    ready_at: float
    observed: float
    state: KeyPlace = KeyPlace.DELAYED
    attempts: int = 0
    retry: bool = False
    merged: int = 0
    since: float = 0.0
    lane_since: float = 0.0
    error: str = ""
    leaf: "Leaf[Entry] | None" = None
    cell: "Cell | None" = None
    worker: str = ""
    handout: int = 0
    started: float = 0.0
    ran_as_retry: bool = False
    pending: KeyDemand | None = None


class Cell:
    """The entries of one (tier, controller, cluster): what metrics count, and the oldest of them."""

    __slots__ = ("cluster", "controller", "delayed", "ready", "running", "series", "tier")

    def __init__(self, tier: str, controller: ControllerLoad, cluster: ClusterLoad, series: SeriesEvents | None) -> None:
        self.tier = tier
        self.controller = controller
        self.cluster = cluster
        self.series = series
        self.ready: OrderedDict[int, Entry] = OrderedDict()
        """by id, in the order of ``lane_since``"""
        self.running: dict[int, Entry] = {}
        self.delayed = 0

    @property
    def full(self) -> bool:
        """Whether as many of its cluster's or its controller's keys are in flight as may be."""
        cluster, controller = self.cluster, self.controller
        return cluster.in_flight >= cluster.limit or controller.in_flight >= controller.limit


class Item(msgspec.Struct, frozen=True, gc=False):
    """A hand-out. ``id`` is unique in this queue; ``attempt`` counts from 1; ``waited`` in seconds since it was ready."""

    id: int
    key: RequestKey
    tier: str
    reason: str
    priority: int
    attempt: int
    waited: float
    added: float
