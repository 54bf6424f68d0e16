"""From a change in a cache to a due key: which controllers it concerns, its verdict (by ``classify`` alone), its tier.

An event about a key in work is deferred until the work ends: only then is it known which events echo its own writes.
"""

from collections.abc import Callable
from random import Random

from raycp.base.clock import Clock
from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj
from raycp.classify import AWAY, CLUSTER_RECOVERED, OWNED_AWAY, Known, Verdict, classify, classify_wake, spread_delay
from raycp.config import TIERS
from raycp.kube.codec import parse_time
from raycp.metrics import ReflectorMetrics
from raycp.protocol.frames import Wake
from raycp.sdk.owner import owner_key
from raycp.shard.caches import Caches
from raycp.shard.ledger import Change, Deferred, Ledger
from raycp.shard.routes import Owned, Route, Routes
from raycp.shard.wakes import RemoteOwners
from raycp.slo import Kind
from raycp.slo.clocks import away_start

DEBOUNCE = 0.02
"""Seconds to wait for further status changes of children, which come in groups."""

BACKGROUND = TIERS[-1]
_CONFIG_MAP = GVK("", "v1", "ConfigMap")
_LIVE = (Source.WATCH, Source.OWN_WRITE, Source.RESYNC)


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
        counts: ReflectorMetrics,
    ) -> None:
        self.dispatch: Callable[[], None] = lambda: None
        """Called at the end of each batch."""
        self._clock = clock
        self._rng = rng
        self._routes = routes
        self._caches = caches
        self._ledger = ledger
        self._working = ledger.working
        self._remote = remote
        self._counts = counts
        ledger.judge = self._judge
        ledger.on_recovery = self._recovered

    # events of the caches

    def handle(self, cluster: str, kind: GVK, events: list[Event], writer: RequestKey | None = None) -> None:
        """A batch of changes of one kind, which the cache has applied. ``writer``: the key whose own write they are."""
        route = self._routes.kinds.get(cluster, {}).get(kind)
        if route is None:
            return
        ours = kind == _CONFIG_MAP and cluster == self._routes.hub
        namespace, prefix = self._routes.records
        for event in events:
            meta = event.obj.meta
            if ours and meta.namespace == namespace and meta.name.startswith(prefix):
                continue  # the fleet's own records change each second and are no workload
            if event.source is Source.REPLAY and event.new is not None:
                continue  # the list before it has announced this state; a replay adds deletions only
            for primary in route.primaries:
                self._primary(cluster, kind, primary, event, writer)
            for owned in route.owned:
                self._owned(cluster, kind, owned, event, writer)
        self.dispatch()

    def _primary(self, cluster: str, kind: GVK, route: Route, event: Event, writer: RequestKey | None) -> None:
        if route.selector is not None:
            narrowed = _narrowed(event, route.selector.matches)
            if narrowed is None:
                return
            event = narrowed
        obj = event.obj
        key = RequestKey(route.controller.name, cluster, obj.meta.namespace, obj.meta.name)
        if key in self._working and writer != key:
            self._ledger.deferred(self._working[key], Deferred(cluster, kind, route, event))
            return
        verdict = classify(event, self._known(key, route, cluster, kind, event, writer))
        if verdict.enqueue:
            change = None if verdict.spread else (cluster, kind, obj.rv)
            self._due(key, verdict, obj, event, change=change)
        if event.type is EventType.DELETED:
            self._ledger.forget_version(key)

    def _owned(self, cluster: str, kind: GVK, route: Owned, event: Event, writer: RequestKey | None) -> None:
        owners = {owner for obj in (event.old, event.new) if obj is not None for owner in _owners(cluster, route, obj)}
        for owner in owners:
            if owner in self._working and writer != owner:
                self._ledger.deferred(self._working[owner], Deferred(cluster, kind, route, event))
                continue
            verdict = classify(event, self._known(owner, route, cluster, kind, event, writer))
            if verdict.enqueue:
                self._owner_due(owner, verdict, event, (cluster, kind, event.obj.rv))

    def _known(
        self, key: RequestKey, route: Route | Owned, cluster: str, kind: GVK, event: Event, writer: RequestKey | None
    ) -> Known:
        is_child = isinstance(route, Owned)
        reconciled = None if is_child else self._ledger.reconciled.get(key)
        own_writer = writer is None or writer == key
        if event.source in _LIVE:
            return Known(reconciled, is_child=is_child, own_writer=own_writer)
        obj = event.obj
        deleted = parse_time(obj.meta.deletion_timestamp)  # no field manager records it
        written = max(obj.changed_at, deleted) if obj.changed_at else 0.0
        seen = self._ledger.marks.seen(key, route.controller, cluster, kind, obj.rv, written)
        return Known(reconciled, seen.covered, seen.has_watermark, is_child, seen.first_start, own_writer, seen.only_status)

    def _owner_due(self, owner: RequestKey, verdict: Verdict, event: Event, change: Change) -> None:
        if owner.cluster not in self._caches:
            if self._remote.wake(owner, str(verdict.reason), verdict.real):
                self._ledger.exception(owner, change)
            return
        informer = self._caches.informer_of(owner)
        obj = informer.store.get(owner.namespace, owner.name) if informer is not None else None
        if obj is None and informer is not None:
            return  # an orphan: its owner is deleted, or not listed yet, and queued then
        self._due(owner, verdict, obj, event)

    def _due(
        self,
        key: RequestKey,
        verdict: Verdict,
        obj: Obj | None,
        event: Event | None,
        *,
        spread: float | None = None,
        change: Change | None = None,
    ) -> None:
        """``obj`` is the key's object, for the tier; ``event`` what changed; ``spread`` the delay of a spread key, where it
        is known."""
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
        if verdict.spread:
            controller = self._routes.controllers[key.controller]
            delay = spread_delay(self._rng, controller.resync, controller.spread) if spread is None else spread
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

    def _away_since(self, key: RequestKey, event: Event) -> float:
        """When the change was made, by our clock (law 9)."""
        changed = event.new.changed_at if event.new is not None else 0.0  # nothing records the time of a deletion
        return away_start(self._clock, changed, self._clock.now(), self._caches.skew(key.cluster))

    def _judge(self, deferred: Deferred) -> None:
        """The work on the key has ended, and this event is no echo of it."""
        cluster, kind, route, event = deferred
        if isinstance(route, Owned):
            self._owned(cluster, kind, route, event, None)
        else:
            self._primary(cluster, kind, route, event, None)

    # other inputs of a key (law 13)

    def resync(self, key: RequestKey, obj: Obj, delay: float) -> None:
        """Reconcile an object of which no change is known, after ``delay`` seconds; not while it is in work."""
        if key not in self._working:
            event = Event(EventType.MODIFIED, Source.RESYNC, obj, obj, self._clock.now())
            self._due(key, classify(event, Known()), obj, event, spread=delay)

    def woken(self, wake: Wake) -> bool:
        """A child of ``wake.key`` changed in another shard. False if there is no such owner here."""
        key = wake.key
        if key.cluster not in self._caches or key.controller not in self._routes.controllers:
            return False
        informer = self._caches.informer_of(key)
        obj = informer.store.get(key.namespace, key.name) if informer is not None else None
        if obj is None and informer is not None:
            # Not listed yet: the list will queue it, and a hand-out before that would look like its deletion.
            return not informer.synced
        self._due(key, classify_wake(wake.real), obj, None)
        self.dispatch()
        return True

    def recovered(self) -> None:
        """A cluster answers again: make the keys due that wait for one."""
        self._ledger.recovered()
        self.dispatch()

    def _recovered(self, key: RequestKey) -> None:
        obj = self._caches.object(key)
        if obj is None:
            self._ledger.awaits_nothing(key)
        elif key not in self._working:  # its acknowledgement says again what it waits for
            self._due(key, CLUSTER_RECOVERED, obj, None)

    def children_listed(self, cluster: str, kind: GVK) -> None:
        """``kind`` is listed in ``cluster`` without a complete replay: owners that may have children there are due, those of
        other shards too."""
        for controller in self._routes.controllers.values():
            if controller.on != "hub" or not any(o.on == "members" and o.kind == str(kind) for o in controller.owns):
                continue
            for home in controller.clusters:
                if home != cluster and home in self._caches:
                    self._owners_due(controller.name, home, cluster, kind)
        self.dispatch()

    def _owners_due(self, controller: str, home: str, cluster: str, kind: GVK) -> None:
        informer = self._caches.informer(home, self._routes.kind_of[controller])
        if informer is None or not informer.synced:
            return  # its list will make all of them due
        change = (cluster, kind, self._ledger.marks.rv(cluster, kind) or 0) if cluster in self._caches else None
        for obj in informer.store:
            key = RequestKey(controller, home, obj.meta.namespace, obj.meta.name)
            self._due(key, OWNED_AWAY, obj, None, change=change)

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
                    self._primary(cluster, kind, primary, event, None)
                self._ledger.marks.begin([primary.controller], cluster, informer.store.rv)
        for owned in route.owned if controller is None else ():
            for event in events:
                self._owned(cluster, kind, owned, event, None)
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
            if key.cluster == cluster and self._routes.kind_of.get(key.controller) == kind:
                if informer.store.get(key.namespace, key.name) is None:
                    self._due(key, AWAY, None, None)
            elif key.cluster in self._caches:
                self._due(key, OWNED_AWAY, self._caches.object(key), None)
            elif not self._remote.wake(key, str(OWNED_AWAY.reason), True):
                self._ledger.settled(key)
        self.dispatch()

    def void(self, cluster: str, kind: GVK) -> None:
        """The cluster was replaced or restored: no object of this kind counts as reconciled."""
        route = self._routes.kinds.get(cluster, {}).get(kind)
        self._ledger.void(cluster, kind, [each.controller.name for each in route.primaries] if route is not None else [])
        self.replay(cluster, kind)

    def retier(self) -> int:
        """The tier rules have changed: move queued keys to the lanes that they name now. Returns how many moved."""

        def tier_of(key: RequestKey) -> tuple[str, str] | None:
            obj = self._caches.object(key)
            if obj is None:
                return None
            choice = self._routes.rules.tier_of(obj, key.controller, self._routes.labels.get(key.cluster))
            return choice.tier, choice.reason

        return self._ledger.retier(tier_of)


def _owners(cluster: str, route: Owned, obj: Obj) -> list[RequestKey]:
    name = route.controller.name
    if route.remote:
        owner = owner_key(obj.meta.annotations)
        return [RequestKey(name, *owner)] if owner is not None and owner.cluster in route.controller.clusters else []
    group, kind = route.owner_kind.group, route.owner_kind.kind
    found = [
        RequestKey(name, cluster, obj.meta.namespace, reference.name)
        for reference in obj.meta.owner_references or ()
        if reference.kind == kind and reference.api_version.rpartition("/")[0] == group
    ]
    if not found and obj.meta.annotations:
        owner = owner_key(obj.meta.annotations)
        if owner is not None and owner.cluster == cluster:
            found.append(RequestKey(name, *owner))
    return found


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
