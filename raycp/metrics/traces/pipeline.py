"""``SpanPipeline``: spans on their way to the collector, by the SDK's batch processor and its OTLP exporter.

The caller never waits: ``emit`` puts a span into a queue in memory, a thread of the SDK's own sends it. What finds the queue full
is dropped and counted, and so is what the collector does not take within the exporter's deadline and retries. A span is made here
when it has ended, with ids that are given: the SDK's own ``Tracer`` would choose its own.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, TraceFlags
from opentelemetry.trace import SpanContext as ApiContext
from opentelemetry.trace import SpanKind as ApiKind
from opentelemetry.trace.status import Status, StatusCode

from raycp.metrics.traces.collector_session import CollectorSession
from raycp.metrics.traces.settings import TraceSettings
from raycp.metrics.traces.span_record import SpanContext, SpanKind, SpanRecord

log = logging.getLogger(__name__)

MOST_WAITING = 4096
"""Spans that wait to be sent: a kilobyte each."""

EVERY = 1.0
"""Seconds between two batches, unless one is full before."""

BATCH = 512

_SCOPE = InstrumentationScope("raycp")
_KINDS = {SpanKind.INTERNAL: ApiKind.INTERNAL, SpanKind.CLIENT: ApiKind.CLIENT, SpanKind.CONSUMER: ApiKind.CONSUMER}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_EXPORTER_LOG = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")


class _ExportThread(threading.local):
    """Whether this thread exports for raycp at the moment."""

    busy = False


_THREAD = _ExportThread()


class _NotOurs(logging.Filter):
    """The exporter logs what the collector answers, which may repeat a token. ``SpanPipeline`` reports its failures itself; those
    of an author who uses the same exporter stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _THREAD.busy


_QUIET = _NotOurs()


def _export(exporter: OTLPSpanExporter, spans: Sequence[ReadableSpan]) -> SpanExportResult:
    _EXPORTER_LOG.addFilter(_QUIET)
    _THREAD.busy = True
    try:
        return exporter.export(spans)
    finally:
        _THREAD.busy = False


def probe(settings: TraceSettings, seconds: float) -> str:
    """Why the collector does not take an empty batch from this machine, within ``seconds``; empty where it takes it."""
    session = CollectorSession(settings.headers_file)
    exporter = OTLPSpanExporter(settings.endpoint, session=session, timeout=seconds)
    try:
        taken = _export(exporter, []) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
    return "" if taken else session.problem or "it does not answer"


class _CountingExporter(SpanExporter):
    """Counts what becomes of spans. Written by the processor's thread, and by one that flushes, under the processor's lock."""

    def __init__(self, exporter: OTLPSpanExporter, session: CollectorSession, reported: Callable[[str], None]) -> None:
        self.taken = self.exported = self.failed = 0
        self.closed = False
        self._exporter = exporter
        self._session = session
        self._reported = reported

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        if self.closed:
            return SpanExportResult.FAILURE
        result, problem = SpanExportResult.FAILURE, "the spans could not be encoded"
        try:
            result = _export(self._exporter, spans)
            problem = self._session.problem or problem
        finally:
            # Counted last: who reads from another thread that so many have failed, or gone, finds the reason that belongs to it.
            if result is SpanExportResult.SUCCESS:
                self._reported("")
                self.exported += len(spans)
            else:
                self._reported("" if self.closed else problem)
                self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        if not self.closed:
            self.closed = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # ends its waiting between two attempts


class SpanPipeline:
    """See the module. ``resource``: attributes of this process; ``every``: seconds between two batches; ``most``: spans that wait.
    ``emit`` is for one thread; the counters may be read from any."""

    def __init__(
        self, settings: TraceSettings, resource: Mapping[str, str], *, every: float, most: int = MOST_WAITING
    ) -> None:
        self.dropped = 0
        """Spans that found the queue full."""
        self.problem = ""
        """Why the last batch was not exported; empty where it was."""
        self._emitted = 0
        self._most = most
        self._resource = Resource.create(_unnamed(resource))
        session = CollectorSession(settings.headers_file)
        self._exporter = _CountingExporter(OTLPSpanExporter(settings.endpoint, session=session), session, self._report)
        self._processor = BatchSpanProcessor(self._exporter, max(most, BATCH), every * 1000, min(most, BATCH))

    @property
    def exported(self) -> int:
        """Spans that the collector has taken."""
        return self._exporter.exported

    @property
    def failed(self) -> int:
        """Spans that it has not taken."""
        return self._exporter.failed

    def emit(self, record: SpanRecord) -> None:
        """Queue a span; drop it where the queue is full."""
        if self._emitted - self._exporter.taken >= self._most:
            self.dropped += 1
        elif not self._exporter.closed:
            self._emitted += 1
            self._processor.on_end(self._readable(record))

    def drop(self) -> None:
        """Count a span that the caller has no room for."""
        self.dropped += 1

    def flush(self, seconds: float) -> None:
        """Send what waits. Returns after ``seconds`` at the latest."""
        self._within(self._processor.force_flush, seconds)

    def close(self) -> None:
        """Send nothing more, and drop what waits. Does not wait."""
        self.dropped += self._emitted - self._exporter.taken
        self._exporter.shutdown()
        self._within(self._processor.shutdown, 0.0)

    @staticmethod
    def _within(step: Callable[[], object], seconds: float) -> None:
        """The SDK's own limits are 30 seconds, or none."""
        thread = threading.Thread(target=step, name="raycp-traces", daemon=True)
        thread.start()
        thread.join(seconds)

    def _report(self, problem: str) -> None:
        if problem and not self.problem:
            log.warning("traces are not exported: %s", problem)
        elif self.problem and not problem and not self._exporter.closed:
            log.info("traces are exported again")
        self.problem = problem

    def _readable(self, record: SpanRecord) -> ReadableSpan:
        context = record.context
        return ReadableSpan(
            record.name,
            _context(context),
            ApiContext(context.trace, record.parent, False, _SAMPLED) if record.parent else None,
            self._resource,
            record.attributes,
            links=[Link(_context(link)) for link in record.links],
            kind=_KINDS[record.kind],
            status=Status() if record.error is None else Status(StatusCode.ERROR, record.error or None),
            start_time=int(record.start * 1e9),
            end_time=int(max(record.start, record.end) * 1e9),
            instrumentation_scope=_SCOPE,
        )


def _context(context: SpanContext) -> ApiContext:
    return ApiContext(context.trace, context.span, False, _SAMPLED)


def _unnamed(resource: Mapping[str, str]) -> dict[str, str]:
    """``resource`` without the name of the service where the environment names it."""
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {name: value for name, value in resource.items() if name != "service.name" or not named}
