"""Spans of a shard: a change that it observes, and the wait of its key until a worker has it.

A trace is one cause of one key's reconciles: a change of an object (its id is that of ``raycp why``, log and exemplars:
``CLUSTER@RESOURCEVERSION``), or a wake without one (a resync, a poll, another shard), whose id has a suffix. Its spans:

| span | parent | from, to |
|---|---|---|
| ``update website`` | | the event's bytes arrived, the key was queued |
| ``queue standard`` | the first | queued, handed out: one for each hand-out |
| ``reconcile website`` | the first | of the worker, one for each hand-out |
| ``PATCH services`` | the reconcile | of the worker |

Several causes before one hand-out: the hand-out belongs to the trace of the first that is sampled, and links to the others; they
link to it. A reconcile that is tried again stays in its trace.

Kept are the keys that are queued or in work and whose cause is traced, ``MOST_KEYS`` of them. Nothing here waits, or fails a
change.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from raycp.base.clock import Clock
from raycp.base.events import Event, Source
from raycp.base.keys import GVK, RequestKey
from raycp.classify import Reason, Verdict
from raycp.metrics.traces import ChangeTracer, SpanContext, SpanKind, SpanRecord, object_attributes, span_id
from raycp.metrics.traces.attributes import Attributes
from raycp.queueing import Item

log = logging.getLogger(__name__)

Change = tuple[str, GVK, int]
"""As the ledger has it: cluster, kind and resourceVersion."""

MOST_KEYS = 50_000
MOST_CAUSES = 16
"""Causes of one hand-out that are kept."""

_RETRIED = ("failed", "returned")
_FAILED = ("failed", "gave_up")
_ENDS = frozenset({"succeeded", "waiting", *_RETRIED, *_FAILED})


class TraceCause(NamedTuple):
    """One cause of a key's reconcile. ``spans``: those of a trace that is not sampled, kept in case its reconcile fails."""

    change: str
    context: SpanContext
    """Of its first span."""
    sampled: bool
    spans: tuple[SpanRecord, ...] = ()


class TracedWait:
    """The causes of a key that waits, the first one first. ``since``: when it was queued, in Unix seconds."""

    __slots__ = ("causes", "since")

    def __init__(self, since: float) -> None:
        self.causes: list[TraceCause] = []
        self.since = since


class _Contained:
    """Whatever fails in here fails no change (law 11). Logged once."""

    logged = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception) and not self.logged:
            self.logged = True
            log.error("a change could not be traced", exc_info=error)
        return isinstance(error, Exception)


