"""From a change in a cache to a place in the queue: whom it concerns, what it means, how urgent it is.

An event about a key in work is judged when the work ends: only then is it known which events are the echoes of its own writes.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.loops import Loops
from raycp.base.objects import Obj
from raycp.base.tasks import CLUSTER, Written
from raycp.classify import Known, Priority, Reason, Verdict, classify, spread_delay
from raycp.config import TIERS
from raycp.kube.codec import parse_time
from raycp.protocol.frames import Wake
from raycp.protocol.plan import ControllerPlan, Plan
from raycp.sdk.owner import owner_key
from raycp.shard.caches import Informer
from raycp.shard.routes import Owned, Route
from raycp.shard.state import ShardState
from raycp.shard.wakes import WakeExchange
from raycp.slo import Kind
from raycp.slo.clocks import away_start

log = logging.getLogger(__name__)

DEBOUNCE = 0.02
"""How long more of the same is waited for when only the status of a child moved; many do at once."""

CONFIG_MAP = GVK("", "v1", "ConfigMap")
AWAY_GONE = Verdict(True, Reason.AWAY, Priority.AWAY, user=True, clock="away")
CHILD_AWAY = Verdict(True, Reason.OWNED_AWAY, Priority.OWNED_AWAY)
CLUSTER_BACK = Verdict(True, Reason.OWNED_AWAY, Priority.OWNED_AWAY, debounce=True)
"""Debounced: workers have heard of it then."""
_LIVE = (Source.WATCH, Source.OWN_WRITE, Source.RESYNC)


class Later(NamedTuple):
    """An event about a key in work. It is judged when the work ends: only then is it known which writes were its own."""

    cluster: str
    kind: GVK
    route: Route | Owned
    event: Event


class EventHandler:
    """One shard's judgement of events."""

    def __init__(self, state: ShardState, loops: Loops, peers: WakeExchange) -> None:
        self._state = state
        self._loops = loops
        self._peers = peers
        self._later: dict[RequestKey, list[Later]] = {}
        self.comebacks = 0
        """How often a cluster has answered again."""
        self._awaiting: set[RequestKey] = set()

    def in_work(self, key: RequestKey) -> None:
        """``key`` is handed out: events about it wait for ``judge``."""
        self._later[key] = []
        self._state.marks.started(key)

    def waits(self, key: RequestKey, waiting: str, since: int) -> None:
        """The work on ``key`` has ended; what it waits for, if it does. ``since``: ``comebacks`` when it began, for a cluster may
        have come back meanwhile."""
        if waiting != CLUSTER:
            self._awaiting.discard(key)
            return
        self._awaiting.add(key)
        if since != self.comebacks:
            self._look_now(key)

    def comeback(self) -> None:
        """A cluster answers again: whoever waits for one looks."""
        self.comebacks += 1
        for key in list(self._awaiting):
            self._look_now(key)
        self._state.dispatch_soon()

    def _informer_of(self, key: RequestKey) -> Informer | None:
        """Whose store has the key's object; None for a key of a cluster or controller that has left."""
        home, kind = self._state.clusters.get(key.cluster), self._state.kinds.get(key.controller)
        return home.informers.get(kind) if home is not None and kind is not None else None

    def _look_now(self, key: RequestKey) -> None:
        informer = self._informer_of(key)
        obj = informer.store.get(key.namespace, key.name) if informer is not None else None
        if obj is None:
            self._awaiting.discard(key)
        elif key not in self._later:  # what is in work tells itself whether it waits
            self._enqueue(key, CLUSTER_BACK, obj, None, obj)

    def events(self, cluster: str, kind: GVK, events: list[Event], writer: RequestKey | None = None) -> None:
        """A batch of changes of one kind, which the cache has taken in. ``writer``: whose own write told it."""
        route = self._state.routes.get(cluster, {}).get(kind)
        if route is None:
            return
        records = self._state.records if kind == CONFIG_MAP and cluster == self._state.hub else None
        for event in events:
            if records is not None and _is_record(event.obj, records):
                continue
            if event.source is Source.REPLAY and event.new is not None:
                continue  # the list that came first has told of this very state; a replay knows more of deletions only
            for primary in route.primaries:
                self._primary(cluster, kind, primary, event, writer)
            for owned in route.owned:
                self._owned(cluster, kind, owned, event, writer)
        self._state.dispatch_soon()

    def _primary(self, cluster: str, kind: GVK, primary: Route, event: Event, writer: RequestKey | None) -> None:
        if primary.selector is not None:
            narrowed = _narrowed(event, primary.selector.matches)
            if narrowed is None:
                return
            event = narrowed
        meta = event.obj.meta
        key = RequestKey(primary.controller.name, cluster, meta.namespace, meta.name)
        later = self._later.get(key)
        if later is not None and writer != key:
            later.append(Later(cluster, kind, primary, event))
            self._state.marks.noticed(key, cluster, kind, event.obj.rv)
            return
        verdict = classify(event, self._known(key, primary.controller, cluster, kind, event, writer))
        if verdict.enqueue:
            if not verdict.spread:
                self._state.marks.due(key, cluster, kind, event.obj.rv)
            self._enqueue(key, verdict, event.obj, event, event.obj)
        if event.type is EventType.DELETED:
            self._state.reconciled.pop(key, None)

    def _known(
        self,
        key: RequestKey,
        controller: ControllerPlan,
        cluster: str,
        kind: GVK,
        event: Event,
        writer: RequestKey | None,
        is_child: bool = False,
    ) -> Known:
        reconciled = None if is_child else self._state.reconciled.get(key)
        own_writer = writer is None or writer == key
        if event.source in _LIVE:
            return Known(reconciled, is_child=is_child, own_writer=own_writer)
        obj = event.obj
        deleted = parse_time(obj.meta.deletion_timestamp)  # nobody's fields
        written = max(obj.changed_at, deleted) if obj.changed_at else 0.0
        seen = self._state.marks.seen(key, controller, cluster, kind, obj.rv, written)
        return Known(reconciled, seen.covered, seen.has_watermark, is_child, seen.first_start, own_writer, seen.only_status)

    def _owned(self, cluster: str, kind: GVK, owned: Owned, event: Event, writer: RequestKey | None) -> None:
        owners = {owner for obj in (event.old, event.new) if obj is not None for owner in self._owners(cluster, owned, obj)}
        for owner in owners:
            later = self._later.get(owner)
            if later is not None and writer != owner:
                later.append(Later(cluster, kind, owned, event))
                self._state.marks.noticed(owner, cluster, kind, event.obj.rv)
                continue
            verdict = classify(event, self._known(owner, owned.controller, cluster, kind, event, writer, is_child=True))
            if verdict.enqueue:
                self._wake_owner(owner, verdict, event, cluster, kind)

    def _owners(self, cluster: str, owned: Owned, obj: Obj) -> list[RequestKey]:
        name = owned.controller.name
        if owned.remote:
            owner = owner_key(obj.meta.annotations)
            return [RequestKey(name, *owner)] if owner is not None and owner.cluster in owned.controller.clusters else []
        group, kind = owned.owner_kind.group, owned.owner_kind.kind
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

    def _wake_owner(self, owner: RequestKey, verdict: Verdict, event: Event, cluster: str, kind: GVK) -> None:
        home = self._state.clusters.get(owner.cluster)
        if home is None:
            if self._peers.wake(owner, str(verdict.reason), verdict.real):
                self._state.marks.due(owner, cluster, kind, event.obj.rv)
            return
        informer = home.informers.get(self._state.kinds[owner.controller])
        obj = informer.store.get(owner.namespace, owner.name) if informer is not None else None
        if obj is None and informer is not None:
            return  # an orphan: its owner is gone, and with it the need to look; or it is yet to be listed, and queued then
        self._enqueue(owner, verdict, obj, event, event.obj)

    def resync(self, key: RequestKey, obj: Obj, delay: float) -> None:
        """A second look at an object of which nothing is known to have changed, after ``delay`` seconds. None, where it is in work:
        it is being looked at."""
        if key not in self._later:
            event = Event(EventType.MODIFIED, Source.RESYNC, obj, obj, self._state.clock.now())
            self._enqueue(key, classify(event, Known()), obj, event, obj, delay)

    def _enqueue(
        self,
        key: RequestKey,
        verdict: Verdict,
        obj: Obj | None,
        event: Event | None,
        cause: Obj | None,
        spread: float | None = None,
    ) -> None:
        """Queue ``key`` as ``verdict`` says. ``obj`` is its object, for the tier; ``cause`` what changed; ``spread`` the delay of
        one that is to be spread, where it is known."""
        controller = self._state.controllers[key.controller]
        now = self._state.clock.now()
        why = ""
        tier: str
        if verdict.background:
            tier = TIERS[-1]
        elif obj is None:
            tier = self._state.rules.default
        else:
            choice = self._state.rules.tier_of(obj, key.controller, self._state.labels.get(key.cluster))
            tier, why = choice.tier, choice.reason
            if choice.problem:
                self._state.counts.tier_problems.labels(key.controller, key.cluster).inc()
                self._state.timelines.record(key, "problem", problem=choice.problem)
        delay = 0.0
        if verdict.spread and spread is not None:
            delay = spread
        elif verdict.spread:
            delay = spread_delay(self._state.rng, controller.resync, controller.spread)
        elif verdict.debounce:
            delay = DEBOUNCE
        if verdict.clock is not None and event is not None:
            kind, observed = self._clock_of(key, verdict, event, now)
            self._state.clocks.started(key, kind, observed, tier=tier, version=event.obj.version if event.new is not None else 0)
        if self._state.queue.add(
            key, tier=tier, priority=verdict.priority, delay=delay, reason=str(verdict.reason), real=verdict.real
        ):
            if delay:
                self._state.clocks.delayed(key, now + delay)
            else:
                self._state.clocks.woken(key)
        self._state.counts.verdicts.labels(key.cluster, key.controller, str(verdict.reason)).inc()
        self._state.timelines.received(
            key,
            reason=str(verdict.reason),
            source=str(event.source) if event is not None else "wake",
            tier=tier,
            rv=cause.rv if cause is not None else 0,
            delay=delay,
            why=why,
        )

    def _clock_of(self, key: RequestKey, verdict: Verdict, event: Event, now: float) -> tuple[Kind, float]:
        """(kind, start) of the SLI clock that a verdict starts."""
        if verdict.clock == "live":
            return "user", event.observed
        if verdict.clock != "away":
            return "backlog", now
        watched = self._state.clusters.get(key.cluster)
        ahead = watched.client.skew if watched is not None and watched.client is not None else 0.0
        # Of a deletion nobody noted the time.
        changed = event.new.changed_at if event.new is not None else 0.0
        return "away", away_start(self._state.clock, changed, now, ahead)

    def look_after(self, cluster: str, kind: GVK) -> None:
        """Children of ``kind`` in ``cluster`` are known now, but not what became of them before: owners that may have some there
        look again, those of other shards too (design, section 7)."""
        for controller in self._state.controllers.values():
            if controller.on != "hub" or not any(o.on == "members" and o.kind == str(kind) for o in controller.owns):
                continue
            for home in controller.clusters:
                if home != cluster and home in self._state.clusters:
                    self._look_again(controller, home, cluster, kind)
        self._state.dispatch_soon()

    def _look_again(self, controller: ControllerPlan, home: str, cluster: str, kind: GVK) -> None:
        informer = self._state.clusters[home].informers.get(self._state.kinds[controller.name])
        if informer is None or not informer.synced:
            return  # its list will tell of all of them
        rv = self._state.marks.rv(cluster, kind) or 0
        for obj in informer.store:
            key = RequestKey(controller.name, home, obj.meta.namespace, obj.meta.name)
            if cluster in self._state.clusters:
                self._state.marks.due(key, cluster, kind, rv)
            self._enqueue(key, CHILD_AWAY, obj, None, obj)

    def woken(self, wake: Wake) -> bool:
        """Another shard saw a change of a child of ``wake.key``. False if there is no such owner here."""
        key = wake.key
        if not key.controller:  # another shard has listed this kind there: see ``WakeExchange.look_after``
            if key.name:
                self.look_after(key.cluster, GVK.parse(key.name))
            else:  # see ``WakeExchange.comeback``
                self.comeback()
            return False
        if key.cluster not in self._state.clusters or key.controller not in self._state.controllers:
            return False
        informer = self._informer_of(key)
        obj = informer.store.get(key.namespace, key.name) if informer is not None else None
        if obj is None and informer is not None:
            # Not listed yet: the list will queue it, and to hand it out before would look like its deletion.
            return not informer.synced
        verdict = Verdict(True, Reason.OWNED if wake.real else Reason.OWNED_AWAY, debounce=True)
        self._enqueue(key, verdict, obj, None, obj)
        self._state.dispatch_soon()
        return True

    def judge(self, key: RequestKey, writes: list[Written]) -> None:
        """The work on ``key`` has ended: judge what was observed meanwhile, but for the echoes of its own writes."""
        later = self._later.pop(key, None)
        if not later:
            return
        own = {(write.cluster, write.uid, write.rv) for write in writes}
        gone = {(write.cluster, write.uid) for write in writes if write.deleted}
        for cluster, kind, route, event in later:
            obj = event.obj
            if event.type is EventType.DELETED:
                if (cluster, obj.meta.uid) in gone:
                    continue
            elif (cluster, obj.meta.uid, obj.rv) in own:
                continue
            if isinstance(route, Route):
                self._primary(cluster, kind, route, event, None)
            else:
                self._owned(cluster, kind, route, event, None)

    def catch_up(self, before: Plan, plan: Plan) -> None:
        """A controller that is new on a kind that is watched already hears of what is in the cache."""
        known = {(c.name, cluster) for c in before.fleet.controllers for cluster in c.clusters}
        if before.following is not None:
            known = set(before.following.known)
        for controller in plan.fleet.controllers:
            for cluster in controller.clusters:
                if (controller.name, cluster) in known or cluster not in self._state.clusters:
                    continue
                informer = self._state.clusters[cluster].informers.get(self._state.kinds[controller.name])
                # Also of one that lists again, because more is wanted now: it tells nothing of what it knows already.
                if informer is not None and informer.store.rv:
                    self.tell_again(cluster, self._state.kinds[controller.name], controller.name)
        self._state.dispatch_soon()

    def retier(self) -> int:
        """The tier rules have changed: what is queued moves to the lanes that they name now. Returns how many keys moved."""
        state = self._state

        def tier_of(key: RequestKey) -> str | None:
            watched = state.clusters.get(key.cluster)
            kind = state.kinds.get(key.controller)
            informer = watched.informers.get(kind) if watched is not None and kind is not None else None
            obj = informer.store.get(key.namespace, key.name) if informer is not None else None
            if obj is None:
                return None
            choice = state.rules.tier_of(obj, key.controller, state.labels.get(key.cluster))
            state.clocks.retier(key, choice.tier)
            state.timelines.record(key, "queued", tier=choice.tier, why=f"the rules have changed: {choice.reason}")
            return choice.tier

        return state.queue.retier(tier_of)

    def tell_again(self, cluster: str, kind: GVK, controller: str | None = None) -> None:
        """Judge all that is in the cache of a kind as if it were listed for the first time; for one controller, or all."""
        watched, route = self._state.clusters.get(cluster), self._state.routes.get(cluster, {}).get(kind)
        informer = watched.informers.get(kind) if watched is not None else None
        if informer is None or route is None:
            return
        now = self._state.clock.now()
        events = [Event(EventType.ADDED, Source.INITIAL, None, obj, now) for obj in informer.store]
        for primary in route.primaries:
            if controller is None or primary.controller.name == controller:
                for event in events:
                    self._primary(cluster, kind, primary, event, None)
                self._state.marks.begin([primary.controller], cluster, informer.store.rv)
        if controller is None:
            for owned in route.owned:
                for event in events:
                    self._owned(cluster, kind, owned, event, None)
        self._state.dispatch_soon()

    def listed(self, cluster: str, kind: GVK) -> None:
        """A kind has been listed and told. Keys that were due before the start and are not in the list are due all the same."""
        watched, route = self._state.clusters.get(cluster), self._state.routes.get(cluster, {}).get(kind)
        informer = watched.informers.get(kind) if watched is not None else None
        if informer is None or route is None:
            return
        marks = self._state.marks
        marks.begin([primary.controller for primary in route.primaries], cluster, informer.store.rv)
        for key in marks.exceptions(cluster, kind):
            if key in self._later:
                continue
            if key.cluster == cluster and self._state.kinds.get(key.controller) == kind:
                if informer.store.get(key.namespace, key.name) is None:
                    self._enqueue(key, AWAY_GONE, None, None, None)
            elif key.cluster not in self._state.clusters:
                if not self._peers.wake(key, str(Reason.OWNED_AWAY), True):
                    marks.settled(key)
            else:
                home = self._state.clusters[key.cluster].informers.get(self._state.kinds[key.controller])
                obj = home.store.get(key.namespace, key.name) if home is not None else None
                self._enqueue(key, CHILD_AWAY, obj, None, obj)
        self._state.dispatch_soon()

    def void(self, cluster: str, kind: GVK) -> None:
        """The cluster is another one than before: nothing of this kind counts as reconciled."""
        self._state.marks.void(cluster, kind)
        for controller in self._state.controllers.values():
            if self._state.kinds[controller.name] == kind and cluster in controller.clusters:
                self._state.marks.restart(controller.name, cluster)
                self._state.reconciled = {
                    key: version
                    for key, version in self._state.reconciled.items()
                    if key.controller != controller.name or key.cluster != cluster
                }
        self.tell_again(cluster, kind)


def _narrowed(event: Event, matches: Callable[[dict[str, str] | None], bool]) -> Event | None:
    """The event as one who only sees matching objects is told it; None where it is none of his business."""
    old = event.old if event.old is not None and matches(event.old.meta.labels) else None
    new = event.new if event.new is not None and matches(event.new.meta.labels) else None
    if old is event.old and new is event.new:
        return event
    if new is not None:
        return Event(EventType.ADDED, event.source, None, new, event.observed)
    if old is not None:
        return Event(EventType.DELETED, event.source, old, None, event.observed)
    return None


def _is_record(obj: Obj, records: tuple[str, str]) -> bool:
    """Whether it is one of the fleet's own records, which change each second and are nobody's workload."""
    return obj.meta.namespace == records[0] and obj.meta.name.startswith(records[1])
