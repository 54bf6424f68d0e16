"""A job's Pods: what to create, and the state of an existing one."""

import hashlib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from raycp.controllers.batchjob.record import JobRecord
from raycp.controllers.batchjob.troubles import trouble_of, unschedulable_since
from raycp.controllers.batchjob.types import BatchJobSpec
from raycp.sdk import conditions
from raycp.sdk.owner import Ownership

TRACKING = "batch.raycp.io/tracking"
"""Finalizer of a Pod whose end is not recorded in the status yet."""

INDEX = "batch.raycp.io/index"
ATTEMPT = "batch.raycp.io/attempt"
GIVEN_UP = "batch.raycp.io/given-up"
"""Annotation of a Pod that the controller ends itself (suspended, surplus, job over): its end is no failure."""

_JOB_NAME = "batch.kubernetes.io/job-name"
_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
_NAME_LIMIT = 63  # a Pod's name is its host name
_LEEWAY = 5.0  # seconds after a Pod's grace period until it is assumed to have ended


@dataclass(frozen=True, slots=True)
class JobPod:
    """One Pod of the job, its times by our clock. ``ends_at``: Unix time at which its grace period is over, None while it is not
    being deleted; ``ready_changed``: when it became ready, or ceased to be. ``raw`` is the object without its ``spec``, which is
    the job's template: of thousands of Pods it would be most of the memory. ``marked``: it carries the fleet's mark for this job,
    cluster and name. ``trouble``: (reason, message) of what keeps it from running; ``unschedulable_since``: Unix time since which
    its scheduler finds no node."""

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
    ``cluster``, which has stamped the Pod's times, is ahead of ours."""
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
        marked=ownership is Ownership.MARKED,
        trouble=trouble_of(status),
        unschedulable_since=unschedulable_since(status, clock_ahead),
        raw={name: value for name, value in obj.items() if name != "spec"},
    )


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


def new_pod(job: dict[str, Any], spec: BatchJobSpec, index: int, attempt: int) -> dict[str, Any]:
    """The Pod to create. The template is taken from the object as the user wrote it, so that no field is lost."""
    meta = job["metadata"]
    template = deepcopy(job["spec"]["template"])
    wanted = template.get("metadata") or {}
    label = meta["name"] if len(meta["name"]) <= 63 else pod_name(meta["name"], 0, 0)
    labels = {
        **(wanted.get("labels") or {}),
        _JOB_NAME: label,
        _CONTROLLER_UID: meta["uid"],
        INDEX: str(index),
        ATTEMPT: str(attempt),
    }
    annotations = dict(wanted.get("annotations") or {})
    pod_spec = template["spec"]
    pod_spec.setdefault("restartPolicy", "Never")
    if spec.indexed:
        labels[_COMPLETION_INDEX] = annotations[_COMPLETION_INDEX] = str(index)
        pod_spec.setdefault("hostname", pod_name(meta["name"], index, 0).rpartition("-")[0])
        for part in ("containers", "initContainers"):
            for container in pod_spec.get(part) or ():
                env = [entry for entry in container.get("env") or () if entry.get("name") != "JOB_COMPLETION_INDEX"]
                container["env"] = [*env, {"name": "JOB_COMPLETION_INDEX", "value": str(index)}]
    pod_meta: dict[str, Any] = {
        "name": pod_name(meta["name"], index, attempt),
        "namespace": meta["namespace"],
        "labels": labels,
        "finalizers": [*(wanted.get("finalizers") or ()), TRACKING],
    }
    if annotations:
        pod_meta["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_meta, "spec": pod_spec}
