"""What a queue answers: depths for metrics, delays for autoscaling, reasons for ``raycp why``."""

import msgspec

from raycp.base.keys import RequestKey


class Depth(msgspec.Struct, frozen=True, array_like=True):
    """One (tier, controller, cluster). ``ready`` is what depth means everywhere; times in seconds."""

    tier: str
    controller: str
    cluster: str
    ready: int
    delayed: int
    running: int
    oldest: float
    unfinished: float
    longest_running: float


class TierDelay(msgspec.Struct, frozen=True, array_like=True):
    """One tier's recent queue delay: ``p50``, ``p99`` and ``worst`` in seconds over the ``handed_out`` hand-outs of the last 5 to
    10 seconds; ``oldest``: age of the oldest ready key that may be served."""

    tier: str
    ready: int
    in_flight: int
    oldest: float
    handed_out: int
    p50: float
    p99: float
    worst: float


class Why(msgspec.Struct, frozen=True):
    """Where a key is and why. ``state``: ready, delayed, running or held. ``ahead``: keys of its lane that are to be served
    before it, as things stand now. ``waits_for``: in words, empty if only for its turn. Times in seconds."""

    key: RequestKey
    state: str
    tier: str
    priority: int
    reason: str
    retry: bool
    attempts: int
    age: float
    ready_for: float
    delay_left: float
    ahead: int
    coalesced: int
    worker: str
    rerun: bool
    waits_for: str
    error: str


class Saved(msgspec.Struct, array_like=True, gc=False):
    """One key as it is handed over: to the successor of a shard, or in the stream to its standbys.

    Times are ages and delays in seconds, since clocks of two hosts can't be compared. ``delay``: until it is ready, 0 if it is.
    ``age``: since it was added; ``ready_for``: since it was ready. ``worker``: the worker that holds it, empty if none does; such a
    key is passed on as interrupted, not as failed. ``holds``: the reasons that hold it. ``due``: whether there is anything to do
    (a key may be held, with nothing added).
    """

    key: RequestKey
    tier: str
    priority: int
    reason: str
    real: bool
    delay: float
    age: float
    ready_for: float
    attempts: int
    retry: bool
    worker: str = ""
    holds: list[str] = []
    due: bool = True
    error: str = ""
