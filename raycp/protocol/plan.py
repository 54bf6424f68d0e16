"""The fleet as its members see it: one value, sent to all of them whenever it changes.

``Fleet`` is what the driver hands to the leader and what the hub stores: the YAML in canonical form, with what the driver learned
by loading the controllers' modules. ``Plan`` is what the leader makes of it: clusters with their shards, shards with their
addresses, epoch and terms. Neither holds a secret except ``Plan.token``, ``Plan.certificate``, ``Plan.marks`` and connections of
embedded clusters, which only travel by actor call.
"""

import hashlib
from functools import cached_property

import msgspec

from raycp.base.owner_marks import MarkKeys
from raycp.base.protocol_version import PROTOCOL, check_protocol
from raycp.config import FleetDoc
from raycp.kube import ConnectSpec
from raycp.kube.connect import UserSource
from raycp.protocol.certificate import ChannelCertificate
from raycp.protocol.members import LEADER, Member, Slot


class OwnedPlan(msgspec.Struct, frozen=True, array_like=True):
    """A kind of children and where they live: ``same`` (the owner's cluster) or ``members``. ``kind`` is ``str(GVK)``."""

    kind: str
    on: str
    selector: str = ""


class WatchedPlan(msgspec.Struct, frozen=True, array_like=True):
    """A kind that a controller's reconciles read (``raycp.sdk.watches``). ``on``: ``same`` or ``hub``. ``field`` is the path of
    the watched object's name in the controller's objects, and ``namespace_field`` that of its namespace; empty where a map
    function leads to the keys."""

    kind: str
    on: str
    selector: str = ""
    field: str = ""
    namespace_field: str = ""


class ControllerPlan(msgspec.Struct, frozen=True):
    """A controller and where it runs. Times in seconds; kinds as ``str(GVK)``.

    ``use`` and ``original`` find it in its module; ``name`` is what it is called here; ``spec`` is its index in
    ``spec.controllers``. ``kind``, ``owns``, ``watches``, ``reachability``, ``config`` and ``code`` (a digest of its source) are
    the inputs of its decisions (``raycp.classify.inputs``). ``credentials``: by cluster, those of its own.
    """

    name: str
    use: str
    original: str
    kind: str
    on: str
    clusters: tuple[str, ...]
    spec: int
    selector: str = ""
    fields: str = ""
    owns: tuple[OwnedPlan, ...] = ()
    resync: float = 36000.0
    spread: float = 60.0
    timeout: float = 60.0
    concurrency: int = 0
    deleted: bool = False
    config: str = "{}"
    crds: tuple[str, ...] = ()
    watches: tuple[WatchedPlan, ...] = ()
    reachability: bool = False
    reachability_of: tuple[str, ...] = ()
    code: str = ""
    credentials: tuple[tuple[str, UserSource], ...] = ()


class Fleet(msgspec.Struct, frozen=True, dict=True):
    """What should run, as the user said it.

    ``document`` is the fleet YAML as canonical JSON; ``controllers`` come from the loaded modules; ``runtime`` is the Ray
    runtime environment of workers as JSON (working directory, variables); ``generation`` identifies all of it; ``sequence``
    orders applies.
    """

    name: str
    document: str
    generation: str
    sequence: int
    controllers: tuple[ControllerPlan, ...]
    runtime: str = "{}"

    @cached_property
    def doc(self) -> FleetDoc:
        """The fleet file."""
        return FleetDoc.from_canonical(self.document)


class ClusterPlan(msgspec.Struct, frozen=True):
    """A cluster of the fleet. ``connect`` is None while its embedded server is not up yet."""

    name: str
    role: str
    labels: dict[str, str]
    shard: str
    connect: ConnectSpec | None


class ShardPlan(msgspec.Struct, frozen=True):
    """A shard's primary: its actor's name and where it listens; port 0 while it is not up. ``cause``, ``drain`` and
    ``leaderless`` (in seconds) describe the switch that made it primary."""

    shard: str
    member: str
    term: int
    host: str = ""
    port: int = 0
    cause: str = "start"
    drain: float = 0.0
    leaderless: float = 0.0


class WorkerPlan(msgspec.Struct, frozen=True):
    """A worker: before a new primary hands anything out, all workers report what they have in work."""

    member: str
    host: str
    port: int

    @property
    def quarantine(self) -> bool:
        """Whether it belongs to no pool, and runs suspects only."""
        member = Member.parse(self.member)
        return member is not None and bool(member.slot.quarantine)


