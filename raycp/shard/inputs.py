"""Inputs of keys that are no event of a cache here, and the keys that are due when one changes (law 13; ``raycp.classify.inputs``
has the table of all inputs):

- what other shards report: a child of an owner here, an object that keys here read, a cluster that is lost or usable again;
- a cluster of this shard that is lost or usable again;
- the fleet file, and new code of a controller: a new plan, compared with the one before.

Nothing here decides; it finds the keys. Where they are many, their hand-outs are paced, and all are behind live changes of their
tier.
"""

import asyncio
from collections.abc import Iterable
from functools import partial

from raycp.base.keys import GVK, RequestKey
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.objects import Obj
from raycp.base.problems import ProblemOwner
from raycp.base.selections import every, selection_of
from raycp.classify import CLUSTER_CHANGED, FLEET_CHANGED, NEW_CODE, OWNED_AWAY, WATCHED_LISTED, classify_wake
from raycp.classify.references import References
from raycp.protocol.frames import Wake
from raycp.protocol.plan import ControllerPlan, Plan
from raycp.shard.caches import Caches
from raycp.shard.events import EventHandler
from raycp.shard.fanout import FanOut
from raycp.shard.ledger import Drops, Ledger
from raycp.shard.routes import Routes, controllers_before
from raycp.shard.wakes import KeysDue, WakeExchange

SLICE = 200
"""Objects that one turn of the loop searches for the names of clusters."""

Found = list[tuple[RequestKey, Obj]]


