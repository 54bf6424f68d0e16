"""The schema of a ``BatchJob``'s spec: pydantic models, and the CRD made from them.

Field names and meanings are those of ``batch/v1`` Job wherever there is such a field, so that a Job's spec can be
pasted.
"""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from raycp.controllers.batchjob.admissiontypes import PRIORITY_LIMIT, Gang, JobDependency
from raycp.controllers.batchjob.immutability import IMMUTABLE, ROOT_RULES
from raycp.controllers.batchjob.labelselector import LabelSelector
from raycp.controllers.batchjob.placementtypes import Placement
from raycp.controllers.batchjob.podtemplate import LabelValue, PodTemplate
from raycp.controllers.batchjob.statustypes import BatchJobStatus
from raycp.controllers.batchjob.validation import (
    EXIT_RULES,
    FAILURE_RULES,
    INDEXED_LIMIT,
    SPEC_RULES,
    SUCCESS_RULES,
    cel_rules,
)
from raycp.controllers.crdmodel import CrdModel
from raycp.controllers.queues.types import QueueName
from raycp.sdk.crd import column, crd_for

GROUP, VERSION, KIND = "batch.raycp.io", "v1alpha1", "BatchJob"
FINALIZER = "batch.raycp.io/pods"
"""On the job: its Pods in the members are still to be cleaned up."""

FORGET = "batch.raycp.io/forget-clusters"
"""Annotation on the job: names of clusters, comma-separated, that will not come back; their Pods are written off."""

ORPHANED = "batch.raycp.io/orphaned"
"""Annotation on a deleted job: its Pods are to stay (``kubectl delete --cascade=orphan``)."""

MANAGED_BY = "raycp.io/batchjob"
JOB_CONTROLLER = "kubernetes.io/job-controller"
"""The built-in controller's name in a pasted spec: here it is this one."""

_INT32 = 2**31 - 1


