"""Add, pull, done: the way of a key through the queue."""

import heapq
import math
from random import Random

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.classify.verdict import Priority, Reason
from raycp.queueing.entry import Cell, Entry, Item, Pending, State
from raycp.queueing.events import QueueEvents
from raycp.queueing.fair import ClusterState, ControllerState
from raycp.queueing.holds import Holds
from raycp.queueing.lane import WINDOW, Lane
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


class QueueCore:
    """A queue of reconcile requests, pulled by many workers. Not thread-safe: it belongs to one event loop.

    Laws (DESIGN section 4; tests quote them by number):

    1. One key, one worker. What is added while a key runs makes exactly one rerun, after its end.
    2. Nothing is lost: what was added is handed out, or queued, delayed, held; a dead worker's keys return.
    3. Adding again keeps the higher priority, the more urgent tier and the earlier time. A raised item goes to the end
    of its
       new priority. Something real (``real=True``) cancels a system delay; a retry's backoff is shortened by nothing
       else.
    4. No lane starves: see ``lane``. A lane whose oldest servable item is older than ``max_wait`` goes first, as long
    as it is
       below its share averaged over a second; within a lane the priority decides always.
    5. No cluster, namespace or controller harms another: see ``fair``.

    Costs: ``add``, ``pull`` (per item) and ``done`` are O(1) amortised, O(log n) with a delay.
    """

    def __init__(
        self, policy: QueuePolicy, clock: Clock, metrics: QueueEvents | None = None, rng: Random | None = None
    ) -> None:
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
        ready_at = now if delay == 0.0 or self._policy.fifo else now + _checked(delay)
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

    def _merge_pending(
        self, entry: Entry, tier: str, priority: int, ready_at: float, reason: str, real: bool, now: float
    ) -> None:
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

    def _merge(
        self, entry: Entry, tier: str, priority: int, ready_at: float, reason: str, real: bool, now: float
    ) -> None:
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

    # -- out -----------------------------------------------------------------------------------------------------------

    def pull(self, worker: str, n: int, *, prefer: str | None = None, slots: int | None = None) -> list[Item]:
        """Hand out up to ``n`` keys to ``worker``; never waits. ``prefer``: the tier that this worker is reserved for.

        ``slots``: how many slots the worker has in all, from which shares are counted; without it the most that it has
        been seen to have.
        """
        now = self._clock.now()
        if self._heap and self._heap[0][0] <= now:
            self._promote(now, PROMOTE_AT_ONCE)
        if len(self._holds) and self._holds.next_deadline() <= now:
            self._release_expired(now)
        holder = self._workers.get(worker)
        if holder is None:
            holder = self._workers[worker] = Worker()
        seen = slots if slots is not None else max(holder.slots, len(holder.running) + n)
        if seen != holder.slots:
            holder.slots = seen
            self._slots = max(1, sum(each.slots for each in self._workers.values()))
        if n <= 0 or not self._ready:
            return []
        lanes = self._backlogged(now)
        total_share = sum(lane.share for lane in lanes)
        retry_slots = self._policy.retry_share * self._slots / total_share
        step = self._work
        items: list[Item] = []
        while lanes and n > 0:
            lane = lanes[0] if len(lanes) == 1 else self._choose(lanes, prefer, now)
            entry = lane.pop(max(1.0, retry_slots * lane.share))
            if entry is None:
                lanes.remove(lane)
                continue
            n -= 1
            lane.score += step * lane.inverse
            # -- hand out
            cell, leaf = entry.cell, entry.leaf
            assert cell is not None
            assert leaf is not None
            leaf.space.node.state.in_flight += 1
            leaf.controller.in_flight += 1
            lane.in_flight += 1
            lane.queued -= 1
            self._ready -= 1
            if entry.retry:
                lane.retries += 1
            entry.ran_as_retry = entry.retry
            entry.state = _RUNNING
            entry.worker = worker
            self._sequence = entry.handout = number = self._sequence + 1
            entry.started = now
            del cell.ready[entry.id]
            cell.running[entry.id] = entry
            holder.running[entry.key] = entry
            waited = now - entry.since
            lane.waits.observe(waited, now)
            if cell.series is not None:
                cell.series.got(waited)
            if lane.overdue:
                lane.next_check = now
            items.append(
                Item(
                    number, entry.key, entry.tier, entry.reason, entry.priority, entry.attempts + 1, waited, entry.added
                )
            )
            if not lane.queued:
                lanes.remove(lane)
        if not items:
            self._stuck = True
        elif lanes and len(self._waiters):
            self._waiters.wake()
        return items

    def _backlogged(self, now: float) -> list[Lane]:
        """Lanes with ready items, their virtual times brought up to ``now``."""
        slots = self._slots
        lanes: list[Lane] = []
        least = math.inf
        for lane in self._order:
            if lane.queued:
                lane.advance(now, slots)
                lanes.append(lane)
                if lane.vtime < least:
                    least = lane.vtime
        if least > self._vtime:
            self._vtime = least
        most = least + slots * WINDOW
        for lane in lanes:
            if lane.vtime > most:
                lane.vtime = most  # what it had of others' idle slots is held against it for a second at most
            lane.score = lane.vtime + self._work * lane.in_flight * lane.inverse
        return lanes

    def _choose(self, lanes: list[Lane], prefer: str | None, now: float) -> Lane:
        """The lane that gets the next slot: an overdue one, else the preferred one, else the least served for its
        share."""
        best: Lane | None = None
        for lane in lanes:
            if (
                (now >= lane.next_check or lane.overdue)
                and lane.check_overdue(now)
                and (best is None or lane.score < best.score)
                and lane.may_exceed(self._slots)
            ):
                best = lane
        if best is not None:
            return best
        if prefer is not None:
            for lane in lanes:
                if lane.name == prefer:
                    return lane
        best = lanes[0]
        for lane in lanes:
            if lane.score < best.score:
                best = lane
        return best

    async def wait_ready(self, timeout: float, prefer: str | None = None) -> bool:
        """Wait until there may be something to pull, ``timeout`` seconds at most. Returns whether there may.

        Any number of workers may wait; one item wakes one, first those that ``prefer`` its tier.
        """
        now = self._clock.now()
        if self._heap and self._heap[0][0] <= now:
            self._promote(now, PROMOTE_AT_ONCE)
        if self._ready and not self._stuck:
            return True
        if timeout <= 0:
            return False
        return await self._waiters.wait(timeout, prefer)

    # -- back ----------------------------------------------------------------------------------------------------------

    def done(self, worker: str, key: RequestKey, *, id: int | None = None) -> bool:
        """The reconcile succeeded, or failed for good. Returns False, and does nothing, if ``worker`` does not hold
        it."""
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        entry.attempts = 0
        entry.error = ""
        self._leave(entry)
        return True

    def retry(
        self,
        worker: str,
        key: RequestKey,
        *,
        id: int | None = None,
        retry_after: float | None = None,
        reason: str = "error",
        error: str = "",
    ) -> float | None:
        """The reconcile failed: again after its backoff, or after ``retry_after`` seconds if given.

        Something real that came while it ran makes it ready at once. Returns the delay in seconds, or None if
        ``worker`` does not hold the key.
        """
        if retry_after is not None:
            _checked(retry_after)
        entry = self._take(worker, key, id)
        if entry is None:
            return None
        return self._fail(entry, retry_after, reason, error)

    def requeue(
        self,
        worker: str,
        key: RequestKey,
        after: float,
        *,
        id: int | None = None,
        tier: str | None = None,
        priority: int = Priority.POLL,
        reason: str = Reason.POLL,
    ) -> bool:
        """The reconcile succeeded and asks to be run again in ``after`` seconds: in the background, unless it names a
        tier. What it was run as does not matter: polls never ratchet up."""
        _checked(after)
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        entry.attempts = 0
        entry.error = ""
        tier = tier if tier in self._lanes else self._policy.background
        now = self._clock.now()
        self._merge_pending(entry, tier, priority, now + after, reason, False, now)
        if entry.cell is not None and entry.cell.series is not None:
            entry.cell.series.retried("requeue_after")
        self._leave(entry)
        return True

    def interrupted(self, worker: str, key: RequestKey, *, id: int | None = None) -> bool:
        """The reconcile was revoked before its end: the key returns to the front of its lane, and no failure is
        counted."""
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        self._return(entry, Reason.INTERRUPTED)
        return True

    def _take(self, worker: str, key: RequestKey, id: int | None) -> Entry | None:
        """Take the key back from the worker's hands; None if it is not there (a late answer of a worker given up)."""
        holder = self._workers.get(worker)
        entry = holder.running.get(key) if holder is not None else None
        if holder is None or entry is None or (id is not None and entry.handout != id):
            return None
        del holder.running[key]
        self._settle(entry)
        return entry

    def _settle(self, entry: Entry) -> None:
        """Free the slot that the entry held."""
        now = self._clock.now()
        cell, leaf = entry.cell, entry.leaf
        assert cell is not None
        assert leaf is not None
        seconds = now - entry.started
        work = self._work
        self._work = work + 0.02 * (min(max(seconds, 1e-4), 1.0) - work)
        lane = cell.lane
        lane.advance(now, self._slots)
        lane.in_flight -= 1
        if entry.ran_as_retry:
            lane.retries -= 1
            entry.ran_as_retry = False
        node = leaf.space.node
        node.tree.settle(leaf, seconds / work)
        entry.leaf = None
        entry.worker = ""
        if entry.tier not in self._lanes:
            entry.tier = self._policy.default  # its tier was taken away while it ran
        cluster, controller = node.state, leaf.controller
        cluster.in_flight -= 1
        controller.in_flight -= 1
        if cluster.in_flight + 1 >= cluster.limit or controller.in_flight + 1 >= controller.cap:
            for each in self._order:
                each.next_check = now  # what stood aside may be older than what was oldest
            if cluster.parked and cluster.in_flight < cluster.limit:
                cluster.step_in()
            if controller.parked and controller.in_flight < controller.cap:
                controller.step_in()
        del cell.running[entry.id]
        if cell.series is not None:
            cell.series.done(seconds)
        if self._ready:
            self._stuck = False
            if len(self._waiters):
                self._waiters.wake()

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

    def _fail(self, entry: Entry, retry_after: float | None, reason: str, error: str) -> float:
        entry.attempts += 1
        entry.error = error
        if entry.cell is not None and entry.cell.series is not None:
            entry.cell.series.retried(reason)
        now = self._clock.now()
        pending = entry.pending
        if pending is not None and pending.real:
            # Something real came while it ran: no backoff, and the attempts go on counting.
            delay = max(0.0, pending.ready_at - now)
            self._merge_pending(entry, entry.tier, entry.priority, pending.ready_at, "", True, now)
        else:
            backoff = self._policy.backoffs.get(entry.key[0], self._policy.backoff)
            delay = retry_after if retry_after is not None else backoff.delay(entry.attempts, self._rng)
            self._merge_pending(entry, entry.tier, entry.priority, now + delay, Reason.RETRY, False, now)
            assert entry.pending is not None
            # Whatever else was added brings it forward no more (law 3).
            entry.pending.ready_at = now + delay
            entry.pending.reason = Reason.RETRY
            entry.pending.retry = True
            entry.pending.observed = entry.added
        self._leave(entry)
        return delay

    def _return(self, entry: Entry, reason: str) -> None:
        """Back to the front of its lane, as it was handed out."""
        now = self._clock.now()
        pending = entry.pending
        retry = entry.retry and not (pending is not None and pending.real)
        self._merge_pending(entry, entry.tier, entry.priority, now, reason, entry.real, now)
        assert entry.pending is not None
        entry.pending.ready_at = now
        entry.pending.retry = retry
        entry.pending.observed = entry.added
        if entry.cell is not None and entry.cell.series is not None:
            entry.cell.series.retried(reason)
        self._leave(entry, front=True)

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


def _checked(delay: float) -> float:
    if not 0.0 <= delay < math.inf:
        raise ValueError(f"a delay must be a number of seconds from 0, not {delay}")
    return delay
