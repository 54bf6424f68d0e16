"""The schema of a ``BatchJob``: pydantic models, and the CRD made from them.

Field names and meanings are those of ``batch/v1`` Job wherever there is such a field, so that a Job's spec can be
pasted.
"""

from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from raycp.sdk.crd import column, crd_for, free_form, rules

GROUP, VERSION, KIND = "batch.raycp.io", "v1alpha1", "BatchJob"
FINALIZER = "batch.raycp.io/pods"
"""On the job: its Pods in the members are still to be cleaned up."""

FORGET = "batch.raycp.io/forget-clusters"
"""Annotation on the job: names of clusters, comma-separated, that will not come back; their Pods are written off."""

ORPHANED = "batch.raycp.io/orphaned"
"""Annotation on a deleted job: its Pods are to stay (``kubectl delete --cascade=orphan``)."""

MANAGED_BY = "raycp.io/batchjob"


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class ExitCodes(_Model):
    """``batch/v1`` PodFailurePolicyOnExitCodesRequirement."""

    container_name: str | None = None
    operator: Literal["In", "NotIn"]
    values: list[int] = Field(min_length=1, max_length=255)


class PodCondition(_Model):
    """``batch/v1`` PodFailurePolicyOnPodConditionsPattern."""

    type: str
    status: str = "True"


class FailureRule(_Model):
    """What to do about a failed Pod that matches; the first rule that matches decides."""

    action: Literal["FailJob", "FailIndex", "Ignore", "Count"]
    on_exit_codes: ExitCodes | None = None
    on_pod_conditions: list[PodCondition] = Field(default_factory=list, max_length=20)


class PodFailurePolicy(_Model):
    """Rules for failed Pods."""

    rules: list[FailureRule] = Field(max_length=20)


class SuccessRule(_Model):
    """Enough for success: these indexes, that many of them, or that many of any."""

    succeeded_indexes: str | None = None
    succeeded_count: int | None = Field(default=None, ge=1)


class SuccessPolicy(_Model):
    """Any rule that is met ends the job with success."""

    rules: list[SuccessRule] = Field(min_length=1, max_length=20)


class RetryBackoff(_Model):
    """The wait before a failed index is retried, in seconds: initial × 2ⁿ for the n-th failure in a row, at most max."""

    initial_seconds: float = Field(default=10, ge=0)
    max_seconds: float = Field(default=600, ge=0)


class Placement(_Model):
    """Which member clusters, and how. See ``raycp.scheduling``."""

    clusters: list[str] = Field(default_factory=list, description="Names, in order of preference; empty: all members.")
    cluster_selector: dict[str, str] = Field(default_factory=dict, description="Labels that a cluster must have.")
    strategy: Literal["Spread", "Pack", "Single"] = "Spread"
    max_clusters: int | None = Field(default=None, ge=1)
    max_pods_per_cluster: int | None = Field(default=None, ge=1, description="The most unfinished Pods in one cluster.")
    weights: dict[str, int] = Field(default_factory=dict, description="Share per cluster; 1 if not named, 0 excludes.")

    # when a cluster is lost, drained, or has no node for the Pods
    on_unreachable: Literal["Wait", "Replace"] = Field(
        default="Wait", description="Wait: Pods in an unreachable cluster are assumed to run. Replace: they run anew elsewhere."
    )
    unreachable_toleration_seconds: int = Field(
        default=300, ge=0, description="With Replace: how long a cluster may be unreachable before its Pods are replaced."
    )
    unschedulable_toleration_seconds: int = Field(
        default=60, ge=1, description="How long Pods may find no node in a cluster before they move to another that takes them."
    )
    max_moving: int | None = Field(
        default=None, ge=1, description="Most Pods that leave a drained cluster at a time; by default a quarter of parallelism."
    )


