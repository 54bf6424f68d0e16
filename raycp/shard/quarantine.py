"""Suspects in the queue: they are held there, and handed out one at a time to a worker that runs nothing else (law 11).

``suspects`` decides what a key is. This is the ledger's part that acts on it; nothing else holds a key for ``ALONE``.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.classify import Priority, Reason
from raycp.protocol.frames import Suspicion
from raycp.queueing import Item
from raycp.queueing.protocol import Queue
from raycp.shard.suspects import Death, Finding, Level, SuspectRecord, Suspects
from raycp.slo import Timelines

ALONE = "a worker of its own, since its reconcile may end the process (law 11)"
"""Why a suspect is held: only ``pull`` hands it out."""

BACKOFF_LEFT = "the backoff of its last death"
"""Why a convicted key is held that was in work for an earlier primary: the queue here counts no failure of it."""

IN_TURN = "its turn among the keys of a dead worker"
"""Why a returned key is held for a moment."""

APART = 0.025
"""Seconds between two of a dead worker's keys, so that if one of them kills the next worker, few others are in flight there too."""

WITHIN = 0.3
"""Seconds within which the last of them is back, however many there are."""

CALM = 10.0
"""Seconds without a death before one whose keys return one after the other: where workers die all the time, nothing is gained."""


class Conviction(NamedTuple):
    """A key has ended another process: its finding, and the number of its deaths so far."""

    key: RequestKey
    finding: Finding
    deaths: int


class Quarantine:
    """One shard's. ``on_conviction`` is called for each death that convicts a key. ``stirred``: whether a suspect may have become
    due, or its worker free, since the dispatcher looked, other than by the passing of time."""

    def __init__(self, clock: Clock, rng: Random, queue: Queue, timelines: Timelines) -> None:
        self.suspects = Suspects(rng)
        self.on_conviction: Callable[[Conviction], None] = lambda conviction: None
        self._clock = clock
        self._queue = queue
        self._timelines = timelines
        self.stirred = False
        self.active = False
        """Whether any key runs alone. An attribute, like ``stirred``: they are read for each change and each acknowledgement."""
        self._died_at = float("-inf")
        self._running: set[RequestKey] = set()

    # deaths

    def died(self, death: Death, keys: Sequence[RequestKey], foreign: Sequence[RequestKey]) -> dict[RequestKey, Finding]:
        """A worker has died with these keys in flight, in the order of their hand-outs; ``foreign``: for an earlier primary. The
        caller gives them back to the queue: those that run alone from now on are held there. Empty if the death is excused."""
        now = self._clock.now()
        self._running.difference_update(keys)
        findings = self.suspects.died(death, [*keys, *foreign], now)
        calm, self._died_at = now - self._died_at > CALM, now
        apart = min(APART, WITHIN / max(1, len(keys)))
        place = 0
        for key, finding in findings.items():
            if finding.level is Level.EXPOSED:
                if place and calm:
                    self._queue.hold(key, IN_TURN, timeout=place * apart)
                place += 1
                continue
            self._queue.hold(key, ALONE)
            if finding.backoff is None:
                self._timelines.record(key, "suspected", reason=finding.reason)
                continue
            record = self.suspects.record(key)
            deaths = record.deaths if record is not None else 1
            self._timelines.record(key, "convicted", reason=finding.reason, deaths=deaths)
            if key in foreign:
                self._queue.hold(key, BACKOFF_LEFT, timeout=finding.backoff)
            self.on_conviction(Conviction(key, finding, deaths))
        self._look()
        return findings

    def excuse(self, worker: str) -> list[RequestKey]:
        """The death of ``worker`` had another cause than its work: what it made of keys is taken back. Returns them."""
        changed = self.suspects.excuse(worker)
        self._look()
        for key, before in changed.items():
            if before is Level.CONVICTED:  # it need not wait for the end of its backoff
                self._queue.release(key, BACKOFF_LEFT)
                self._queue.add(key, tier=self._queue.policy.background, priority=Priority.SYSTEM, reason=Reason.WORKER_LOST)
            if before >= Level.SUSPECT and key not in self.suspects:
                self._release(key, f"the death of {worker} had another cause")
        return list(changed)

    # alone

    def pull(self, worker: str) -> Item | None:
        """Hand out the next suspect that is due to a worker that has nothing else in work; None if there is none."""
        for key in self.suspects.turns():
            item = self._queue.pull_held(worker, key, ALONE)
            if item is not None:
                self.suspects.started(key)
                self._running.add(key)
                return item
        return None

    def made_due(self, key: RequestKey, real: bool) -> None:
        """Something happened that ``key`` is due for; a ``real`` change does not wait for a backoff."""
        if key in self.suspects:
            self.stirred = True
            if real:
                self._queue.release(key, BACKOFF_LEFT)

    def forgive(self, controller: str) -> list[RequestKey]:
        """The controller has new code: its convicted keys run alone, and need not wait before. Returns them."""
        found = [key for key, record in self.suspects.alone() if key.controller == controller and record.level is Level.CONVICTED]
        for key in found:
            self._queue.release(key, BACKOFF_LEFT)
        return found

    def ended(self, key: RequestKey, succeeded: bool) -> None:
        """A hand-out has been acknowledged, and the queue has its key back."""
        self.returned(key)
        if key in self.suspects and self.suspects.ended(key, succeeded, self._clock.now()):
            self._release(key, "it ran alone, and its worker lives")

    def returned(self, key: RequestKey) -> None:
        """A hand-out has ended without a result."""
        self._running.discard(key)
        self.stirred = True

    def due(self) -> bool:
        """Whether a suspect runs, or would if there were a worker for it."""
        now = self._clock.now()
        return bool(self._running) or any(self._queue.held_due(key) <= now for key, _ in self.suspects.alone())

    def _release(self, key: RequestKey, reason: str) -> None:
        self._running.discard(key)
        self._look()
        self._timelines.record(key, "cleared", reason=reason)
        self._queue.release(key, ALONE)

    def _look(self) -> None:
        """The suspects may have changed."""
        self.active, self.stirred = len(self.suspects) > 0, True

    # hand-over, and keys that leave

    def export(self, key: RequestKey) -> Suspicion | None:
        """See ``Suspects.export``."""
        return self.suspects.export(key, self._clock.now()) if self.suspects.level(key) else None

    def adopt(self, suspicions: Mapping[RequestKey, Suspicion]) -> None:
        """Take over what a predecessor held against these keys, with ages as they are now; before its queue is restored."""
        now = self._clock.now()
        for key, suspicion in suspicions.items():
            if self.suspects.adopt(key, suspicion, now) >= Level.SUSPECT:
                self._queue.hold(key, ALONE)
        self._look()

    def forget_where(self, drops: Callable[[RequestKey], bool]) -> None:
        """These keys have left the fleet, or the shard."""
        for key in self.suspects.forget_where(drops):
            self._running.discard(key)
            self._queue.release(key, ALONE)
        self._look()

    # answers

    def alone(self) -> list[tuple[RequestKey, SuspectRecord]]:
        """The keys that run alone, those convicted first, then the newest."""
        return sorted(self.suspects.alone(), key=lambda each: (each[1].level, each[1].since), reverse=True)
