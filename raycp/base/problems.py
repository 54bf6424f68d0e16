"""A fault as it is shown: which kind, whose, since when (law 11). Members report theirs, the leader adds its own; see
``raycp.protocol.status``."""

from enum import StrEnum
from typing import Any

import msgspec


class ProblemCode(StrEnum):
    """The kind of a fault. A reader that meets the code of a later release shows it as ``OTHER``."""

    # what members and the leader report of themselves
    LOOP_FAILED = "LoopFailed"
    """A loop raised an exception, and was or will be started again."""
    CLUSTER_UNREACHABLE = "ClusterUnreachable"
    """A cluster does not answer, or its breaker is open."""
    CLUSTER_NOT_SYNCED = "ClusterNotSynced"
    """A cluster answers, and not all of its kinds have been listed."""
    KIND_FAILED = "KindFailed"
    """A kind can't be listed or watched in a cluster."""
    CREDENTIALS = "CredentialsNotRenewed"
    """A cluster's credentials can't be renewed: requests fail when they expire."""
    CONTROLLER_FAILED = "ControllerFailed"
    """A controller can't be loaded."""
    ALL_OBJECTS_FAIL = "AllObjectsFail"
    """A controller fails for each of its objects, in the clusters of one shard."""
    STATE_NOT_STORED = "StateNotStored"
    """A record of the hub (watermark, SLO checkpoint, history) can't be read or written."""

    # what the leader alone knows
    MEMBER_NOT_CREATED = "MemberNotCreated"
    MEMBER_SILENT = "MemberSilent"
    RELEASE = "ReleaseDiffers"
    """A member runs another release of raycp than the leader, or other code of the same: it was changed under the running fleet."""
    LEADERSHIP = "Leadership"
    """The lock could not be acquired yet, or is held by another fleet."""
    SUPERSEDED = "Superseded"
    """A later leader was recorded: this one does nothing more."""
    PROOF = "ProofFailed"
    """The leader can't confirm its lock: permits end when this lasts."""
    LOCK = "Lock"
    """The lock can't be changed to what the fleet file says."""
    PERMIT = "Permit"
    """A changed ``leader.permit`` could not be recorded."""
    EPOCH_FLOOR = "EpochFloor"
    """The floor of the epochs can't be kept on its cluster-scoped object."""
    DOCUMENT_NOT_STORED = "DocumentNotStored"
    PLAN_NOT_KEPT = "PlanNotKept"
    """The plan could not be stored where a new leader would find it if all members died."""
    MARK_KEYS = "MarkKeys"
    """The keys for owner marks can't be read from the hub."""
    CRASH_LOOP = "CrashLoop"
    """The workers of a pool die again and again."""
    CRDS_NOT_INSTALLED = "CrdsNotInstalled"
    ACTIVE_FLEET = "ActiveFleet"
    """A standby fleet can't follow the active one."""
    LEADER_SILENT = "LeaderSilent"
    """The observer receives no status from the leader."""
    RAY = "Ray"
    """Ray's head does not answer: no member can be created."""

    # notes: something to know, and no reason to call the fleet degraded
    OBJECTS_UNREADABLE = "ObjectsUnreadable"
    """Objects of a kind can't be read, and are left out."""
    OBJECT_CONVICTED = "ObjectConvicted"
    """An object ends the workers that reconcile it (law 11)."""
    OBJECTS_SUSPECTED = "ObjectsSuspected"
    """Objects may have ended workers: their number, by shard."""
    OBJECT_TOO_LARGE = "ObjectTooLarge"
    """An object or its children are larger than what a worker is given."""
    CLOCK = "ClockOff"
    KUBECONFIG_NOT_WRITTEN = "KubeconfigNotWritten"
    """The kubeconfig of an embedded cluster could not be written on the node where it runs."""
    DRAIN = "Drain"
    PAUSED = "Paused"
    """A cluster or a controller is paused, as the fleet document says."""
    PLACEMENT = "Placement"
    TRACES_NOT_EXPORTED = "TracesNotExported"
    """Spans don't reach the collector: changes are reconciled as ever, and not traced."""
    OTHER = "Other"

    @classmethod
    def _missing_(cls, value: object) -> "ProblemCode":
        return cls.OTHER


def runbook_of(what: str) -> str:
    """The place in the runbook about a problem's code, or an alert: relative to the project."""
    return f"docs/runbook.md#{what.lower()}"


class ProblemOwner(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose fault it is, as narrowly as it is known: ``kind`` is ``str(GVK)``; ``object`` as ``raycp why`` takes it; ``member`` is
    a slot (``worker standard/0``), ``pool TIER`` for all its workers, or ``leader``, and ``loop`` one that runs there; ``peer``
    names the other process that such a loop deals with."""

    cluster: str = ""
    kind: str = ""
    controller: str = ""
    loop: str = ""
    member: str = ""
    peer: str = ""
    object: str = ""

    def __str__(self) -> str:
        """``member``, then what of it: ``shard 0, loop reflector, cluster east, kind v1/ConfigMap``."""
        parts = ("loop", "peer", "controller", "cluster", "kind", "object")
        named = [f"{part} {value}" for part in parts if (value := getattr(self, part))]
        return ", ".join([*([self.member] if self.member else []), *named])


FLEET = ProblemOwner()
"""The owner of what concerns the fleet as a whole."""

Subject = tuple[ProblemCode, ProblemOwner]
"""What a problem is about: two problems of one subject are the same one."""


class FleetProblem(msgspec.Struct, frozen=True):
    """``since``: when it began, in Unix seconds by the clock of the process that reports it. ``message``: what is wrong, and the
    remedy where there is one."""

    code: ProblemCode
    owner: ProblemOwner
    message: str
    since: float
    runbook: str = ""
    """Where it is written what to do: always that of the code (``runbook_of``)."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "runbook", runbook_of(self.code))

    @property
    def subject(self) -> Subject:
        """See ``Subject``."""
        return self.code, self.owner

    def __str__(self) -> str:
        whose = str(self.owner)
        return f"{self.code}{f' ({whose})' if whose else ''}: {self.message}"


def of_member(problem: FleetProblem, member: str) -> FleetProblem:
    """The same with the member named, where the fault is the member's own: a loop of it, a record that it writes."""
    if problem.owner.member or problem.code not in (ProblemCode.LOOP_FAILED, ProblemCode.STATE_NOT_STORED):
        return problem
    return msgspec.structs.replace(problem, owner=msgspec.structs.replace(problem.owner, member=member))


def first_words(error: BaseException) -> str:
    """An exception in one line of at most 300 characters, with its type."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


def as_problems(found: Any) -> list[FleetProblem]:
    """The problems of a status, which in protocol version 2 before this field had codes was a mapping of subject to message."""
    if isinstance(found, dict):
        return [FleetProblem(ProblemCode.OTHER, FLEET, f"{what}: {why}", 0.0) for what, why in found.items()]
    return list(found)
