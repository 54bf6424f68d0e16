"""Which keys end the processes that reconcile them: law 11's suspects. Pure; nothing here knows a queue or a worker.

| a key that was in flight | is |
|---|---|
| at the death of one worker | *exposed*: it returns, and runs like any other |
| at two deaths within ``WINDOW``, or in a worker that could not say which of its keys blocked it | a *suspect*: it runs alone |
| alone at a death as a suspect, or named by its worker as the cause | *convicted*: it waits for its backoff, and still runs alone |

A success of a run alone clears the key; so does any other end of one that the process survived, ``WINDOW`` after the last death.
Exposure ends ``WINDOW`` after the death; a success beside others does not end it, since what kills need not kill each time.
A death that turns out to have had another cause (its node was lost, the worker was drained or removed) accuses no key: ``excuse``.

Guarantees: a key that ends its process each time it runs is convicted at its third death at the latest; a key is convicted only
where it ran alone, or was named. One suspect runs at a time in each shard, in a worker that serves no other shard and nothing else:
a death there names its culprit without a question to anybody, and a slow suspect of one shard delays no other shard's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from random import Random
from typing import NamedTuple

from raycp.base.keys import RequestKey
from raycp.base.recent_names import RecentNames
from raycp.protocol.frames import Suspicion, SuspicionMark
from raycp.queueing import KeyBackoff

WINDOW = 600.0
"""Seconds within which two deaths with the same key in flight make it a suspect."""

BACKOFF = KeyBackoff(base=10.0, cap=300.0, jitter=0.2)
"""Of a convicted key. It starts where others' have arrived after some failures: each attempt costs a process."""

KEPT = 8
"""Deaths that are kept of each key; all are counted."""


class Level(IntEnum):
    """What a key is, or how heavily one death weighs on it."""

    CLEAR = 0
    EXPOSED = 1
    SUSPECT = 2
    CONVICTED = 3


class Death(NamedTuple):
    """A worker that died. ``alone``: it ran one suspect at a time and nothing else. ``blamed``: the keys that are known to be the
    cause, with their errors; ``doubted``: one of these must have been it."""

    worker: str
    alone: bool = False
    blamed: Mapping[RequestKey, str] = {}
    doubted: frozenset[RequestKey] = frozenset()


class Finding(NamedTuple):
    """What a death makes of a key. ``backoff``: seconds for which one that this death convicts has to wait, else None."""

    level: Level
    reason: str
    backoff: float | None = None


class Mark(NamedTuple):
    """One death on a key's record, at time ``at``."""

    worker: str
    at: float
    weight: Level
    reason: str


class SuspectRecord:
    """A key with at least one mark. ``deaths``: of all times; ``turn``: when it ran alone last, as a number that rises."""

    __slots__ = ("deaths", "marks", "turn")

    def __init__(self, marks: list[Mark], deaths: int) -> None:
        self.marks = marks
        self.deaths = deaths
        self.turn = 0

    @property
    def level(self) -> Level:
        """What the marks make of the key."""
        weight = max(mark.weight for mark in self.marks)
        return Level.SUSPECT if weight is Level.EXPOSED and len(self.marks) > 1 else weight

    @property
    def reason(self) -> str:
        """Why, in words: of the newest mark that weighs most; of several deaths beside others, their number."""
        newest = max(self.marks, key=lambda mark: (mark.weight, mark.at))
        if newest.weight is Level.EXPOSED and len(self.marks) > 1:
            return f"it was in flight when {len(self.marks)} workers died within {WINDOW / 60:g} minutes"
        return newest.reason

    @property
    def since(self) -> float:
        """When the key became what it is."""
        level = self.level
        for place, mark in enumerate(self.marks):
            if mark.weight is level or (level is Level.SUSPECT and place == 1):
                return mark.at
        return self.marks[-1].at