class Inputs:
    """One shard's."""

    def __init__(
        self,
        loops: Loops,
        routes: Routes,
        caches: Caches,
        ledger: Ledger,
        events: EventHandler,
        fanout: FanOut,
        wakes: WakeExchange,
    ) -> None:
        self._loops = loops
        self._routes = routes
        self._caches = caches
        self._ledger = ledger
        self._events = events
        self._fanout = fanout
        self._wakes = wakes
        self._unlisted: dict[RequestKey, tuple[Wake, KeysDue]] = {}
        """Wakes of keys that are selected among objects which are not listed yet."""
        ledger.missed = self._missed
        ledger.forgets.append(self._forget)

    # wakes of other shards

    def woken(self, wake: Wake, due: KeysDue) -> None:
        """An owner here is due because of a child there, or the keys that read an object there; see ``WakeReceiver.woken``."""
        key = wake.key
        informer = self._caches.informer_of(key)
        if informer is None:
            due([])  # the cluster or the controller has left
        elif selection_of(key) is not None:
            if informer.synced:
                due(self._fanout.wake(key, classify_wake(wake.real, watched=True)))
            else:
                self._unlisted[key] = (wake, due)
        elif (obj := informer.store.get(key.namespace, key.name)) is not None:
            self._events.due(key, classify_wake(wake.real), obj, None)
            self._events.dispatch()
            due([key])
        else:
            # Not listed yet: the list will queue it, and a hand-out before that would look like its deletion.
            due([] if informer.synced else [key])

    def children_listed(self, cluster: str, kind: GVK) -> None:
        """``kind`` is listed in ``cluster`` without a complete replay: owners that may have children there are due, those of
        other shards too."""
        for controller in self._routes.controllers.values():
            if controller.on != "hub" or not any(o.on == "members" and o.kind == str(kind) for o in controller.owns):
                continue
            for home in controller.clusters:
                if home != cluster and home in self._caches:
                    self._owners_due(controller.name, home, cluster, kind)
        self._events.dispatch()

    def _owners_due(self, controller: str, home: str, cluster: str, kind: GVK) -> None:
        informer = self._caches.informer(home, self._routes.kind_of[controller])
        if informer is None or not informer.synced:
            return  # its list will make all of them due
        change = (cluster, kind, self._ledger.marks.rv(cluster, kind) or 0) if cluster in self._caches else None
        for obj in informer.store:
            key = RequestKey(controller, home, obj.meta.namespace, obj.meta.name)
            self._events.due(key, OWNED_AWAY, obj, None, change=change)

    def _forget(self, drops: Drops) -> None:
        for key in [key for key in self._unlisted if drops(key)]:
            self._unlisted.pop(key)[1]([])

    # lists of a watched cluster of this shard

    def replayed(self, cluster: str, kind: GVK, complete: bool) -> None:
        """``kind`` is listed. Without a complete replay changes may have been missed: owners of children of that kind are due, and
        keys that read it; here, and in other shards."""
        if not complete:
            self.children_listed(cluster, kind)
            self._wakes.kind_listed(cluster, kind)
            self._events.watched_listed(cluster, kind, WATCHED_LISTED)
        waiting, self._unlisted = self._unlisted, {}
        for wake, due in waiting.values():
            self.woken(wake, due)
        self.cluster_moved(cluster, True, False)

    # clusters

    def cluster_moved(self, cluster: str, usable: bool, returned: bool) -> None:
        """A cluster of this shard has become unreachable, or is usable: has ``returned``, or may have seemed otherwise to somebody.
        The workers know already."""
        self._wakes.cluster_changed(cluster, usable, returned)
        self.cluster_changed(cluster, usable, returned)

    def cluster_changed(self, cluster: str, usable: bool, returned: bool, due: KeysDue = lambda keys: None) -> None:
        """As ``cluster_moved``, of a cluster of any shard. ``due`` is called with the keys here that are due.

        When it is lost those are what its controllers declare; when it is usable, those that have found it otherwise, and when it
        has returned, those that wait for any.
        """
        if not usable:
            self._loops.supervise(partial(self._lost, cluster, due), LoopName.DUE_KEYS, ProblemOwner(cluster=cluster))
            return
        # A key in work is not among them: its acknowledgement says whether it has found the cluster usable.
        keys = [key for key in self._ledger.notes.usable(cluster, returned=returned) if key not in self._ledger.working]
        found = self._objects(keys)
        self._fanout.all_due(found, CLUSTER_CHANGED)
        due([key for key, _ in found])

    async def _lost(self, cluster: str, due: KeysDue) -> None:
        found: Found = []
        for controller in list(self._routes.controllers.values()):
            if controller.reachability:
                found += await self._readers(controller, {cluster})
        self._fanout.all_due(found, CLUSTER_CHANGED)
        due([key for key, _ in found])

    async def _readers(self, controller: ControllerPlan, clusters: set[str]) -> Found:
        """The objects here whose decisions depend on one of ``clusters``."""
        fields = [References(path) for path in controller.reachability_of]
        found: Found = []
        for home in controller.clusters:
            candidates = self._fanout.objects(every(controller.name, home))
            if not fields:
                found += candidates
                continue
            for start in range(0, len(candidates), SLICE):
                found += [
                    (key, obj)
                    for key, obj in candidates[start : start + SLICE]
                    if any(name in clusters for field in fields for name in field.read(obj.raw))
                ]
                await asyncio.sleep(0)
        return found

    def _missed(self, key: RequestKey) -> None:
        """Its reconcile ended, and a cluster that it depends on has become usable since it began."""
        self._fanout.all_due(self._objects([key]), CLUSTER_CHANGED)

    def _objects(self, keys: Iterable[RequestKey]) -> Found:
        return [(key, obj) for key in keys if (obj := self._caches.object(key)) is not None]

    # the fleet file and the code

    def fleet_changed(self, plan: Plan, before: Plan) -> None:
        """Another fleet file, or the same one with other code, has been applied; or this fleet takes over from another."""
        known = {controller.name: controller for controller in controllers_before(before)}
        clusters = changed_clusters(plan, before)
        everything: list[ControllerPlan] = []
        for controller in self._routes.controllers.values():
            was = known.get(controller.name)
            if was is None:
                continue  # a new one is shown every object
            told = declared(controller) != declared(was)
            credentials = controller.credentials != was.credentials
            # Whatever else has changed: what failed by the old code, or with the old credentials, does not wait out that backoff.
            forgiven = self._ledger.forgive(controller.name) if told or credentials or controller.code != was.code else []
            if told or (controller.owns and proofs(plan) != proofs(before)):  # with other proofs, other objects may be its children
                everything.append(controller)
            if forgiven and not told:
                self._fanout.all_due(self._objects(forgiven), FLEET_CHANGED if credentials else NEW_CODE)
        if everything or clusters:
            self._loops.supervise(partial(self._changed, everything, clusters), LoopName.DUE_KEYS)

    async def _changed(self, everything: list[ControllerPlan], clusters: set[str]) -> None:
        for controller in everything:
            for home in controller.clusters:
                if home in self._caches:  # other shards find theirs themselves
                    self._fanout.wake(every(controller.name, home), FLEET_CHANGED)
        if not clusters:
            return
        names = {controller.name for controller in everything}
        for controller in list(self._routes.controllers.values()):
            if controller.reachability and controller.name not in names:
                self._fanout.all_due(await self._readers(controller, clusters), CLUSTER_CHANGED)
        self._fanout.all_due(self._objects(self._ledger.notes.waiting()), CLUSTER_CHANGED)


def declared(controller: ControllerPlan) -> tuple[object, ...]:
    """What a controller reads beside objects and clusters, and which of them."""
    return controller.config, controller.watches, controller.reachability, controller.reachability_of


def proofs(plan: Plan) -> tuple[object, ...]:
    """What decides whether an object is a child of its owner: not which key signs."""
    return (plan.marks.keys, plan.marks.unmarked_before) if plan.marks is not None else ()


def changed_clusters(plan: Plan, before: Plan) -> set[str]:
    """The clusters that have joined or left, or of which the fleet file says something else to reconciles."""

    def told(of: Plan) -> dict[str, tuple[object, ...]]:
        said = {each.name: (each.unschedulable, each.drain, each.taints) for each in of.fleet.doc.spec.clusters}
        return {cluster.name: (cluster.role, cluster.labels, said.get(cluster.name)) for cluster in of.clusters}

    now, then = told(plan), told(before)
    return {name for name in now.keys() | then.keys() if now.get(name) != then.get(name)}
