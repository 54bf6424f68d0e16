"""The console's memory: an hour of history and the newest changes, kept over the observer's end.

Measured while the fleet leads; a standby fleet's observer goes on with the other's at a switch. ``hub_checkpoint`` stores it in the
hub, at most ``MOST_BYTES``: where a fleet is too large for that, with fewer points of its clusters.
"""

import asyncio
import secrets
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.deflated import inflated
from raycp.metrics import Merger
from raycp.observer.activity import ActivitySample, SampleGain, activity_sample, failing_objects
from raycp.observer.audit import ActionRecord
from raycp.observer.change_feed import ChangeFeed
from raycp.observer.changes import ChangeKind, ChangeLevel, FleetChange, changes_between
from raycp.observer.facts import FleetFacts, facts_of
from raycp.observer.history import FLEET_SERIES, POINTS, STEP, FleetHistory, Metric, SavedHistory, Values
from raycp.observer.status_feed import SILENT_AFTER, StatusFeed
from raycp.observer.view import Json
from raycp.protocol.plan import Plan
from raycp.protocol.report import FailureReport
from raycp.protocol.status import FleetStatus

SETTLED = 0.05
"""Seconds after a step's begin at which its point is taken: a timer that ends early does not take it in the step before."""

CHANGES_EVERY = 2.0
"""Seconds between two looks at what has changed."""

STORED_EVERY = 30.0
"""Seconds between two checkpoints, at least: what an observer loses that dies."""

RESTORED_WITHIN = 30.0
"""Seconds for which changes are not looked for while the stored state is waited for, since they are seen against that."""

FORMAT = 1
"""Of what is stored."""

MOST_BYTES = 640_000
"""Of what is stored, compressed: a record of the hub holds 900 kB of base64."""

LATEST = 253_402_300_800.0
"""The year 10000, in Unix seconds: no time of a change is later."""


class _Saved(msgspec.Struct):
    format: int
    history: SavedHistory
    changes: list[FleetChange]
    facts: FleetFacts | None


class _Format(msgspec.Struct):
    format: int


