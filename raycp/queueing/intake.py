"""What enters the queue, and where it waits: merging by law 3, the heap of the delayed, the lanes of the ready."""

import heapq
import math
from collections.abc import Callable
from random import Random

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.classify.verdict import Priority
from raycp.queueing.entry import Cell, Entry, Pending, State
from raycp.queueing.events import QueueEvents
from raycp.queueing.fair import ClusterState, ControllerState
from raycp.queueing.headroom import Headroom
from raycp.queueing.holds import Holds
from raycp.queueing.lane import Lane
from raycp.queueing.policy import QueuePolicy
from raycp.queueing.waiters import Waiters

_READY, _DELAYED, _RUNNING, _HELD = State.READY, State.DELAYED, State.RUNNING, State.HELD

PROMOTE_AT_ONCE = 512
"""Delayed items that one pull makes ready at most, so that many falling due together don't make one pull slow."""


class Worker:
    """What a worker holds, and the most slots that it has been seen to have."""

    __slots__ = ("running", "slots")

    def __init__(self) -> None:
        self.running: dict[RequestKey, Entry] = {}
        self.slots = 0


class Intake:
    """The state of a queue, and all that puts a key somewhere in it. See ``QueueCore`` for the laws."""

    def __init__(self, policy: QueuePolicy, clock: Clock, metrics: QueueEvents | None = None, rng: Random | None = None) -> None:
        now = clock.now()
        self._policy = policy
        self._clock = clock
        self._metrics = metrics
        self._rng = rng if rng is not None else Random()
        self._entries: dict[RequestKey, Entry] = {}
        self._heap: list[tuple[float, int, Entry]] = []
        self._cells: dict[tuple[str, str, str], Cell] = {}
        self._clusters: dict[str, ClusterState] = {}
        self._controllers: dict[str, ControllerState] = {}
        self._workers: dict[str, Worker] = {}
        self._holds = Holds()
        self._leaving: set[str] = set()
        self._order: list[Lane] = [Lane(each, rank, now) for rank, each in enumerate(policy.lanes)]
        self._lanes: dict[str, Lane] = {lane.name: lane for lane in self._order}
        self._sequence = 0
        self._ready = 0
        self._delayed = 0
        self._slots = policy.slots
        self._work = 0.01  # mean work time, seconds
        self._vtime = 0.0
        self._stuck = False
        self._headroom = Headroom()
        self.on_due_changed: Callable[[], None] | None = None
        self._waiters = Waiters(clock, self._next_due, self._promote_due)

    def __len__(self) -> int:
        """Keys that are queued, delayed, running or held."""
        return len(self._entries)

    def __contains__(self, key: RequestKey) -> bool:
        return key in self._entries

    # -- in ------------------------------------------------------------------------------------------------------------

    def add(
        self,
        key: RequestKey,
        *,
        tier: str,
        priority: int = Priority.LIVE,
        delay: float = 0.0,
        reason: str = "",
        real: bool = True,
    ) -> bool:
        """Queue ``key``, ready in ``delay`` seconds; merged with what is there by law 3. An unknown tier is the
        default's.

        Returns False only if the key's cluster is being removed. Raises ``ValueError`` for a negative or undefined
        delay.
        """
        now = self._clock.now()
        ready_at = now if delay == 0.0 or self._policy.fifo else now + checked(delay)
        entry = self._entries.get(key)
        if entry is None:
            if self._leaving and key[1] in self._leaving:
                return False
            if tier not in self._lanes:
                tier = self._policy.default
            self._sequence = number = self._sequence + 1
            entry = Entry(key, number, tier, priority, reason, real, now, now)
            self._entries[key] = entry
            if ready_at == now:
                self._push(entry, now)
            else:
                self._put_off(entry, ready_at)
            return True
        if tier not in self._lanes:
            tier = self._policy.default
        entry.merged += 1
        if entry.state >= _RUNNING:
            self._merge_pending(entry, tier, priority, ready_at, reason, real, now)
        else:
            self._merge(entry, tier, priority, ready_at, reason, real, now)
        return True

    def _merge_pending(self, entry: Entry, tier: str, priority: int, ready_at: float, reason: str, real: bool, now: float) -> None:
        pending = entry.pending
        if pending is None:
            entry.pending = Pending(tier, priority, ready_at, reason, real, now)
            return
        if self._lanes[tier].rank < self._lanes[pending.tier].rank:
            pending.tier = tier
        if priority > pending.priority or (real and not pending.real):
            pending.reason = reason
        pending.priority = max(priority, pending.priority)
        if real or not pending.retry:
            pending.ready_at = min(ready_at, pending.ready_at)
            pending.retry = False
        pending.real = real or pending.real

    def _merge(self, entry: Entry, tier: str, priority: int, ready_at: float, reason: str, real: bool, now: float) -> None:
        """Law 3, for a key that is ready or delayed."""
        moved = False
        if tier != entry.tier:
            if self._lanes[tier].rank < self._lanes[entry.tier].rank:
                moved = True
            else:
                tier = entry.tier
        if priority > entry.priority:
            moved = True
        else:
            if real and not entry.real:
                entry.reason = reason
            priority = entry.priority
        wakes = real and entry.retry
        if moved or wakes:
            if priority > entry.priority or wakes:
                entry.reason = reason
            if entry.state is _READY:
                self._unqueue(entry)
                entry.tier, entry.priority, entry.retry = tier, priority, entry.retry and not wakes
                entry.real = real or entry.real
                self._push(entry, now, since=entry.since)
                return
            self._recount_delayed(entry, tier)
            entry.tier, entry.priority, entry.retry = tier, priority, entry.retry and not wakes
        entry.real = real or entry.real
        if entry.state is _DELAYED and not entry.retry and ready_at < entry.ready_at:
            self._undelay(entry)
            if ready_at <= now:
                self._push(entry, now)
            else:
                self._put_off(entry, ready_at)

    def _cell(self, entry: Entry) -> Cell:
        key = entry.key
        name = (entry.tier, key[0], key[1])
        cell = self._cells.get(name)
        if cell is None:
            lane = self._order[0] if self._policy.fifo else self._lanes[entry.tier]
            series = self._metrics.series(key[1], key[0], entry.tier) if self._metrics is not None else None
            cell = self._cells[name] = Cell(entry.tier, key[0], key[1], lane, series)
            lane.cells.append(cell)
        entry.cell = cell
        return cell

    def _push(self, entry: Entry, now: float, *, front: bool = False, since: float | None = None) -> None:
        """Make ``entry`` ready."""
        key = entry.key
        name = (entry.tier, key[0], key[1])
        cell = self._cells.get(name)
        if cell is None:
            cell = self._cell(entry)
        else:
            entry.cell = cell
        lane = cell.lane
        entry.state = _READY
        entry.since = now if since is None else since
        entry.lane_since = now
        cell.ready[entry.id] = entry
        if self._policy.fifo:
            controller, cluster, namespace = self._controller(""), self._cluster(""), ""
            tree = lane.tree(0, False)
        else:
            found = self._clusters.get(key[1])
            cluster = found if found is not None else self._cluster(key[1])
            known = self._controllers.get(key[0])
            controller = known if known is not None else self._controller(key[0])
            tree, namespace = lane.tree(entry.priority, entry.retry), key[2]
        tree.push(entry, cluster, controller, namespace, front)
        lane.queued += 1
        self._ready += 1
        if lane.queued == 1 and lane.vtime < self._vtime:
            lane.vtime = self._vtime  # back with the others: idle time is not saved up
        if cell.series is not None:
            cell.series.added()
        self._stuck = False
        if len(self._waiters):
            self._waiters.wake(entry.tier)

    def _unqueue(self, entry: Entry) -> None:
        """Take a ready entry out of its lane."""
        cell, leaf = entry.cell, entry.leaf
        assert cell is not None
        assert leaf is not None
        leaf.space.node.tree.discard(entry)
        del cell.ready[entry.id]
        cell.lane.queued -= 1
        self._ready -= 1

    def _put_off(self, entry: Entry, ready_at: float) -> None:
        entry.state = _DELAYED
        entry.ready_at = ready_at
        self._cell(entry).delayed += 1
        self._delayed += 1
        heap = self._heap
        heapq.heappush(heap, (ready_at, entry.id, entry))
        if len(heap) > 2 * self._delayed + 1_024:
            # Items that were woken leave their place behind; don't let these outnumber the living.
            heap[:] = [each for each in heap if each[2].state is _DELAYED and each[2].ready_at == each[0]]
            heapq.heapify(heap)
        if self.on_due_changed is not None and heap[0][2] is entry:
            self.on_due_changed()
        if len(self._waiters):
            self._waiters.arm()

    def _undelay(self, entry: Entry) -> None:
        assert entry.cell is not None
        entry.cell.delayed -= 1
        self._delayed -= 1
        entry.ready_at = -1.0  # its place in the heap is void

    def _recount_delayed(self, entry: Entry, tier: str) -> None:
        assert entry.cell is not None
        entry.cell.delayed -= 1
        entry.tier = tier
        self._cell(entry).delayed += 1

    def next_due(self) -> float:
        return self._next_due()

    def promote_due(self) -> None:
        self._promote_due()

    def _next_due(self) -> float:
        heap = self._heap
        while heap and (heap[0][2].state is not _DELAYED or heap[0][2].ready_at != heap[0][0]):
            heapq.heappop(heap)
        due = heap[0][0] if heap else math.inf
        return min(due, self._holds.next_deadline())

    def _promote_due(self) -> None:
        now = self._clock.now()
        self._promote(now, PROMOTE_AT_ONCE)
        self._release_expired(now)

    def _release_expired(self, now: float) -> None:
        for key in self._holds.expire(now):
            entry = self._entries.get(key)
            if entry is not None and entry.state is _HELD:
                self._leave(entry)

    def _promote(self, now: float, most: int) -> None:
        """Make ready what is due."""
        heap = self._heap
        while heap and heap[0][0] <= now and most > 0:
            due, _, entry = heapq.heappop(heap)
            if entry.state is _DELAYED and entry.ready_at == due:
                self._undelay(entry)
                self._push(entry, now, since=due)
                most -= 1

    def _leave(self, entry: Entry, front: bool = False) -> None:
        """What becomes of an entry that is in nobody's hands: held, queued again, or gone."""
        if len(self._holds) and entry.key in self._holds:
            entry.state = _HELD
            return
        pending = entry.pending
        if pending is None:
            del self._entries[entry.key]
            return
        now = self._clock.now()
        entry.pending = None
        entry.tier, entry.priority, entry.reason = pending.tier, pending.priority, pending.reason
        entry.real, entry.retry, entry.added = pending.real, pending.retry, pending.observed
        if pending.ready_at <= now:
            self._push(entry, now, front=front, since=pending.ready_at)
        else:
            self._put_off(entry, pending.ready_at)

    # -- who is who ----------------------------------------------------------------------------------------------------

    def _cluster(self, name: str) -> ClusterState:
        found = self._clusters.get(name)
        if found is None:
            found = self._clusters[name] = ClusterState(name, self._limit_of(name))
        return found

    def _limit_of(self, cluster: str) -> float:
        if self._policy.fifo:
            return math.inf
        limit = self._policy.cluster_limits.get(cluster, self._policy.cluster_in_flight)
        return math.inf if limit is None else limit

    def _controller(self, name: str) -> ControllerState:
        found = self._controllers.get(name)
        if found is None:
            cap = self._policy.concurrency.get(name)
            found = self._controllers[name] = ControllerState(name, math.inf if cap is None else cap)
        return found


def checked(delay: float) -> float:
    if not 0.0 <= delay < math.inf:
        raise ValueError(f"a delay must be a number of seconds from 0, not {delay}")
    return delay
