"""One tier's lane: its share of the slots, its priorities, its oldest item.

Slots are shared by virtual time (start-time fair queuing): a lane's ``vtime`` grows by the slots it holds, divided by
its share, and the lane that is least far gets the next slot; what it holds already counts ahead by the mean work time.
A lane that had nothing to do comes back level with the others: idle capacity is lent, neither saved up nor owed for,
but for one second at most. (Source: Goyal, Vin and Cheng, Start-time Fair Queuing, 1996.)
"""

import math
from bisect import insort

from raycp.queueing.entry import Cell, Entry
from raycp.queueing.explain import WaitHistogram
from raycp.queueing.fair import FairTree
from raycp.queueing.policy import LanePolicy

RETRY_TURN = 3
"""Within one priority, so many fresh items are served for each retry while both wait."""

WINDOW = 1.0
"""Seconds over which a share is averaged (law 4)."""


class PriorityClass:
    """The items of one priority: what happened, and apart from it what failed."""

    __slots__ = ("fresh", "priority", "retry", "turn")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.fresh = FairTree()
        self.retry = FairTree()
        self.turn = 0


class Lane:
    """Laws: a higher priority is always served first; retries hold at most their limit of slots; see the module for
    shares."""

    __slots__ = (
        "_by_priority",
        "budget",
        "cells",
        "classes",
        "in_flight",
        "inverse",
        "max_wait",
        "name",
        "next_check",
        "oldest_since",
        "overdue",
        "queued",
        "rank",
        "retries",
        "score",
        "share",
        "stamp",
        "vtime",
        "waits",
    )  # fmt: skip

    def __init__(self, policy: LanePolicy, rank: int, now: float) -> None:
        self.name = policy.name
        self.rank = rank
        self.classes: list[PriorityClass] = []
        self._by_priority: dict[int, PriorityClass] = {}
        self.cells: list[Cell] = []
        self.queued = 0
        self.in_flight = 0
        self.retries = 0
        self.vtime = 0.0
        self.score = 0.0
        self.stamp = now
        self.budget = 0.0
        self.next_check = now
        self.overdue = False
        self.oldest_since = math.inf
        self.waits = WaitHistogram()
        self.set_policy(policy, rank)

    def set_policy(self, policy: LanePolicy, rank: int) -> None:
        self.rank = rank
        self.share = policy.share
        self.inverse = 1.0 / policy.share
        self.max_wait = policy.max_wait
        self.next_check = 0.0

    def tree(self, priority: int, retry: bool) -> FairTree:
        """The tree of that priority."""
        found = self._by_priority.get(priority)
        if found is None:
            found = self._by_priority[priority] = PriorityClass(priority)
            insort(self.classes, found, key=lambda each: -each.priority)
        return found.retry if retry else found.fresh

    def advance(self, now: float, slots: int) -> None:
        """Account for the slots held since the last call. Call before ``in_flight`` changes."""
        elapsed = now - self.stamp
        if elapsed > 0.0:
            self.stamp = now
            self.vtime += self.in_flight * elapsed * self.inverse
            part = self.share * slots
            self.budget = min(max(self.budget + (part - self.in_flight) * elapsed, -slots * WINDOW), max(part, 0.01) * WINDOW)

    def pop(self, retry_limit: float, fewer_than: int | None = None) -> Entry | None:
        """The next entry to serve, or None if none may be; ``fewer_than`` as in ``FairTree.pop``."""
        for each in self.classes:
            fresh, retry = each.fresh, each.retry
            if retry.ring and self.retries < retry_limit and (each.turn >= RETRY_TURN or not fresh.ring):
                entry = retry.pop(fewer_than)
                if entry is not None:
                    each.turn = 0
                    return entry
            if fresh.ring:
                entry = fresh.pop(fewer_than)
                if entry is not None:
                    each.turn += 1
                    return entry
                if retry.ring and self.retries < retry_limit:
                    entry = retry.pop(fewer_than)
                    if entry is not None:
                        each.turn = 0
                        return entry
        return None

    def check_overdue(self, now: float) -> bool:
        """Whether the oldest item that may be served has been ready for longer than ``max_wait``.

        Looks at the cells only when the oldest of the last look could be overdue by now: anything newer can't be.
        """
        if now >= self.next_check:
            oldest = self.oldest(now)
            self.oldest_since = oldest
            self.next_check = min(oldest, now) + self.max_wait
            self.overdue = self.next_check <= now
        return self.overdue

    def oldest(self, now: float) -> float:
        """Since when the oldest item that may be served is ready; infinity if there is none."""
        oldest = math.inf
        for cell in self.cells:
            if cell.ready:
                entry = next(iter(cell.ready.values()))
                leaf = entry.leaf
                if entry.lane_since < oldest and leaf is not None:
                    cluster, controller = leaf.space.node.state, leaf.controller
                    if cluster.in_flight < cluster.limit and controller.in_flight < controller.cap:
                        oldest = entry.lane_since
        return oldest

    def may_exceed(self, slots: int) -> bool:
        """Whether an overdue item may be served out of turn: the lane is below its share, averaged over a second."""
        return self.budget > 0.0 and self.in_flight < max(1, math.ceil(self.share * slots))
