"""One span that has ended, as shards and workers make it; the exporter makes OpenTelemetry's form of it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class SpanKind(StrEnum):
    """The side of a span (OpenTelemetry, ``SpanKind``)."""

    INTERNAL = "internal"
    CLIENT = "client"
    CONSUMER = "consumer"


class SpanContext(NamedTuple):
    """What identifies a span."""

    trace: int
    span: int


class SpanRecord(NamedTuple):
    """``start`` and ``end`` in Unix seconds; ``parent`` is a span of the same trace, 0 for a root; ``error`` is None where it did
    not fail, else a text without secrets, which may be empty."""

    name: str
    context: SpanContext
    parent: int
    start: float
    end: float
    attributes: Mapping[str, str | int | float | bool]
    kind: SpanKind = SpanKind.INTERNAL
    links: tuple[SpanContext, ...] = ()
    error: str | None = None
