"""The lanes: of each tier its ready keys by priority, and which lane gets the next slot (law 4).

Lanes share slots by virtual time (start-time fair queuing): a lane's ``vtime`` grows by the slots it holds, divided by its
share, and the lane with the least gets the next slot; what it holds already counts ahead by the mean work time. A lane that had
nothing to do comes back level with the others: idle capacity is lent, neither saved up nor owed for, but for one second at most.
(Source: Goyal, Vin and Cheng, Start-time Fair Queuing, 1996.)
"""

import math
from bisect import insort

from raycp.queueing.entry import Cell, Entry, KeyPlace
from raycp.queueing.events import QueueEvents
from raycp.queueing.fair import FairTree
from raycp.queueing.limits import Limits
from raycp.queueing.policy import LanePolicy

_READY = KeyPlace.READY

RETRY_TURN = 3
"""Within one priority, so many fresh keys are served for each retry while both wait."""

WINDOW = 1.0
"""Seconds over which a share is averaged (law 4)."""


class WaitHistogram:
    """Waiting times of the last 5 to 10 seconds, in buckets of 19 % width: cheap to feed, exact enough to scale on."""

    __slots__ = ("_before", "_counts", "_turn", "_worst", "_worst_before")

    WINDOW = 5.0

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self._worst = 0.0
        self._worst_before = 0.0
        self._turn = 0.0

    def observe(self, waits: list[float], now: float) -> None:
        """Count hand-outs of ``now`` by how long they waited, in seconds."""
        if now >= self._turn:
            self._rotate(now)
        counts = self._counts
        for waited in waits:
            bucket = int(4.0 * math.log2(waited * 1e5 + 1.0))
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


class PriorityClass:
    """The entries of one priority: those that something happened to, and apart from them those that failed."""

    __slots__ = ("fresh", "priority", "retry", "turn")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.fresh: FairTree[Entry] = FairTree()
        self.retry: FairTree[Entry] = FairTree()
        self.turn = 0


