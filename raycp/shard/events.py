"""From a change in a cache to a due key: which controllers it concerns, its verdict (by ``classify`` alone), its tier.

An event about a key in work is deferred until the work ends: only then is it known which events echo its own writes.
"""

import logging
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from raycp.base.clock import Clock
from raycp.base.events import LIVE, Event, EventType, Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj
from raycp.base.selections import every, selection_of
from raycp.base.tasks import Done, Outcome
from raycp.base.text import message_of
from raycp.classify import AWAY, OWNED_AWAY, WATCHED, WATCHED_AWAY, Known, Verdict, classify, spread_delay
from raycp.config import TIERS
from raycp.kube.codec import parse_time
from raycp.metrics import ReflectorMetrics
from raycp.sdk.owner import owner_key
from raycp.shard.caches import Caches
from raycp.shard.change_traces import ChangeTraces
from raycp.shard.fanout import FanOut
from raycp.shard.handouts import Deferred, Handout, WatchedKey
from raycp.shard.ledger import Change, Ledger
from raycp.shard.routes import Owned, Route, Routes, WatchRoute
from raycp.shard.wakes import RemoteOwners
from raycp.shard.watches import Watches
from raycp.slo import Kind
from raycp.slo.clocks import away_start

log = logging.getLogger(__name__)

R = TypeVar("R", Route, Owned, WatchRoute)

DEBOUNCE = 0.02
"""Seconds to wait for further status changes of children, which come in groups."""

BACKGROUND = TIERS[-1]
_ORPHAN = "orphan"
"""Finalizer that the API server sets for propagation policy Orphan."""

_CONFIG_MAP = GVK("", "v1", "ConfigMap")


