"""``mend``: times in a status that no controller can have written at ``now`` are brought back into reach: a waiting that somebody
has damaged, or a clock that was ahead has begun, ends as if it had begun now."""

from dataclasses import replace

from raycp.controllers.batchjob.cluster_record import whole
from raycp.controllers.batchjob.refusals import LONGEST
from raycp.controllers.batchjob.step import JobStep
from raycp.sdk import conditions

_SKEW = 60.0
"""Seconds by which the clocks of two controllers may differ before a condition's time is one of the future."""


def mend(step: JobStep) -> None:
    """Bound every time by the longest wait that its kind has."""
    record, spec, now = step.record, step.spec, step.now
    backoff = whole(now + spec.retry_backoff.max_seconds)
    record.backoff_until = min(record.backoff_until, backoff)
    for index, until in record.waits.items():
        record.waits[index] = min(until, backoff)
    if record.start is not None:
        record.start = min(record.start, float(int(now)))
    refused = whole(now + max(LONGEST, spec.placement.unschedulable_toleration_seconds))
    for tally in record.clusters.values():
        standing = tally.standing
        if standing.refusal is not None and standing.refusal.until > refused:
            standing.refusal = replace(standing.refusal, until=refused)
        if standing.lost_at is not None:
            standing.lost_at = min(standing.lost_at, whole(now))
    for condition in record.conditions:
        at = conditions.parse_time(condition.get("lastTransitionTime"))
        if at is None or at > now + _SKEW:
            condition["lastTransitionTime"] = conditions.time_text(now)
