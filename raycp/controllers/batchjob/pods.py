"""A job's Pods: their names, and the state of an existing one."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raycp.controllers.batchjob.record import JobRecord
from raycp.controllers.batchjob.troubles import trouble_of, unschedulable_since
from raycp.sdk import conditions
from raycp.sdk.owner import Ownership

TRACKING = "batch.raycp.io/tracking"
"""Finalizer of a Pod whose end is not recorded in the status yet."""

INDEX = "batch.raycp.io/index"
ATTEMPT = "batch.raycp.io/attempt"
QUEUE = "raycp.io/queue"
"""Label of the Pods of an admitted job: its queue, perhaps none. The scheduler knows their room by the job's record."""

GIVEN_UP = "batch.raycp.io/given-up"
"""Annotation of a Pod that the controller ends itself (suspended, surplus, job over): its end is no failure."""

_NAME_LIMIT = 63  # a Pod's name is its host name
_LEEWAY = 5.0  # seconds after a Pod's grace period until it is assumed to have ended


@dataclass(frozen=True, slots=True)
class JobPod:
    """One Pod of the job, its times by our clock. ``ends_at``: Unix time at which its grace period is over, None while it is not
    being deleted; ``ready_changed``: when it became ready, or ceased to be; ``ended_at``: when its last container ended, None where
    that is not known. ``restarts`` of all its containers. ``raw`` is the object without its ``spec``, which is the job's template:
    of thousands of Pods it would be most of the memory. ``marked``: it carries the fleet's mark for this job, cluster and name.
    ``trouble``: (reason, message) of what keeps it from running; ``unschedulable_since``: Unix time since which its scheduler finds
    no node."""

    cluster: str
    name: str
    uid: str
    index: int
    attempt: int
    phase: str = "Pending"
    ready: bool = False
    tracked: bool = True
    given_up: bool = False
    scheduled: bool = True
    ends_at: float | None = None
    ready_changed: float = 0.0
    created: float = 0.0
    ended_at: float | None = None
    restarts: int = 0
    marked: bool = True
    trouble: tuple[str, str] | None = None
    unschedulable_since: float | None = None
    raw: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def ended(self) -> bool:
        """Its containers have stopped, for certain."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def terminating(self) -> bool:
        """It is being deleted and has not ended."""
        return self.ends_at is not None and not self.ended

    def overdue(self, now: float) -> bool:
        """It is being deleted, and no kubelet will report its end: its grace period is over, or it was never scheduled."""
        return self.terminating and (not self.scheduled or now >= (self.ends_at or 0.0) + _LEEWAY)

    @property
    def overdue_at(self) -> float:
        """When it will be ``overdue``."""
        return (self.ends_at or 0.0) + _LEEWAY


def read_pod(
    job: Mapping[str, Any], cluster: str, obj: dict[str, Any], ownership: Ownership, clock_ahead: float = 0.0
) -> JobPod | None:
    """The Pod; None where it can't be the job's own: it is proven to belong to another, it is not in the namespace of ``job`` (the
    job's metadata), or index and attempt in its labels are not those in its name. ``clock_ahead``: seconds that the clock of
    ``cluster``, which has stamped the Pod's times, is ahead of ours. A status of a form that no API server serves is none: what a
    broken member says of a Pod must not stop the job in others, and a Pod of which nothing is known is assumed to be running."""
    try:
        return _read(job, cluster, obj, ownership, clock_ahead)
    except (AttributeError, KeyError, TypeError):
        meta = {name: value for name, value in obj["metadata"].items() if name != "deletionGracePeriodSeconds"}
        spec = obj.get("spec")
        bare = {name: obj.get(name) for name in ("apiVersion", "kind")} | {"metadata": meta}
        bare["spec"] = spec if isinstance(spec, dict) else {"nodeName": "unknown"}  # it may have a kubelet, which ends it
        return _read(job, cluster, bare, ownership, clock_ahead)


def _read(job: Mapping[str, Any], cluster: str, obj: dict[str, Any], ownership: Ownership, clock_ahead: float) -> JobPod | None:
    meta, status = obj["metadata"], obj.get("status") or {}
    labels = meta.get("labels") or {}
    try:
        index, attempt = int(labels[INDEX]), int(labels[ATTEMPT])
    except (KeyError, ValueError):
        return None
    placed = meta.get("namespace") == job["namespace"] and meta["name"] == pod_name(job["name"], index, attempt)
    if ownership is Ownership.NONE or not placed:
        return None
    ready = conditions.get(status.get("conditions"), "Ready")
    ends = conditions.parse_time(meta.get("deletionTimestamp"))
    changed = conditions.parse_time((ready or {}).get("lastTransitionTime"))
    created = conditions.parse_time(meta.get("creationTimestamp"))
    containers = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    ended = _ended_at(containers, ends, meta.get("deletionGracePeriodSeconds") or 0)
    return JobPod(
        cluster=cluster,
        name=meta["name"],
        uid=meta.get("uid", ""),
        index=index,
        attempt=attempt,
        phase=status.get("phase") or "Pending",
        ready=ready is not None and ready.get("status") == "True",
        tracked=TRACKING in (meta.get("finalizers") or ()),
        given_up=GIVEN_UP in (meta.get("annotations") or {}),
        scheduled=bool((obj.get("spec") or {}).get("nodeName")),
        ends_at=ends - clock_ahead if ends is not None else None,
        ready_changed=changed - clock_ahead if changed is not None else 0.0,
        created=created - clock_ahead if created is not None else 0.0,
        ended_at=ended - clock_ahead if ended is not None else None,
        restarts=sum(container.get("restartCount") or 0 for container in containers),
        marked=ownership is Ownership.MARKED,
        trouble=trouble_of(status),
        unschedulable_since=unschedulable_since(status, clock_ahead),
        raw={name: value for name, value in obj.items() if name != "spec"},
    )


def _ended_at(containers: Iterable[Mapping[str, Any]], ends: float | None, grace: float) -> float | None:
    """When the Pod ended, as the Job controller's ``getFinishedTime``: with its last container, or when its deletion began."""
    ended = [((container.get("state") or {}).get("terminated") or {}).get("finishedAt") for container in containers]
    times = [at for at in map(conditions.parse_time, ended) if at is not None]
    if times and len(times) == len(ended):
        return max(times)
    return ends - grace if ends is not None else None


def own_pods(pods: Iterable[JobPod], record: JobRecord) -> tuple[list[JobPod], list[JobPod]]:
    """The Pods that are the job's own, and the others.

    A mark says that the fleet has assigned the Pod's index to that cluster. For one without a mark (created before the fleet had a
    key) the status has to say so: the cluster is among the job's, and the index is assigned to no other.
    """
    own: list[JobPod] = []
    others: list[JobPod] = []
    for pod in pods:
        recorded = pod.cluster in record.clusters and record.assigned.get(pod.index, pod.cluster) == pod.cluster
        (own if pod.marked or recorded else others).append(pod)
    return own, others


def pod_name(job: str, index: int, attempt: int) -> str:
    """``{job}-{index}-{attempt}``, the job's name cut and hashed where that would be too long."""
    tail = f"-{index}-{attempt}"
    if len(job) + len(tail) > _NAME_LIMIT:
        digest = hashlib.sha256(job.encode()).hexdigest()[:8]
        job = f"{job[: _NAME_LIMIT - len(tail) - 9].rstrip('-.')}-{digest}"
    return job + tail
