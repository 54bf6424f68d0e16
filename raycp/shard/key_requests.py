"""Keys that a person asks for (``raycp reconcile``, the console): due as by a user's change, although none was made."""

from collections.abc import Iterator

from raycp.base.keys import GVK, RequestKey
from raycp.classify import REQUESTED
from raycp.protocol.control import ControlError, ErrorCode, MakeDue, RequestedKey
from raycp.shard.caches import Caches
from raycp.shard.events import EventHandler
from raycp.shard.ledger import Ledger
from raycp.shard.routes import Routes


class KeyRequests:
    """One shard's."""

    def __init__(self, routes: Routes, caches: Caches, ledger: Ledger, events: EventHandler) -> None:
        self._routes = routes
        self._caches = caches
        self._ledger = ledger
        self._events = events

    def make_due(self, asked: MakeDue) -> list[RequestedKey]:
        """Queue the object for each of its controllers, or the named one; where each key is now. A backoff ends by it; what is held
        or paused stays so. Raises ``ControlError``: ``NOT_FOUND``, or ``BUSY`` while the kind is not listed yet."""
        if asked.cluster not in self._caches:
            raise ControlError(ErrorCode.BUSY, f"this shard does not watch cluster {asked.cluster} any more, or not yet: ask again")
        keys = list(self._keys(asked))
        if not keys:
            what = f"controller {asked.controller}" if asked.controller else "no controller"
            verb = "does not reconcile" if asked.controller else "reconciles"
            raise ControlError(ErrorCode.NOT_FOUND, f"{what} {verb} {asked.kind} in cluster {asked.cluster}")
        found = [(key, obj) for key in keys if (obj := self._caches.object(key)) is not None and self._selects(key)]
        if not found:
            if any((informer := self._caches.informer_of(key)) is None or not informer.synced for key in keys):
                raise ControlError(ErrorCode.BUSY, f"{asked.kind} is not listed in cluster {asked.cluster} yet: ask again")
            name = f"{asked.cluster}/{asked.kind}/{asked.namespace or '-'}/{asked.name}"
            raise ControlError(ErrorCode.NOT_FOUND, f"{name} does not exist, or no controller selects it")
        for key, obj in found:
            self._ledger.timelines.record(key, "requested", by=asked.by)
            self._events.due(key, REQUESTED, obj, None)
        self._events.dispatch()
        return [self._now(key) for key, _ in found]

    def _keys(self, asked: MakeDue) -> Iterator[RequestKey]:
        namespace = "" if asked.namespace == "-" else asked.namespace
        for controller in self._routes.controllers.values():
            here = asked.cluster in controller.clusters and asked.controller in ("", controller.name)
            if here and asked.kind in (controller.kind, GVK.parse(controller.kind).kind):
                yield RequestKey(controller.name, asked.cluster, namespace, asked.name)

    def _selects(self, key: RequestKey) -> bool:
        kind, obj = self._routes.kind_of[key.controller], self._caches.object(key)
        route = self._routes.kinds[key.cluster].get(kind)
        return obj is not None and route is not None and route.selects(key.controller, obj)

    def _now(self, key: RequestKey) -> RequestedKey:
        why = self._ledger.queue.why(key)
        if why is None:
            return RequestedKey(key.controller, "done", "")
        return RequestedKey(key.controller, why.state, why.waits_for)
