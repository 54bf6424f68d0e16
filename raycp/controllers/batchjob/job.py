"""What ``plan`` is asked, a ``Job`` and its clusters, and what it answers, a ``JobPlan``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.types import BatchJobSpec

POLL = 15.0
"""Seconds until a job that waits for a cluster is checked again: no event of the job reports that a cluster is back."""

PODS_REFUSED = "PodsRefused"
"""Reason of condition ``Scheduled``: a member refuses the job's Pods."""

NAME_TAKEN = "PodNameTaken"
"""Reason of condition ``Scheduled``: another's Pod has the name of one of the job's."""


@dataclass(frozen=True)
class Job:
    """The job as the plan sees it. ``failure`` is (reason, message) of a failure that shows only when a plan is carried out."""

    uid: str
    spec: BatchJobSpec
    status: Mapping[str, Any] = field(default_factory=dict)
    generation: int | None = None
    forgotten: frozenset[str] = frozenset()
    failure: tuple[str, str] | None = None
    namespace: str = "default"
    tier: str = ""


@dataclass(frozen=True, slots=True)
class JobCluster:
    """A member. ``visible``: its Pods are known at the moment, and it can be written to."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    visible: bool = True
    reason: str = ""
    free_pods: int | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """A Pod to create."""

    cluster: str
    index: int
    attempt: int
    failures: int | None = None
    """With ``backoffLimitPerIndex``: failed Pods of the index so far, and those of them that were ignored."""
    ignored: int = 0


@dataclass
class JobPlan:
    """What to do: write ``status``, then ``creates``, ``ends`` (give up and delete) and ``releases`` (remove the tracking
    finalizer), in any order. ``requeue_after`` in seconds. ``events`` are (type, reason, note)."""

    status: dict[str, Any] = field(default_factory=dict)
    creates: list[Create] = field(default_factory=list)
    ends: list[JobPod] = field(default_factory=list)
    releases: list[JobPod] = field(default_factory=list)
    requeue_after: float | None = None
    waiting: str = ""
    events: list[tuple[str, str, str]] = field(default_factory=list)
    delete_job: bool = False
