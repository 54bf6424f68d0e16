"""What a job says to the scheduler (``queue``, ``priority``, ``gang``, ``dependsOn``), and what the scheduler answers in its status.

The scheduler alone writes ``status.admission``, before any Pod is made; the controller alone reads it.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

QueueName = Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
JobName = Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
PRIORITY_LIMIT = 1_000_000_000
"""As a PriorityClass of users (API doc, PriorityClass)."""


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Gang(_Model):
    """All or nothing: no Pod starts before so many of them have a place, over all chosen clusters."""

    min_available: int | None = Field(
        default=None, ge=1, le=100_000, description="Pods that start together, or none does; parallelism if not given."
    )
    topology: Literal["Any", "SameZone", "SameCluster"] = Field(
        default="Any", description="SameCluster: all Pods in one cluster. SameZone: in clusters of one zone. Any: anywhere."
    )
    timeout_seconds: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="Seconds after its admission in which minAvailable Pods must run; else all are taken back, and the job is queued"
        " again, after a wait that doubles each time.",
    )


class Dependency(_Model):
    """Another job of this namespace that comes first."""

    job: JobName = Field(description="Name of the job.")
    condition: Literal["Complete", "Failed", "Started"] = Field(
        default="Complete", description="What it must have reached: Complete, Failed, or Started (its first Pod is admitted)."
    )


class AdmittedCluster(_Model):
    """A cluster that runs Pods of the job."""

    name: str = Field(description="Name of the member cluster.")
    pods: int = Field(default=0, description="The most Pods there.")


class AdmissionStatus(_Model):
    """The scheduler's decision. Without it, no Pod of a job that needs one is made."""

    queue: str = Field(default="", description="The queue whose quota is used; empty where the job has none.")
    state: Literal["Pending", "Admitted", "Evicted"] = Field(
        default="Pending",
        description="Pending: it waits. Admitted: its Pods run in clusters. Evicted: its Pods there are being taken back.",
    )
    reason: str = Field(default="", description="Why, in one word.")
    message: str = Field(default="", description="Why, in a sentence.")
    clusters: list[AdmittedCluster] = Field(default_factory=list, description="Where its Pods run, and how many at most.")
    time: str | None = Field(default=None, description="When this was decided.")
    since: str | None = Field(default=None, description="Since when it waits, for its place in the queue.")
    requeues: int = Field(default=0, description="How often its Pods were taken back.")
    after: str | None = Field(default=None, description="It is not admitted again before that time.")