class Lane:
    """A higher priority is always served first; retries hold at most their limit of slots; for shares see the module.

    ``queued``, ``in_flight``, ``retries``: entries that are ready, handed out, handed out as retries.
    """

    __slots__ = (
        "_waited",
        "_waits",
        "budget",
        "by_priority",
        "cells",
        "classes",
        "in_flight",
        "inverse",
        "max_wait",
        "name",
        "next_check",
        "overdue",
        "queued",
        "retries",
        "score",
        "share",
        "stamp",
        "vtime",
    )  # fmt: skip

    def __init__(self, policy: LanePolicy, now: float) -> None:
        self.name = policy.name
        self.classes: list[PriorityClass] = []
        self.by_priority: dict[int, PriorityClass] = {}
        self.cells: dict[tuple[str, str], Cell] = {}
        """by controller and cluster"""
        self.queued = 0
        self.in_flight = 0
        self.retries = 0
        self.vtime = 0.0
        self.score = 0.0
        self.stamp = now
        self.budget = 0.0
        self.next_check = now
        self.overdue = False
        self._waits = WaitHistogram()
        self._waited: list[float] = []
        """of what was handed out since the last ``advance``"""
        self.set_policy(policy)

    def set_policy(self, policy: LanePolicy) -> None:
        """Apply the share and the ``maxWait`` of ``policy``."""
        self.share = policy.share
        self.inverse = 1.0 / policy.share
        self.max_wait = policy.max_wait
        self.next_check = 0.0

    def advance(self, now: float, slots: int) -> None:
        """Account for the slots held since the last call. Call before ``in_flight`` changes."""
        if self._waited:
            self._waits.observe(self._waited, self.stamp)
            self._waited = []
        elapsed = now - self.stamp
        if elapsed > 0.0:
            self.stamp = now
            self.vtime += self.in_flight * elapsed * self.inverse
            part = self.share * slots
            self.budget = min(max(self.budget + (part - self.in_flight) * elapsed, -slots * WINDOW), max(part, 0.01) * WINDOW)

    def priority_class(self, priority: int) -> PriorityClass:
        """The class of ``priority``, new if need be."""
        found = self.by_priority.get(priority)
        if found is None:
            found = self.by_priority[priority] = PriorityClass(priority)
            insort(self.classes, found, key=lambda each: -each.priority)
        return found

    def discard(self, entry: Entry) -> None:
        """Withdraw a ready entry."""
        cell, leaf = entry.cell, entry.leaf
        assert cell is not None
        assert leaf is not None
        self.queued -= 1
        del cell.ready[entry.id]
        leaf.discard(entry)

    def take(self, entry: Entry, now: float) -> Entry:
        """Serve a ready entry outside of its turn: it is in flight now. Its cell is not ``full``. Returns it."""
        leaf = entry.leaf
        assert leaf is not None
        leaf.take(entry)
        self.queued -= 1
        self.in_flight += 1
        self.retries += entry.retry
        self._waited.append(now - entry.since)
        return entry

    def pop(self, now: float, retry_limit: float, below: float) -> Entry | None:
        """The next entry to serve, now counted in flight, or None if none may be; ``below`` as in ``FairTree.pop``."""
        for each in self.classes:
            fresh, retry = each.fresh, each.retry
            retries = retry.ring.members and self.retries < retry_limit
            entry: Entry | None = None
            if retries and (each.turn >= RETRY_TURN or not fresh.ring.members):
                entry = retry.pop(below)
            if entry is None and fresh.ring.members:
                entry = fresh.pop(below)
                if entry is None and retries:
                    entry = retry.pop(below)
            if entry is not None:
                self.queued -= 1
                self.in_flight += 1
                if entry.retry:
                    self.retries += 1
                    each.turn = 0
                else:
                    each.turn += 1
                self._waited.append(now - entry.since)
                return entry
        return None

    def check_overdue(self, now: float) -> bool:
        """Whether the oldest entry that may be served has been ready for longer than ``max_wait``.

        Looks at the cells only when the oldest of the last look could be overdue by now: anything newer can't be.
        """
        if now >= self.next_check:
            self.next_check = min(self.oldest(), now) + self.max_wait
            self.overdue = self.next_check <= now
        return self.overdue

    def oldest(self) -> float:
        """Since when the oldest entry that may be served is ready; infinity if there is none."""
        oldest = math.inf
        for cell in self.cells.values():
            if cell.ready and cell.cluster.in_flight < cell.cluster.limit and cell.controller.in_flight < cell.controller.limit:
                oldest = min(oldest, next(iter(cell.ready.values())).lane_since)
        return oldest

    def may_exceed(self, slots: int) -> bool:
        """Whether an overdue entry may be served out of turn: the lane is below its share, averaged over a second."""
        return self.budget > 0.0 and self.in_flight < max(1, math.ceil(self.share * slots))

    def recent_waits(self, now: float) -> tuple[int, float, float, float]:
        """Of the hand-outs of the last 5 to 10 seconds: count, and p50, p99 and worst of the waiting times in seconds."""
        self._waits.observe(self._waited, self.stamp)
        self._waited = []
        return self._waits.summary(now)


