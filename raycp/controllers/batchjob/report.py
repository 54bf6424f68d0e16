"""``describe``: the result of a step, as a status."""

from collections import Counter
from typing import Any

from raycp.base.tasks import CLUSTER
from raycp.controllers.batchjob.admission import describe_admission
from raycp.controllers.batchjob.limits import limits
from raycp.controllers.batchjob.obstacles import placement, released, waits_for
from raycp.controllers.batchjob.record import Tally
from raycp.controllers.batchjob.step import JobStep
from raycp.sdk import conditions

_CREATED, _GOING = 1.0, 0.5
"""Seconds until Pods that were created, and those that were deleted or let go, are looked at again: the status counts those that
exist, one that no kubelet holds is gone at once, and our own writes requeue no key (law 8)."""


def describe(step: JobStep) -> None:
    """Write the record as a status."""
    record, out = step.record, step.out
    _count_clusters(step)
    _unreachable(step)
    active = sum(tally.active for tally in record.clusters.values())
    ready = sum(tally.ready for tally in record.clusters.values())
    placement(step)
    describe_admission(step)
    released(step)
    if not step.finished and (active or not step.idle):
        whole = active > 0 and ready == active
        step.condition("PodsReady", whole, *(("AllReady", "") if whole else waits_for(step)))
    else:  # there are none that could be
        conditions.remove(record.conditions, "PodsReady")
    going = {(pod.cluster, pod.name) for pod in out.ends if not pod.ended}
    terminating = sum(pod.terminating or (pod.cluster, pod.name) in going for pod in step.present)
    if going or any(not pod.ended for pod in out.releases):
        out.settles_after = _GOING
    elif out.creates:
        out.settles_after = _CREATED
    status = record.write(
        step.job.generation,
        terminating,
        _phase(step, active),
        indexed=step.spec.indexed,
        limited=step.spec.backoff_limit_per_index is not None,
    )
    status |= limits(step)
    if (decision := step.job.status.get("admission")) is not None:
        status["admission"] = decision  # the scheduler's
    out.status = _for_people(step, status)


def _count_clusters(step: JobStep) -> None:
    """``active`` counts what is seen: a Pod that is yet to be created may be refused."""
    live = Counter(pod.cluster for pod in step.live)
    ready_in = Counter(pod.cluster for pod in step.live if pod.ready)
    for name in live:
        step.record.tally(name)
    waited_for = set(step.record.assigned.values())
    for name, tally in step.record.clusters.items():
        cluster = step.clusters.get(name)
        visible = cluster is not None and cluster.visible
        # A finished job waits for no cluster, and is not written again whenever one that it used is lost or returns.
        tally.reachable = visible or step.finished
        tally.message = "" if tally.reachable else (cluster.reason if cluster else "") or "not reachable"
        if visible:
            tally.active, tally.ready = live[name], ready_in[name]
        elif name not in waited_for:  # nothing is assumed to run there: it was forgotten, or replaced
            tally.active = tally.ready = 0
    _leave_out(step)


def _leave_out(step: JobStep) -> None:
    """Clusters that the job has left without a trace, seen to be so: it is deleted without waiting for them."""
    kept = {pod.cluster for pod in step.present} | {made.cluster for made in step.out.creates} | set(step.record.assigned.values())
    for name, tally in list(step.record.clusters.items()):
        if name not in kept and step.visible(name) and tally == Tally():
            del step.record.clusters[name]


def _unreachable(step: JobStep) -> None:
    record, out = step.record, step.out
    lost = sorted(name for name in set(record.assigned.values()) if not step.visible(name))
    if lost and not step.finished:
        step.poll()
        out.waiting = out.waiting or CLUSTER
        message = f"can't reach {', '.join(lost)}; Pods there are assumed to be running"
        if step.condition("ClustersReachable", False, "ClusterUnreachable", message):
            out.events.append(("Warning", "ClusterUnreachable", message))
    elif conditions.get(record.conditions, "ClustersReachable"):
        step.condition("ClustersReachable", True, "Reachable", "")


def _for_people(step: JobStep, status: dict[str, Any]) -> dict[str, Any]:
    """With the texts that only ``kubectl get`` shows. They alone are no reason to write a status."""
    old = step.job.status
    texts = ("progress", "duration", "tier")
    if {key: value for key, value in old.items() if key not in texts} == status:
        return status | {key: old[key] for key in texts if key in old}
    record, spec = step.record, step.spec
    needed = f"{spec.completions}" if spec.completions is not None else "1"
    if spec.work_queue and spec.at_once > 1:
        needed += f" of {spec.at_once}"
    status["progress"] = f"{len(record.completed)}/{needed}"
    if record.start is not None:
        end = record.ended_at if step.finished else None
        # a printer column shows what is stored, which does not go on by itself: a running job has run that long at least
        status["duration"] = duration_text(step.now - record.start) + "+" if end is None else duration_text(end - record.start)
    if step.job.tier:
        status["tier"] = step.job.tier
    return status


def duration_text(seconds: float) -> str:
    """As ``kubectl`` writes durations (``HumanDuration`` of apimachinery), in two units at most."""
    total = max(0, int(seconds))
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"


def _phase(step: JobStep, active: int) -> str:
    if step.finished:
        return "Complete" if step.record.true("Complete") else "Failed"
    if step.ending():
        return "Completing" if step.record.true("SuccessCriteriaMet") else "Failing"
    if step.spec.suspend:
        return "Suspended"
    if step.admission.held and not active:
        return "Queued"
    return "Running" if active else "Pending"
