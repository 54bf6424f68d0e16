"""The next step of a job whose spec can't be read: it was stored by a server without the rules, or by an older release. It fails
with the cause, unless its success or failure was decided before; what runs of it is ended first, since nobody could say any more
how many of it there should be."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raycp.controllers.batchjob.job import LONGEST_WAIT, POLL, JobCluster, JobPlan
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.record import JobRecord
from raycp.sdk import conditions

_GOING = 0.5
"""Seconds until Pods that were deleted are looked at again: our own writes requeue no key (law 8)."""
_REASON = "InvalidSpec"


@dataclass(frozen=True)
class UnreadableJob:
    """What is known of it. ``problem``: what is wrong with its spec."""

    status: Mapping[str, Any]
    problem: str
    tier: str = ""
    forgotten: frozenset[str] = frozenset()
    ttl: int | None = None
    """Seconds after its end when it is deleted, which the rest of its spec does not change."""


def wind_up(job: UnreadableJob, pods: Iterable[JobPod], clusters: Iterable[JobCluster], now: float) -> JobPlan:
    """``status`` of the result is empty where nothing changes. Ends that were not counted stay so. It waits for unreachable
    clusters in which Pods are assigned, unless they are forgotten by annotation."""
    status = job.status
    out = JobPlan()
    record = JobRecord.read(status)
    running = 0
    for pod in pods:
        if pod.ended:
            out.releases += [pod] if pod.tracked else []
        else:
            running += 1
            out.ends += [pod] if pod.tracked or pod.ends_at is None else []
    if record.true("Complete") or record.true("Failed"):
        _expire(out, job, record, now)
        return out
    visible = {cluster.name for cluster in clusters if cluster.visible}
    lost = set(record.assigned.values()) - visible - job.forgotten
    over = not running and not lost
    reached = record.true("SuccessCriteriaMet")
    target, end = ("SuccessCriteriaMet", "Complete") if reached else ("FailureTarget", "Failed")
    if not record.true(target):
        conditions.set(record.conditions, target, True, _REASON, job.problem, now=now)
        out.events.append(("Warning", _REASON, job.problem))
    if over:
        why = conditions.get(record.conditions, target)
        assert why is not None
        conditions.set(record.conditions, end, True, why["reason"], why["message"], now=now)
        record.completion = float(int(now)) if reached else record.completion
        record.assigned.clear()
        _expire(out, job, record, now)
    else:
        out.requeue_after = _GOING if running else POLL
    for name, tally in record.clusters.items():
        tally.reachable = name in visible or over
        if tally.reachable:
            tally.active = tally.ready = 0
    indexed = "completedSlots" not in status
    phase = end if over else "Completing" if reached else "Failing"
    out.status = record.write(None, running, phase, indexed=indexed, limited="failedIndexes" in status)
    out.status |= {"progress": status.get("progress") or f"{len(record.completed)}/-", "tier": job.tier}
    for kept in ("observedGeneration", "duration", "admission"):
        if kept in status:
            out.status[kept] = status[kept]
    return out


def time_to_live(spec: Mapping[str, Any]) -> int | None:
    """``ttlSecondsAfterFinished`` of a spec that can't be read as a whole; None where it is not stated, or no such number."""
    found = spec.get("ttlSecondsAfterFinished")
    return found if type(found) is int and found >= 0 else None


def _expire(out: JobPlan, job: UnreadableJob, record: JobRecord, now: float) -> None:
    if job.ttl is None:
        return
    left = (record.ended_at or now) + job.ttl - now
    if left <= 0:
        out.delete_job = True
    else:
        out.requeue_after = min(left, LONGEST_WAIT)
