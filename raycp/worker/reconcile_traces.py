"""Spans of a worker: each reconcile of a traced change, and each API request of it, with the ``traceparent`` header that the API
server continues the trace by (Kubernetes, "Traces For Kubernetes System Components").

A run's spans are made when it has ended: whether it failed decides whether one that is not sampled is exported.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

from raycp.base.clock import Clock
from raycp.base.keys import GVK
from raycp.base.tasks import Done, Outcome, Task
from raycp.base.text import message_of
from raycp.kube import ApiError, ClusterClient, KubeError
from raycp.metrics.recorder import scrub, scrub_error
from raycp.metrics.traces import ChangeTracer, SpanContext, SpanKind, SpanRecord, object_attributes, span_id, traceparent
from raycp.sdk.backend import Answer, ApiRequest

MOST_CALLS = 200
"""Requests of one reconcile that have a span; all of them have the header."""


class TracedRun:
    """One reconcile. Lives on the user loop."""

    def __init__(self, task: Task, tracer: ChangeTracer, clock: Clock) -> None:
        trace, self.sampled = tracer.identify(task.change, task.key)
        self.context = SpanContext(trace, span_id(trace, "reconcile", task.id))
        self.calls: list[SpanRecord] = []
        self.begun = 0
        self.started, self.clock = clock.now(), clock
        self._wall = clock.wall() - self.started

    def at(self, now: float) -> float:
        """Unix time of a reading of the clock: the spans of a run keep their order, whatever is done to the wall clock."""
        return self._wall + now


class TracedCall:
    """One API request of a traced reconcile; a context manager around it. ``raycp.kube`` asks it for headers before each send."""

    def __init__(self, run: TracedRun, method: str, call: ApiRequest) -> None:
        run.begun += 1
        self._run = run
        self._method = method
        self._call = call
        self._context = SpanContext(run.context.trace, span_id(run.context.trace, "call", run.context.span ^ run.begun))
        self._sent = 0
        self._status = 0
        self._address: tuple[str, int] | None = None
        self._path = ""
        self._what = call.kind.kind

    def headers(self) -> Mapping[str, str]:
        """See ``raycp.kube.guard.HeaderSource``."""
        self._sent += 1
        return {"traceparent": traceparent(*self._context)} if self._run.sampled else {}

    def to(self, client: ClusterClient, plural: str, path: str) -> None:
        """The server, the resource and the path of the request are known."""
        self._address = client.pool.target.host, client.pool.target.port
        self._what, self._path = plural, path

    def answered(self, answer: Answer) -> Answer:
        """The server has answered. Returns ``answer``."""
        self._status, self._path = answer.status, answer.path or self._path
        return answer

    def __enter__(self) -> None:
        self._started = self._run.clock.now()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        run, call = self._run, self._call
        if len(run.calls) >= MOST_CALLS:
            return
        what = f"{self._what}/{call.subresource}" if call.subresource else self._what
        attributes: dict[str, str | int | float | bool] = {
            "http.request.method": self._method,
            "k8s.cluster.name": call.cluster,
            "raycp.verb": call.verb,
            "raycp.kind": str(call.kind),
        }
        if call.namespace:
            attributes["k8s.namespace.name"] = call.namespace
        if call.name:
            attributes["raycp.name"] = call.name
        if self._path:
            attributes["url.path"] = self._path
        if self._address is not None:
            attributes["server.address"], attributes["server.port"] = self._address
        if self._sent > 1:
            attributes["http.request.resend_count"] = self._sent - 1
        status = error.status if isinstance(error, ApiError) else self._status
        if status:
            attributes["http.response.status_code"] = status
        failure: str | None = None
        if error is not None:
            attributes["error.type"] = str(status) if status else type(error).__name__
            failure = scrub(message_of(error)) if isinstance(error, KubeError) else ""
        start, end = run.at(self._started), run.at(run.clock.now())
        span = SpanRecord(
            f"{self._method} {what}", self._context, run.context.span, start, end, attributes, SpanKind.CLIENT, error=failure
        )
        run.calls.append(span)


class RunTraces(Protocol):
    """``ReconcileTraces``, as runs need them."""

    def begin(self, task: Task) -> None: ...

    def end(self, task: Task, done: Done, kind: GVK) -> None: ...


class ReconcileTraces:
    """One worker's, while traces are exported. Lives on the user loop."""

    def __init__(self, tracer: ChangeTracer, clock: Clock, worker: str) -> None:
        self._tracer = tracer
        self._clock = clock
        self._worker = worker
        self._runs: dict[tuple[str, int], TracedRun] = {}

    def begin(self, task: Task) -> None:
        """The reconcile of ``task``, which names its change, starts."""
        run = TracedRun(task, self._tracer, self._clock)
        if run.sampled or self._tracer.errors:
            self._runs[task.shard, task.id] = run

    def call(self, task: Task, method: str, call: ApiRequest) -> TracedCall | None:
        """A request of ``task`` begins; None where its reconcile is not traced."""
        run = self._runs.get((task.shard, task.id))
        return TracedCall(run, method, call) if run is not None else None

    def end(self, task: Task, done: Done, kind: GVK) -> None:
        """It has ended. ``kind``: what its controller reconciles."""
        run = self._runs.pop((task.shard, task.id), None)
        failed = done.outcome in (Outcome.RETRY, Outcome.PERMANENT)
        if run is None or not (run.sampled or failed):
            return
        attributes: dict[str, str | int | float | bool] = {
            **object_attributes(task.key, str(kind), task.change),
            "raycp.reason": task.reason,
            "raycp.tier": task.tier,
            "raycp.attempt": task.attempt,
            "raycp.worker": self._worker,
            "raycp.outcome": done.outcome.value,
            "raycp.writes": len(done.writes),
        }
        if run.begun > len(run.calls):
            attributes["raycp.calls_left_out"] = run.begun - len(run.calls)
        if done.waiting:
            attributes["raycp.waiting"] = scrub(done.waiting)
        if done.error_class:
            attributes["error.type"] = done.error_class
        trace = run.context.trace
        start, end = run.at(run.started), run.at(self._clock.now())
        error = scrub_error(done.error) if failed else None
        name, root = f"reconcile {task.key.controller}", span_id(trace, "root")
        self._tracer.emit(SpanRecord(name, run.context, root, start, end, attributes, error=error))
        for span in run.calls:
            self._tracer.emit(span)
