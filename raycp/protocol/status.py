"""The fleet's status: one struct for the leader, the observer and the command line, and ``readiness``, the only rule of what ready
means.

The leader builds it (``raycp.protocol.status_builder``) and sends it to the observer; ``raycp status -o json`` and the observer's
``/api/v1/status`` print it. JSON keys are camelCase. Fields that do not apply are absent from the JSON: ``leader`` and ``observer``
before a fleet was applied, ``leader`` of a standby fleet, ``following`` and ``warm`` of an active one.
"""

import datetime
import enum

import msgspec

from raycp.leadership.switches import Switch
from raycp.protocol.members import QUARANTINE

_MOST = 5
"""Reasons that one check prints."""


class MemberStatus(msgspec.Struct, rename="camel", kw_only=True):
    """A member and where it runs. ``member`` is the actor's name, empty while none runs; ``node_id`` is Ray's id; ``reasons`` say
    why it is not at work under the current plan, and are empty when it is."""

    member: str = ""
    state: str = "missing"
    generation: int | None = None
    pid: int | None = None
    node: str = ""
    node_id: str = ""
    ready: bool = False
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
    """A cluster as its shard sees it. ``lag_seconds`` is the age of the newest sign of life of its oldest watch; ``embedded`` the
    member that runs an embedded cluster."""

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
    """A controller and the clusters that it runs for."""

    name: str
    kind: str = ""
    on: str = ""
    clusters: list[str] = []
    use: str = ""


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
    """Everything that the leader knows of its fleet. ``ready`` and ``reasons`` are what ``readiness`` says of the rest; ``plan`` is
    the plan's version; ``following`` names the Ray namespace that a standby fleet follows, which is ``warm`` when it may take over.
    ``fleet`` is empty before the first apply."""

    fleet: str = ""
    generation: str = ""
    sequence: int = 0
    plan: int = 0
    following: str | msgspec.UnsetType = msgspec.UNSET
    warm: bool | msgspec.UnsetType = msgspec.UNSET
    ready: bool = False
    reasons: list[str] = []
    leader: LeaderStatus | msgspec.UnsetType = msgspec.UNSET
    shards: list[ShardStatus] = []
    standbys: list[ShardStandbyStatus] = []
    workers: list[WorkerStatus] = []
    observer: ObserverStatus | msgspec.UnsetType = msgspec.UNSET
    clusters: list[FleetClusterStatus] = []
    lanes: list[LaneStatus] = []
    controllers: list[ControllerStatus] = []
    problems: dict[str, str] = {}
    suspects: list[SuspectStatus] = []
    pools: list[PoolStatus] = []
    nodes: list[RayNodeStatus] = []
    switches: list[Switch] = []

    def member_rows(self) -> list[MemberStatus]:
        """All members apart from embedded clusters, which report to the leader alone."""
        return [*self.shards, *self.standbys, *self.workers, *([self.observer] if self.observer else [])]


class Check(msgspec.Struct, frozen=True):
    """One condition of health or readiness, with the reason when it does not hold.

    ``required=False``: shown, but does not hold readiness back (a cluster that is down, after ``syncDeadline``).
    """

    name: str
    ok: bool
    reason: str = ""
    required: bool = True


class ReadinessState(enum.StrEnum):
    """What ``readiness`` says of a fleet."""

    READY = "ready"
    NOT_READY = "not ready"


class Readiness(msgspec.Struct, frozen=True):
    """Whether a fleet is ready. ``reasons`` say why not and are empty when it is; ``checks`` are the conditions one by one, for
    ``/readyz``: the fleet is ready exactly when all that are required hold."""

    state: ReadinessState
    reasons: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the fleet works; a standby fleet: whether it may take over."""
        return self.state is ReadinessState.READY


def readiness(status: FleetStatus) -> Readiness:
    """Whether the fleet of ``status`` is ready: its leader is recorded, and all members work under the current plan.

    An active fleet works without its standbys; a standby fleet consists of them, and must have no problem at all. Shards decide
    whether a cluster that is down holds them back: all do until ``syncDeadline``, the hub always does. A status without a fleet is
    not ready, for the reasons that it carries.
    """
    if not status.fleet:
        return _verdict({"fleet": status.reasons or ["no fleet has been applied yet"]}, [])
    standby_fleet = status.following is not msgspec.UNSET
    required: dict[str, list[str]] = {} if standby_fleet else {"leader": _leader_reasons(status)}
    embedded = [cluster.embedded for cluster in status.clusters if cluster.embedded is not msgspec.UNSET]
    if embedded:
        required["embedded"] = _all_reasons(*embedded)
    if status.observer is not msgspec.UNSET:
        required["observer"] = status.observer.reasons
    if standby_fleet:
        required["standbys"] = _all_reasons(*status.standbys)
    else:
        required["shards"] = _all_reasons(*status.shards)
    # A quarantine worker comes and goes with its suspects, which wait for it; nothing else does.
    required["workers"] = _all_reasons(*(worker for worker in status.workers if worker.tier != QUARANTINE))
    if standby_fleet:
        required["problems"] = [f"{what}: {why}" for what, why in status.problems.items()]
    return _verdict(required, [*_silence(status), *_cluster_checks(status)])


def with_readiness(status: FleetStatus) -> FleetStatus:
    """The same status with ``ready``, ``reasons`` and ``warm`` as ``readiness`` says."""
    found = readiness(status)
    warm = found.ready if status.following is not msgspec.UNSET else msgspec.UNSET
    return msgspec.structs.replace(status, ready=found.ready, reasons=list(found.reasons), warm=warm)


def _verdict(required: dict[str, list[str]], shown: list[Check]) -> Readiness:
    checks = [Check(name, not reasons, "; ".join(reasons[:_MOST])) for name, reasons in required.items()]
    reasons = tuple(reason for found in required.values() for reason in found)
    return Readiness(ReadinessState.NOT_READY if reasons else ReadinessState.READY, reasons, (*checks[:1], *shown, *checks[1:]))


def _leader_reasons(status: FleetStatus) -> list[str]:
    leader = status.leader or LeaderStatus()
    if leader.waiting:
        since = datetime.datetime.fromtimestamp(leader.held_since or 0.0, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return [f"waiting for the lock: {leader.waiting} (leads since {since})"]
    if leader.since is None:
        hub = next((cluster.name for cluster in status.clusters if cluster.role == "hub"), "")
        problem = status.problems.get("leadership", "")
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
    """Required while the cluster's shard, or the shard's standby in a standby fleet, is not ready."""
    rows: list[ShardStatus] | list[ShardStandbyStatus] = status.shards if status.following is msgspec.UNSET else status.standbys
    ready = {row.shard for row in rows if row.ready}
    return [
        Check(f"cluster-{cluster.name}", cluster.synced, "" if cluster.synced else cluster.reason, cluster.shard not in ready)
        for cluster in status.clusters
    ]


def _all_reasons(*members: MemberStatus) -> list[str]:
    return [reason for member in members for reason in member.reasons]
