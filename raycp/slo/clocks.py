"""One clock per change, kept per key (law 9).

Rules:

1. A clock starts when the change is first observed and stops when a reconcile that was handed out after that has succeeded. A
   change that arrives during a reconcile waits for the next one.
2. Coalescing, retries, requeues, a worker's death and a hand-over to another process stop nothing and restart nothing.
3. A reconcile that ends with a declared wait (quota, capacity) succeeded but stops no clock: the time until the key is woken or
   handed out again is counted apart, as ``waited``.
4. A permanent failure stops the clock as missed. A change that is still open past an objective's threshold is charged to it at
   once (``sweep``), and not again when it ends: a change that never ends is counted too.
5. Kinds are never mixed: each pending change keeps its own kind, start and segments.

Expected order: ``started`` [``delayed`` | ``woken``]* ``handed_out`` (``done`` | ``returned``), again and again until nothing is
pending. Calls out of order are tolerated: unknown keys are ignored, since a clock must never break the queue.
"""

import heapq
import itertools
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.slo.clock_state import ChangeState, KeyState
from raycp.slo.objectives import Objective, Objectives
from raycp.slo.sample import JUDGED, Kind, Sample, Segments

SWEPT_AT_ONCE = 256
"""Thresholds that one ``sweep`` looks at: a few milliseconds of the shard's loop (law 5)."""

MAX_PENDING = 16
"""Changes of one key with clocks of their own; further ones join the last (older start, counted)."""

Phase = Literal["delay", "queue", "work", "waiting"]
DELAY, QUEUE, DISPATCH, WORK, API, WAITING = range(6)


class Overdue(msgspec.Struct, frozen=True, gc=False):
    """An open change that has just passed an objective's threshold."""

    key: RequestKey
    tier: str
    objective: Objective
    times: int


class _Change:
    __slots__ = ("at", "base", "charged", "kind", "lag", "observed", "open", "rv", "times", "version")

    def __init__(
        self, kind: Kind, version: int, observed: float, lag: float, base: list[float], times: int = 1, rv: int = 0
    ) -> None:
        self.kind = kind
        self.version = version
        self.rv = rv
        self.observed = observed
        self.lag = lag
        self.base = base
        self.times = times
        self.at = observed
        self.charged: frozenset[str] = frozenset()
        self.open = True


class _KeyClock:
    """``spent`` sums the phases since the key became active; a change's share is the difference to its ``base``."""

    __slots__ = ("attempts", "changes", "phase", "ready_at", "seen", "since", "spent", "tier", "waiting")

    def __init__(self, tier: str, since: float) -> None:
        self.tier = tier
        self.changes: list[_Change] = []
        self.seen = 0
        self.attempts = 0
        self.phase: Phase = "queue"
        self.since = since
        self.ready_at = 0.0
        self.waiting = ""
        self.spent = [0.0] * 6

    def reading(self, now: float) -> list[float]:
        """``spent`` as it will be at ``now``; time in work counts as dispatch until the worker reports more."""
        spent = self.spent.copy()
        passed = now - self.since
        if passed <= 0:
            return spent
        if self.phase == "delay":
            delayed = min(passed, max(0.0, self.ready_at - self.since))
            spent[DELAY] += delayed
            spent[QUEUE] += passed - delayed
        elif self.phase == "queue":
            spent[QUEUE] += passed
        elif self.phase == "waiting":
            spent[WAITING] += passed
        else:
            spent[DISPATCH] += passed
        return spent

    def waited(self, now: float) -> float:
        """The declared waits of ``reading``."""
        return self.spent[WAITING] + (max(0.0, now - self.since) if self.phase == "waiting" else 0.0)

    def enter(self, phase: Phase, now: float) -> None:
        self.spent = self.reading(now)
        self.phase = phase
        self.since = max(self.since, now)


