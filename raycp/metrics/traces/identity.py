"""The ids of traces and spans. Pure.

A trace is one cause of one key's reconciles: the change, and the key. Its id is a digest of both, and a span's id one of the
trace and of the hand-out: shard and worker agree on parents, and every process on what is sampled, without telling one another.
"""

from hashlib import blake2b
from typing import NamedTuple

from raycp.base.keys import RequestKey

_HALF = 1 << 64


class TraceIdentity(NamedTuple):
    """A trace, and whether it is sampled."""

    trace: int
    sampled: bool


def trace_id(change: str, key: RequestKey) -> int:
    """The trace of what ``change`` caused for ``key``: 16 bytes, never 0 (W3C Trace Context, 3.2.2.3)."""
    return _digest("\0".join((change, *key)), 16)


def span_id(trace: int, what: str, number: int = 0) -> int:
    """A span of ``trace``: 8 bytes, never 0. ``what`` is ``root``, ``queue``, ``reconcile`` or ``call``; ``number`` tells those
    of one name apart: the hand-out's, or the request's."""
    return _digest(f"{trace:x} {what} {number}", 8)


def _digest(text: str, size: int) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=size).digest(), "big") or 1


def sampled(trace: int, ratio: float) -> bool:
    """Whether ``trace`` is one of the share ``ratio``, by the rule of OpenTelemetry's ``TraceIdRatioBased``: a collector or an API
    server that samples by it agrees."""
    return trace % _HALF < round(ratio * _HALF)


def traceparent(trace: int, span: int) -> str:
    """The header of a request within a sampled span (W3C Trace Context, 3.2)."""
    return f"00-{trace:032x}-{span:016x}-01"