class EventHandler:
    """One shard's."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        routes: Routes,
        caches: Caches,
        ledger: Ledger,
        remote: RemoteOwners,
        watches: Watches,
        fanout: FanOut,
        counts: ReflectorMetrics,
    ) -> None:
        self.dispatch: Callable[[], None] = lambda: None
        """Called at the end of each batch."""
        self.traces: ChangeTraces | None = None
        """Where traces are exported."""
        self._clock = clock
        self._rng = rng
        self._routes = routes
        self._caches = caches
        self._ledger = ledger
        self._working = ledger.working
        self._remote = remote
        self._watches = watches
        self._fanout = fanout
        self._counts = counts
        ledger.judge = self._judge
        ledger.mapped = self._mapped
        fanout.due = self.due
        self.observers: dict[tuple[str, GVK], Callable[[list[Event]], None]] = {}
        """Called with the changes of a kind of a cluster, beside the controllers: the scheduler's."""

    # events of the caches

    def handle(self, cluster: str, kind: GVK, events: list[Event], writer: RequestKey | None = None) -> None:
        """A batch of changes of one kind, which the cache has applied. ``writer``: the key whose own write they are.

        What fails is one event for one controller, and nothing else of the batch; when all the others have been handled, an
        error is raised.
        """
        route = self._routes.kinds.get(cluster, {}).get(kind)
        if route is None:
            return
        ours = kind == _CONFIG_MAP and cluster == self._routes.hub
        namespace, prefix = self._routes.records
        failed: Exception | None = None
        for event in events:
            meta = event.obj.meta
            if ours and meta.namespace == namespace and meta.name.startswith(prefix):
                continue  # the fleet's own records change each second and are no workload
            if event.source is Source.REPLAY and event.new is not None:
                continue  # the list before it has announced this state; a replay adds deletions only
            failed = self._each(self._primary, route.primaries, cluster, kind, event, writer) or failed
            if route.owned:
                failed = self._each(self._owned, route.owned, cluster, kind, event, writer) or failed
            if route.watched:
                failed = self._each(self._watched, route.watched, cluster, kind, event, writer) or failed
        if self.observers and (observe := self.observers.get((cluster, kind))) is not None:
            observe(events)
        self.dispatch()
        if failed is not None:
            raise failed

    def _each(
        self,
        handle: Callable[[str, GVK, R, Event, RequestKey | None], None],
        routes: Sequence[R],
        cluster: str,
        kind: GVK,
        event: Event,
        writer: RequestKey | None,
    ) -> Exception | None:
        """One event for each of these controllers. What failed, if anything."""
        failed: Exception | None = None
        for route in routes:
            try:
                handle(cluster, kind, route, event, writer)
            except Exception as error:
                failed, meta = error, event.obj.meta
                what = f"{kind} {meta.namespace}/{meta.name} in cluster {cluster}"
                log.error("%s: a change of %s is lost: %s", route.controller.name, what, message_of(error))
        return failed

    def _primary(self, cluster: str, kind: GVK, route: Route, event: Event, writer: RequestKey | None) -> None:
        if route.selector is not None:
            narrowed = _narrowed(event, route.selector.matches)
            if narrowed is None:
                return
            event = narrowed
        obj = event.obj
        key = RequestKey(route.controller.name, cluster, obj.meta.namespace, obj.meta.name)
        if obj.meta.deletion_timestamp is not None and _ORPHAN in (obj.meta.finalizers or ()):
            self._ledger.notes.orphaning.add(key)
        if key in self._working and writer != key:
            self._ledger.deferred(self._working[key], Deferred(cluster, kind, route, event))
            return
        verdict = classify(event, self._known(key, route, cluster, kind, event, writer))
        if verdict.enqueue:
            change = None if verdict.spread else (cluster, kind, obj.rv)
            self.due(key, verdict, obj, event, change=change)
        if event.type is EventType.DELETED:
            self._ledger.forget_version(key)
            self._ledger.notes.orphaning.discard(key)
            self._ledger.timelines.object_deleted(key)

    def _owned(self, cluster: str, kind: GVK, route: Owned, event: Event, writer: RequestKey | None) -> None:
        owners = {owner for obj in (event.old, event.new) if obj is not None for owner in self._owners(cluster, kind, route, obj)}
        for owner in owners:
            if owner in self._working and writer != owner:
                self._ledger.deferred(self._working[owner], Deferred(cluster, kind, route, event))
                continue
            verdict = classify(event, self._known(owner, route, cluster, kind, event, writer))
            if verdict.enqueue:
                self._owner_due(owner, verdict, event, (cluster, kind, event.obj.rv))

    def _watched(self, cluster: str, kind: GVK, route: WatchRoute, event: Event, writer: RequestKey | None) -> None:
        if route.selector is not None:
            narrowed = _narrowed(event, route.selector.matches)
            if narrowed is None:
                return
            event = narrowed
        keys = self._watches.keys(cluster, route, event.obj)
        delay = self._fanout.delays(len(keys))
        for key in keys:
            self._key_watched(cluster, kind, WatchedKey(key, route), event, writer, delay())

    def _key_watched(
        self, cluster: str, kind: GVK, route: WatchedKey, event: Event, writer: RequestKey | None, delay: float | None = None
    ) -> None:
        """An object that the reconciles of one key read has changed."""
        key = route.key
        if key in self._working and writer != key:
            self._ledger.deferred(self._working[key], Deferred(cluster, kind, route, event))
            return
        verdict = classify(event, self._known(key, route.watching, cluster, kind, event, writer))
        if not verdict.enqueue:
            return
        change = (cluster, kind, event.obj.rv)
        selection = selection_of(key)
        if selection is None:
            obj = self._caches.object(key)
            if obj is not None:
                self.due(key, verdict, obj, event, spread=delay, change=change)
        elif selection.kind == "mapping":
            self._watches.changed(key, kind, event)
            self.due(key, verdict, event.obj, event, change=change)
        elif self._remote.wake(key, str(verdict.reason), verdict.real):
            self._ledger.exception(key, change)

    def _mapped(self, handout: Handout, done: Done) -> None:
        """A map function has run: the keys that it found are due, before its own key counts as settled."""
        key, ok = done.key, done.outcome is Outcome.OK
        unknown, found = self._watches.ended(key, ok), self._watches.watched(key)
        if not ok or found is None:
            return
        change = (key.cluster, found[0], handout.rv)
        for each in self._watches.targets(key, done.wakes):
            self._fanout.wake(each, WATCHED, change)
        for each in self._watches.all_of(key) if unknown else ():
            self._fanout.wake(each, WATCHED_AWAY, change)

    def _known(
        self, key: RequestKey, route: Route | Owned | WatchRoute, cluster: str, kind: GVK, event: Event, writer: RequestKey | None
    ) -> Known:
        is_child, is_watched = isinstance(route, Owned), isinstance(route, WatchRoute)
        reconciled = None if is_child or is_watched else self._ledger.reconciled.get(key)
        own_writer = writer is None or writer == key
        if event.source in LIVE or event.source is Source.RESYNC:
            return Known(reconciled, is_child=is_child, own_writer=own_writer, is_watched=is_watched)
        obj = event.obj
        deleted = parse_time(obj.meta.deletion_timestamp)  # no field manager records it
        written = max(obj.changed_at, deleted) if obj.changed_at else 0.0
        seen = self._ledger.marks.seen(key, route.controller, cluster, kind, obj.rv, written)
        # The controller's first start is where its own objects are; what it reads may be elsewhere.
        first_start = seen.first_start and not is_watched
        return Known(reconciled, seen.covered, seen.has_watermark, is_child, first_start, own_writer, seen.only_status, is_watched)

    def _owners(self, cluster: str, kind: GVK, route: Owned, obj: Obj) -> list[RequestKey]:
        name = route.controller.name
        if route.remote:
            owner = owner_key(obj.meta.annotations)
            if not self._proven(cluster, kind, obj):
                return []
            return [RequestKey(name, *owner)] if owner is not None and owner.cluster in route.controller.clusters else []
        informer = self._caches.informer(cluster, route.owner_kind)
        group, owner_kind = route.owner_kind.group, route.owner_kind.kind
        found: list[RequestKey] = []
        for reference in obj.meta.owner_references or ():
            if reference.kind == owner_kind and reference.api_version.rpartition("/")[0] == group:
                # A reference has no namespace: its object is in the child's, or has none.
                scoped = informer is not None and informer.store.get("", reference.name) is not None
                found.append(RequestKey(name, cluster, "" if scoped else obj.meta.namespace, reference.name))
        if not found and obj.meta.annotations:
            owner = owner_key(obj.meta.annotations)
            if owner is not None and owner.cluster == cluster and self._proven(cluster, kind, obj):
                found.append(RequestKey(name, *owner))
        return found

    def _proven(self, cluster: str, kind: GVK, obj: Obj) -> bool:
        """Whether the owner that ``obj`` names is to be woken: anyone can write a name. Without keys all are, and learn that the
        cluster is unknown."""
        informer = self._caches.informer(cluster, kind)
        return informer is None or informer.claims.keys is None or informer.claims.proven(obj)

    def _owner_due(self, owner: RequestKey, verdict: Verdict, event: Event, change: Change) -> None:
        if owner.cluster not in self._caches:
            if self._remote.wake(owner, str(verdict.reason), verdict.real):
                self._ledger.exception(owner, change)
            return
        informer = self._caches.informer_of(owner)
        obj = informer.store.get(owner.namespace, owner.name) if informer is not None else None
        if obj is None and informer is not None:
            return  # an orphan: its owner is deleted, or not listed yet, and queued then
        self.due(owner, verdict, obj, event, origin=change[0])

    def due(
        self,
        key: RequestKey,
        verdict: Verdict,
        obj: Obj | None,
        event: Event | None,
        *,
        spread: float | None = None,
        change: Change | None = None,
        origin: str = "",
    ) -> None:
        """Queue ``key``. ``obj`` is the key's object, for the tier; ``event`` what changed, in cluster ``origin`` or that of
        ``change`` or ``key``; ``spread`` the delay in seconds, where the caller spreads its keys."""
        delay, why = 0.0, ""
        tier: str
        if verdict.background:
            tier = BACKGROUND
        elif obj is None:
            tier = self._routes.rules.default
        else:
            choice = self._routes.rules.tier_of(obj, key.controller, self._routes.labels.get(key.cluster))
            tier, why = choice.tier, choice.reason
            if choice.problem:
                self._counts.tier_problems.labels(key.controller, key.cluster).inc()
                self._ledger.timelines.record(key, "problem", problem=choice.problem)
        if spread is not None:
            delay = spread
        elif verdict.spread:
            controller = self._routes.controllers[key.controller]
            delay = spread_delay(self._rng, controller.resync, controller.spread)
        elif verdict.debounce:
            delay = DEBOUNCE
        kind: Kind | None = None
        observed, version = 0.0, 0
        if verdict.clock is not None and event is not None:
            version = event.new.version if event.new is not None else 0
            if verdict.clock == "live":
                kind, observed = "user", event.observed
            elif verdict.clock == "away":
                kind, observed = "away", self._away_since(key, event)
            else:
                kind, observed = "backlog", self._clock.now()
        cause = event.obj if event is not None else obj
        self._ledger.due(
            key,
            verdict,
            tier,
            delay=delay,
            kind=kind,
            observed=observed,
            version=version,
            source=event.source.value if event is not None else "wake",
            rv=cause.rv if cause is not None else 0,
            why=why,
            change=change,
        )
        self._counts.verdicts.labels(key.cluster, key.controller, verdict.reason.value).inc()
        if self.traces is not None:
            origin = origin or (change[0] if change is not None else key.cluster)
            self.traces.received(key, verdict, tier, event, change, origin, delay)

    def _away_since(self, key: RequestKey, event: Event) -> float:
        """When the change was made, by our clock (law 9)."""
        changed = event.new.changed_at if event.new is not None else 0.0  # nothing records the time of a deletion
        return away_start(self._clock, changed, self._clock.now(), self._caches.skew(key.cluster))

    def _judge(self, deferred: Deferred) -> None:
        """The work on the key has ended, and this event is no echo of it."""
        cluster, kind, route, event = deferred
        if isinstance(route, Owned):
            self._owned(cluster, kind, route, event, None)
        elif isinstance(route, WatchedKey):
            self._key_watched(cluster, kind, route, event, None)
        else:
            self._primary(cluster, kind, route, event, None)

    # without a change of an object

    def resync(self, key: RequestKey, obj: Obj, delay: float) -> None:
        """Reconcile an object of which no change is known, after ``delay`` seconds; not while it is in work."""
        if key not in self._working:
            event = Event(EventType.MODIFIED, Source.RESYNC, obj, obj, self._clock.now())
            self.due(key, classify(event, Known()), obj, event, spread=delay)

    def replay(self, cluster: str, kind: GVK, controller: str | None = None) -> None:
        """Judge every cached object of a kind as if it were listed for the first time, for one controller or for all."""
        route, informer = self._routes.kinds.get(cluster, {}).get(kind), self._caches.informer(cluster, kind)
        if informer is None or route is None:
            return
        now = self._clock.now()
        events = [Event(EventType.ADDED, Source.INITIAL, None, obj, now) for obj in informer.store]
        for primary in route.primaries:
            if controller is None or primary.controller.name == controller:
                for event in events:
                    self._each(self._primary, [primary], cluster, kind, event, None)
                self._ledger.marks.begin([primary.controller], cluster, informer.store.rv)
        for owned in route.owned if controller is None else ():
            for event in events:
                self._each(self._owned, [owned], cluster, kind, event, None)
        self.dispatch()

    def listed(self, cluster: str, kind: GVK) -> None:
        """A kind is listed and announced. Keys that were due before the start and are not in the list are due too."""
        route, informer = self._routes.kinds.get(cluster, {}).get(kind), self._caches.informer(cluster, kind)
        if informer is None or route is None:
            return
        marks = self._ledger.marks
        marks.begin([primary.controller for primary in route.primaries], cluster, informer.store.rv)
        for key in marks.exceptions(cluster, kind):
            if key in self._working:
                continue
            selection = selection_of(key)
            if selection is not None and selection.kind == "mapping":
                self.due(key, WATCHED_AWAY, None, None)
            elif selection is not None and key.cluster in self._caches:
                self._fanout.wake(key, WATCHED_AWAY, (cluster, kind, marks.rv(cluster, kind) or 0))
                self._ledger.settled(key)
            elif key.cluster == cluster and self._routes.kind_of.get(key.controller) == kind:
                if informer.store.get(key.namespace, key.name) is None:
                    self.due(key, AWAY, None, None)
            elif key.cluster in self._caches:
                self.due(key, OWNED_AWAY, self._caches.object(key), None)
            elif not self._remote.wake(key, str(OWNED_AWAY.reason), True):
                self._ledger.settled(key)
        self.dispatch()

    def void(self, cluster: str, kind: GVK) -> None:
        """The cluster was replaced or restored: no object of this kind counts as reconciled."""
        route = self._routes.kinds.get(cluster, {}).get(kind)
        self._ledger.void(cluster, kind, [each.controller.name for each in route.primaries] if route is not None else [])
        self.replay(cluster, kind)
        self.watched_listed(cluster, kind, WATCHED_AWAY)

    def watched_listed(self, cluster: str, kind: GVK, verdict: Verdict) -> None:
        """Changes of objects of ``kind`` may have been missed: every key whose reconciles read that kind is due."""
        route = self._routes.kinds.get(cluster, {}).get(kind)
        change = (cluster, kind, self._ledger.marks.rv(cluster, kind) or 0)
        for watching in route.watched if route is not None else ():
            for target in watching.clusters:
                self._fanout.wake(every(watching.controller.name, target), verdict, change)
        self.dispatch()

    def retier(self) -> int:
        """The tier rules have changed: move queued keys to the lanes that they name now. Returns how many moved."""

        def tier_of(key: RequestKey) -> tuple[str, str] | None:
            obj = self._caches.object(key)
            if obj is None:
                return None
            choice = self._routes.rules.tier_of(obj, key.controller, self._routes.labels.get(key.cluster))
            return choice.tier, choice.reason

        return self._ledger.retier(tier_of)


def _narrowed(event: Event, matches: Callable[[dict[str, str] | None], bool]) -> Event | None:
    """The event as a watch of matching objects alone would report it; None where it would report nothing."""
    old = event.old if event.old is not None and matches(event.old.meta.labels) else None
    new = event.new if event.new is not None and matches(event.new.meta.labels) else None
    if old is event.old and new is event.new:
        return event
    if new is not None:
        return Event(EventType.ADDED, event.source, None, new, event.observed)
    if old is not None:
        return Event(EventType.DELETED, event.source, old, None, event.observed)
    return None
