"""A cluster that refuses the job's Pods has refused this job there, for a while, and nothing else (law 11).

1. What an API server says to a creation is a verdict on its cluster for this job, with a backoff that doubles from ``FIRST`` to
   ``LONGEST``; so is a Pod that its scheduler leaves pending (``moves``). The index that was refused has no Pod, and goes to
   another cluster.
2. After the backoff one Pod is tried there. When it is there, the verdict is void; where no node was found, when it has a node:
   until then the others stay where they are, else they would go back and forth for ever. An end of one of the job's Pods there,
   which may have made room, ends the backoff; a new generation of the job voids all verdicts.
3. The job fails only when its template is refused in every cluster in which it may run, and no cluster has ever taken one of its
   Pods. Quotas, policies and names that others have taken pass: the job waits.
"""

from dataclasses import dataclass, replace

import msgspec

from raycp.base.text import clean
from raycp.controllers.batchjob.cluster_record import PodRefusal, whole
from raycp.controllers.batchjob.job import NAME_TAKEN, PODS_REFUSED, TEMPLATE_REFUSED, UNSCHEDULABLE, JobCluster
from raycp.controllers.batchjob.step import JobStep, candidate_of
from raycp.kube.errors import ApiError
from raycp.scheduling import Candidate
from raycp.scheduling.eviction import REFUSED, REFUSED_LONGEST

FIRST, LONGEST = REFUSED, REFUSED_LONGEST
"""Seconds without new Pods after the first refusal, and at most."""

_TEMPLATE = frozenset({400, 413, 422})
_CALLING = "failed calling webhook"
"""The API server could not ask a webhook, and has refused the object therefore (status 500): nothing was stored."""


@dataclass(frozen=True, slots=True)
class _Words:
    reason: str
    message: str
    template: bool = False


def refused(error: ApiError, cluster: str, pod: str) -> _Words | None:
    """What the answer to the creation of ``pod`` (namespace/name) says of its cluster; None where it is no refusal: the Pod may
    exist, or will at the next attempt."""
    words = error.message or str(error)
    if error.already_exists:
        message = f"there is a Pod {pod} in cluster {cluster} that is not this job's; its name is free again when it is deleted"
        return _Words(NAME_TAKEN, message)
    if error.status in _TEMPLATE:
        return _Words(TEMPLATE_REFUSED, f"cluster {cluster} refuses the Pod: {words}", True)
    if error.status == 403 or error.not_found or (error.status == 500 and _CALLING in words):
        return _Words(PODS_REFUSED, f"cluster {cluster} refuses the Pod: {words}")
    return None


def note(step: JobStep) -> None:
    """The verdicts of the creations that were refused just now; those of an older generation are void, and so are those whose
    probe is there."""
    record = step.record
    stale = step.job.status.get("observedGeneration") not in (None, step.job.generation)
    there = {(pod.cluster, pod.index): pod.scheduled for pod in step.pods if not pod.given_up}
    for name, tally in record.clusters.items():
        found = tally.standing.refusal
        if found is None:
            continue
        probed = there.get((name, found.probe)) if found.probe is not None else None
        if stale or probed or (probed is False and found.reason != UNSCHEDULABLE):
            tally.standing.refusal = None
        elif found.probe is not None and record.assigned.get(found.probe) != name:
            tally.standing.refusal = replace(found, probe=None)
    noted: set[str] = set()
    for each in step.job.refused:
        if record.assigned.get(each.index) == each.cluster:
            del record.assigned[each.index]
        if each.cluster not in noted:
            noted.add(each.cluster)
            refuse(step, each.cluster, each.reason, each.message, template=each.template)


def refuse(step: JobStep, cluster: str, reason: str, message: str, *, template: bool = False, first: float | None = None) -> None:
    """The verdict, once more where it stands already; an Event has the words."""
    standing = step.record.tally(cluster).standing
    times = standing.refusal.times + 1 if standing.refusal is not None else 1
    first = FIRST if first is None else first
    wait = min(first * 2.0 ** min(times - 1, 30), max(first, LONGEST))
    message = clean(message)  # the status has one of each cluster
    standing.refusal = PodRefusal(reason, message, times, whole(step.now + wait), template)
    step.out.events.append(("Warning", reason, message))


def room_made(step: JobStep, cluster: str) -> None:
    """A Pod of the job has ended there: what was refused for want of room may be taken now."""
    standing = step.record.tally(cluster).standing
    if standing.refusal is not None and standing.refusal.until > step.now:
        standing.refusal = replace(standing.refusal, until=float(int(step.now)))


def standing_refusal(step: JobStep, cluster: str) -> PodRefusal | None:
    """The verdict on a cluster that takes no Pod now: its backoff lasts, or its probe is under way."""
    tally = step.record.clusters.get(cluster)
    found = tally.standing.refusal if tally is not None else None
    return found if found is not None and (found.until > step.now or found.probe is not None) else None


def open_to_one(step: JobStep, cluster: JobCluster) -> Candidate:
    """The cluster as placement sees it; where a verdict stands whose backoff is over, with room for its probe only."""
    found = candidate_of(cluster)
    tally = step.record.clusters.get(cluster.name)
    if tally is None or tally.standing.refusal is None:
        return found
    return msgspec.structs.replace(found, free_pods=1 if found.free_pods is None else min(1, found.free_pods))


def tried(step: JobStep, cluster: str, index: int) -> None:
    """``index`` was assigned to the cluster: where a verdict stands, its Pod is the probe."""
    tally = step.record.clusters.get(cluster)
    if tally is not None and tally.standing.refusal is not None and tally.standing.refusal.probe is None:
        tally.standing.refusal = replace(tally.standing.refusal, probe=index)


def refused_everywhere(step: JobStep) -> tuple[str, str] | None:
    """(reason, message) where every cluster in which the job may run refuses its template, and none has ever taken a Pod of it."""
    record = step.record
    if not any(each.template for each in step.job.refused) or step.pods or step.hidden():
        return None
    if record.completed or record.failed or any(tally.succeeded or tally.failed for tally in record.clusters.values()):
        return None
    words = []
    for name in step.eligible():
        tally = record.clusters.get(name)
        found = tally.standing.refusal if tally is not None else None
        if found is None or not found.template:
            return None
        words.append(found.message)
    return (TEMPLATE_REFUSED, "; ".join(dict.fromkeys(words))) if words else None
