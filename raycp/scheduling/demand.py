"""``JobDemand``: a job as admission sees it."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from raycp.base.quantities import PODS
from raycp.scheduling.labels import TolerationSpec
from raycp.scheduling.model import Rules

DependencyCondition = Literal["Complete", "Failed", "Started"]


class Dependency(msgspec.Struct, frozen=True):
    """``dependsOn``: the job of this name in the same namespace has to meet ``condition`` first."""

    job: str
    condition: DependencyCondition = "Complete"

    def __str__(self) -> str:
        return f"{self.job}/{self.condition}"


class JobDemand(msgspec.Struct, frozen=True):
    """A job that wants to run.

    ``pods``: how many at once. ``requests``: of one Pod, in the units of ``quantities``; one of ``pods`` is added.
    ``min_available``: with fewer the job does not start, and does not go on (0: all ``pods`` are needed to start, any number to go
    on). ``ready_timeout``: seconds from admission until ``min_available`` Pods have to run, None: no bound. ``active_deadline``:
    seconds from its start after which it is ended. ``created``: Unix seconds. ``rules``: its placement; of a gang, ``topology``
    says where its Pods have to be together. ``refused``: clusters that take none of its Pods at the moment, and why.
    """

    uid: str
    namespace: str
    name: str
    created: float
    pods: int
    requests: Mapping[str, int] = {}
    queue: str = ""
    priority: int = 0
    node_selector: Mapping[str, str] = {}
    tolerations: tuple[TolerationSpec, ...] = ()
    rules: Rules = Rules()
    min_available: int = 0
    ready_timeout: float | None = None
    active_deadline: float | None = None
    depends_on: tuple[Dependency, ...] = ()
    refused: Mapping[str, str] = {}

    @property
    def needed(self) -> int:
        """The fewest Pods it starts with."""
        return self.min_available or self.pods

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def per_pod(self) -> dict[str, int]:
        """What one Pod takes of a node."""
        return {PODS: 1, **self.requests}
