"""Law 3 as pure functions: how demands for one key become one.

Of two demands the merged one has the more urgent tier, the higher priority and the earlier time. A retry keeps its time
whatever else is added, unless that is real: only something real shortens a backoff.
"""

from collections.abc import Mapping

from raycp.classify.verdict import Reason
from raycp.queueing.entry import Entry, KeyDemand


def demand_of(entry: Entry, ready_at: float) -> KeyDemand:
    """What ``entry`` is queued for, or was handed out for."""
    return KeyDemand(entry.tier, entry.priority, ready_at, entry.reason, entry.real, entry.observed, entry.retry)


def merge(have: KeyDemand | Entry, more: KeyDemand, ranks: Mapping[str, int]) -> KeyDemand:
    """One demand for both. The reason is that of what raised the key. ``ranks``: tiers, the most urgent has the lowest."""
    higher = more.priority > have.priority
    sooner = more.ready_at < have.ready_at and (more.real or not have.retry)
    return KeyDemand(
        more.tier if ranks[more.tier] < ranks[have.tier] else have.tier,
        more.priority if higher else have.priority,
        more.ready_at if sooner else have.ready_at,
        more.reason if higher or (more.real and not have.real) else have.reason,
        have.real or more.real,
        have.observed,
        have.retry and not more.real,
    )


def after_failure(ran: KeyDemand, pending: KeyDemand | None, ready_at: float, ranks: Mapping[str, int]) -> KeyDemand:
    """The rerun of a key that failed: at ``ready_at``, the end of its backoff, whatever was added while it ran; when something
    real was, at that one's time."""
    if pending is not None and pending.real:
        ran = KeyDemand(ran.tier, ran.priority, pending.ready_at, pending.reason, True, ran.observed)
        return merge(pending, ran, ranks)
    tier = ran.tier if pending is None else _urgent(ran.tier, pending.tier, ranks)
    priority = ran.priority if pending is None else max(ran.priority, pending.priority)
    return KeyDemand(tier, priority, ready_at, Reason.RETRY, False, ran.observed, True)


def after_interruption(ran: KeyDemand, pending: KeyDemand | None, reason: str, ranks: Mapping[str, int]) -> KeyDemand:
    """The rerun of a key whose reconcile was cut off: as it was handed out, and at ``ran.ready_at``."""
    again = KeyDemand(ran.tier, ran.priority, ran.ready_at, reason, ran.real, ran.observed)
    if pending is not None:
        again = merge(pending, again, ranks)
    again.ready_at, again.observed = ran.ready_at, ran.observed
    again.retry = ran.retry and not again.real
    return again


def _urgent(one: str, other: str, ranks: Mapping[str, int]) -> str:
    return other if ranks[other] < ranks[one] else one
