"""Which events concern which controllers: the plan, seen from one shard, as lookup tables."""

from collections.abc import Iterable, Iterator

import msgspec

from raycp.base.keys import GVK
from raycp.base.objects import Obj
from raycp.base.owner_marks import MarkKeys
from raycp.cache.selectors import Selector
from raycp.classify import TierRules
from raycp.config.tiers import TiersSpec
from raycp.controllers.batchjob import types as jobs
from raycp.controllers.queues import types as queues
from raycp.protocol.plan import ControllerPlan, Plan, WatchedPlan
from raycp.sdk.owner import OWNER_UID

JOBS = GVK.parse(f"{jobs.GROUP}/{jobs.VERSION}/{jobs.KIND}")
QUEUES = GVK.parse(f"{queues.GROUP}/{queues.VERSION}/{queues.KIND}")
"""Of the hub: what the scheduler reads, beside jobs."""


class Route(msgspec.Struct, frozen=True):
    """The objects of this kind are the controller's own. ``selector`` is None where the reflector filters already."""

    controller: ControllerPlan
    selector: Selector | None


class Owned(msgspec.Struct, frozen=True):
    """The objects of this kind are children. ``remote``: of owners in the hub, named by label and annotation."""

    controller: ControllerPlan
    owner_kind: GVK
    remote: bool


class WatchRoute(msgspec.Struct, frozen=True):
    """The controller's reconciles read the objects of this kind: its watch of that ``number``. The keys are in ``clusters``."""

    controller: ControllerPlan
    number: int
    watch: WatchedPlan
    clusters: tuple[str, ...]
    selector: Selector | None


class KindRoutes(msgspec.Struct):
    """Everything about one kind in one cluster. ``fields``: the paths by which its objects name watched ones, to be indexed."""

    kind: GVK
    label_selector: str = ""
    field_selector: str = ""
    primaries: list[Route] = []
    owned: list[Owned] = []
    watched: list[WatchRoute] = []
    fields: set[str] = set()

    def selects(self, controller: str, obj: Obj) -> bool:
        """Whether ``obj`` is one of the controller's own objects."""
        for primary in self.primaries:
            if primary.controller.name == controller:
                return primary.selector is None or primary.selector.matches(obj.meta.labels)
        return False


def field_index(path: str) -> str:
    """The name of a store's index of what its objects name at ``path``."""
    return f"field {path}"


class Children(msgspec.Struct, frozen=True):
    """Where a controller's children of one kind are looked up when a task is made."""

    kind: GVK
    clusters: tuple[str, ...]


class _Need(msgspec.Struct):
    labels: set[str]
    fields: set[str]


def routes_of(plan: Plan, clusters: Iterable[str]) -> dict[str, dict[GVK, KindRoutes]]:
    """Cluster -> kind -> route, for these clusters of the plan."""
    mine = set(clusters)
    found: dict[str, dict[GVK, KindRoutes]] = {name: {} for name in mine}
    needs: dict[tuple[str, GVK], _Need] = {}

    def route(cluster: str, kind: GVK, labels: str, fields: str) -> KindRoutes | None:
        if cluster not in mine:
            return None
        need = needs.setdefault((cluster, kind), _Need(set(), set()))
        need.labels.add(labels)
        need.fields.add(fields)
        return found[cluster].setdefault(kind, KindRoutes(kind))

    for controller in plan.fleet.controllers:
        kind = GVK.parse(controller.kind)
        for cluster in controller.clusters:
            at = route(cluster, kind, controller.selector, controller.fields)
            if at is not None:
                at.primaries.append(Route(controller, Selector.parse(controller.selector) if controller.selector else None))
            for owned in controller.owns:
                if owned.on == "same" or _one_cluster(plan):
                    at = route(cluster, GVK.parse(owned.kind), owned.selector, "")
                    if at is not None:
                        at.owned.append(Owned(controller, kind, remote=False))
        for owned in controller.owns:
            if owned.on == "members" and not _one_cluster(plan):
                selector = ",".join(part for part in (OWNER_UID, owned.selector) if part)
                for member in plan.clusters:
                    if member.role == "member":
                        at = route(member.name, GVK.parse(owned.kind), selector, "")
                        if at is not None:
                            at.owned.append(Owned(controller, kind, remote=True))
        for watching, where in _watching(controller, plan):
            at = route(where, GVK.parse(watching.watch.kind), watching.watch.selector, "")
            if at is not None:
                at.watched.append(watching)
            for cluster in watching.clusters if watching.watch.field else ():
                if cluster in mine:
                    found[cluster][kind].fields.add(watching.watch.field)
    if any(GVK.parse(controller.kind) == JOBS for controller in plan.fleet.controllers):
        route(plan.hub.name, QUEUES, "", "")
    for (cluster, kind), need in needs.items():
        at = found[cluster][kind]
        # One reflector per kind: it filters at the server only where all that use it want the same.
        at.label_selector = next(iter(need.labels)) if len(need.labels) == 1 else ""
        at.field_selector = next(iter(need.fields)) if len(need.fields) == 1 else ""
        if at.label_selector:
            at.primaries = [Route(p.controller, None) for p in at.primaries]
            at.watched = [msgspec.structs.replace(watching, selector=None) for watching in at.watched]
    return found


