"""From a changed object that reconciles read (``watches=``) to the keys that read it.

A watch with a field is answered by an index over the controller's objects: at once for those here, by a ``naming`` wake for those
of other shards. A watch with a map function queues a ``mapping`` key (``raycp.base.selections``): a worker runs the function, since
no code of a user runs in a shard, and its acknowledgement names the keys. Such a key is an ordinary one: it keeps laws 1 and 2, has
backoff, a timeline and a time limit, and is an exception of the watermark until its keys are due.
"""

from collections.abc import Callable, Iterable

from raycp.base.events import LIVE, Event
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj
from raycp.base.selections import ALL, every, mapping, naming, selection_of
from raycp.classify.references import References
from raycp.protocol.frames import LARGEST
from raycp.protocol.plan import ControllerPlan
from raycp.shard.caches import Caches
from raycp.shard.routes import KindRoutes, Routes, WatchRoute, field_index

STATES = 8
"""Earlier states of one object that are kept for its map function; beyond it, or beyond ``LARGEST`` bytes of them, all keys of the
controller are due."""



class Unmapped:
    """The states of a watched object of ``kind`` that its map function has not seen. ``unknown``: there were others."""

    __slots__ = ("kind", "states", "unknown")

    def __init__(self, kind: GVK, *, unknown: bool = False) -> None:
        self.kind = kind
        self.states: list[bytes] = []
        self.unknown = unknown

    def add(self, states: Iterable[bytes], *, unknown: bool) -> None:
        """Further states."""
        for raw in states:
            if raw not in self.states:
                self.states.append(raw)
        self.unknown = self.unknown or unknown or len(self.states) > STATES or sum(map(len, self.states)) > LARGEST
        if self.unknown:
            self.states.clear()