class ObserverPlan(msgspec.Struct, frozen=True):
    """Where members send their statistics, and the URL of the observer's HTTP server; port 0 while it is not up."""

    host: str = ""
    port: int = 0
    url: str = ""
    member: str = ""


class Following(msgspec.Struct, frozen=True):
    """A fleet that stands by for the one in Ray namespace ``namespace``. ``known`` are the (controller, cluster) pairs that the
    other reconciles: what is not among them begins anew at the switch. ``controllers`` are the other's, as far as its release
    tells them: a switch to other code or configuration is a change of them."""

    namespace: str
    known: tuple[tuple[str, str], ...] = ()
    controllers: tuple[ControllerPlan, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """What a member needs to know of the fleet. A plan with a higher ``version`` replaces one with a lower."""

    fleet: Fleet
    version: int
    epoch: int
    incarnation: int
    token: str
    clusters: tuple[ClusterPlan, ...]
    shards: tuple[ShardPlan, ...]
    observer: ObserverPlan = ObserverPlan()
    workers: tuple[WorkerPlan, ...] = ()
    dead: tuple[str, ...] = msgspec.field(default=(), name="gone")
    """Members that are dead for certain or whose permits have ended: nothing waits for their work. The encoded name is that of
    protocol version 1."""
    excused: tuple[str, ...] = ()
    """Workers whose death, past or to come, has another cause than their work: the node was lost, they are drained or removed."""
    floor: int = 0
    """Generations of this revision's members begin here: no name is ever used by two revisions."""
    following: Following | None = None
    """The active fleet that this standby fleet follows, whose ``shards`` these are; None in the active fleet."""
    successors: tuple[ShardPlan, ...] = ()
    """The standby fleet's own standbys, its primaries to be."""
    instance: str = ""
    """The home of the fleet instance that this plan continues under another token: its members all died, and it was brought back.
    Empty, and absent in plans of version 1, where the token says it."""
    protocol: int = PROTOCOL
    """Absent in plans of version 1, which are read the same."""
    certificate: ChannelCertificate | None = None
    """For connections between nodes."""
    standbys: tuple[ShardPlan, ...] = ()
    """The active fleet's standbys, its primaries to be: workers are connected to them before they are promoted. Their term is 0."""
    followers: tuple[str, ...] = ()
    """Standbys of the fleet that stands by for this one, which follow its primaries."""
    marks: MarkKeys | None = None
    """The keys for owner marks; None until the leader has read them from the hub."""

    def __post_init__(self) -> None:
        check_protocol(self.protocol, "the fleet's plan")

    def cluster(self, name: str) -> ClusterPlan:
        """The cluster of that name. Raises ``KeyError``."""
        for known in self.clusters:
            if known.name == name:
                return known
        raise KeyError(name)

    def slot(self, member: Member) -> Slot:
        """What ``member`` does: its own slot, or that of the shard whose standby it was."""
        for shard in self.shards:
            if shard.member == member.actor_name:
                return Slot.of_shard(shard.shard)
        return member.slot

    def callers(self) -> frozenset[str]:
        """The actors' names of the members that may connect to one another, by this plan."""
        leader = Member(LEADER.role, LEADER.place, self.incarnation).actor_name
        shards = {shard.member for shard in (*self.shards, *self.standbys, *self.successors)}
        workers = {worker.member for worker in self.workers}
        return frozenset({*shards, *workers, *self.followers, self.observer.member, leader}.difference(("", *self.dead)))

    def left_since(self, before: "Plan | None") -> set[str]:
        """The clusters of the fleet of ``before`` that are not this one's."""
        names = {cluster.name for cluster in self.fleet.doc.spec.clusters}
        return {cluster.name for cluster in before.fleet.doc.spec.clusters} - names if before is not None else set()

    @property
    def home(self) -> str:
        """This instance of the fleet, wherever its leader is: what its lock knows it by. Not a secret, unlike the token."""
        return self.instance or home_of(self.token, self.floor)

    @property
    def hub(self) -> ClusterPlan:
        """The hub cluster."""
        return self.cluster(self.fleet.doc.hub.name)


def home_of(token: str, floor: int) -> str:
    """See ``Plan.home``: the two revisions of a fleet share a token, and are two instances."""
    return hashlib.sha256(f"{token}/{floor}".encode() if floor else token.encode()).hexdigest()[:12]
