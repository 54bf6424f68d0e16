"""The schema of a ``Queue``: pydantic models, and the CRD made from them."""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from raycp.controllers.crdmodel import CrdModel
from raycp.sdk.crd import column, crd_for

GROUP, VERSION, KIND = "raycp.io", "v1alpha1", "Queue"

QueueName = Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
Amount = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 32, "pattern": _QUANTITY})]
"""A quantity: ``40``, ``"500m"``, ``"16Gi"``."""


class ResourceQuota(CrdModel):
    """How much of one resource, on the nodes of the flavor."""

    name: str = Field(min_length=1, max_length=253, description="Of the resource: cpu, memory, pods, nvidia.com/gpu.")
    nominal_quota: Amount = Field(description='The queue\'s own, a quantity such as "40" or "96Gi".')
    borrowing_limit: Amount | None = Field(
        default=None, description="How much more it may use of what its cohort lends; all, if not given."
    )
    lending_limit: Amount | None = Field(
        default=None, description="How much of its own it lends while it does not need it; all, if not given."
    )


class Flavor(CrdModel):
    """Nodes of one kind, and how much of them the queue may use. Queues of a cohort share what has the same flavor name."""

    name: QueueName = Field(description="Name of the flavor.")
    node_labels: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        default_factory=dict, max_length=8, description="Labels of its nodes, which the Pods ask for; empty: any node."
    )
    resources: list[ResourceQuota] = Field(max_length=16, description="Quotas; what is not named is not limited.")


class FairSharing(CrdModel):
    """How the queues of a cohort share what they lend."""

    weight: float = Field(default=1, ge=0, le=1_000_000, description="Its part; with 0, only what no other wants.")


class PreemptionPolicy(CrdModel):
    """Whose Pods are taken back so that a job of the queue may run."""

    within_queue: Literal["Never", "LowerPriority"] = Field(
        default="LowerPriority", description="Of jobs of this queue that have a lower priority."
    )
    reclaim_within_cohort: Literal["Never", "LowerPriority", "Any"] = Field(
        default="Any", description="Of jobs of other queues that borrow what this queue lends."
    )


class QueueObjectSpec(CrdModel):
    """Who may use how much."""

    namespaces: list[Annotated[str, Field(min_length=1, max_length=63)]] = Field(
        default_factory=list, max_length=1000, description="Namespaces whose jobs go to this queue unless they name another."
    )
    cohort: str | None = Field(default=None, max_length=63, description="The queues that lend to each other; none, if not given.")
    fair_sharing: FairSharing = Field(default_factory=FairSharing)
    flavors: list[Flavor] = Field(default_factory=list, max_length=16, description="Tried in this order.")
    preemption: PreemptionPolicy = Field(default_factory=PreemptionPolicy)
    queueing_strategy: Literal["BestEffortFIFO", "StrictFIFO"] = Field(
        default="BestEffortFIFO",
        description="StrictFIFO: no job passes a head that waits. BestEffortFIFO: those pass that do not delay it.",
    )
    stop_policy: Literal["None", "Hold"] = Field(default="None", description="Hold: nothing more is admitted; what runs, runs on.")


class FlavorUsage(CrdModel):
    """How much of one resource of one flavor is in use."""

    flavor: str = Field(description="Name of the flavor.")
    resource: str = Field(description="Name of the resource.")
    nominal: str = Field(default="0", description="The queue's own quota.")
    used: str = Field(default="0", description="What its admitted jobs ask for.")
    borrowed: str = Field(default="0", description="The part of it above the queue's own quota.")


class QueueObjectStatus(CrdModel):
    """What of it is in use."""

    pending: int = Field(default=0, description="Jobs that wait.")
    admitted: int = Field(default=0, description="Jobs that are admitted.")
    share: float = Field(default=0, description="Its weighted dominant share of what the cohort lends; 0: it borrows nothing.")
    usage: list[FlavorUsage] = Field(default_factory=list, description="By flavor and resource.")
    conditions: list[dict[str, Any]] = Field(default_factory=list, description="Active: whether jobs can be admitted; if not, why.")


@cache
def queue_crd() -> dict[str, Any]:
    """The CustomResourceDefinition, to be installed on the hub."""
    return crd_for(
        QueueObjectSpec,
        QueueObjectStatus,
        group=GROUP,
        version=VERSION,
        kind=KIND,
        scope="Cluster",
        categories=("raycp",),
        description="A queue of jobs: who may use how much of the fleet.",
        columns=(
            column("Cohort", ".spec.cohort", description="The queues that lend to each other."),
            column("Pending", ".status.pending", "integer", description="Jobs that wait."),
            column("Admitted", ".status.admitted", "integer", description="Jobs that are admitted."),
            column("Age", ".metadata.creationTimestamp", "date"),
        ),
    )