class JobPodSpec(_Model):
    """``core/v1`` PodSpec; the member's API server checks all of it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")
    restart_policy: Literal["Never", "OnFailure"] = "Never"
    containers: list[dict[str, Any]] = Field(min_length=1)


class PodTemplate(_Model):
    """``core/v1`` PodTemplateSpec."""

    metadata: dict[str, Any] = Field(default_factory=dict, json_schema_extra=free_form())
    spec: JobPodSpec


class BatchJobSpec(_Model):
    """What the job should do."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        json_schema_extra=rules(
            ("self.completionMode != 'Indexed' || has(self.completions)", "completions is required when Indexed"),
            ("self.completionMode == oldSelf.completionMode", "completionMode can't be changed"),
            (
                "!has(self.backoffLimitPerIndex) || self.completionMode == 'Indexed'",
                "backoffLimitPerIndex is for Indexed jobs",
            ),
            ("!has(self.successPolicy) || self.completionMode == 'Indexed'", "successPolicy is for Indexed jobs"),
            ("has(self.completions) == has(oldSelf.completions)", "completions can't be added or taken away"),
            (
                "!has(self.completions) || !has(oldSelf.completions) || self.completions == oldSelf.completions"
                " || (self.completionMode == 'Indexed' && has(self.parallelism)"
                " && self.parallelism == self.completions)",
                "completions can be changed for Indexed jobs only, together with an equal parallelism",
            ),
        ),
    )

    parallelism: int | None = Field(default=None, ge=0, le=100_000, description="Most Pods at once; 1 if not given.")
    completions: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Successes needed. Without it: 1 if parallelism is not given either, else one success will do.",
    )
    completion_mode: Literal["NonIndexed", "Indexed"] = "NonIndexed"
    backoff_limit: int = Field(default=6, ge=0, description="Failed Pods over all clusters until the job fails.")
    backoff_limit_per_index: int | None = Field(default=None, ge=0)
    max_failed_indexes: int | None = Field(default=None, ge=0)
    pod_failure_policy: PodFailurePolicy | None = None
    success_policy: SuccessPolicy | None = None
    retry_backoff: RetryBackoff = Field(default_factory=RetryBackoff)
    active_deadline_seconds: int | None = Field(default=None, ge=1)
    ttl_seconds_after_finished: int | None = Field(default=None, ge=0)
    suspend: bool = False
    managed_by: str | None = Field(default=None, max_length=63)
    qos_tier: Literal["critical", "high", "standard", "background"] | None = Field(
        default=None, description="The tier that this job's reconciles run in."
    )
    placement: Placement = Field(default_factory=Placement)
    template: PodTemplate

    @property
    def indexed(self) -> bool:
        """Whether each index is a piece of work of its own."""
        return self.completion_mode == "Indexed"

    @property
    def work_queue(self) -> bool:
        """No number of successes is given: the Pods agree among themselves when the work is done."""
        return self.completions is None and self.parallelism is not None

    @property
    def at_once(self) -> int:
        """The most Pods at a time."""
        return 1 if self.parallelism is None else self.parallelism

    @property
    def size(self) -> int:
        """How many indexes there are."""
        if self.completions is not None:
            return self.completions
        return self.at_once


class RefusalStatus(_Model):
    """A cluster takes none of the job's Pods for now, and why. See ``raycp.controllers.batchjob.refusals``."""

    reason: str
    message: str = Field(default="", description="The server's words.")
    times: int = Field(default=1, description="Refusals in a row.")
    until: str | None = Field(default=None, description="When one Pod is tried there again.")
    template: bool = Field(default=False, description="It is the Pod itself that is refused.")
    probe: int | None = Field(default=None, description="The index that is tried there.")


class ClusterStatus(_Model):
    """What one member does for the job."""

    name: str
    assigned: str = Field(default="", description="Unfinished indexes that run here or will, such as 0-4,7.")
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    reachable: bool = True
    message: str = ""
    refusal: RefusalStatus | None = None
    lost_at: str | None = Field(default=None, description="Since when it is unreachable, while indexes are assigned here.")
    leaving: str = Field(default="", description="Assigned indexes whose Pods here are given up, to run elsewhere.")
    replaced: str = Field(default="", description="Indexes that run elsewhere by now, and whose Pods here may exist still.")


class BackoffStatus(_Model):
    """Failures in a row, and until when failed indexes wait."""

    failures: int = 0
    until: str | None = None


class BatchJobStatus(_Model):
    """What has become of it. All that the controller has to remember is here."""

    start_time: str | None = None
    completion_time: str | None = None
    observed_generation: int | None = None
    active: int = 0
    ready: int = 0
    terminating: int = 0
    succeeded: int = 0
    failed: int = 0
    completed_indexes: str = Field(default="", description="Indexes (slots, if NonIndexed) that have succeeded.")
    failed_indexes: str = ""
    attempts: dict[str, int] = Field(default_factory=dict, description="Next attempt of unfinished indexes, if not 0.")
    index_failures: dict[str, int] = Field(default_factory=dict, description="With backoffLimitPerIndex: failures.")
    backoff: BackoffStatus | None = None
    clusters: list[ClusterStatus] = Field(default_factory=list)
    phase: str = Field(default="", description="For people: Pending, Running, Suspended, Complete, Failed.")
    conditions: list[dict[str, Any]] = Field(default_factory=list)


@cache
def crd() -> dict[str, Any]:
    """The CustomResourceDefinition, to be installed on the hub."""
    return crd_for(
        BatchJobSpec,
        BatchJobStatus,
        group=GROUP,
        version=VERSION,
        kind=KIND,
        short_names=("bj",),
        categories=("raycp",),
        scale=(".spec.parallelism", ".status.active"),
        description="A job whose Pods run on the member clusters of a raycp fleet.",
        columns=(
            column("Status", ".status.phase"),
            column("Completions", ".spec.completions", "integer"),
            column("Succeeded", ".status.succeeded", "integer"),
            column("Active", ".status.active", "integer"),
            column("Failed", ".status.failed", "integer", priority=1),
            column("Tier", ".spec.qosTier"),
            column("Clusters", ".status.clusters[*].name", priority=1),
            column("Age", ".metadata.creationTimestamp", "date"),
        ),
    )