def _watching(controller: ControllerPlan, plan: Plan) -> Iterator[tuple[WatchRoute, str]]:
    """The watches of a controller, and the cluster of each."""
    for number, watch in enumerate(controller.watches):
        selector = Selector.parse(watch.selector) if watch.selector else None
        if watch.on == "hub":
            yield WatchRoute(controller, number, watch, controller.clusters, selector), plan.hub.name
            continue
        for cluster in controller.clusters:
            yield WatchRoute(controller, number, watch, (cluster,), selector), cluster


def children_of(plan: Plan, clusters: Iterable[str]) -> dict[tuple[str, str], list[Children]]:
    """(controller, cluster of the owner) -> where its children are, in these clusters."""
    mine = set(clusters)
    found: dict[tuple[str, str], list[Children]] = {}
    for controller in plan.fleet.controllers:
        for cluster in controller.clusters:
            places = []
            for owned in controller.owns:
                if owned.on == "same" or _one_cluster(plan):
                    where = [cluster]
                else:
                    where = [member.name for member in plan.clusters if member.role == "member"]
                places.append(Children(GVK.parse(owned.kind), tuple(name for name in where if name in mine)))
            found[controller.name, cluster] = places
    return found


def _one_cluster(plan: Plan) -> bool:
    return len(plan.clusters) == 1


def controllers_before(before: Plan) -> tuple[ControllerPlan, ...]:
    """The controllers that ran under ``before``: those of the fleet that it followed, where it did."""
    return before.following.controllers if before.following is not None else before.fleet.controllers


def new_controllers(plan: Plan, before: Plan) -> list[tuple[str, str]]:
    """(controller, cluster) pairs of ``plan`` that neither ``before`` nor the fleet that it followed reconciled."""
    known = {(c.name, cluster) for c in before.fleet.controllers for cluster in c.clusters}
    if before.following is not None:
        known = set(before.following.known)
    pairs = [(c.name, cluster) for c in plan.fleet.controllers for cluster in c.clusters]
    return [pair for pair in pairs if pair not in known]


class Routes:
    """The tables of the newest plan, replaced by ``update``.

    ``kinds``: ``cluster -> kind -> KindRoutes`` of this shard's clusters; ``records``: namespace and prefix of the fleet's own
    records in the hub; ``sequence``: of the fleet document; ``marks``: the keys that prove whose children objects are.
    """

    def __init__(self) -> None:
        self.hub = ""
        self.sequence = 0
        self.records = ("", "")
        self.rules = TierRules.compile(TiersSpec())
        self.labels: dict[str, dict[str, str]] = {}
        self.controllers: dict[str, ControllerPlan] = {}
        self.kind_of: dict[str, GVK] = {}
        self.marks: MarkKeys | None = None
        self.kinds: dict[str, dict[GVK, KindRoutes]] = {}
        self.children: dict[tuple[str, str], list[Children]] = {}

    def kind_of_controller(self, controller: str) -> GVK | None:
        """The kind that a controller reconciles; None for a controller that has left."""
        return self.kind_of.get(controller)

    def update(self, plan: Plan, clusters: Iterable[str]) -> None:
        """Make the tables of ``plan`` for these clusters of it."""
        doc, mine = plan.fleet.doc, list(clusters)
        self.hub = plan.hub.name
        self.sequence = plan.fleet.sequence
        self.marks = plan.marks
        self.records = (doc.spec.state.namespace, f"raycp-{plan.fleet.name}-")
        self.controllers = {controller.name: controller for controller in plan.fleet.controllers}
        self.kind_of = {controller.name: GVK.parse(controller.kind) for controller in plan.fleet.controllers}
        self.labels = {cluster.name: cluster.labels for cluster in plan.clusters}
        self.rules = TierRules.compile(doc.spec.tiers, set(self.controllers))
        self.kinds = routes_of(plan, mine)
        self.children = children_of(plan, mine)