class Suspects:
    """One shard's. Times as ``Clock.now()``. ``len``: the keys that run alone."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._records: dict[RequestKey, SuspectRecord] = {}
        self._alone: dict[RequestKey, SuspectRecord] = {}
        self.excused = RecentNames()
        """Workers whose death accuses no key."""
        self._turns = 0

    def __len__(self) -> int:
        return len(self._alone)

    def __contains__(self, key: RequestKey) -> bool:
        """Whether ``key`` runs alone."""
        return key in self._alone

    def level(self, key: RequestKey) -> Level:
        """What ``key`` is."""
        record = self._records.get(key)
        return record.level if record is not None else Level.CLEAR

    def record(self, key: RequestKey) -> SuspectRecord | None:
        """What is known of ``key``."""
        return self._records.get(key)

    def keys(self) -> list[RequestKey]:
        """Every key with a record."""
        return list(self._records)

    def turns(self) -> list[RequestKey]:
        """The keys that run alone, in the order in which they should: those that have waited longest for their turn first."""
        return sorted(self._alone, key=lambda key: self._alone[key].turn)

    def started(self, key: RequestKey) -> None:
        """``key`` runs alone."""
        self._turns += 1
        self._alone[key].turn = self._turns

    # deaths

    def died(self, death: Death, in_flight: Sequence[RequestKey], now: float) -> dict[RequestKey, Finding]:
        """A worker has died with these keys in flight. What each of them is now, by that; empty if the death is excused."""
        self._prune(now)
        if death.worker in self.excused:
            return {}
        return {key: self._judge(key, death, now) for key in in_flight}

    def _judge(self, key: RequestKey, death: Death, now: float) -> Finding:
        record = self._records.get(key)
        if key in death.blamed:
            mark = Mark(death.worker, now, Level.CONVICTED, death.blamed[key])
        elif death.alone and key in self._alone:
            mark = Mark(death.worker, now, Level.CONVICTED, "its reconcile ended the process of the worker in which it ran alone")
        elif key in death.doubted:
            mark = Mark(death.worker, now, Level.SUSPECT, "it was in flight in a worker that one of its reconciles had blocked")
        else:
            mark = Mark(death.worker, now, Level.EXPOSED, "it was in flight when a worker died")
        if record is None:
            record = self._records[key] = SuspectRecord([], 0)
        record.deaths += 1
        record.marks.append(mark)
        if len(record.marks) > KEPT:  # the least telling one goes
            record.marks.remove(min(record.marks, key=lambda each: (each.weight, each.at)))
        level = self._placed(key, record)
        if mark.weight is not Level.CONVICTED:
            return Finding(level, record.reason)
        convictions = sum(each.weight is Level.CONVICTED for each in record.marks)
        return Finding(level, record.reason, BACKOFF.delay(convictions, self._rng))

    def excuse(self, worker: str) -> dict[RequestKey, Level]:
        """The death of ``worker``, past or to come, accuses no key. The keys that become something else by that, and what they
        were."""
        if worker in self.excused:
            return {}
        self.excused.add(worker)
        changed: dict[RequestKey, Level] = {}
        for key, record in list(self._records.items()):
            kept = [mark for mark in record.marks if mark.worker != worker]
            if len(kept) == len(record.marks):
                continue
            before = record.level
            record.deaths -= len(record.marks) - len(kept)
            record.marks = kept
            if not kept:
                self.forget(key)
            elif self._placed(key, record) is before:
                continue
            changed[key] = before
        return changed

    def _placed(self, key: RequestKey, record: SuspectRecord) -> Level:
        level = record.level
        if level >= Level.SUSPECT:
            self._alone[key] = record
        else:
            self._alone.pop(key, None)
        return level

    def _prune(self, now: float) -> None:
        """Exposure ends by itself; what a key has become by two deaths does not."""
        for key, record in list(self._records.items()):
            if key not in self._alone and now - record.marks[-1].at > WINDOW:
                del self._records[key]

    # ends

    def ended(self, key: RequestKey, succeeded: bool, now: float) -> bool:
        """A run of ``key`` alone has ended, and its worker lives. Returns whether that clears the key."""
        record = self._alone.get(key)
        if record is None or not (succeeded or now - record.marks[-1].at > WINDOW):
            return False
        self.forget(key)
        return True

    def forget(self, key: RequestKey) -> None:
        """Nothing is held against ``key``."""
        self._records.pop(key, None)
        self._alone.pop(key, None)

    def forget_where(self, drops: Callable[[RequestKey], bool]) -> list[RequestKey]:
        """Forget the keys of a cluster or a controller that has left. Returns those that ran alone."""
        for key in [key for key in self._records if drops(key) and key not in self._alone]:
            self.forget(key)
        alone = [key for key in self._alone if drops(key)]
        for key in alone:
            self.forget(key)
        return alone

    # hand-over

    def export(self, key: RequestKey, now: float) -> Suspicion | None:
        """What a successor has to know of ``key``; with ages, since clocks of two hosts can't be compared."""
        record = self._records.get(key)
        if record is None:
            return None
        marks = [SuspicionMark(mark.worker, max(0.0, now - mark.at), int(mark.weight), mark.reason) for mark in record.marks]
        return Suspicion(marks, record.deaths)

    def adopt(self, key: RequestKey, suspicion: Suspicion, now: float) -> Level:
        """Take over what a predecessor knew of ``key``. What it is now."""
        levels = {int(level): level for level in Level}
        marks = [
            Mark(mark.worker, now - mark.age, levels.get(mark.weight, Level.EXPOSED), mark.reason)
            for mark in suspicion.marks
            if mark.worker not in self.excused
        ]
        if not marks:
            self.forget(key)
            return Level.CLEAR
        record = self._records[key] = SuspectRecord(marks, suspicion.deaths)
        return self._placed(key, record)

    # answers

    def alone(self) -> Iterable[tuple[RequestKey, SuspectRecord]]:
        """The keys that run alone, with what is known of them."""
        return self._alone.items()
