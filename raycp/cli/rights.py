"""The rights that a fleet needs on each cluster, from its file and its controllers. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from raycp.base.keys import GVK
from raycp.config.clusters import ClusterSpec
from raycp.config.controllers import ControllerSpec
from raycp.config.fleet import FleetDoc
from raycp.controllers.batchjob import types as jobs
from raycp.controllers.queues import types as queues
from raycp.sdk.controller import Controller

CONFIG_MAP = GVK("", "v1", "ConfigMap")
NAMESPACE = GVK("", "v1", "Namespace")
POD = GVK("", "v1", "Pod")
SECRET = GVK("", "v1", "Secret")
EVENT = GVK("events.k8s.io", "v1", "Event")
LEASE = GVK("coordination.k8s.io", "v1", "Lease")
CRD = GVK("apiextensions.k8s.io", "v1", "CustomResourceDefinition")

JOBS = GVK(jobs.GROUP, jobs.VERSION, jobs.KIND)
QUEUE = GVK(queues.GROUP, queues.VERSION, queues.KIND)
PRIORITY_CLASS = GVK("scheduling.k8s.io", "v1", "PriorityClass")

FLOOR = "epochs.raycp.io"
"""The CustomResourceDefinition whose annotations keep the floor of the epochs (``raycp.leadership.locks.floor``)."""

READ = ("get", "list", "watch")
WRITE = ("create", "patch", "update", "delete")


@dataclass(frozen=True)
class Need:
    """Verbs needed on one kind. ``namespace`` and ``name`` are empty for all; ``why`` says what needs them."""

    kind: GVK
    verbs: tuple[str, ...]
    why: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True)
class Use:
    """An entry of ``spec.controllers`` and one controller of its module."""

    spec: ControllerSpec
    controller: Controller

    @property
    def name(self) -> str:
        """The name under which it runs."""
        return self.spec.name or self.controller.name


def needs(doc: FleetDoc, uses: Sequence[Use], cluster: ClusterSpec) -> list[Need]:
    """All that the fleet needs on ``cluster`` with the cluster's own credentials; needs on the same objects are joined."""
    found: list[Need] = []
    if cluster.name == doc.hub.name:
        found += _hub(doc)
    for use in uses:
        own = cluster.name in use.spec.credentials
        found += _watched(doc, use, cluster)
        found += [] if own else _written(doc, use, cluster)
    return list(_joined(found))


def own_needs(doc: FleetDoc, use: Use, cluster: ClusterSpec) -> list[Need]:
    """What a controller needs there with credentials of its own: the caches are filled, and its CRDs installed, with the cluster's.
    Empty if it has none."""
    return list(_joined(_written(doc, use, cluster))) if cluster.name in use.spec.credentials else []


def _watched(doc: FleetDoc, use: Use, cluster: ClusterSpec) -> Iterator[Need]:
    controller, why = use.controller, f"controller {use.name}"
    here = cluster in doc.clusters_of(use.spec, controller.on)
    if here:
        yield Need(controller.kind, READ, why, name=_only(controller))
    for crd in controller.crds if here else ():
        yield Need(CRD, ("create",), why)  # a right to create can't be narrowed to a name
        yield Need(CRD, ("get", "patch"), why, name=crd["metadata"]["name"])
    if here and controller.kind == JOBS:
        yield Need(QUEUE, READ, "the scheduler")
        yield Need(QUEUE, ("patch",), "the scheduler", subresource="status")
        yield Need(PRIORITY_CLASS, ("get",), "the scheduler")
    for watched in controller.watches:
        if here if watched.on == "same" else cluster.name == doc.hub.name:
            yield Need(watched.kind, READ, f"{why}, which watches them")
    for owned in controller.owns:
        if _owns_there(doc, use, owned.on, cluster):
            yield Need(owned.kind, READ, f"{why}, which owns them")


def _written(doc: FleetDoc, use: Use, cluster: ClusterSpec) -> Iterator[Need]:
    controller, why = use.controller, f"controller {use.name}"
    if cluster in doc.clusters_of(use.spec, controller.on):
        yield Need(controller.kind, ("patch", "update"), why, name=_only(controller))
        yield Need(EVENT, ("create", "patch"), why)
    for owned in controller.owns:
        if _owns_there(doc, use, owned.on, cluster):
            yield Need(owned.kind, WRITE, f"{why}, which owns them")


def _only(controller: Controller) -> str:
    """The name of the one object that its field selector leaves: a list or a watch of it needs no right to the others (API doc,
    "Authorization", requests with ``metadata.name``)."""
    field, _, name = controller.fields.partition("=")
    return name.removeprefix("=") if field == "metadata.name" and "," not in name else ""


def _owns_there(doc: FleetDoc, use: Use, on: str, cluster: ClusterSpec) -> bool:
    elsewhere = on == "members" and use.controller.on == "hub" and cluster in doc.members
    return elsewhere or (on == "same" and cluster in doc.clusters_of(use.spec, use.controller.on))


def _hub(doc: FleetDoc) -> Iterator[Need]:
    state = doc.spec.state.namespace
    lock = doc.spec.leader.lock
    yield Need(NAMESPACE, ("get", "create"), "the fleet's state")
    yield Need(CRD, ("get", "patch"), "the floor of the epochs", name=FLOOR)
    yield Need(CONFIG_MAP, ("get", "list", "create", "update", "delete"), "the fleet's state", namespace=state)
    yield Need(SECRET, ("create",), "the keys for owner marks", namespace=state)  # a create can't be narrowed to a name
    yield Need(SECRET, ("get",), "the keys for owner marks", namespace=state, name=f"raycp-{doc.name}-marks")
    if lock.kind == "ray":
        yield Need(CONFIG_MAP, (*READ, "create", "update"), "the lock", namespace=state)
    if lock.config_map is not None:
        namespace = lock.config_map.namespace or state
        yield Need(CONFIG_MAP, (*READ, "create", "update"), "the lock", namespace=namespace)
        yield Need(POD, READ, "the lock, whose holder's Pod owns it", namespace=namespace)
    if lock.lease is not None:
        yield Need(LEASE, (*READ, "create", "update"), "the lock", namespace=lock.lease.namespace or state)


def _joined(found: Iterable[Need]) -> Iterator[Need]:
    by_place: dict[tuple[GVK, str, str, str], Need] = {}
    for need in found:
        place = (need.kind, need.subresource, need.namespace, need.name)
        other = by_place.get(place)
        if other is None:
            by_place[place] = need
            continue
        verbs = (*other.verbs, *(verb for verb in need.verbs if verb not in other.verbs))
        why = other.why if need.why in other.why else f"{other.why}; {need.why}"
        by_place[place] = replace(need, verbs=verbs, why=why)
    yield from by_place.values()