class Watches:
    """One shard's."""

    def __init__(self, routes: Routes, caches: Caches) -> None:
        self._routes = routes
        self._caches = caches
        self._waiting: dict[RequestKey, Unmapped] = {}
        self._running: dict[RequestKey, Unmapped] = {}

    # changes of watched objects

    def keys(self, cluster: str, watching: WatchRoute, obj: Obj) -> list[RequestKey]:
        """The keys that a change of ``obj`` in ``cluster`` concerns: objects' here, ``naming`` keys for other shards, or the
        ``mapping`` key of the object."""
        name, number, meta = watching.controller.name, watching.number, obj.meta
        if not watching.watch.field:
            return [mapping(name, cluster, number, meta.namespace, meta.name)]
        found: list[RequestKey] = []
        for target in watching.clusters:
            key = naming(name, target, number, meta.namespace, meta.name)
            found += [key] if target not in self._caches else [each for each, _ in self.expand(key)]
        return found

    def changed(self, key: RequestKey, kind: GVK, event: Event) -> None:
        """A ``mapping`` key is due by ``event``."""
        unmapped = self._waiting.setdefault(key, Unmapped(kind))
        # What was listed without an earlier state may have had one, that other keys read.
        unknown = event.old is None and event.source not in LIVE
        unmapped.add([event.old.raw] if event.old is not None else [], unknown=unknown)

    # objects of a controller

    def expand(self, key: RequestKey) -> list[tuple[RequestKey, Obj]]:
        """The objects here that ``key`` stands for: its own, or those that a selection selects."""
        informer = self._caches.informer_of(key)
        if informer is None:
            return []
        selection = selection_of(key)
        if selection is None:
            obj = informer.store.get(key.namespace, key.name)
            return [(key, obj)] if obj is not None else []
        objs: Iterable[Obj] = ()
        if selection.kind == "every":
            objs = informer.store.select(None if key.namespace == ALL else key.namespace)
        elif selection.kind == "naming":
            objs = self._naming(key, selection.watch, selection.name, informer.route)
        return [
            (RequestKey(key.controller, key.cluster, obj.meta.namespace, obj.meta.name), obj)
            for obj in objs
            if informer.route.selects(key.controller, obj)
        ]

    def _naming(self, key: RequestKey, number: int, name: str, route: KindRoutes) -> Iterable[Obj]:
        controller = self._routes.controllers.get(key.controller)
        informer = self._caches.informer_of(key)
        if controller is None or informer is None or number >= len(controller.watches):
            return
        watch = controller.watches[number]
        if watch.field not in route.fields:
            return
        elsewhere = References(watch.namespace_field) if watch.namespace_field else None
        for obj in informer.store.by_index(field_index(watch.field), name):
            # A reference without a namespace means the object's own; a cluster-scoped object's may mean any.
            named = elsewhere.read(obj.raw) if elsewhere is not None else ()
            places = named or ((obj.meta.namespace,) if obj.meta.namespace else ())
            if not key.namespace or not places or key.namespace in places:
                yield obj

    # hand-outs of mapping keys

    def watched(self, key: RequestKey) -> tuple[GVK, Obj | None] | None:
        """The kind of the watched object of a ``mapping`` key, and the object as it is cached; None where the controller has no
        such watch any more."""
        selection, controller = selection_of(key), self._routes.controllers.get(key.controller)
        if selection is None or selection.kind != "mapping" or controller is None or selection.watch >= len(controller.watches):
            self._waiting.pop(key, None)
            return None
        kind = GVK.parse(controller.watches[selection.watch].kind)
        informer = self._caches.informer(key.cluster, kind)
        if informer is None:
            return None
        obj = informer.store.get(key.namespace, selection.name)
        if obj is not None and not _selected(informer.route, key.controller, selection.watch, obj):
            obj = None
        return kind, obj

    def handed_out(self, key: RequestKey, kind: GVK) -> list[bytes]:
        """A ``mapping`` key is handed out; the states that go with it. Those of a key that a predecessor queued are not known, and
        those of another kind are no longer this watch's."""
        unmapped, waiting = self._running.pop(key, None), self._waiting.pop(key, None)
        if unmapped is None:
            unmapped = waiting
        elif waiting is not None:  # its last hand-out was lost without an end
            unmapped.add(waiting.states, unknown=waiting.unknown)
        if unmapped is None or unmapped.kind != kind:
            unmapped = Unmapped(kind, unknown=True)
        self._running[key] = unmapped
        return unmapped.states

    def ended(self, key: RequestKey, ok: bool) -> bool:
        """Its hand-out has ended; whether the object had states that are not known. Without success all of them are due again."""
        unmapped = self._running.pop(key, None)
        if unmapped is not None and not ok:
            self._waiting.setdefault(key, Unmapped(unmapped.kind)).add(unmapped.states, unknown=unmapped.unknown)
        return unmapped is None or unmapped.unknown

    def targets(self, key: RequestKey, found: Iterable[RequestKey]) -> list[RequestKey]:
        """The keys that a map function ``found``, each with its cluster; those that are no cluster of the controller are left
        out."""
        selection, controller = selection_of(key), self._routes.controllers.get(key.controller)
        if selection is None or controller is None:
            return []
        clusters = self.clusters(key, controller)
        return [
            each._replace(cluster=cluster)
            for each in found
            for cluster in (clusters if each.cluster == ALL else (each.cluster,))
            if cluster in clusters
        ]

    def clusters(self, key: RequestKey, controller: ControllerPlan) -> tuple[str, ...]:
        """The clusters of the keys that may read the watched object of a ``mapping`` key."""
        selection = selection_of(key)
        known = selection is not None and selection.watch < len(controller.watches)
        on_hub = known and selection is not None and controller.watches[selection.watch].on == "hub"
        return controller.clusters if on_hub else (key.cluster,)

    def all_of(self, key: RequestKey) -> list[RequestKey]:
        """All keys that may read the watched object of a ``mapping`` key."""
        controller = self._routes.controllers.get(key.controller)
        return [every(key.controller, cluster) for cluster in self.clusters(key, controller)] if controller is not None else []

    def drop(self, drops: Callable[[RequestKey], bool]) -> None:
        """Forget the keys for which ``drops`` is true."""
        for known in (self._waiting, self._running):
            for key in [key for key in known if drops(key)]:
                del known[key]


def _selected(route: KindRoutes, controller: str, number: int, obj: Obj) -> bool:
    for watching in route.watched:
        if watching.controller.name == controller and watching.number == number:
            return watching.selector is None or watching.selector.matches(obj.meta.labels)
    return False