class Chronicle:
    """One per observer. ``slo`` is the report of the service levels, ``plan`` the newest plan, None before the first; ``restored``
    says whether the stored state has been taken over."""

    def __init__(
        self,
        clock: Clock,
        feed: StatusFeed,
        merger: Merger,
        slo: Callable[[], list[dict[str, Any]]],
        plan: Callable[[], Plan | None],
        restored: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._merger = merger
        self._slo = slo
        self._plan = plan
        self._restored = restored
        self._history = FleetHistory(clock)
        self._changes = ChangeFeed()
        self._facts: FleetFacts | None = None
        self._sample: ActivitySample | None = None
        self._leads_since: float | None = None
        self._instance = secrets.token_hex(4)

    async def measure(self) -> None:
        """Wait for the next step, and add its point."""
        await self._clock.sleep(self._history.next_step() + SETTLED)
        await self.sample()

    async def sample(self) -> None:
        """Add the point of the present step. The first of all, and of one that leads, is only what the next is counted from."""
        if not self._leads() or not self._is_complete():
            self._sample = None
            return
        now = self._clock.now()
        taken = await asyncio.to_thread(activity_sample, self._merger.merged(), now)
        before = self._sample
        if before is not None and taken.at - before.at < STEP / 2:
            return  # too short for a rate: the next point has it
        self._sample = taken
        if before is None:
            return
        status = self._feed.current()
        self._history.add(_values(status, SampleGain(before, taken), *self._feed.failures()))
        self._history.keep([row.name for row in status.controllers], [row.name for row in status.clusters])

    async def look(self) -> None:
        """See what has changed since the last look."""
        if not self._leads():
            self._facts = None
            return
        status, plan, now = self._feed.current(), self._plan(), self._clock.wall()
        if not status.fleet or not self._may_look():
            return
        failures = self._feed.failures()[0] if self._feed.complete() else None
        facts = facts_of(status, plan, failures, self._slo(), self._facts, now)
        before, self._facts = self._facts, facts
        self._changes.add(changes_between(before, facts, now))

    def answer(self, instance: str, after: int, seq: int) -> Json:
        """See ``View.history``."""
        if instance != self._instance:
            after, seq = -1, 0
        self._history.catch_up()
        points = self._history.since(after)
        found: Json = {
            "instance": self._instance,
            "stepSeconds": STEP,
            "last": self._history.last,
            "at": self._history.ends(),
            "points": max(0, min(POINTS, self._history.last - after)),
            "fleet": points.get(FLEET_SERIES, {}),
            "controllers": {name: series for (of, name), series in points.items() if of == "controller"},
            "clusters": {name: series for (of, name), series in points.items() if of == "cluster"},
            "seq": self._changes.seq,
        }
        return found | {"changes": self.changes(seq)}

    def changes(self, seq: int = 0) -> list[Json]:
        """See ``View.changes``."""
        return [msgspec.to_builtins(row) for row in self._changes.since(seq)]

    def checkpoint(self) -> bytes:
        """What ``restore`` takes. Raises ``ValueError`` where it is too large even without its clusters."""
        for of_clusters in (POINTS, POINTS // 2, POINTS // 4, 0):
            state = _Saved(FORMAT, self._history.dump(of_clusters), self._changes.rows(), self._facts)
            packed = zlib.compress(msgspec.msgpack.encode(state), 6)
            if len(packed) <= MOST_BYTES:
                return packed
        raise ValueError(f"it has {len(packed)} bytes, more than the {MOST_BYTES} that fit into a record")

    def restore(self, saved: bytes) -> None:
        """Go on with what was stored; own points and changes come after it.

        Raises ``ValueError`` for bytes that are no checkpoint of this format, and then notes that the history begins anew.
        """
        try:
            state = _unpacked(saved)
            self._history.load(state.history)
        except ValueError as error:
            self._note(ChangeLevel.WARN, "began anew", f"what was stored is refused: {error}")
            raise
        own = self._facts is not None
        self._changes.load(state.changes)
        self._facts = self._facts if own else state.facts
        self._instance = secrets.token_hex(4)
        missing = self._clock.wall() - state.history.ends
        if missing >= 2 * STEP:
            self._note(ChangeLevel.NOTE, "continued", f"nobody measured for {missing:.0f} s")

    def acted(self, record: ActionRecord) -> None:
        """Somebody has used one of the console's actions."""
        level = ChangeLevel.NOTE if record.status < 400 else ChangeLevel.WARN
        what, kind = f"{record.action} by {record.by}", ChangeKind.ACTION
        subject, text = record.about, record.outcome
        made = FleetChange(at=record.at, kind=kind, level=level, subject=subject, what=what, text=text, section="actions")
        self._changes.add([made])

    def _note(self, level: ChangeLevel, what: str, text: str) -> None:
        at = self._clock.wall()
        self._changes.add([FleetChange(at=at, kind=ChangeKind.HISTORY, level=level, subject="observer", what=what, text=text)])

    def _leads(self) -> bool:
        plan = self._plan()
        leads = plan is not None and plan.following is None
        if not leads:
            self._leads_since = None
        elif self._leads_since is None:
            self._leads_since = self._clock.now()
        return leads

    def _is_complete(self) -> bool:
        """While the members of a new observer report for the first time, what they had counted before is no rate."""
        return bool(self._feed.current().fleet) and (self._feed.complete() or self._led_for(SILENT_AFTER))

    def _may_look(self) -> bool:
        return self._restored() or self._led_for(RESTORED_WITHIN)

    def _led_for(self, seconds: float) -> bool:
        return self._leads_since is not None and self._clock.now() - self._leads_since > seconds


def _unpacked(saved: bytes) -> _Saved:
    try:
        content = inflated(saved)
    except ValueError as error:
        raise ValueError(f"this is no history: {error}") from error
    try:
        found = msgspec.msgpack.decode(content, type=_Format).format
        if found != FORMAT:
            raise ValueError(f"it has format {found}, and this release reads format {FORMAT}")
        state = msgspec.msgpack.decode(content, type=_Saved)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"this is no history: {error}") from error
    if strange := next((at for row in state.changes for at in (row.at, row.first_at) if not 0.0 <= at < LATEST), None):
        raise ValueError(f"it has a change at {strange}, which is no time")
    return state


def _values(status: FleetStatus, gain: SampleGain, failures: list[FailureReport], failing: int) -> Values:
    found: dict[tuple[str, str], tuple[float | None, ...]] = {}
    objects, total = failing_objects(failures), {Metric.RATE: 0.0, Metric.ERRORS: 0.0}
    for row in status.controllers:
        rate, errors, p99 = gain.controller(row.name)
        total[Metric.RATE] += rate
        total[Metric.ERRORS] += errors
        found["controller", row.name] = rate, errors, p99, gain.last.ready.get(row.name, 0.0), objects.get(row.name, 0)
    for cluster in status.clusters:
        _, errors, p99 = gain.cluster(cluster.name)
        found["cluster", cluster.name] = p99, errors
    depth = sum(lane.ready for lane in status.lanes)
    found[FLEET_SERIES] = total[Metric.RATE], total[Metric.ERRORS], gain.p99_of_all(), depth, failing
    return found