class SliClocks:
    """The clocks of one shard. Single-threaded; a change costs a few microseconds in all."""

    def __init__(self, clock: Clock, objectives: Objectives | None = None) -> None:
        self._clock = clock
        self._objectives = objectives or Objectives()
        self._judges: dict[tuple[str, str], tuple[Objective, ...]] = {}
        self._keys: dict[RequestKey, _KeyClock] = {}
        self._due: list[tuple[float, int, RequestKey, _Change, Objective]] = []
        self._order = itertools.count()
        self._overdue: dict[str, int] = {}

    def __len__(self) -> int:
        """Keys with a clock running."""
        return len(self._keys)

    def set_objectives(self, objectives: Objectives) -> None:
        """Judge by other objectives from now on; open changes are watched for the new ones too."""
        self._objectives = objectives
        self._judges = {}
        self._due = []
        for key, state in self._keys.items():
            for change in state.changes:
                self._watch(key, state.tier, change)

    def started(
        self,
        key: RequestKey,
        kind: Kind,
        observed: float,
        *,
        tier: str = "standard",
        version: int = 0,
        lag: float = 0.0,
        rv: int = 0,
    ) -> None:
        """A change was observed at ``observed`` (this clock's seconds; for ``away`` when it was made, see ``away_start``).

        ``version`` is the object's version (docs/head-of-line.md), by which a change that is reported twice is counted once; 0 if
        unknown. ``lag`` is the known delay between API server and shard, which counts in the segments only. ``rv`` is the object's
        resourceVersion, which names the change (``Sample.change``).
        """
        now = self._clock.now()
        state = self._keys.get(key)
        if state is None:
            state = self._keys[key] = _KeyClock(tier, now)
            base = [0.0] * 6
        else:
            state.tier = tier
            base = state.reading(now)
        changes = state.changes
        if version and len(changes) > state.seen and (changes[-1].version, changes[-1].kind) == (version, kind):
            return
        if len(changes) - state.seen >= MAX_PENDING:
            for last in reversed(changes[state.seen :]):
                if last.kind == kind:
                    last.times += 1
                    last.observed = min(last.observed, observed)
                    self._count_overdue(last.charged, 1)
                    return
        change = _Change(kind, version, observed, lag + max(0.0, now - observed), base, rv=rv)
        change.at = now
        changes.append(change)
        self._watch(key, tier, change)

    def queued(
        self,
        key: RequestKey,
        *,
        kind: Kind | None = None,
        observed: float = 0.0,
        tier: str = "standard",
        version: int = 0,
        ready_at: float | None = None,
        rv: int = 0,
    ) -> None:
        """The key was queued: ``started`` where ``kind`` names a change, then ``delayed`` until ``ready_at`` or, without one,
        ``woken``."""
        if kind is not None:
            self.started(key, kind, observed, tier=tier, version=version, rv=rv)
        state = self._keys.get(key)
        if state is None:
            return
        if ready_at is not None:
            self.delayed(key, ready_at)
        elif state.phase in ("delay", "waiting"):
            state.enter("queue", self._clock.now())

    def retier(self, key: RequestKey, tier: str) -> None:
        """The key is judged by ``tier`` when it ends."""
        state = self._keys.get(key)
        if state is not None:
            state.tier = tier

    def delayed(self, key: RequestKey, ready_at: float) -> None:
        """The key is not ready before ``ready_at`` (backoff, spread)."""
        state = self._keys.get(key)
        if state is not None and state.phase != "work":
            if state.phase != "waiting":  # a declared wait continues through the polls that check it
                state.enter("delay", self._clock.now())
            state.ready_at = ready_at

    def woken(self, key: RequestKey) -> None:
        """The key is ready now: a real event cancelled its delay or ended its declared wait."""
        state = self._keys.get(key)
        if state is not None and state.phase in ("delay", "waiting"):
            state.enter("queue", self._clock.now())

    def handed_out(self, key: RequestKey) -> None:
        """A worker has the key; this reconcile will have seen the changes pending now."""
        state = self._keys.get(key)
        if state is not None:
            state.enter("work", self._clock.now())
            state.seen = len(state.changes)

    def returned(self, key: RequestKey) -> None:
        """The hand-out ended without a result: the worker died or was interrupted."""
        state = self._keys.get(key)
        if state is not None and state.phase == "work":
            state.enter("queue", self._clock.now())
            state.seen = 0
            state.attempts += 1

    def done(
        self,
        key: RequestKey,
        ok: bool,
        *,
        work: float = 0.0,
        api: float = 0.0,
        waiting: str = "",
        permanent: bool = False,
    ) -> list[Sample]:
        """The reconcile ended. ``work`` is the worker's time in seconds, ``api`` its part spent in API requests; ``waiting``
        declares what the object waits for; ``permanent`` means a failure that no retry follows."""
        state = self._keys.get(key)
        if state is None:
            return []
        now = self._clock.now()
        self._account(state, now, work, api)
        state.attempts += 1
        seen, state.seen = state.seen, 0
        if ok and waiting:
            state.phase = "waiting"
            state.waiting = waiting
            return []
        if not ok and not permanent:
            return []
        samples = [self._stop(key, state, change, now, ok) for change in state.changes[:seen]]
        state.changes = state.changes[seen:]
        if not state.changes:
            del self._keys[key]
        else:
            state.attempts = 0
            state.waiting = ""
        return samples

    def drop(self, key: RequestKey) -> None:
        """This key is no longer reconciled (controller or cluster removed): no sample."""
        state = self._keys.pop(key, None)
        for change in state.changes if state else ():
            self._close(change)

    def drop_where(self, *, controller: str | None = None, cluster: str | None = None) -> int:
        """``drop`` all keys of a controller or cluster. Returns how many."""
        dropped = [k for k in self._keys if controller in (None, k.controller) and cluster in (None, k.cluster)]
        for key in dropped:
            self.drop(key)
        return len(dropped)

    def sweep(self) -> list[Overdue]:
        """Open changes that have passed an objective's threshold since the last call, a part of them while ``sweeps`` says that
        there are more. Call it about once a second."""
        now = self._clock.now()
        found: list[Overdue] = []
        for _ in range(SWEPT_AT_ONCE):
            if not self._due or self._due[0][0] >= now:
                break
            _, _, key, change, objective = heapq.heappop(self._due)
            state = self._keys.get(key)
            if not change.open or state is None or objective.name in change.charged:
                continue
            if not objective.judges(key.controller, state.tier):
                continue
            waited = state.waited(now) - change.base[WAITING]
            due = change.observed + objective.within + waited
            if due >= now:
                at = max(due, now + objective.within) if state.phase == "waiting" else due
                heapq.heappush(self._due, (at, next(self._order), key, change, objective))
                continue
            change.charged |= {objective.name}
            self._count_overdue((objective.name,), change.times)
            found.append(Overdue(key, state.tier, objective, change.times))
        return found

    @property
    def sweeps(self) -> bool:
        """Whether ``sweep`` has something to look at."""
        return bool(self._due) and self._due[0][0] < self._clock.now()

    @property
    def overdue(self) -> Mapping[str, int]:
        """How many open changes have passed the threshold of each objective, by its name."""
        return self._overdue

    def _count_overdue(self, names: Iterable[str], times: int) -> None:
        for name in names:
            self._overdue[name] = self._overdue.get(name, 0) + times

    def _close(self, change: _Change) -> None:
        change.open = False
        self._count_overdue(change.charged, -change.times)

    def oldest(self, kind: Kind = "user") -> float:
        """The age in seconds of the oldest open change of this kind, without declared waits; 0 if there is none."""
        now = self._clock.now()
        ages = [
            now - change.observed - (state.waited(now) - change.base[WAITING])
            for state in self._keys.values()
            for change in state.changes
            if change.kind == kind
        ]
        return max(ages, default=0.0)

    def export(self, keys: list[RequestKey] | None = None) -> list[KeyState]:
        """The clocks of ``keys`` (default all) as ages, for a hand-over; they go on here until dropped."""
        now, wall = self._clock.now(), self._clock.wall()
        out = []
        for key in self._keys if keys is None else keys:
            state = self._keys.get(key)
            if state is not None:
                changes = [
                    ChangeState(c.kind, c.version, now - c.observed, c.lag, c.times, c.base, sorted(c.charged), c.rv)
                    for c in state.changes
                ]
                waiting = state.waiting if state.phase == "waiting" else ""
                out.append(KeyState(key, state.tier, state.attempts, state.reading(now), waiting, changes, wall))
        return out

    def adopt(self, states: list[KeyState]) -> None:
        """Continue another process's clocks. Transit time counts as queue time; a host whose wall clock is behind loses none of the
        age. Of the changes that were observed here already (by a standby's own watch), those with an adopted version are dropped,
        and the others follow the adopted ones."""
        now, wall = self._clock.now(), self._clock.wall()
        for sent in states:
            passed = max(0.0, wall - sent.wall)
            mine = self._keys.get(sent.key)
            state = _KeyClock(sent.tier, now - passed)
            state.attempts, state.spent = sent.attempts, list(sent.spent)
            if sent.waiting:
                state.phase, state.waiting = "waiting", sent.waiting
            for c in sent.changes:
                change = _Change(c.kind, c.version, now - passed - c.age, c.lag, list(c.base), c.times, c.rv)
                change.charged = frozenset(c.charged)
                self._count_overdue(change.charged, change.times)
                state.changes.append(change)
                self._watch(sent.key, sent.tier, change)
            if mine is not None:
                adopted = {c.version for c in state.changes if c.version}
                base = state.reading(now)
                for change in mine.changes:
                    if change.version in adopted:
                        self._close(change)
                    else:
                        change.base = base
                        state.changes.append(change)
            if state.changes:
                self._keys[sent.key] = state

    def _watch(self, key: RequestKey, tier: str, change: _Change) -> None:
        if change.kind not in JUDGED:
            return
        judges = self._judges.get((key.controller, tier))
        if judges is None:
            judges = self._judges[key.controller, tier] = self._objectives.of(key.controller, tier, change.kind)
        for objective in judges:
            entry = (change.observed + objective.within, next(self._order), key, change, objective)
            heapq.heappush(self._due, entry)

    def _account(self, state: _KeyClock, now: float, work: float, api: float) -> None:
        passed = max(0.0, now - state.since)
        if state.phase != "work":  # a late or doubled acknowledgement
            state.enter("queue", now)
            return
        work = min(max(0.0, work), passed)
        api = min(max(0.0, api), work)
        state.spent[DISPATCH] += passed - work
        state.spent[WORK] += work - api
        state.spent[API] += api
        state.phase = "queue"
        state.since = now
        for change in state.changes[state.seen :]:  # came during this reconcile and waited for its end: that is dispatch
            change.base = state.spent.copy()
            change.base[DISPATCH] -= now - change.at

    def _stop(self, key: RequestKey, state: _KeyClock, change: _Change, now: float, ok: bool) -> Sample:
        self._close(change)
        spent, base = state.spent, change.base
        waited = spent[WAITING] - base[WAITING]
        return Sample(
            key=key,
            tier=state.tier,
            kind=change.kind,
            seconds=max(0.0, now - change.observed - waited),
            waited=waited,
            ok=ok,
            attempts=state.attempts,
            segments=Segments(change.lag, *(max(0.0, spent[i] - base[i]) for i in (DELAY, QUEUE, DISPATCH, WORK, API))),
            times=change.times,
            waiting=state.waiting,
            charged=change.charged,
            rv=change.rv,
        )


def away_start(clock: Clock, changed_at: float, ramp_up: float, server_ahead: float = 0.0) -> float:
    """The start of the clock of a change made while no shard watched, in ``clock.now()`` seconds; never later than now.

    ``changed_at`` is the newest ``managedFields[].time``, in Unix seconds by the server's clock, which is ``server_ahead`` seconds
    ahead of ours (by its ``Date`` header). Where it is 0 (none), the clock starts at ``ramp_up``.
    """
    now = clock.now()
    if changed_at <= 0:
        return min(ramp_up, now)
    return min(now, now - (clock.wall() - (changed_at - server_ahead)))
