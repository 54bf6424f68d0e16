"""What admission decides, and what is recorded of it in a job's ``status.admission``."""

from typing import Annotated, Literal

import msgspec

from raycp.scheduling.model import ClusterVerdict


class AdmissionRecord(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The content of ``status.admission``: enough to rebuild the scheduler's state from the jobs alone.

    ``state``: ``Admitted``, ``Evicting`` (its Pods are being removed; it still holds quota and room) or ``Pending`` (only
    ``requeues``, ``not_before`` and ``fulfilled`` matter). ``clusters``: Pods by cluster. ``node_selector``: labels of the flavor,
    which its Pods get in addition. ``fulfilled``: what it depends on (``job/condition``) and was seen. Times are Unix seconds.
    """

    state: Literal["Pending", "Admitted", "Evicting"]
    queue: str = ""
    flavor: str = ""
    clusters: dict[str, Annotated[int, msgspec.Meta(ge=0)]] = {}
    node_selector: dict[str, str] = {}
    priority: int = 0
    admitted_at: float = 0.0
    requeues: int = 0
    not_before: float = 0.0
    reason: str = ""
    message: str = ""
    fulfilled: tuple[str, ...] = ()

    def requeued(self) -> "AdmissionRecord":
        """That of the job when its Pods are gone, and it waits again."""
        fields = ("requeues", "not_before", "reason", "message", "fulfilled")
        return AdmissionRecord("Pending", **{name: getattr(self, name) for name in fields})


MoveKind = Literal["Move", "Evict"]


class AdmissionDecision(msgspec.Struct, frozen=True):
    """A change of one job that is to be written as its ``record``.

    ``Admit``: create its Pods where ``record.clusters`` says. ``Preempt`` and ``Evict``: remove its Pods, as for a suspended job,
    then report ``evicted``. ``Move``: its placement has changed, Pods in a lost cluster run elsewhere or not at all.
    ``by``: the uid of the job that preempts it.
    """

    kind: Literal["Admit", "Preempt", "Evict", "Move"]
    uid: str
    record: AdmissionRecord
    by: str = ""


WaitReason = Literal[
    "",
    "WaitingForQuota",
    "ExceedsMaxQuota",
    "NoRoom",
    "NoClusterFit",
    "Preempting",
    "BehindHead",
    "Backoff",
    "DependsOn",
    "DependencyFailed",
    "DependencyMissing",
    "DependencyCycle",
    "QueueStopped",
    "NoQueue",
    "NotConsidered",
]


class JobWait(msgspec.Struct, frozen=True):
    """What a job waits for, as it was found when it was last considered: no placement is computed. ``position``: 1 for the next of
    its queue, 0 where it waits for something before it may queue; ``pending``: the queue's jobs that wait."""

    reason: WaitReason
    message: str
    position: int = 0
    pending: int = 0


class JobExplanation(msgspec.Struct, frozen=True):
    """Why a job is where it is. ``position``: 1 for the next of its queue, 0 where it does not wait. ``reserved_from``: when the
    room that is kept for it is expected to suffice, None: not known. ``clusters``: the verdict on each, with its score.
    ``fulfilled``: see ``AdmissionRecord``."""

    uid: str
    state: Literal["Pending", "Admitted", "Evicting"]
    queue: str
    position: int
    pending: int
    reason: WaitReason
    message: str
    clusters: tuple[ClusterVerdict, ...] = ()
    reserved_from: float | None = None
    fulfilled: tuple[str, ...] = ()
