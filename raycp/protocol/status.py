"""The fleet's status: one struct for the leader, the observer and the command line, and ``readiness``, the only rule of what ready
means.

The leader builds it (``raycp.protocol.status_builder``) and sends it to the observer; ``raycp status -o json`` and the observer's
``/api/v1/status`` print it. JSON keys are camelCase. Fields that do not apply are absent from the JSON: ``leader`` and ``observer``
before a fleet was applied, ``leader`` of a standby fleet, ``following`` and ``warm`` of an active one.
"""

import datetime
import enum

import msgspec

from raycp.base.problems import FleetProblem, ProblemCode, as_problems
from raycp.leadership.switches import Switch
from raycp.protocol.fleet_verdict import FleetVerdict
from raycp.protocol.members import QUARANTINE

_MOST = 5
"""Reasons that one check prints."""


ACCUSED = frozenset({ProblemCode.OBJECT_CONVICTED, ProblemCode.OBJECTS_SUSPECTED})
"""Problems of single objects: ``FleetStatus.suspects`` has them, too. All others are reconciled meanwhile."""

NOTES = ACCUSED | {
    ProblemCode.OBJECT_TOO_LARGE,
    ProblemCode.OBJECTS_UNREADABLE,
    ProblemCode.CLOCK,
    ProblemCode.KUBECONFIG_NOT_WRITTEN,
    ProblemCode.DRAIN,
    ProblemCode.PAUSED,
    ProblemCode.PLACEMENT,
    ProblemCode.LEADER_SILENT,
    ProblemCode.TRACES_NOT_EXPORTED,
}
"""Problems that are no reason to call a fleet degraded, or stand among its reasons anyway."""

REPORTED = frozenset(
    {
        ProblemCode.LOOP_FAILED,
        ProblemCode.CLUSTER_UNREACHABLE,
        ProblemCode.CLUSTER_NOT_SYNCED,
        ProblemCode.KIND_FAILED,
        ProblemCode.CREDENTIALS,
        ProblemCode.OBJECTS_UNREADABLE,
        ProblemCode.ALL_OBJECTS_FAIL,
        ProblemCode.STATE_NOT_STORED,
        ProblemCode.OBJECT_TOO_LARGE,
        ProblemCode.KUBECONFIG_NOT_WRITTEN,
        ProblemCode.TRACES_NOT_EXPORTED,
    }
)
"""Problems that members report."""


HARMLESS_TO_STANDBYS = REPORTED | {ProblemCode.RELEASE}
"""Problems that do not keep a standby fleet from taking over."""


class ReadinessState(enum.StrEnum):
    """What ``readiness`` says of a fleet."""

    READY = "ready"
    DEGRADED = "degraded"
    """It works, and not all of it: ``/readyz`` answers 200."""
    NOT_READY = "not-ready"


class MemberStatus(msgspec.Struct, rename="camel", kw_only=True):
    """A member and where it runs. ``member`` is the actor's name, empty while none runs; ``node_id`` is Ray's id; ``reasons`` say
    why it is not at work under the current plan, and are empty when it is. ``behind``: the only reason is that it has not taken
    over the newest plan yet."""

    member: str = ""
    state: str = "missing"
    generation: int | None = None
    pid: int | None = None
    node: str = ""
    node_id: str = ""
    ready: bool = False
    behind: bool = False
    reasons: list[str] = []


class StandbyCluster(msgspec.Struct, rename="camel", kw_only=True):
    """A cluster as a shard's standby sees it, in the status of a standby fleet."""

    name: str
    synced: bool = False
    reachable: bool = False
    objects: int = 0
    reason: str = ""


class ShardStatus(MemberStatus, rename="camel", kw_only=True):
    """A shard and its primary; in a standby fleet, the standby that will be its primary. ``standbys`` counts the ready ones."""

    shard: str
    term: int = 0
    clusters: list[str] = []
    standbys: int = 0
    cached_bytes: int = 0


class ShardStandbyStatus(MemberStatus, rename="camel", kw_only=True):
    """A standby of a shard. ``lag_seconds`` is how far it may be behind its primary."""

    standby: str
    shard: str
    lag_seconds: float | None = None
    cached_bytes: int = 0
    clusters: list[StandbyCluster] | msgspec.UnsetType = msgspec.UNSET


class WorkerStatus(MemberStatus, rename="camel", kw_only=True):
    """A worker of a tier's pool."""

    worker: str
    tier: str
    slots: int = 0
    busy: int = 0


class ObserverStatus(MemberStatus, rename="camel", kw_only=True):
    """The observer. ``url`` is where its HTTP server listens."""

    url: str = ""


