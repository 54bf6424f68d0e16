"""A queue's content on its way to another queue: from entries to ``Saved``, and back."""

import math
from collections.abc import Iterable, Mapping

from raycp.base.keys import RequestKey
from raycp.classify.verdict import Reason
from raycp.queueing.answers import Saved
from raycp.queueing.contents import Contents
from raycp.queueing.entry import Entry, KeyDemand, KeyPlace


def snapshot(contents: Contents, keys: Iterable[RequestKey] | None, now: float) -> list[Saved]:
    """All keys, in the order in which they came, or those of ``keys`` that are there."""
    entries = contents.entries
    chosen = entries.values() if keys is None else [entries[key] for key in keys if key in entries]
    return [_save(entry, contents.holds.reasons(entry.key), contents.lanes.ranks, now) for entry in chosen]


def restore(contents: Contents, saved: Iterable[Saved], hold_running: str | None, default: str, now: float) -> None:
    """Merge ``saved`` into ``contents``. ``default``: the tier of those whose tier is unknown here."""
    for each in saved:
        key = each.key
        if key.cluster in contents.leaving:
            continue
        reasons = each.holds if hold_running is None or not each.worker else [*each.holds, hold_running]
        tier = each.tier if each.tier in contents.lanes.by_name else default
        for why in reasons:
            contents.hold(key, why, math.inf, now, tier)
        if each.due:
            entry = contents.add(key, _demand(each, tier, now), now)
            entry.attempts = max(entry.attempts, each.attempts)
            entry.error = entry.error or each.error


def _save(entry: Entry, holds: list[str], ranks: Mapping[str, int], now: float) -> Saved:
    """``entry`` as a successor takes it over. What runs is due again there, merged with what was added while it ran."""
    tier, priority, reason, real, retry = entry.tier, entry.priority, entry.reason, entry.real, entry.retry
    delay, age, ready_for, worker, due = 0.0, now - entry.observed, now - entry.since, "", True
    pending = entry.pending
    if entry.state is KeyPlace.RUNNING:
        worker = entry.worker
        if pending is not None:
            if ranks[pending.tier] < ranks[tier]:
                tier = pending.tier
            priority, real = max(priority, pending.priority), real or pending.real
            retry = retry and not pending.real
    elif entry.state is KeyPlace.HELD and pending is None:
        real, ready_for, retry, due = False, 0.0, False, False
    elif entry.state is KeyPlace.HELD and pending is not None:
        tier, priority, reason, real, retry = pending.tier, pending.priority, pending.reason, pending.real, pending.retry
        delay, age, ready_for = max(0.0, pending.ready_at - now), now - pending.observed, max(0.0, now - pending.ready_at)
    elif entry.state is KeyPlace.DELAYED:
        delay, ready_for = max(0.0, entry.ready_at - now), 0.0
    return Saved(
        entry.key, tier, priority, reason, real, delay, age, ready_for, entry.attempts, retry, worker, holds, due, entry.error
    )


def _demand(saved: Saved, tier: str, now: float) -> KeyDemand:
    """What ``saved`` is due for, in a queue where its tier is ``tier``."""
    ready_at = now + saved.delay if saved.delay > 0.0 else now - saved.ready_for
    reason = Reason.INTERRUPTED if saved.worker else saved.reason
    return KeyDemand(tier, saved.priority, ready_at, reason, saved.real, now - saved.age, saved.retry)
