"""Pull and done: the way of a key through the hands of workers."""

import math

from raycp.base.keys import RequestKey
from raycp.classify.verdict import Priority, Reason
from raycp.queueing.entry import Entry, Item, State
from raycp.queueing.intake import PROMOTE_AT_ONCE, Intake, Worker, checked
from raycp.queueing.lane import WINDOW, Lane

_RUNNING = State.RUNNING


class QueueCore(Intake):
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
    5. No cluster, namespace or controller harms another: see ``fair`` and ``headroom``.

    Costs: ``add``, ``pull`` (per item) and ``done`` are O(1) amortised, O(log n) with a delay.
    """

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
        kept = 0 if self._policy.fifo else self._headroom.slots(self._policy.headroom, self._slots, now)
        free = self._slots - sum(lane.in_flight for lane in self._order) if kept else 0
        urgent = any(now >= lane.next_check for lane in lanes)
        items: list[Item] = []
        while lanes and n > 0:
            lane = lanes[0] if len(lanes) == 1 else self._choose(lanes, prefer, now, urgent)
            entry = lane.pop(max(1.0, retry_slots * lane.share), kept if kept and free <= kept else None)
            if entry is None:
                lanes.remove(lane)
                continue
            n -= 1
            free -= 1
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
            items.append(Item(number, entry.key, entry.tier, entry.reason, entry.priority, entry.attempts + 1, waited, entry.added))
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

    def _choose(self, lanes: list[Lane], prefer: str | None, now: float, urgent: bool) -> Lane:
        """The lane that gets the next slot: an overdue one, else the preferred one, else the least served for its
        share."""
        if urgent:
            first: Lane | None = None
            for lane in lanes:
                if (
                    now >= lane.next_check
                    and lane.check_overdue(now)
                    and (first is None or lane.score < first.score)
                    and lane.may_exceed(self._slots)
                ):
                    first = lane
            if first is not None:
                return first
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
            checked(retry_after)
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
        checked(after)
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

    def interrupted(self, worker: str, key: RequestKey, *, id: int | None = None, reason: str = Reason.INTERRUPTED) -> bool:
        """The reconcile was revoked before its end: the key returns to the front of its lane, and no failure is
        counted."""
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        self._return(entry, reason)
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
        if entry.priority >= Priority.AWAY:
            self._headroom.ended(node.state.name, entry.key.namespace, leaf.space.queued > 0, now)
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