class LeaderStatus(msgspec.Struct, rename="camel", kw_only=True):
    """Who leads. ``since`` is Unix seconds, None until the leader is recorded in the hub. ``waiting`` says why a candidate does not
    lead; ``held_by`` and ``held_since`` name the holder of the lock then. ``silent_since`` (Unix seconds) is set by the observer
    alone, when the leader has stopped sending its status."""

    epoch: int = 0
    incarnation: int = 0
    holder: str = ""
    since: float | None = None
    lock: str = ""
    home: str = ""
    waiting: str = ""
    held_by: str = ""
    held_since: float | None = None
    uptime_seconds: float = 0.0
    silent_since: float | msgspec.UnsetType = msgspec.UNSET


class FleetClusterStatus(msgspec.Struct, rename="camel", kw_only=True):
    """A cluster as its shard sees it. ``lag_seconds`` is the age of the newest sign of life of its oldest watch; ``closed`` why no
    new Pods of jobs are placed there (``drained``, ``unschedulable``, or empty); ``paused``: none of its objects is reconciled, as
    the fleet document says; ``embedded`` the member that runs an embedded cluster."""

    name: str
    role: str = ""
    mode: str = ""
    labels: dict[str, str] = {}
    shard: str = ""
    reachable: bool = False
    synced: bool = False
    objects: int = 0
    lag_seconds: float | None = None
    version: str = ""
    breaker: str = ""
    closed: str = ""
    paused: bool = False
    reason: str = "no shard has reported on it yet"
    kubeconfig: str = ""
    embedded: MemberStatus | msgspec.UnsetType = msgspec.UNSET


class LaneStatus(msgspec.Struct, rename="camel", kw_only=True):
    """A tier's lane, summed over all shards. ``oldest_seconds`` is the age of the oldest ready item."""

    tier: str
    ready: int = 0
    delayed: int = 0
    in_flight: int = 0
    oldest_seconds: float = 0.0
    share: float = 0.0


class ControllerStatus(msgspec.Struct, rename="camel", kw_only=True):
    """A controller and the clusters that it runs for. ``paused``: it reconciles nothing, as the fleet document says."""

    name: str
    kind: str = ""
    on: str = ""
    clusters: list[str] = []
    use: str = ""
    paused: bool = False


class PoolStatus(msgspec.Struct, rename="camel", kw_only=True):
    """How many workers a tier should have, and why."""

    tier: str
    workers: int = 0
    min: int = 0
    max: int = 0
    reason: str = ""


class SuspectStatus(msgspec.Struct, rename="camel", kw_only=True):
    """An object that runs alone, since its reconcile ends worker processes or may (law 11). ``object`` as `raycp why` takes it;
    ``deaths``: of workers with it in flight; ``since`` is Unix seconds."""

    object: str
    controller: str
    convicted: bool
    deaths: int
    reason: str
    since: float


class RayNodeStatus(msgspec.Struct, rename="camel", kw_only=True):
    """A node of the Ray cluster. ``doubted``: members on it have stopped answering."""

    node: str
    address: str = ""
    head: bool = False
    draining: bool = False
    doubted: bool = False
    leader: bool = False
    members: list[str] = []


class FleetStatus(msgspec.Struct, rename="camel", kw_only=True):
    """Everything that the leader knows of its fleet. ``readiness``, ``ready`` (ready or degraded) and ``reasons`` are what
    ``readiness`` says of the rest; ``unsettled`` names what the current plan asks for and is not at work yet: bring-up waits for
    that. ``plan`` is the plan's version; ``following`` names the Ray namespace that a standby fleet follows, which is ``warm`` when
    it may take over. ``fleet`` is empty before the first apply."""

    fleet: str = ""
    generation: str = ""
    sequence: int = 0
    plan: int = 0
    following: str | msgspec.UnsetType = msgspec.UNSET
    warm: bool | msgspec.UnsetType = msgspec.UNSET
    readiness: ReadinessState | msgspec.UnsetType = msgspec.UNSET
    verdict: FleetVerdict | msgspec.UnsetType = msgspec.UNSET
    """In the answers to ``raycp status`` and of the observer."""
    ready: bool = False
    reasons: list[str] = []
    unsettled: list[str] = []
    leader: LeaderStatus | msgspec.UnsetType = msgspec.UNSET
    shards: list[ShardStatus] = []
    standbys: list[ShardStandbyStatus] = []
    workers: list[WorkerStatus] = []
    observer: ObserverStatus | msgspec.UnsetType = msgspec.UNSET
    clusters: list[FleetClusterStatus] = []
    lanes: list[LaneStatus] = []
    controllers: list[ControllerStatus] = []
    problems: list[FleetProblem] | dict[str, str] = []
    """Read as ``found``: leaders of earlier builds send messages by subject."""
    suspects: list[SuspectStatus] = []
    pools: list[PoolStatus] = []
    nodes: list[RayNodeStatus] = []
    switches: list[Switch] = []
    release: str = ""
    """Of raycp, that the leader runs (``base.release``); empty where it does not tell."""

    def __post_init__(self) -> None:
        self.problems = as_problems(self.problems)
        if self.readiness is msgspec.UNSET:  # of a leader of an earlier build
            self.readiness = ReadinessState.READY if self.ready else ReadinessState.NOT_READY

    @property
    def found(self) -> list[FleetProblem]:
        """What is wrong, of the leader and all members."""
        return as_problems(self.problems)

    def member_rows(self) -> list[MemberStatus]:
        """All members apart from embedded clusters, which report to the leader alone."""
        return [*self.shards, *self.standbys, *self.workers, *([self.observer] if self.observer else [])]


