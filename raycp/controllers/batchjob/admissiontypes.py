"""What a job says to the scheduler (``gang``, ``dependsOn``), and what the scheduler answers in its status.

The scheduler alone writes ``status.admission``, before any Pod is made; the controller alone reads it.
"""

from typing import Annotated, Literal

from pydantic import Field

from raycp.controllers.batchjob.placementtypes import Topology
from raycp.controllers.crdmodel import CrdModel

JobName = Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
PRIORITY_LIMIT = 1_000_000_000
"""As a PriorityClass of users (API doc, PriorityClass)."""


class Gang(CrdModel):
    """All or nothing: no Pod starts before so many of them have a place, over all chosen clusters."""

    min_available: int | None = Field(
        default=None, ge=1, le=100_000, description="Pods that start together, or none does; parallelism if not given."
    )
    topology: Topology = Field(
        default="Any", description="SameCluster: all Pods in one cluster. SameZone: in clusters of one zone. Any: anywhere."
    )
    timeout_seconds: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="Seconds after its admission in which minAvailable Pods must run; else all are taken back, and the job is"
        " queued again, after a wait that doubles each time.",
    )


class JobDependency(CrdModel):
    """Another job of this namespace that comes first."""

    job: JobName = Field(description="Name of the job.")
    condition: Literal["Complete", "Failed", "Started"] = Field(
        default="Complete", description="What it must have reached: Complete, Failed, or Started (its first Pod is admitted)."
    )


class AdmissionStatus(CrdModel):
    """The scheduler's decision. Without it, no Pod of a job that needs one is made."""

    state: Literal["Pending", "Admitted", "Evicting"] = Field(
        default="Pending",
        description="Pending: it waits. Admitted: its Pods run in clusters. Evicting: its Pods are being taken back.",
    )
    queue: str = Field(default="", description="The queue whose quota is used; empty where the job has none.")
    flavor: str = Field(default="", description="The flavor whose quota is used.")
    clusters: dict[str, int] = Field(default_factory=dict, description="Where its Pods run: the most in each cluster.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels of the flavor, which its Pods ask for too.")
    priority: int = Field(default=0, description="The priority that it was admitted with.")
    admitted_at: str | None = Field(default=None, description="When it was admitted.")
    requeues: int = Field(default=0, description="How often its Pods were taken back.")
    not_before: str | None = Field(default=None, description="It is not admitted again before that time.")
    reason: str = Field(default="", description="Why, in one word.")
    message: str = Field(default="", description="Why, in a sentence.")
    fulfilled: list[str] = Field(
        default_factory=list, description="What it depends on and was seen, as job/condition; it counts when that job is deleted."
    )
