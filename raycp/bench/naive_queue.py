"""The queue that raycp's own is measured against (``raycp bench --policy fifo``): keys in order of arrival, everything at once.

It has no lanes, no priorities, no fairness and no limits, and ignores the delay of what is added. It keeps laws 1 and 2: one key
has one worker, and nothing is lost. Retries wait for their backoff and polls for their time, as in client-go's queue.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from random import Random

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.classify.verdict import Priority, Reason
from raycp.queueing import Depth, Item, QueueEvents, QueuePolicy, Saved, SeriesEvents, TierDelay, Why
from raycp.queueing.holds import Holds


class _Queued:
    """One key. It is in ``NaiveQueue._ready`` if it is ready; ``ready_at`` is infinite unless it waits for its time."""

    __slots__ = (
        "added", "again", "attempts", "error", "handout", "key", "priority", "ready_at", "reason", "retry", "since", "started",
        "tier", "worker",
    )  # fmt: skip

    def __init__(self, key: RequestKey, tier: str, priority: int, reason: str, now: float) -> None:
        self.key = key
        self.tier = tier
        self.priority = priority
        self.reason = reason
        self.added = now
        self.since = now
        self.ready_at = math.inf
        self.attempts = 0
        self.error = ""
        self.retry = False
        self.again = False
        """due again after its end or its release"""
        self.worker = ""
        self.handout = 0
        self.started = 0.0


class NaiveQueue:
    """A ``raycp.queueing.Queue``. ``set_policy`` changes only tiers and backoff; limits are accepted and ignored."""

    def __init__(self, policy: QueuePolicy, clock: Clock, metrics: QueueEvents | None = None, rng: Random | None = None) -> None:
        self.on_due_changed: Callable[[], None] | None = None
        self._policy = policy
        self._clock = clock
        self._metrics = metrics
        self._rng = rng if rng is not None else Random()
        self._entries: dict[RequestKey, _Queued] = {}
        self._ready: OrderedDict[RequestKey, _Queued] = OrderedDict()
        self._heap: list[tuple[float, RequestKey]] = []
        self._running: dict[str, dict[RequestKey, _Queued]] = {}
        self._holds = Holds()
        self._series: dict[tuple[str, str, str], SeriesEvents] = {}
        self._leaving: set[str] = set()
        self._handouts = 0

    @property
    def policy(self) -> QueuePolicy:
        """What applies now."""
        return self._policy

    @property
    def ready(self) -> int:
        """Ready keys."""
        return len(self._ready)

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
        """Queue ``key`` at once, behind all others. Returns False only if its cluster is being removed."""
        if key.cluster in self._leaving:
            return False
        entry = self._entries.get(key)
        if entry is None:
            tier = tier if any(tier == lane.name for lane in self._policy.lanes) else self._policy.default
            entry = self._entries[key] = _Queued(key, tier, priority, reason, self._clock.now())
            self._due(entry)
        elif entry.worker or key in self._holds.by_key:
            entry.again = True
        elif key not in self._ready and (real or not entry.retry):
            entry.reason = reason
            self._due(entry)
        return True

    def next_due(self) -> float:
        """When the next retry, poll or deadline of a hold is due; infinity if none is."""
        while self._heap and not self._waits(*self._heap[0]):
            heapq.heappop(self._heap)
        return min(self._heap[0][0] if self._heap else math.inf, self._holds.next_deadline())

    def promote(self) -> int:
        """Make ready what is due. Returns how many keys."""
        now = self._clock.now()
        count = 0
        while self._heap and self._heap[0][0] <= now:
            ready_at, key = heapq.heappop(self._heap)
            if self._waits(ready_at, key):
                self._due(self._entries[key])
                count += 1
        for key in self._holds.expire(now):
            self._released(key)
            count += 1
        return count

    def pull(self, worker: str, n: int, *, prefer: str | None = None, slots: int | None = None) -> list[Item]:
        """Hand out up to ``n`` keys to ``worker``, in order of arrival."""
        self.promote()
        items: list[Item] = []
        while self._ready and len(items) < n:
            _, entry = self._ready.popitem(last=False)
            items.append(self._hand_out(entry, worker))
        return items

    def pull_held(self, worker: str, key: RequestKey, why: str) -> Item | None:
        """Hand out ``key`` to ``worker`` although it is held, if it is due and held for ``why`` alone."""
        if self.held_due(key) > self._clock.now() or self._holds.reasons(key) != [why]:
            return None
        entry = self._entries[key]
        entry.again = False
        return self._hand_out(entry, worker)

    def _hand_out(self, entry: _Queued, worker: str) -> Item:
        now = self._clock.now()
        self._handouts += 1
        entry.worker, entry.handout, entry.started = worker, self._handouts, now
        self._running.setdefault(worker, {})[entry.key] = entry
        waited = max(0.0, now - entry.since)
        if (series := self._series_of(entry)) is not None:
            series.got(waited)
        return Item(entry.handout, entry.key, entry.tier, entry.reason, entry.priority, entry.attempts + 1, waited, entry.added)

    def running(self, worker: str | None = None) -> list[tuple[str, RequestKey, int]]:
        """What is handed out: worker, key, id of the hand-out."""
        return [
            (name, key, entry.handout)
            for name, held in self._running.items()
            for key, entry in held.items()
            if worker is None or worker == name
        ]

    def done(self, worker: str, key: RequestKey, *, id: int | None = None) -> bool:
        """The reconcile succeeded, or failed for good."""
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        entry.attempts, entry.error, entry.retry = 0, "", False
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
        """The reconcile failed: again after its backoff, or after ``retry_after`` seconds."""
        entry = self._take(worker, key, id)
        if entry is None:
            return None
        entry.attempts += 1
        entry.error, entry.retry, entry.reason = error, True, Reason.RETRY
        if (series := self._series_of(entry)) is not None:
            series.retried(reason)
        backoff = self._policy.backoffs.get(key.controller, self._policy.backoff)
        delay = retry_after if retry_after is not None else backoff.delay(entry.attempts, self._rng)
        delay = 0.0 if entry.again else delay
        self._put_off(entry, delay)
        return delay

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
        """The reconcile succeeded and asks to be run again in ``after`` seconds."""
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        entry.attempts, entry.error, entry.retry, entry.reason = 0, "", False, reason
        self._put_off(entry, 0.0 if entry.again else after)
        return True

    def interrupted(self, worker: str, key: RequestKey, *, id: int | None = None, reason: str = Reason.INTERRUPTED) -> bool:
        """The reconcile was revoked before its end: the key returns to the front."""
        entry = self._take(worker, key, id)
        if entry is None:
            return False
        self._return(entry, reason)
        return True

    def forget_worker(self, worker: str) -> list[RequestKey]:
        """The worker is dead for certain: its keys return to the front at once."""
        keys = list(self._running.get(worker, ()))
        for key in reversed(keys):
            if (entry := self._take(worker, key, None)) is not None:
                self._return(entry, Reason.WORKER_LOST)
        self._running.pop(worker, None)
        return keys

    def hold(self, key: RequestKey, why: str = "held", timeout: float | None = None) -> None:
        """Don't hand ``key`` out until it is released for ``why``, or ``timeout`` seconds have passed."""
        now = self._clock.now()
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Queued(key, self._policy.background, 0, why, now)
        elif key in self._ready or entry.ready_at < math.inf:
            self._ready.pop(key, None)
            entry.ready_at, entry.again = math.inf, True
        self._holds.add(key, why, math.inf if timeout is None else now + timeout)
        if timeout is not None and self.on_due_changed is not None:
            self.on_due_changed()

    def release(self, key: RequestKey, why: str | None = None) -> bool:
        """End one reason to hold ``key``, or all of them. Returns whether none is left."""
        if self._holds.remove(key, why):
            self._released(key)
        return key not in self._holds.by_key

    def held_due(self, key: RequestKey) -> float:
        """When a held key is due: at once, or never."""
        entry = self._entries.get(key)
        due = entry is not None and entry.again and not entry.worker and key in self._holds.by_key
        return self._clock.now() if due else math.inf

    def remove(self, key: RequestKey) -> bool:
        """Drop the key; of one that runs or is held, its rerun."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if entry.worker or key in self._holds.by_key:
            had, entry.again = entry.again, False
            return had
        self._ready.pop(key, None)
        del self._entries[key]
        return True

    def remove_cluster(self, cluster: str) -> list[RequestKey]:
        """Drop the cluster's keys and accept no more. Returns those still running."""
        self._leaving.add(cluster)
        for key in [key for key in self._entries if key.cluster == cluster]:
            self._holds.remove(key, None)
            self.remove(key)
        return [key for key in self._entries if key.cluster == cluster]

    def admit_cluster(self, cluster: str) -> None:
        """Undo ``remove_cluster``."""
        self._leaving.discard(cluster)

    def remove_controller(self, controller: str) -> int:
        """Drop all keys of a controller."""
        return sum([self.remove(key) for key in list(self._entries) if key.controller == controller])

    def forgive(self, controller: str) -> list[RequestKey]:
        """Forget failures: ``add`` ends a backoff here."""
        found = [key for key, entry in self._entries.items() if key.controller == controller and (entry.attempts or entry.worker)]
        for key in found:
            self._entries[key].attempts = 0
        return found

    def limit_cluster(self, cluster: str, in_flight: int | None, why: str = "") -> None:
        """Ignored: no cluster has a limit here."""

    def blocked_clusters(self) -> dict[str, str]:
        """None ever."""
        return {}

    def set_policy(self, policy: QueuePolicy) -> None:
        """Replace tiers and backoff."""
        self._policy = policy

    def retier(self, tier_of: Callable[[RequestKey], str | None]) -> int:
        """Tiers are only names here; the names of what is queued stay."""
        return 0

    def snapshot(self, keys: Iterable[RequestKey] | None = None) -> list[Saved]:
        """All keys, or those of ``keys``, for a successor."""
        now = self._clock.now()
        found: list[Saved] = []
        for key in list(self._entries) if keys is None else keys:
            entry = self._entries.get(key)
            if entry is None:
                continue
            delay = 0.0 if entry.ready_at == math.inf else max(0.0, entry.ready_at - now)
            due = entry.again or bool(entry.worker) or key in self._ready or entry.ready_at < math.inf
            found.append(
                Saved(
                    key, entry.tier, entry.priority, entry.reason, not entry.retry, delay, now - entry.added, now - entry.since,
                    entry.attempts, entry.retry, entry.worker, self._holds.reasons(key), due, entry.error,
                )
            )  # fmt: skip
        return found

    def restore(self, saved: Iterable[Saved], hold_running: str | None = None) -> None:
        """Take over what a predecessor had."""
        for each in saved:
            for why in each.holds:
                self.hold(each.key, why)
            if each.worker and hold_running is not None:
                self.hold(each.key, hold_running)
            if each.due and self.add(each.key, tier=each.tier, priority=each.priority, reason=each.reason):
                entry = self._entries[each.key]
                entry.attempts, entry.error, entry.retry = each.attempts, each.error, each.retry
                if each.delay > 0.0 and self._ready.pop(each.key, None) is not None:
                    self._put_off(entry, each.delay)

    def depths(self) -> list[Depth]:
        """Per tier, controller and cluster."""
        self.promote()
        now = self._clock.now()
        cells: dict[tuple[str, str, str], list[_Queued]] = {}
        for key, entry in self._entries.items():
            cells.setdefault((entry.tier, key.controller, key.cluster), []).append(entry)
        found: list[Depth] = []
        for name, entries in cells.items():
            ready = [now - entry.since for entry in entries if entry.key in self._ready]
            ages = [now - entry.started for entry in entries if entry.worker]
            delayed = sum(entry.ready_at < math.inf for entry in entries)
            oldest, longest = max(ready, default=0.0), max(ages, default=0.0)
            found.append(Depth(*name, len(ready), delayed, len(ages), oldest, sum(ages), longest))
        return found

    def oldest_ready(self) -> dict[str, float]:
        """Per tier, the age in seconds of the oldest ready key."""
        now = self._clock.now()
        oldest = {lane.name: 0.0 for lane in self._policy.lanes}
        for entry in self._ready.values():
            oldest[entry.tier] = max(oldest.get(entry.tier, 0.0), now - entry.since)
        return oldest

    def delays(self) -> list[TierDelay]:
        """Of each tier what is ready and in flight, and its oldest key; waiting times are not kept."""
        depths = self.depths()
        return [
            TierDelay(
                tier,
                sum(depth.ready for depth in depths if depth.tier == tier),
                sum(depth.running for depth in depths if depth.tier == tier),
                oldest, 0, 0.0, 0.0, 0.0,
            )
            for tier, oldest in self.oldest_ready().items()
        ]  # fmt: skip

    def why(self, key: RequestKey) -> Why | None:
        """Where ``key`` is and what it waits for."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock.now()
        state, ready_for, left, ahead, waits_for = "held", 0.0, 0.0, 0, "release: " + ", ".join(self._holds.reasons(key))
        if entry.worker:
            state, waits_for = "running", f"the end of the reconcile in worker {entry.worker}"
        elif key in self._ready:
            state, ready_for, waits_for = "ready", now - entry.since, ""
            ahead = next(place for place, other in enumerate(self._ready) if other == key)
        elif entry.ready_at < math.inf:
            state, left, waits_for = "delayed", max(0.0, entry.ready_at - now), "its backoff" if entry.retry else "its time"
        return Why(
            key, state, entry.tier, entry.priority, entry.reason, entry.retry, entry.attempts, now - entry.added, ready_for, left,
            ahead, 0, entry.worker, entry.again, waits_for, entry.error,
        )  # fmt: skip

    def _due(self, entry: _Queued) -> None:
        """Behind all others."""
        entry.ready_at, entry.again, entry.since = math.inf, False, self._clock.now()
        self._ready[entry.key] = entry
        if (series := self._series_of(entry)) is not None:
            series.added()

    def _put_off(self, entry: _Queued, delay: float) -> None:
        if entry.key in self._holds.by_key or delay <= 0.0:
            entry.again = True
            self._leave(entry)
            return
        entry.ready_at = self._clock.now() + delay
        heapq.heappush(self._heap, (entry.ready_at, entry.key))
        if self.on_due_changed is not None and self._heap[0][1] == entry.key:
            self.on_due_changed()

    def _return(self, entry: _Queued, reason: str) -> None:
        """Before all others."""
        entry.again, entry.reason = True, reason
        self._leave(entry)
        if entry.key in self._ready:
            self._ready.move_to_end(entry.key, last=False)

    def _take(self, worker: str, key: RequestKey, id: int | None) -> _Queued | None:
        entry = self._running.get(worker, {}).get(key)
        if entry is None or (id is not None and entry.handout != id):
            return None
        del self._running[worker][key]
        entry.worker = ""
        if (series := self._series_of(entry)) is not None:
            series.done(self._clock.now() - entry.started)
        return entry

    def _leave(self, entry: _Queued) -> None:
        """Not running or not held any more: due again, or deleted."""
        if entry.key in self._holds.by_key:
            return
        if entry.again and entry.key.cluster not in self._leaving:
            self._due(entry)
        else:
            del self._entries[entry.key]

    def _released(self, key: RequestKey) -> None:
        entry = self._entries.get(key)
        if entry is not None and not entry.worker:
            self._leave(entry)

    def _waits(self, ready_at: float, key: RequestKey) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.ready_at == ready_at

    def _series_of(self, entry: _Queued) -> SeriesEvents | None:
        if self._metrics is None:
            return None
        key = entry.key
        name = (key.cluster, key.controller, entry.tier)
        found = self._series.get(name)
        if found is None:
            found = self._series[name] = self._metrics.series(*name)
        return found