class Check(msgspec.Struct, frozen=True):
    """One condition of health or readiness, with the reason when it does not hold, or what is to be known though it does.

    ``required=False``: shown, and a reason to call the fleet degraded (a cluster that is down).
    """

    name: str
    ok: bool
    reason: str = ""
    required: bool = True


class Readiness(msgspec.Struct, frozen=True):
    """Whether a fleet is ready. ``reasons`` say why it is not ready or degraded, those that keep it from being ready first;
    ``checks`` are the conditions one by one, for ``/readyz``: the fleet is not ready exactly when one that is required fails, and
    degraded when another one does."""

    state: ReadinessState
    reasons: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the fleet works, perhaps degraded; a standby fleet: whether it may take over."""
        return self.state is not ReadinessState.NOT_READY


def readiness(status: FleetStatus) -> Readiness:
    """Whether the fleet of ``status`` is ready.

    An active fleet is *not ready* while its leader is not recorded, the shard of its hub is not at work, or no worker is. It is
    *degraded* while anything else that concerns its work is wrong: a cluster, a kind, a controller, a member, a loop. It works
    without its standbys. A standby fleet consists of them: it is ready when it may take over (``warm``), so when all of it is at
    work and its leader has no problem. A status without a fleet is not ready, for the reasons that it carries.
    """
    if not status.fleet:
        return _verdict({"fleet": status.reasons or ["no fleet has been applied yet"]}, {}, [])
    standby_fleet = status.following is not msgspec.UNSET
    apart = NOTES if standby_fleet else NOTES | {ProblemCode.LEADERSHIP, ProblemCode.SUPERSEDED}  # among the leader's reasons
    degrading = [problem for problem in status.found if problem.code not in apart]
    shown = [*_silence(status), *_cluster_checks(status), *_pauses(status)]
    silent = {"leader-reports": [check.reason for check in shown if check.name == "leader-reports"]}
    named = {problem.owner.cluster for problem in degrading}
    clusters = [f"cluster {row.name}: {row.reason}" for row in status.clusters if not row.synced and row.name not in named]
    lesser = {**silent, "clusters": clusters}
    if standby_fleet:
        blocking = [problem for problem in degrading if problem.code not in HARMLESS_TO_STANDBYS]
        required = {**_members(status), "problems": [str(problem) for problem in blocking]}
        return _verdict(required, {**lesser, "reported": [str(each) for each in degrading if each not in blocking]}, shown)
    hub = next((row for row in status.clusters if row.role == "hub"), None)
    working = [row for row in _pooled(status) if _at_work(row)]
    idle = _reasons(*(row for row in _pooled(status) if not _at_work(row)))
    required = {
        "leader": _leader_reasons(status),
        "hub": _reasons(*(row for row in status.shards if hub is not None and row.shard == hub.shard and not _at_work(row))),
        "workers": [] if working else idle or ["the fleet has no worker"],
    }
    others = [row for row in status.shards if (hub is None or row.shard != hub.shard) and not _at_work(row)]
    embedded = [row.embedded for row in status.clusters if row.embedded is not msgspec.UNSET and not _at_work(row.embedded)]
    observer = [status.observer] if status.observer is not msgspec.UNSET and not _at_work(status.observer) else []
    members = {"shards": _reasons(*others), "some-workers": idle if working else [], "embedded": _reasons(*embedded)}
    lesser = {**members, "observer": _reasons(*observer), "problems": [str(problem) for problem in degrading], **lesser}
    return _verdict(required, lesser, shown)


def with_readiness(status: FleetStatus) -> FleetStatus:
    """The same status with ``readiness``, ``ready``, ``reasons``, ``unsettled`` and ``warm`` as the rules here say."""
    found = readiness(status)
    warm = found.ready if status.following is not msgspec.UNSET else msgspec.UNSET
    return msgspec.structs.replace(
        status,
        readiness=found.state,
        ready=found.ready,
        reasons=list(found.reasons),
        unsettled=_unsettled(status, found),
        warm=warm,
    )


def _unsettled(status: FleetStatus, found: Readiness) -> list[str]:
    if not status.fleet or status.following is not msgspec.UNSET:
        return [] if found.ready else list(found.reasons)
    unknown = [str(problem) for problem in status.found if problem.code is ProblemCode.CONTROLLER_FAILED]
    rows = [reason for reasons in _members(status).values() for reason in reasons]
    return [*_leader_reasons(status), *rows, *unknown]


def _members(status: FleetStatus) -> dict[str, list[str]]:
    """Of all members that the fleet can't do without, by role: why they are not at work under the current plan."""
    standby_fleet = status.following is not msgspec.UNSET
    embedded = [cluster.embedded for cluster in status.clusters if cluster.embedded is not msgspec.UNSET]
    found = {"embedded": _reasons(*embedded)} if embedded else {}
    if status.observer is not msgspec.UNSET:
        found["observer"] = _reasons(status.observer)
    watchers: list[MemberStatus] = [*(status.standbys if standby_fleet else status.shards)]
    found["standbys" if standby_fleet else "shards"] = _reasons(*watchers)
    return {**found, "workers": _reasons(*_pooled(status))}


