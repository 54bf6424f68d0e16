"""Makes the task that a worker runs from a queue item: with its object, its children, and the epoch and term of the hand-out."""

from raycp.base.objects import Obj
from raycp.base.selections import selection_of
from raycp.base.tasks import Child, Done, Task
from raycp.protocol.plan import ControllerPlan
from raycp.queueing import Item
from raycp.shard.caches import Caches
from raycp.shard.identity import ShardIdentity
from raycp.shard.ledger import Ledger
from raycp.shard.routes import KindRoutes, Routes
from raycp.shard.watches import Watches


class TaskMaker:
    """One shard's."""

    def __init__(self, identity: ShardIdentity, routes: Routes, caches: Caches, ledger: Ledger, watches: Watches) -> None:
        self._identity = identity
        self._routes = routes
        self._caches = caches
        self._ledger = ledger
        self._watches = watches

    def make(self, worker: str, item: Item) -> Task | None:
        """The task of a hand-out, recorded as started; None for a key whose controller or cluster has left."""
        key = item.key
        controller = self._routes.controllers.get(key.controller)
        watched = self._caches.clusters.get(key.cluster)
        if controller is None or watched is None:
            return None
        if selection_of(key) is not None:
            return self._mapping(worker, item)
        informer = watched.informers.get(self._routes.kind_of[key.controller])
        if informer is None:
            return None
        obj = informer.store.get(key.namespace, key.name)
        if obj is not None and controller.selector and not _selects(informer.route, controller, obj):
            obj = None
        children: list[Child] = []
        unknown: list[str] = []
        if obj is not None:
            for place in self._routes.children.get((key.controller, key.cluster), ()):
                kind = str(place.kind)
                for cluster in place.clusters:
                    there = self._caches.clusters[cluster].informers.get(place.kind)
                    if there is None or not there.synced:
                        unknown.append(cluster)
                    if there is not None:
                        children.extend(Child(cluster, kind, child.raw) for child in there.store.by_index("owner", obj.meta.uid))
        return self._started(worker, item, obj, children, sorted(set(unknown)))

    def _mapping(self, worker: str, item: Item) -> Task | None:
        """The task of a watched object, whose map function is to run; None where its controller has no such watch any more."""
        found = self._watches.watched(item.key)
        if found is None:
            return None
        kind, obj = found
        states = [Child(item.key.cluster, str(kind), raw) for raw in self._watches.handed_out(item.key, kind)]
        return self._started(worker, item, obj, states, [])

    def _started(self, worker: str, item: Item, obj: Obj | None, children: list[Child], unknown: list[str]) -> Task:
        task = Task(
            item.id | self._identity.term << 40,
            item.key,
            item.tier,
            item.reason,
            item.attempt,
            self._identity.epoch,
            self._identity.shard,
            self._identity.term,
            obj.version if obj is not None else 0,
            item.waited,
            obj.raw if obj is not None else None,
            children,
            unknown,
            fleet=self._routes.sequence,
        )
        self._ledger.started(worker, item, task, obj.rv if obj is not None else 0)
        return task

    def version_after(self, done: Done) -> int | None:
        """The version of the key's object as the reconcile's own writes left it; None where they left it as it was."""
        return self._caches.version_after(done.key, done.writes)


def _selects(route: KindRoutes, controller: ControllerPlan, obj: Obj) -> bool:
    for primary in route.primaries:
        if primary.controller.name == controller.name:
            return primary.selector is None or primary.selector.matches(obj.meta.labels)
    return True