class Lanes:
    """``order`` from the most to the least urgent; ``ranks``: their places in it; ``work``: mean work time in seconds.

    ``vtime``: the virtual time of the lane that is least far, among those with ready entries.
    """

    __slots__ = ("_limits", "_metrics", "by_name", "order", "ranks", "vtime", "work")

    def __init__(self, policies: tuple[LanePolicy, ...], limits: Limits, metrics: QueueEvents | None, now: float) -> None:
        self._limits = limits
        self._metrics = metrics
        self.by_name: dict[str, Lane] = {}
        self.order: list[Lane] = []
        self.ranks: dict[str, int] = {}
        self.vtime = 0.0
        self.work = 0.01
        self.set_policies(policies, 1, now)

    def set_policies(self, policies: tuple[LanePolicy, ...], slots: int, now: float) -> set[str]:
        """Apply other policies. Returns the lanes that have none: the caller moves their entries, then drops them."""
        self.order = []
        for policy in policies:
            lane = self.by_name.get(policy.name)
            if lane is None:
                lane = self.by_name[policy.name] = Lane(policy, now)
                lane.vtime = self.vtime
            lane.advance(now, slots)
            lane.set_policy(policy)
            self.order.append(lane)
        self.ranks = {lane.name: rank for rank, lane in enumerate(self.order)}
        return set(self.by_name) - set(self.ranks)

    def transfer(self, entry: Entry, tier: str) -> None:
        """Count a running entry in the lane of another tier."""
        assert entry.cell is not None
        before, after = self.by_name[entry.tier], self.by_name[tier]
        for lane, count in ((before, -1), (after, 1)):
            lane.in_flight += count
            lane.retries += count if entry.ran_as_retry else 0
        del entry.cell.running[entry.id]
        entry.tier = tier
        entry.cell = self.cell(tier, entry.key[0], entry.key[1])
        entry.cell.running[entry.id] = entry

    def drop(self, names: set[str]) -> None:
        """Remove lanes that are empty."""
        for name in names:
            del self.by_name[name]

    def drop_cluster(self, cluster: str) -> None:
        """Forget the cells of a cluster that left; what still runs of it ends on its own."""
        for lane in self.order:
            for key in [key for key in lane.cells if key[1] == cluster]:
                del lane.cells[key]

    def cell(self, tier: str, controller: str, cluster: str) -> Cell:
        """The cell of these, new if need be."""
        cells = self.by_name[tier].cells
        found = cells.get((controller, cluster))
        if found is None:
            series = self._metrics.series(cluster, controller, tier) if self._metrics is not None else None
            states = self._limits.controller(controller), self._limits.cluster(cluster)
            found = cells[controller, cluster] = Cell(tier, *states, series)
        return found

    def push(self, entry: Entry, now: float, since: float, front: bool = False) -> None:
        """Make ``entry`` ready in its tier's lane: behind those of its own namespace and controller, or in ``front`` of them.

        ``since``: the time from which its waiting counts.
        """
        key = entry.key
        lane = self.by_name[entry.tier]
        if not lane.queued and lane.vtime < self.vtime:
            lane.vtime = self.vtime  # back with the others: idle time is not saved up
        cell = lane.cells.get((key[0], key[1]))
        if cell is None:
            cell = self.cell(entry.tier, key[0], key[1])
        entry.cell = cell
        entry.state = _READY
        entry.since = since
        entry.lane_since = now
        cell.ready[entry.id] = entry
        if cell.series is not None:
            cell.series.added()
        lane.queued += 1
        found = lane.by_priority.get(entry.priority) or lane.priority_class(entry.priority)
        tree = found.retry if entry.retry else found.fresh
        tree.push(entry, cell.cluster, cell.controller, key[2], front)

    def check_all(self, now: float) -> None:
        """A limit has changed: what stood aside may be older than what was the oldest."""
        for lane in self.order:
            lane.next_check = now

    def compete(self, lanes: list[Lane], now: float, slots: int) -> bool:
        """Bring several lanes up to ``now`` and score them. Returns whether one of them may have an overdue entry."""
        least = math.inf
        urgent = False
        for lane in lanes:
            lane.advance(now, slots)
            least = min(least, lane.vtime)
            urgent = urgent or now >= lane.next_check
        self.vtime = max(self.vtime, least)
        most = least + slots * WINDOW
        for lane in lanes:
            # What a lane had of others' idle slots counts against it for a second at most.
            lane.vtime = min(lane.vtime, most)
            lane.score = lane.vtime + self.work * lane.in_flight * lane.inverse
        return urgent

    @staticmethod
    def choose(lanes: list[Lane], prefer: str | None, now: float, urgent: bool, slots: int) -> Lane:
        """The lane that gets the next slot: an overdue one, else the preferred one, else the least served for its share."""
        best: Lane | None = None
        if urgent:
            for lane in lanes:
                if (
                    now >= lane.next_check
                    and lane.check_overdue(now)
                    and (best is None or lane.score < best.score)
                    and lane.may_exceed(slots)
                ):
                    best = lane
            if best is not None:
                return best
        best = lanes[0]
        for lane in lanes:
            if lane.name == prefer:
                return lane
            if lane.score < best.score:
                best = lane
        return best