class ChangeTraces:
    """One shard's, while traces are exported. Lives on the shard's loop."""

    def __init__(self, tracer: ChangeTracer, clock: Clock, kind_of: Callable[[str], GVK | None]) -> None:
        self._tracer = tracer
        self._clock = clock
        self._kind_of = kind_of
        self._waiting: dict[RequestKey, TracedWait] = {}
        self._contained = _Contained()
        self._open: dict[RequestKey, TraceCause] = {}
        """The cause of each hand-out that has not ended."""

    def __len__(self) -> int:
        """Keys that are kept."""
        return len(self._waiting) + len(self._open)

    def received(
        self, key: RequestKey, verdict: Verdict, tier: str, event: Event | None, change: Change | None, origin: str, delay: float
    ) -> None:
        """``key`` was queued: because of ``event``, of an object in cluster ``origin``, or of ``change``, or as ``verdict`` says
        alone."""
        with self._contained:
            wall, reason = self._clock.wall(), verdict.reason.value
            began, source, cause = wall, "wake", ""
            if event is not None:
                began, source = wall - max(0.0, self._clock.now() - event.observed), event.source.value
                if event.obj.rv and event.source is not Source.RESYNC:
                    cause = f"{origin}@{event.obj.rv}"
            elif change is not None and verdict.reason is Reason.WATCHED:
                cause = f"{change[0]}@{change[2]}"
            self._add(key, cause, reason, tier, began, wall, source, delay)

    def _add(
        self, key: RequestKey, change: str, reason: str, tier: str, began: float, queued: float, source: str, delay: float
    ) -> None:
        """One more cause; without the id of a change the cause is a wake, with an id of its own."""
        kind = SpanKind.CONSUMER if change else SpanKind.INTERNAL
        change = change or f"{key.cluster}@{reason}-{int(queued * 1e6)}"
        trace, sampled = self._tracer.identify(change, key)
        if not sampled and not self._tracer.errors:
            return
        waiting = self._waiting.get(key)
        if waiting is None:
            if len(self) >= MOST_KEYS:
                self._tracer.drop()
                return
            waiting = self._waiting[key] = TracedWait(queued)
        first = _first(waiting.causes)
        span = SpanRecord(
            f"{reason} {key.controller}",
            SpanContext(trace, span_id(trace, "root")),
            0,
            began,
            queued,
            {
                **self._about(key, change),
                "raycp.reason": reason,
                "raycp.tier": tier,
                "raycp.source": source,
                "raycp.delay": delay,
            },
            kind,
            links=(first.context,) if first is not None and first.sampled else (),
        )
        if len(waiting.causes) < MOST_CAUSES:
            waiting.causes.append(TraceCause(change, span.context, sampled, () if sampled else (span,)))
        if sampled:
            self._tracer.emit(span)

    def handed_out(self, item: Item, identity: int, worker: str) -> str:
        """``item`` is handed out as the task of that id. Returns the id of the change whose trace it belongs to; empty where it
        is not traced."""
        with self._contained:
            return self._handed_out(item, identity, worker)
        return ""

    def _handed_out(self, item: Item, identity: int, worker: str) -> str:
        key = item.key
        if item.reason == Reason.POLL and key not in self._waiting:
            ready = self._clock.wall() - item.waited
            self._add(key, "", item.reason, item.tier, ready, ready, "poll", 0.0)
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return ""
        cause = _first(waiting.causes)
        assert cause is not None
        trace = cause.context.trace
        span = SpanRecord(
            f"queue {item.tier}",
            SpanContext(trace, span_id(trace, "queue", identity)),
            cause.context.span,
            waiting.since,
            self._clock.wall(),
            {
                **self._about(key, cause.change),
                "raycp.reason": item.reason,
                "raycp.tier": item.tier,
                "raycp.attempt": item.attempt,
                "raycp.worker": worker,
                "raycp.ready": item.waited,
            },
            links=tuple(each.context for each in waiting.causes if each is not cause and each.sampled),
        )
        if cause.sampled:
            self._tracer.emit(span)
        else:
            cause = cause._replace(spans=(*cause.spans, span))
        self._open[key] = cause
        return cause.change

    def step(self, at: float, what: str, key: RequestKey, fields: tuple[Any, ...] | dict[str, Any]) -> None:
        """A step of a key's timeline (``StepListener``): its hand-out may have ended."""
        if what in _ENDS and (cause := self._open.pop(key, None)) is not None:
            with self._contained:
                self._ended(at, what, key, cause)

    def _ended(self, at: float, what: str, key: RequestKey, cause: TraceCause) -> None:
        if what in _FAILED and cause.spans:
            for span in cause.spans:
                self._tracer.emit(span)
            cause = cause._replace(spans=())
        if what in _RETRIED:
            waiting = self._waiting.get(key)
            if waiting is None:
                waiting = self._waiting[key] = TracedWait(at)
            waiting.since = at
            waiting.causes.insert(0, cause)

    def forget(self, drops: Callable[[RequestKey], bool]) -> None:
        """A cluster or controller has left."""
        for kept in (self._waiting, self._open):
            for key in [key for key in kept if drops(key)]:
                del kept[key]

    def _about(self, key: RequestKey, change: str) -> Attributes:
        return object_attributes(key, str(self._kind_of(key.controller) or ""), change)


def _first(causes: list[TraceCause]) -> TraceCause | None:
    """The cause whose trace a hand-out belongs to."""
    return next((cause for cause in causes if cause.sampled), causes[0] if causes else None)
