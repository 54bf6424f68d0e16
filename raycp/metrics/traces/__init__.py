"""Traces of changes, for OpenTelemetry: where the time of one change went, from its watch event to each API request.

The path of a span: a shard or a worker makes a ``SpanRecord`` when the step has ended and gives it to its ``ChangeTracer``, which
puts it into a bounded queue of the SDK; a thread of the SDK's own sends batches to the collector. Nothing here waits for the
collector, and without an endpoint nothing of OpenTelemetry is imported.

- ``identity``: the ids of traces and spans, derived from the change and the hand-out, so that processes agree without asking;
  sampling;
- ``settings``: whether, where and how many: of the fleet file and the standard environment variables;
- ``span_record``: one span, as shards and workers make it;
- ``attributes``: their names;
- ``header_file``: the file with headers;
- ``collector_session``: requests to the collector, which bound what it answers;
- ``pipeline``: the SDK's processor and exporter. The only module, with ``collector_session``, that imports OpenTelemetry or
  ``requests``;
- ``tracer``: ``ChangeTracer``, what shards and workers hold, and ``TraceExport``, which follows the fleet file.
"""

from raycp.metrics.traces.attributes import object_attributes
from raycp.metrics.traces.identity import TraceIdentity, span_id, trace_id, traceparent
from raycp.metrics.traces.settings import TraceSettings, TraceSettingsError, trace_settings
from raycp.metrics.traces.span_record import SpanContext, SpanKind, SpanRecord
from raycp.metrics.traces.tracer import ChangeTracer, TraceExport

__all__ = [
    "ChangeTracer",
    "SpanContext",
    "SpanKind",
    "SpanRecord",
    "TraceExport",
    "TraceIdentity",
    "TraceSettings",
    "TraceSettingsError",
    "object_attributes",
    "span_id",
    "trace_id",
    "trace_settings",
    "traceparent",
]