def _pooled(status: FleetStatus) -> list[WorkerStatus]:
    """A quarantine worker comes and goes with its suspects, which wait for it; nothing else does."""
    return [row for row in status.workers if row.tier != QUARANTINE]


def _at_work(row: MemberStatus) -> bool:
    """A member that is ready and only has not taken over the newest plan yet, which takes some milliseconds, is at work."""
    return row.ready and (row.behind or not row.reasons)


def _verdict(required: dict[str, list[str]], lesser: dict[str, list[str]], shown: list[Check]) -> Readiness:
    """``shown`` are checks whose failures ``lesser`` has, or more of them."""
    checks = [Check(name, not reasons, "; ".join(reasons[:_MOST])) for name, reasons in required.items()]
    known = {check.name for check in shown} | {"clusters"}
    for name, reasons in lesser.items():
        if reasons and name not in known:
            shown.append(Check(name, False, "; ".join(reasons[:_MOST]), required=False))
    missing = [reason for reasons in required.values() for reason in reasons]
    degraded = [reason for reasons in lesser.values() for reason in reasons]
    state = ReadinessState.NOT_READY if missing else ReadinessState.DEGRADED if degraded else ReadinessState.READY
    return Readiness(state, (*missing, *degraded), (*checks[:1], *shown, *checks[1:]))


def _leader_reasons(status: FleetStatus) -> list[str]:
    leader = status.leader or LeaderStatus()
    if superseded := [problem.message for problem in status.found if problem.code is ProblemCode.SUPERSEDED]:
        return superseded
    if leader.waiting:
        since = datetime.datetime.fromtimestamp(leader.held_since or 0.0, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return [f"waiting for the lock: {leader.waiting} (leads since {since})"]
    if leader.since is None:
        hub = next((cluster.name for cluster in status.clusters if cluster.role == "hub"), "")
        problem = next((each.message for each in status.found if each.code is ProblemCode.LEADERSHIP), "")
        return [f'the leader is not recorded in cluster "{hub}" yet' + (f": {problem}" if problem else "")]
    return []


def _silence(status: FleetStatus) -> list[Check]:
    """Members work on under their permits while the leader is silent, and report when those end."""
    since = (status.leader or LeaderStatus()).silent_since
    if since is msgspec.UNSET:
        return []
    at = datetime.datetime.fromtimestamp(since, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return [Check("leader-reports", False, f"the leader has sent no status since {at}", required=False)]


def _cluster_checks(status: FleetStatus) -> list[Check]:
    return [
        Check(f"cluster-{cluster.name}", cluster.synced, "" if cluster.synced else cluster.reason, required=False)
        for cluster in status.clusters
    ]


def _pauses(status: FleetStatus) -> list[Check]:
    """A pause is wanted: it is told, and degrades nothing."""
    paused = [str(problem.owner) for problem in status.found if problem.code is ProblemCode.PAUSED]
    return [Check("paused", True, ", ".join(paused[:_MOST]), required=False)] if paused else []


def _reasons(*members: MemberStatus) -> list[str]:
    return [reason for member in members for reason in member.reasons]
