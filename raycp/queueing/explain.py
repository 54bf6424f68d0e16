"""Answers about a queue: depths for metrics, delays for autoscaling, reasons for ``raycp why``."""

import math

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
    """One tier's recent queue delay: ``p50``, ``p99`` and ``worst`` in seconds over hand-outs of the last 5 to 10
    seconds, which were ``handed_out``; ``oldest``: age of the oldest ready item that may be served."""

    tier: str
    ready: int
    in_flight: int
    oldest: float
    handed_out: int
    p50: float
    p99: float
    worst: float


class Why(msgspec.Struct, frozen=True):
    """Where a key is and why. ``state``: ready, delayed, running or held. ``ahead``: items of its lane that are to be
    served before it, as things stand now. ``waits_for``: in words, empty if for its turn only."""

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


class WaitHistogram:
    """Waiting times of the last 5 to 10 seconds, in buckets of 19 % width. Cheap to feed, exact enough to scale on."""

    __slots__ = ("_before", "_counts", "_turn", "_worst", "_worst_before")

    WINDOW = 5.0

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self._worst = 0.0
        self._worst_before = 0.0
        self._turn = 0.0

    def observe(self, waited: float, now: float) -> None:
        if now >= self._turn:
            self._rotate(now)
        bucket = int(4.0 * math.log2(waited * 1e5 + 1.0))
        counts = self._counts
        counts[bucket] = counts.get(bucket, 0) + 1
        if waited > self._worst:
            self._worst = waited

    def summary(self, now: float) -> tuple[int, float, float, float]:
        """Count, p50, p99, worst."""
        if now >= self._turn:
            self._rotate(now)
        merged = dict(self._before)
        for bucket, count in self._counts.items():
            merged[bucket] = merged.get(bucket, 0) + count
        total = sum(merged.values())
        worst = max(self._worst, self._worst_before)
        return total, self._quantile(merged, total, 0.50, worst), self._quantile(merged, total, 0.99, worst), worst

    def _rotate(self, now: float) -> None:
        stale = now >= self._turn + self.WINDOW
        self._before = {} if stale else self._counts
        self._worst_before = 0.0 if stale else self._worst
        self._counts = {}
        self._worst = 0.0
        self._turn = now + self.WINDOW

    @staticmethod
    def _quantile(counts: dict[int, int], total: int, share: float, worst: float) -> float:
        left = math.ceil(total * share)
        for bucket in sorted(counts):
            left -= counts[bucket]
            if left <= 0:
                return float(min((2.0 ** ((bucket + 1) / 4.0) - 1.0) / 1e5, worst))
        return 0.0
