"""Between a member and the observer: statistics, and timelines on demand."""

import msgspec

from raycp.protocol.job_query import JobQuery


class Stats(msgspec.Struct, tag="stats", array_like=True):
    """A member's statistics, sent once a second: absolute values since its start. ``slo`` is empty except from shards. ``more``:
    the next frame's bytes are appended to each of these."""

    member: str
    generation: int
    metrics: bytes
    slo: bytes = b""
    report: bytes = b""
    more: bool = False


class Sync(msgspec.Struct, tag="sync", array_like=True):
    """A member that is about to end asks whether its last ``Stats`` have been handled; frames are handled in their order."""


class SyncDone(msgspec.Struct, tag="sync_done", array_like=True):
    """All frames before ``Sync`` have been handled."""


class TimelineQuery(msgspec.Struct, tag="timeline_query", array_like=True):
    """The observer asks a shard for the timeline of one object, over the connection that the shard opened; ``kind`` is
    ``str(GVK)``. Answered by ``TimelineReply``."""

    id: int
    cluster: str
    kind: str
    namespace: str
    name: str
    topic: str = ""
    """What is asked instead of the timeline: ``explain`` (of a job), ``jobs``, ``queues``, ``capacity``; an older member
    answers null."""
    jobs: JobQuery | None = None
    """Which jobs, of ``jobs``."""


class TimelineReply(msgspec.Struct, tag="timeline", array_like=True):
    """``body`` is JSON: an object, or null if the shard knows nothing of it."""

    id: int
    body: bytes
