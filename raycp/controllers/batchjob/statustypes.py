"""The schema of a ``BatchJob``'s status: ``batch/v1`` JobStatus, and what the controller has to remember beside it."""

from typing import Any

from pydantic import Field

from raycp.controllers.batchjob.admissiontypes import AdmissionStatus
from raycp.controllers.crdmodel import CrdModel


class RefusalStatus(CrdModel):
    """A cluster takes none of the job's Pods for now, and why."""

    reason: str = Field(description="Why, in one word.")
    message: str = Field(default="", description="The server's words.")
    times: int = Field(default=1, description="Refusals in a row.")
    until: str | None = Field(default=None, description="When one Pod is tried there again.")
    template: bool = Field(default=False, description="It is the Pod itself that is refused.")
    probe: int | None = Field(default=None, description="The index that is tried there.")


class ClusterStatus(CrdModel):
    """What one member does for the job."""

    name: str = Field(description="Name of the member cluster.")
    assigned: str = Field(default="", description="Unfinished indexes that run here or will, such as 0-4,7.")
    active: int = Field(default=0, description="Pods that run or wait to.")
    ready: int = Field(default=0, description="Active Pods that are ready.")
    succeeded: int = Field(default=0, description="Pods that have succeeded.")
    failed: int = Field(default=0, description="Pods that have failed.")
    reachable: bool = Field(default=True, description="Whether the cluster answers. If not, the numbers are the last known.")
    message: str = Field(default="", description="Why it is not reachable.")
    refusal: RefusalStatus | None = None
    lost_at: str | None = Field(default=None, description="Since when it is unreachable, while indexes are assigned here.")
    tainted_at: str | None = Field(
        default=None, description="Since when it has a taint NoExecute that the job tolerates for a time only, or not at all."
    )
    leaving: str = Field(default="", description="Assigned indexes whose Pods here are given up, to run elsewhere.")
    replaced: str = Field(default="", description="Indexes that run elsewhere by now, and whose Pods here may exist still.")


class BackoffStatus(CrdModel):
    """Failures since the last success, and until when no Pod is created because of them."""

    failures: int = Field(default=0, description="Failures since the last success.")
    until: str | None = Field(default=None, description="When the next Pod may be created.")


class UncountedTerminatedPods(CrdModel):
    """Always empty: an end of a Pod is counted in the status write that takes it in."""

    succeeded: list[str] | None = Field(default=None, description="Uids of succeeded Pods.")
    failed: list[str] | None = Field(default=None, description="Uids of failed Pods.")


class BatchJobStatus(CrdModel):
    """What has become of it. All that the controller has to remember is here."""

    start_time: str | None = Field(default=None, description="When the job started or was last resumed; not while suspended.")
    completion_time: str | None = Field(default=None, description="When the job completed successfully.")
    observed_generation: int | None = Field(default=None, description="Generation of the spec that this status is of.")
    active: int = Field(default=0, description="Pods that exist, have not ended and are not being deleted.")
    ready: int = Field(default=0, description="Active Pods that are ready.")
    terminating: int = Field(default=0, description="Pods that are being deleted and have not ended.")
    succeeded: int = Field(default=0, description="Pods that have succeeded.")
    failed: int = Field(default=0, description="Pods that have failed.")
    completed_indexes: str = Field(default="", description="Indexed: indexes that have succeeded, such as 0-3,7.")
    failed_indexes: str = Field(default="", description="With backoffLimitPerIndex: indexes that have failed.")
    uncounted_terminated_pods: UncountedTerminatedPods | None = None
    completed_slots: str = Field(default="", description="NonIndexed: numbers of the Pods that have succeeded.")
    attempts: dict[str, int] = Field(
        default_factory=dict,
        description="Next attempt of unfinished indexes, if not 0; by index, or of many by intervals such as 0-29999.",
    )
    index_failures: dict[str, int] = Field(default_factory=dict, description="With backoffLimitPerIndex: failures.")
    index_ignored_failures: dict[str, int] = Field(
        default_factory=dict, description="With backoffLimitPerIndex: failures that podFailurePolicy ignored."
    )
    index_backoff: dict[str, str] = Field(
        default_factory=dict, description="With backoffLimitPerIndex: when the next Pod of an index may be created."
    )
    backoff: BackoffStatus | None = None
    clusters: list[ClusterStatus] = Field(default_factory=list, description="What each member does for the job.")
    admission: AdmissionStatus | None = None
    limits: dict[str, int] = Field(
        default_factory=dict,
        description="Clusters that can't have as many of its Pods as are admitted there, and how many they can: the rest is placed"
        " elsewhere.",
    )
    unschedulable: int = Field(default=0, description="Of an admitted job: Pods that no node takes for too long.")
    phase: str = Field(
        default="", description="For people: Queued, Pending, Running, Suspended, Completing, Failing, Complete or Failed."
    )
    progress: str = Field(default="", description="For people: successes of those needed, such as 3/5.")
    duration: str = Field(default="", description="For people: from start to end; of a running job, to its last change, with a +.")
    tier: str = Field(default="", description="For people: the tier that the job's reconciles run in.")
    conditions: list[dict[str, Any]] = Field(
        default_factory=list,
        description="SuccessCriteriaMet and then Complete, FailureTarget and then Failed, Suspended; then raycp's own:"
        " QuotaReserved, Admitted, Scheduled, PodsReady, ClustersReachable.",
    )
