"""The work queue of a shard: the path of a key from ``add`` through ``pull`` to ``done``, put together from its parts."""

import math
from collections.abc import Callable, Iterable
from random import Random

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.classify.verdict import Priority, Reason
from raycp.queueing import explain, handover
from raycp.queueing.answers import Depth, Saved, TierDelay, Why
from raycp.queueing.contents import Contents
from raycp.queueing.entry import Entry, Item, KeyDemand, KeyPlace
from raycp.queueing.events import QueueEvents
from raycp.queueing.fair import Headroom
from raycp.queueing.lane import Lanes
from raycp.queueing.limits import Limits
from raycp.queueing.merge import after_failure, demand_of
from raycp.queueing.policy import QueuePolicy
from raycp.queueing.workers import Workers

_READY, _RUNNING = KeyPlace.READY, KeyPlace.RUNNING
_USERS = int(Priority.AWAY)
"""From this priority on, a key is due because of a user's change."""

PROMOTE_AT_ONCE = 512
"""Due keys that one pull makes ready at most, so that many falling due together don't make one pull slow."""


class WorkQueue:
    """A queue of reconcile requests, pulled by many workers. Not thread-safe: it belongs to one event loop.

    Law 1: what is added while a key runs makes exactly one rerun, after its end.
    Law 2: what was added is handed out, or is ready, delayed or held; a dead worker's keys return.
    Law 3: see ``merge``. A raised key goes to the end of its new priority.
    Law 4: see ``lane``. A lane whose oldest servable key is older than ``max_wait`` goes first, as long as it is
    below its share averaged over a second; within a lane the priority decides always.
    Law 5: see ``ring``, ``fair`` and ``limits``.

    ``add``, ``pull`` (per item) and ``done`` cost O(1) amortised, O(log n) with a delay. ``on_due_changed`` is called when the
    time of ``next_due`` has moved forward.
    """

    def __init__(self, policy: QueuePolicy, clock: Clock, metrics: QueueEvents | None = None, rng: Random | None = None) -> None:
        self.on_due_changed: Callable[[], None] | None = None
        self._policy = policy
        self._clock = clock
        self._rng = rng if rng is not None else Random()
        self._workers = Workers(policy.slots)
        self._limits = Limits(policy)
        self._headroom = Headroom()
        self._lanes = Lanes(policy.lanes, self._limits, metrics, clock.now())
        self._contents = Contents(self._lanes, self._due_changed)
        self._entries = self._contents.entries
        self._delays = self._contents.delays
        self._holds = self._contents.holds

    def __len__(self) -> int:
        """Keys that are ready, delayed, running or held."""
        return len(self._entries)

    def __contains__(self, key: RequestKey) -> bool:
        return key in self._entries

    @property
    def ready(self) -> int:
        """Ready keys in all lanes, blocked ones too."""
        return sum([lane.queued for lane in self._lanes.order])

    @property
    def delayed(self) -> int:
        """Delayed keys."""
        return self._delays.count

    @property
    def policy(self) -> QueuePolicy:
        """What applies now."""
        return self._policy

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
        """Queue ``key``, ready in ``delay`` seconds, merged with what is there by law 3. An unknown tier means the default one.
        Returns False only if the key's cluster is being removed. Raises ``ValueError`` for a negative or undefined delay."""
        now = self._clock.now()
        ready_at = now if delay == 0.0 else now + _checked(delay)
        if tier not in self._lanes.by_name:
            tier = self._policy.default
        entry = self._entries.get(key)
        if entry is None:
            if key[1] in self._contents.leaving:
                return False
            self._contents.sequence = number = self._contents.sequence + 1
            entry = self._entries[key] = Entry(key, number, tier, priority, reason, real, ready_at, now)
            if ready_at == now:
                self._lanes.push(entry, now, now)
            else:
                self._contents.put_off(entry, ready_at)
            return True
        entry.merged += 1
        if entry.state is _READY and entry.real and tier == entry.tier and priority <= entry.priority:
            return True  # nothing of it rises
        self._contents.merge(entry, KeyDemand(tier, priority, ready_at, reason, real, now), now)
        return True

    # -- time ----------------------------------------------------------------------------------------------------------

    def next_due(self) -> float:
        """When the next delayed key or the next deadline of a hold is due, as ``Clock.now()``; infinity if none is."""
        return self._contents.next_due()

    def promote(self) -> int:
        """Make ready what is due, and release what was held until now: as many keys as one ``pull`` does at most. Returns how
        many. ``pull`` calls it."""
        return self._contents.promote(self._clock.now(), PROMOTE_AT_ONCE)

    def _due_changed(self) -> None:
        if self.on_due_changed is not None:
            self.on_due_changed()

    # -- out -----------------------------------------------------------------------------------------------------------

    def pull(self, worker: str, n: int, *, prefer: str | None = None, slots: int | None = None) -> list[Item]:
        """Hand out up to ``n`` keys to ``worker``; never waits. ``prefer``: the tier that this worker is reserved for.

        ``slots``: how many it has in all, from which shares are counted; by default the most that it has been seen to have.
        """
        return self._pull(worker, n, prefer, slots)

    def pull_held(self, worker: str, key: RequestKey, why: str) -> Item | None:
        """Hand out ``key`` to ``worker`` although it is held, if it is held for ``why`` alone, is due, and its cluster and
        controller have room. At its end it is held as before."""
        entry = self._contents.place_held(key, why, self._clock.now())
        return self._pull(worker, 1, None, 1, entry)[0] if entry is not None else None

    def _pull(self, worker: str, n: int, prefer: str | None, slots: int | None, chosen: Entry | None = None) -> list[Item]:
        """``chosen``: this ready key out of its turn."""
        now = self._clock.now()
        heap = self._delays.heap
        if (heap and heap[0][0] <= now) or (self._holds.by_key and self._holds.next_deadline() <= now):
            self.promote()
        holder = self._workers.by_name.get(worker)
        if holder is None or slots is None or slots != holder.slots:
            holder = self._workers.seen(worker, slots, n)
        lanes = [lane for lane in self._lanes.order if (lane.queued if chosen is None else lane.name == chosen.tier)]
        if n <= 0 or not lanes:
            return []
        total = self._workers.slots
        retries = self._policy.retry_share * total / sum([lane.share for lane in lanes])
        spare, free = 0, total
        if self._headroom.light:
            spare = int(self._policy.headroom * total + 0.5)
            free -= sum([lane.in_flight for lane in self._lanes.order])
        every, contents, urgent, below = self._lanes, self._contents, False, math.inf
        if len(lanes) > 1:
            urgent = every.compete(lanes, now, total)
        else:
            lanes[0].advance(now, total)
            every.vtime = max(every.vtime, lanes[0].vtime)
        items: list[Item] = []
        while lanes and len(items) < n:
            lane = lanes[0] if len(lanes) == 1 else every.choose(lanes, prefer, now, urgent, total)
            if spare and free <= spare:
                below, spare = self._headroom.below(spare, now), 0
            entry = lane.pop(now, max(1.0, retries * lane.share), below) if chosen is None else lane.take(chosen, now)
            if entry is None:
                lanes.remove(lane)
                continue
            free -= 1
            lane.score += every.work * lane.inverse
            if lane.overdue:
                lane.next_check = now
            if not lane.queued:
                lanes.remove(lane)
            cell = entry.cell
            assert cell is not None
            contents.sequence = entry.handout = number = contents.sequence + 1
            entry.ran_as_retry = entry.retry
            entry.state = _RUNNING
            entry.worker = worker
            entry.started = now
            del cell.ready[entry.id]
            cell.running[entry.id] = entry
            holder.running[entry.key] = entry
            waited = now - entry.since
            if cell.series is not None:
                cell.series.got(waited)
            attempt = entry.attempts + 1
            items.append(Item(number, entry.key, entry.tier, entry.reason, entry.priority, attempt, waited, entry.observed))
        return items

    def running(self, worker: str | None = None) -> list[tuple[str, RequestKey, int]]:
        """What is handed out, to ``worker`` or to all: worker, key, id of the hand-out."""
        return self._workers.handouts(worker)

    # -- back ----------------------------------------------------------------------------------------------------------

    def done(self, worker: str, key: RequestKey, *, id: int | None = None) -> bool:
        """The reconcile succeeded, or failed for good. Returns False, and does nothing, if ``worker`` does not hold the key."""
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        if entry.pending is None and not self._holds.by_key:
            del self._entries[key]
            return True
        entry.attempts = 0
        entry.error = ""
        self._contents.leave(entry, self._clock.now())
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

        Something real that came while it ran makes it ready at once. Returns the delay in seconds, or None if ``worker`` does
        not hold the key. Raises ``ValueError`` for a negative or undefined ``retry_after``.
        """
        if retry_after is not None:
            _checked(retry_after)
        entry = self._take(worker, key, id)
        return None if entry is None else self._fail(entry, retry_after, reason, error)

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
        """The reconcile succeeded and asks to be run again in ``after`` seconds: in the background, unless it names a tier. What it
        was run as does not matter: polls never ratchet up. Returns False if ``worker`` does not hold the key. Raises ``ValueError``
        for a negative or undefined delay."""
        _checked(after)
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        entry.attempts = 0
        entry.error = ""
        tier = tier if tier in self._lanes.by_name else self._policy.background
        now = self._clock.now()
        self._contents.merge(entry, KeyDemand(tier, priority, now + after, reason, False, now), now)
        if entry.cell is not None and entry.cell.series is not None:
            entry.cell.series.retried("requeue_after")
        self._contents.leave(entry, now)
        return True

    def interrupted(self, worker: str, key: RequestKey, *, id: int | None = None, reason: str = Reason.INTERRUPTED) -> bool:
        """The reconcile was revoked before its end: the key returns to the front of its lane, and no failure is counted.
        Returns False if ``worker`` does not hold the key."""
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        self._contents.put_back(entry, reason, self._clock.now())
        return True

    def forget_worker(self, worker: str) -> list[RequestKey]:
        """The worker is dead for certain (law 6f): its keys return to the front of their lanes at once. Returns them."""
        lost = self._workers.remove(worker)
        for entry in lost:
            self._settle(entry)
        for entry in reversed(lost):  # from the last to the first, each to the front: they keep their order
            self._contents.put_back(entry, Reason.WORKER_LOST, self._clock.now())
        return [entry.key for entry in lost]

    def _take(self, worker: str, key: RequestKey, id: int | None) -> Entry | None:
        """Take the key back from the worker; None if the worker does not hold it (a late answer of one that was given up)."""
        holder = self._workers.by_name.get(worker)
        entry = holder.running.get(key) if holder is not None else None
        if holder is None or entry is None or (id is not None and entry.handout != id):
            return None
        del holder.running[key]
        self._settle(entry)
        return entry

    def _settle(self, entry: Entry) -> None:
        """Free the slot that the entry held."""
        now = self._clock.now()
        lanes, cell, leaf = self._lanes, entry.cell, entry.leaf
        assert cell is not None
        assert leaf is not None
        seconds = now - entry.started
        work = lanes.work
        lanes.work = work + 0.02 * (min(max(seconds, 1e-4), 1.0) - work)
        lane = lanes.by_name[entry.tier]
        lane.advance(now, self._workers.slots)
        lane.in_flight -= 1
        if entry.ran_as_retry:
            lane.retries -= 1
            entry.ran_as_retry = False
        if entry.priority >= _USERS:
            self._headroom.ended(leaf, entry.key[2], now)
        if leaf.ended(seconds / work):
            lanes.check_all(now)
        entry.leaf = None
        entry.worker = ""
        del cell.running[entry.id]
        if cell.series is not None:
            cell.series.done(seconds)

    def _fail(self, entry: Entry, retry_after: float | None, reason: str, error: str) -> float:
        entry.attempts += 1
        entry.error = error
        if entry.cell is not None and entry.cell.series is not None:
            entry.cell.series.retried(reason)
        now = self._clock.now()
        if retry_after is None:
            retry_after = self._policy.backoffs.get(entry.key[0], self._policy.backoff).delay(entry.attempts, self._rng)
        entry.pending = after_failure(demand_of(entry, now), entry.pending, now + retry_after, self._lanes.ranks)
        delay = retry_after if entry.pending.retry else max(0.0, entry.pending.ready_at - now)
        self._contents.leave(entry, now)
        return delay

    # -- holds and removals --------------------------------------------------------------------------------------------

    def hold(self, key: RequestKey, why: str = "held", timeout: float | None = None) -> None:
        """Don't hand ``key`` out until it is released for ``why``, or ``timeout`` seconds have passed. What is added meanwhile
        waits. A key that runs is held once it comes back."""
        now = self._clock.now()
        self._contents.hold(key, why, math.inf if timeout is None else now + timeout, now, self._policy.background)

    def release(self, key: RequestKey, why: str | None = None) -> bool:
        """End one reason to hold ``key``, or all of them (None). Returns whether none is left."""
        return self._contents.release(key, why, self._clock.now())

    def held_due(self, key: RequestKey) -> float:
        """When ``key``, which is held, is due, as ``Clock.now()``; infinity if nothing is due for it, or if it is not held."""
        return self._contents.held_due(key)

    def remove(self, key: RequestKey) -> bool:
        """Drop the key: nothing is left to reconcile. If it runs, only its rerun is dropped. Returns whether anything was."""
        return self._contents.remove(key)

    def remove_cluster(self, cluster: str) -> list[RequestKey]:
        """The cluster leaves the fleet: drop its keys and accept no more; returns those still running, which the caller waits
        for. ``admit_cluster`` accepts it again."""
        return self._contents.remove_cluster(cluster)

    def admit_cluster(self, cluster: str) -> None:
        """Undo ``remove_cluster``."""
        self._contents.leaving.discard(cluster)

    def remove_controller(self, controller: str) -> int:
        """Drop all keys of a controller that is no longer in the fleet. Returns how many."""
        return sum([self._contents.remove(key) for key in list(self._entries) if key.controller == controller])

    def forgive(self, controller: str) -> list[RequestKey]:
        """Its code is new: see ``Contents.forgive``. Their backoff ends when something real is added."""
        return self._contents.forgive(controller)

    # -- limits and policy ---------------------------------------------------------------------------------------------

    def limit_cluster(self, cluster: str, in_flight: int | None, why: str = "") -> None:
        """Hand out at most ``in_flight`` keys of ``cluster`` at once: 0 while its breaker is open, 1 to probe it, None as the
        policy says. Its keys wait, and harm no others (law 5)."""
        self._limits.override(cluster, in_flight, why)
        self._lanes.check_all(self._clock.now())

    def blocked_clusters(self) -> dict[str, str]:
        """Clusters of which nothing is handed out, and why."""
        return self._limits.blocked()

    def set_policy(self, policy: QueuePolicy) -> None:
        """Apply another policy to what is queued, running and to come. Keys of a removed tier go to the default's lane."""
        now = self._clock.now()
        self._policy = policy
        removed = self._lanes.set_policies(policy.lanes, self._workers.slots, now)
        if removed:
            for entry in list(self._entries.values()):
                if entry.pending is not None and entry.pending.tier in removed:
                    entry.pending.tier = policy.default
                if entry.tier in removed:
                    self._contents.move(entry, policy.default, now)
            self._lanes.drop(removed)
        self._limits.set_policy(policy)
        self._workers.assume(policy.slots)
        self._lanes.check_all(now)

    def retier(self, tier_of: Callable[[RequestKey], str | None]) -> int:
        """The rules have changed: move queued keys into the lane that ``tier_of`` names (None: leave it). The system's own work
        (polls, resyncs, existing objects) stays where it is, and what runs keeps its lane until its end. Returns how many moved."""
        now = self._clock.now()
        self._lanes.check_all(now)
        return self._contents.retier(tier_of, now)

    # -- hand-over -----------------------------------------------------------------------------------------------------

    def snapshot(self, keys: Iterable[RequestKey] | None = None) -> list[Saved]:
        """The queue's content, for a successor; of ``keys`` only where given. In the order in which keys came."""
        return handover.snapshot(self._contents, keys, self._clock.now())

    def restore(self, saved: Iterable[Saved], hold_running: str | None = None) -> None:
        """Take over what a predecessor had. Keys that are here already are merged by law 3.

        What it had handed out is due at once, or, with ``hold_running``, held under that reason until ``release`` (law 6g).
        """
        handover.restore(self._contents, saved, hold_running, self._policy.default, self._clock.now())

    # -- answers -------------------------------------------------------------------------------------------------------

    def depths(self) -> list[Depth]:
        """Per tier, controller and cluster; only ready keys count as depth."""
        now = self._clock.now()
        self._contents.promote(now, self._delays.count)
        return [explain.depth_of(cell, now) for lane in self._lanes.order for cell in lane.cells.values()]

    def oldest_ready(self) -> dict[str, float]:
        """Per tier, the age in seconds of the oldest ready key that may be served; 0 if there is none."""
        return {lane.name: explain.oldest_ready(lane, self._clock.now()) for lane in self._lanes.order}

    def delays(self) -> list[TierDelay]:
        """Recent queue delay per tier, for autoscaling."""
        now = self._clock.now()
        return [explain.delay_of(lane, now) for lane in self._lanes.order]

    def why(self, key: RequestKey) -> Why | None:
        """Where ``key`` is and what it waits for; None if it is not here. Costs up to O(n): for people, not for loops."""
        if (entry := self._entries.get(key)) is None:
            return None
        return explain.why(entry, self._lanes.by_name[entry.tier], self._holds.reasons(key), self._clock.now())

    def close(self) -> None:
        """Drop all keys. The queue can't be used afterwards."""
        self._contents.close()


def _checked(delay: float) -> float:
    if not 0.0 <= delay < math.inf:
        raise ValueError(f"a delay must be a number of seconds from 0, not {delay}")
    return delay