class ExitCodes(CrdModel):
    """A failed container's exit code, other than 0."""

    model_config = ConfigDict(json_schema_extra=cel_rules(EXIT_RULES))
    container_name: LabelValue | None = Field(default=None, description="The container or init container; any if not given.")
    operator: Literal["In", "NotIn"] = Field(description="In: the code is among the values. NotIn: it is not.")
    values: list[int] = Field(
        min_length=1,
        max_length=255,
        description="Exit codes, in order, each once; 0 not with In.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class PodCondition(CrdModel):
    """A condition of the Pod, such as DisruptionTarget."""

    type: str = Field(
        min_length=1,
        max_length=316,
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        description="Type of the condition.",
    )
    status: Literal["True", "False", "Unknown"] = Field(default="True", description="Status of the condition.")


class FailureRule(CrdModel):
    """What to do about a failed Pod that matches; the first rule that matches decides."""

    model_config = ConfigDict(json_schema_extra=cel_rules(FAILURE_RULES))
    action: Literal["FailJob", "FailIndex", "Ignore", "Count"] = Field(
        description="FailJob: the job fails. FailIndex: the index fails, with backoffLimitPerIndex. Ignore: the Pod is replaced and"
        " not counted. Count: as without a rule."
    )
    on_exit_codes: ExitCodes | None = None
    on_pod_conditions: list[PodCondition] = Field(
        default_factory=list, max_length=20, description="Matches a Pod that has one of these conditions."
    )


class PodFailurePolicy(CrdModel):
    """What a Pod's failure means, by exit code or condition. Where no rule matches, it counts towards the backoff limits."""

    rules: list[FailureRule] = Field(max_length=20, description="The first rule that matches decides.")


class SuccessRule(CrdModel):
    """Enough for success: these indexes, that many of them, or that many of any."""

    model_config = ConfigDict(json_schema_extra=cel_rules(SUCCESS_RULES))
    succeeded_indexes: str | None = Field(
        default=None, max_length=65_536, description="Indexes and intervals in increasing order, such as 0-3,7."
    )
    succeeded_count: int | None = Field(
        default=None, ge=0, le=_INT32, description="How many of succeededIndexes, or of all indexes, must succeed."
    )


class SuccessPolicy(CrdModel):
    """When an Indexed job has succeeded before all of its indexes have: any rule that is met ends it with success."""

    rules: list[SuccessRule] = Field(min_length=1, max_length=20, description="The first rule that is met ends the job.")


class RetryBackoff(CrdModel):
    """The wait before a failed Pod is replaced, in seconds: initial × 2ⁿ⁻¹ after the n-th failure in a row, at most max."""

    initial_seconds: float = Field(default=10, ge=0, le=_INT32, description="The wait after the first failure.")
    max_seconds: float = Field(default=600, ge=0, le=_INT32, description="The longest wait.")


_Count = Annotated[int, Field(ge=0, le=_INT32)]


class BatchJobSpec(CrdModel):
    """What the job should do."""

    model_config = ConfigDict(json_schema_extra=cel_rules([*SPEC_RULES, *IMMUTABLE]))

    parallelism: int | None = Field(
        default=None, ge=0, le=INDEXED_LIMIT, description="Most Pods at once, over all clusters; 1 if not given. 0 pauses the job."
    )
    completions: _Count | None = Field(
        default=None,
        description="Successes needed. Without it: 1 if parallelism is not given either, else one success will do.",
    )
    completion_mode: Literal["NonIndexed", "Indexed"] = Field(
        default="NonIndexed",
        description="NonIndexed: done after that many successes. Indexed: each index from 0 to completions - 1 must succeed once.",
    )
    backoff_limit: _Count | None = Field(
        default=None,
        description="Failed Pods over all clusters until the job fails. 6 if not given; no limit with backoffLimitPerIndex.",
    )
    backoff_limit_per_index: _Count | None = Field(
        default=None, description="Indexed: failed Pods of one index until that index fails."
    )
    max_failed_indexes: Annotated[int, Field(ge=0, le=INDEXED_LIMIT)] | None = Field(
        default=None, description="With backoffLimitPerIndex: the job fails when more indexes than that have failed."
    )
    pod_failure_policy: PodFailurePolicy | None = None
    success_policy: SuccessPolicy | None = None
    pod_replacement_policy: Literal["TerminatingOrFailed", "Failed"] | None = Field(
        default=None,
        description="When a Pod is replaced. TerminatingOrFailed: as soon as it is being deleted or has failed. Failed: when it has"
        " failed; so, and only so, with podFailurePolicy.",
    )
    retry_backoff: RetryBackoff = Field(default_factory=RetryBackoff)
    active_deadline_seconds: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        default=None, description="Seconds from startTime after which the job fails; suspending stops the clock."
    )
    ttl_seconds_after_finished: _Count | None = Field(
        default=None, description="Seconds after its end when the job is deleted. Never, if not given."
    )
    suspend: bool = Field(default=False, description="Deletes the running Pods, which is no failure, and starts none.")
    selector: LabelSelector | None = Field(default=None, description="Labels that the Pods have; for manualSelector only.")
    manual_selector: bool | None = Field(
        default=None,
        description="Allows a selector of your own, which the template's labels must match. The job counts the Pods that it made"
        " itself, whatever the selector.",
    )
    managed_by: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Another controller that this job is left to, as a domain-prefixed path."
    )
    qos_tier: Literal["critical", "high", "standard", "background"] | None = Field(
        default=None, description="The tier that this job's reconciles run in."
    )
    queue: QueueName | None = Field(
        default=None, description="The Queue whose quota the job uses; if not given, that of its namespace, if it has one."
    )
    priority: Annotated[int, Field(ge=-PRIORITY_LIMIT, le=PRIORITY_LIMIT)] | None = Field(
        default=None, description="Before jobs of its queue with a lower one; that of priorityClassName, else 0, if not given."
    )
    priority_class_name: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="A PriorityClass of the hub, whose value is the priority."
    )
    gang: Gang | None = None
    depends_on: list[JobDependency] = Field(
        default_factory=list, max_length=20, description="Jobs of this namespace that come first; all of these must hold."
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

    @property
    def scheduled(self) -> bool:
        """Whether it asks for the scheduler itself, whatever the queue of its namespace."""
        return self.queue is not None or self.gang is not None or bool(self.depends_on)

    @property
    def failure_limit(self) -> int:
        """``backoffLimit`` with its default."""
        if self.backoff_limit is not None:
            return self.backoff_limit
        return 6 if self.backoff_limit_per_index is None else _INT32

    @property
    def replaces_terminating(self) -> bool:
        """Whether a Pod that is being deleted counts as failed, and is replaced before it has ended."""
        return self.pod_failure_policy is None and self.pod_replacement_policy != "Failed"


@cache
def crd() -> dict[str, Any]:
    """The CustomResourceDefinition, to be installed on the hub."""
    made = crd_for(
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
            column(
                "Status",
                ".status.phase",
                description="Queued, Pending, Running, Suspended, Completing, Failing, Complete or Failed.",
            ),
            column("Completions", ".status.progress", description="Successes of those needed."),
            column(
                "Duration", ".status.duration", description="From start to end; of a running job, to its last change, with a +."
            ),
            column("Active", ".status.active", "integer", description="Pods that run or wait to."),
            column("Failed", ".status.failed", "integer", description="Pods that have failed."),
            column("Tier", ".status.tier", description="The tier that the job's reconciles run in."),
            column("Clusters", ".status.clusters[*].name", priority=1, description="Clusters that run Pods of the job, or did."),
            column("Age", ".metadata.creationTimestamp", "date"),
        ),
    )
    schema = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = _without_null(schema["properties"]["spec"])
    # The server's own bounds, said again: without them the rules that read the name would cost more than a server allows.
    named = {"type": "string", "maxLength": 253}
    schema["properties"]["metadata"] = {"type": "object", "properties": {"name": named, "generateName": named}}
    schema |= ROOT_RULES
    return made


def _without_null(schema: Any) -> Any:
    """A null that a user writes means what it means in a Job: not given. The server prunes it where the schema does not allow
    it."""
    if isinstance(schema, dict):
        return {key: _without_null(value) for key, value in schema.items() if key != "nullable"}
    return [_without_null(value) for value in schema] if isinstance(schema, list) else schema
