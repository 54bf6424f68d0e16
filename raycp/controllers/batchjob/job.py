"""What ``plan`` is asked, a ``Job`` and its clusters, and what it answers, a ``JobPlan``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.types import BatchJobSpec
from raycp.scheduling.labels import TaintSpec

POLL = 15.0
"""Seconds until a job that waits for a cluster is checked again: no event of the job reports that a cluster is back."""

LONGEST_WAIT = 7 * 86_400.0
"""Seconds. ``activeDeadlineSeconds`` may be thousands of millions of years, which no timer takes."""

PODS_REFUSED = "PodsRefused"
"""Reason of a refusal: a member does not allow the job's Pods (quota, policy, rights)."""

NAME_TAKEN = "PodNameTaken"
"""Reason of a refusal: another's Pod has the name of one of the job's."""

TEMPLATE_REFUSED = "InvalidTemplate"
"""Reason of a refusal: a member holds the Pod for invalid, or a webhook of it does not admit it; and of the failure of a job whose
Pods are refused so wherever it may run."""

RELEASED = "PodsReleased"
"""Condition: whether every Pod that is to be released or given up is; only while or after one was not."""

HELD = "WriteRefused"
"""Reason of that condition: a member refuses to change a Pod."""

UNSCHEDULABLE = "Unschedulable"
"""Reason of a refusal: a member's scheduler finds no node for Pods of the job."""


@dataclass(frozen=True, slots=True)
class RefusedCreate:
    """A creation that an API server has refused: there is no Pod of ``index`` in ``cluster``. ``message`` has the server's
    words."""

    cluster: str
    index: int
    reason: str
    message: str
    template: bool = False


@dataclass(frozen=True)
class Job:
    """The job as the plan sees it. ``refused``: what carrying out its plan has met since ``status`` was written."""

    uid: str
    spec: BatchJobSpec
    status: Mapping[str, Any] = field(default_factory=dict)
    generation: int | None = None
    forgotten: frozenset[str] = frozenset()
    refused: tuple[RefusedCreate, ...] = ()
    namespace: str = "default"
    tier: str = ""
    queue: str = ""
    """The queue of the job's namespace; empty where it has none."""


@dataclass(frozen=True, slots=True)
class JobCluster:
    """A member. ``visible``: its Pods are known at the moment, and it can be written to. ``draining``: the job's Pods are to leave
    it. ``permit``: seconds for which a write of ours may still take effect there after it was lost."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    visible: bool = True
    reason: str = ""
    free_pods: int | None = None
    draining: bool = False
    permit: float = 0.0
    taints: tuple[TaintSpec, ...] = ()


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
    settles_after: float | None = None
    """Seconds after which what the writes have done is looked at, in addition; not where a server has held one."""
    waiting: str = ""
    events: list[tuple[str, str, str]] = field(default_factory=list)
    delete_job: bool = False
