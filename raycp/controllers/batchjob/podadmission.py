"""``PodAdmission``: the scheduler's decision about a job, as the job's status has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raycp.controllers.batchjob.job import Job


@dataclass(frozen=True, slots=True)
class PodAdmission:
    """``needed``: no Pod without a decision. ``clusters``: the most Pods by cluster, in the order in which to fill them."""

    needed: bool = False
    state: str = ""
    reason: str = ""
    message: str = ""
    clusters: Mapping[str, int] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        """Whether no Pod may run."""
        return self.needed and self.state != "Admitted"

    @property
    def most(self) -> int | None:
        """The most Pods over all clusters; None: no limit."""
        return sum(self.clusters.values()) if self.needed else None


def admission_of(job: Job) -> PodAdmission:
    """The decision about ``job``, as its status has it."""
    found: Mapping[str, Any] = job.status.get("admission") or {}
    if not (job.spec.scheduled or job.queue):
        return PodAdmission()
    if not found and not job.spec.scheduled and job.status.get("startTime"):
        return PodAdmission()
    clusters: Mapping[str, int] = found.get("clusters") or {}
    state = found.get("state") or "Pending"
    return PodAdmission(
        True,
        state,
        found.get("reason") or "Waiting",
        found.get("message") or "the scheduler has not decided yet",
        clusters if state == "Admitted" else {},
    )
