"""The keys of a queue and their places: ready in a lane, delayed, running or held; and how a key gets from one to another."""

import math
from collections.abc import Callable

from raycp.base.keys import RequestKey
from raycp.classify.verdict import Priority, Reason
from raycp.queueing.delays import DelayHeap
from raycp.queueing.entry import Entry, KeyDemand, KeyPlace
from raycp.queueing.holds import Holds
from raycp.queueing.lane import Lanes
from raycp.queueing.merge import after_interruption, demand_of, merge

_READY, _DELAYED, _RUNNING, _HELD = KeyPlace.READY, KeyPlace.DELAYED, KeyPlace.RUNNING, KeyPlace.HELD


class Contents:
    """The queue's hot path uses ``entries``, ``lanes``, ``delays`` and ``holds`` itself; whatever else moves a key goes through
    here. ``due_changed`` is called when the time of ``next_due`` has moved forward. ``sequence``: the last id that was given out.
    """

    __slots__ = ("_due_changed", "delays", "entries", "holds", "lanes", "leaving", "sequence")

    def __init__(self, lanes: Lanes, due_changed: Callable[[], None]) -> None:
        self.lanes = lanes
        self.entries: dict[RequestKey, Entry] = {}
        self.delays = DelayHeap()
        self.holds = Holds()
        self.leaving: set[str] = set()
        """clusters that are being removed"""
        self.sequence = 0
        self._due_changed = due_changed

    def add(self, key: RequestKey, demand: KeyDemand, now: float) -> Entry:
        """Add ``demand`` to what ``key`` is due for (law 3). The key's cluster must not be leaving."""
        entry = self.entries.get(key)
        if entry is None:
            entry = self._new(key, demand, now)
            self.place(entry, demand, now)
        else:
            entry.merged += 1
            self.merge(entry, demand, now)
        return entry

    def merge(self, entry: Entry, more: KeyDemand, now: float) -> None:
        """Add ``more`` to what ``entry`` is due for, and let it rise or wake (law 3)."""
        if entry.state >= _RUNNING:
            entry.pending = more if entry.pending is None else merge(entry.pending, more, self.lanes.ranks)
            return
        ready = entry.state is _READY
        due = merge(entry, more, self.lanes.ranks)
        rises = due.tier != entry.tier or due.priority != entry.priority or due.retry != entry.retry
        if ready and rises:
            self.withdraw(entry)
            _assign(entry, due)
            self.lanes.push(entry, now, entry.since)
        elif not ready and (rises or due.ready_at < entry.ready_at):
            self.withdraw(entry)
            self.place(entry, due, now)
        else:
            _assign(entry, due)

    def place(self, entry: Entry, demand: KeyDemand, now: float, front: bool = False) -> None:
        """Put ``entry``, which is in no place, where ``demand`` belongs: into its lane or among the delayed keys."""
        _assign(entry, demand)
        if demand.ready_at <= now:
            self.lanes.push(entry, now, demand.ready_at, front)
        else:
            self.put_off(entry, demand.ready_at)

    def put_off(self, entry: Entry, ready_at: float) -> None:
        """Delay ``entry``, which is in no place, until ``ready_at``."""
        cell = self.lanes.cell(entry.tier, entry.key[0], entry.key[1])
        if self.delays.push(entry, cell, ready_at):
            self._due_changed()

    def withdraw(self, entry: Entry) -> None:
        """Take ``entry`` out of its lane or from among the delayed keys, if it is there."""
        if entry.state is _READY:
            self.lanes.by_name[entry.tier].discard(entry)
        elif entry.state is _DELAYED:
            self.delays.withdraw(entry)

    def leave(self, entry: Entry, now: float, front: bool = False) -> None:
        """``entry`` is no longer running or held: hold it, queue what it is still due for, or delete it (law 1)."""
        pending = entry.pending
        if entry.key in self.holds.by_key:
            entry.state = _HELD
        elif pending is None:
            del self.entries[entry.key]
        else:
            entry.pending = None
            self.place(entry, pending, now, front)

    def put_back(self, entry: Entry, reason: str, now: float) -> None:
        """The reconcile of ``entry`` was cut off: back to the front of its lane, as it was handed out."""
        ran = demand_of(entry, now)
        entry.pending = after_interruption(ran, entry.pending, reason, self.lanes.ranks)
        if entry.cell is not None and entry.cell.series is not None:
            entry.cell.series.retried(reason)
        self.leave(entry, now, front=True)

    def _new(self, key: RequestKey, demand: KeyDemand, now: float) -> Entry:
        self.sequence += 1
        entry = Entry(key, self.sequence, demand.tier, demand.priority, demand.reason, demand.real, now, now)
        self.entries[key] = entry
        return entry

    # -- time ----------------------------------------------------------------------------------------------------------

    def next_due(self) -> float:
        """When the next delayed key or the next deadline of a hold is due; infinity if none is."""
        return min(self.delays.next_due(), self.holds.next_deadline())

    def promote(self, now: float, most: int) -> int:
        """Make ready what is due, ``most`` keys at most, and end holds whose deadline has come. Returns how many keys."""
        count = 0
        while count < most and (due := self.delays.pop_due(now)) is not None:
            self.lanes.push(due[1], now, due[0])
            count += 1
        for key in self.holds.expire(now):
            count += 1
            self._released(key, now)
        return count

    # -- holds ---------------------------------------------------------------------------------------------------------

    def hold(self, key: RequestKey, why: str, deadline: float, now: float, tier: str) -> None:
        """Hold ``key`` for ``why`` until ``deadline``; an unknown key is known from now on, in ``tier``, with nothing due."""
        due = self.next_due()
        self.holds.add(key, why, deadline)
        entry = self.entries.get(key)
        if entry is None:
            entry = self._new(key, KeyDemand(tier, 0, now, why, False, now), now)
            entry.state = _HELD
        elif entry.state < _RUNNING:
            entry.pending = demand_of(entry, now if entry.state is _READY else entry.ready_at)
            self.withdraw(entry)
            entry.state = _HELD
        if deadline < due:
            self._due_changed()

    def release(self, key: RequestKey, why: str | None, now: float) -> bool:
        """End one reason, or all of them (None). Returns whether none is left."""
        if not self.holds.remove(key, why):
            return key not in self.holds.by_key
        self._released(key, now)
        return True

    def _released(self, key: RequestKey, now: float) -> None:
        entry = self.entries.get(key)
        if entry is not None and entry.state is _HELD:
            lost = entry.pending is not None and entry.pending.reason == Reason.WORKER_LOST
            self.leave(entry, now, front=lost)  # what its worker did not finish does not wait behind what came later

    def held_due(self, key: RequestKey) -> float:
        """When ``key``, which is held, is due; infinity if nothing is, or if it is not held."""
        entry = self.entries.get(key)
        return entry.pending.ready_at if entry is not None and entry.state is _HELD and entry.pending is not None else math.inf

    def place_held(self, key: RequestKey, why: str, now: float) -> Entry | None:
        """Make ``key`` ready, which is due and held for ``why`` alone, unless its cluster or controller is full: the caller hands
        it out at once. It stays held: at its end it is not queued again."""
        entry = self.entries.get(key)
        if entry is None or self.held_due(key) > now or self.holds.reasons(key) != [why]:
            return None
        pending = entry.pending
        assert pending is not None
        if self.lanes.cell(pending.tier, key[0], key[1]).full:
            return None
        entry.pending = None
        self.place(entry, pending, now)
        return entry

    # -- removals ------------------------------------------------------------------------------------------------------

    def remove(self, key: RequestKey) -> bool:
        """Delete the key; of one that runs or is held, what it is still due for. Returns whether anything was."""
        entry = self.entries.get(key)
        if entry is None:
            return False
        if entry.state >= _RUNNING:
            had = entry.pending is not None
            entry.pending = None
            return had
        self.withdraw(entry)
        del self.entries[key]
        return True

    def remove_cluster(self, cluster: str) -> list[RequestKey]:
        """Delete the cluster's keys and their holds. Returns those that run: they are deleted at their end."""
        self.leaving.add(cluster)
        running: list[RequestKey] = []
        for key in [key for key in self.entries if key.cluster == cluster]:
            self.holds.remove(key, None)
            entry = self.entries[key]
            if entry.state is _RUNNING:
                entry.pending = None
                running.append(key)
            else:
                self.withdraw(entry)
                del self.entries[key]
        self.lanes.drop_cluster(cluster)
        return running

    def forgive(self, controller: str) -> list[RequestKey]:
        """Forget the failures of a controller's keys. Returns those that had failed, and those that run."""
        found = []
        for entry in self.entries.values():
            if entry.key.controller == controller and (entry.attempts or entry.retry or entry.state is _RUNNING):
                entry.attempts = 0
                found.append(entry.key)
        return found

    # -- tiers ---------------------------------------------------------------------------------------------------------

    def move(self, entry: Entry, tier: str, now: float) -> None:
        """Put ``entry`` into the lane of another tier; its time and its priority stay."""
        if entry.state is _READY:
            self.withdraw(entry)
            entry.tier = tier
            self.lanes.push(entry, now, entry.since)
        elif entry.state is _DELAYED:
            ready_at = entry.ready_at
            self.withdraw(entry)
            entry.tier = tier
            self.delays.push(entry, self.lanes.cell(tier, entry.key[0], entry.key[1]), ready_at)
        elif entry.state is _RUNNING:
            self.lanes.transfer(entry, tier)
        else:
            entry.tier = tier

    def retier(self, tier_of: Callable[[RequestKey], str | None], now: float) -> int:
        """Move queued keys into the lanes that ``tier_of`` names. Returns how many moved."""
        moved = 0
        for entry in list(self.entries.values()):
            due = entry.pending if entry.state >= _RUNNING else entry
            if due is None or due.priority <= Priority.POLL:
                continue
            tier = tier_of(entry.key)
            if tier is None or tier == due.tier or tier not in self.lanes.by_name:
                continue
            moved += 1
            if entry.pending is not None:
                entry.pending.tier = tier
            if entry.state is not _RUNNING:
                self.move(entry, tier, now)
        return moved

    def close(self) -> None:
        """Drop all keys. Entries are not tracked by the garbage collector (there are many), so their cycles are broken here."""
        for entry in self.entries.values():
            entry.leaf = entry.cell = None
        self.entries.clear()
        self.delays.heap.clear()


def _assign(entry: Entry, demand: KeyDemand) -> None:
    entry.tier, entry.priority, entry.reason = demand.tier, demand.priority, demand.reason
    entry.real, entry.retry, entry.observed = demand.real, demand.retry, demand.observed
