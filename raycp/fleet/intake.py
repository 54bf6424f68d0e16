"""From a change in a cache to a place in the queue: whom it concerns, what it means, how urgent it is.

An event about a key in work is judged when the work ends: only then is it known which events are the echoes of its own writes.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj
from raycp.base.tasks import Written
from raycp.classify import Known, Priority, Reason, Verdict, classify, resync_period, spread_delay
from raycp.config import TIERS
from raycp.fleet.loops import Loops
from raycp.fleet.peers import Peers
from raycp.fleet.plan import Plan
from raycp.fleet.routes import Owned, Primary
from raycp.fleet.shardstate import ShardState
from raycp.fleet.wire import Wake
from raycp.sdk.owner import owner_key
from raycp.slo import Kind

log = logging.getLogger(__name__)

DEBOUNCE = 0.02
"""How long more of the same is waited for when only the status of a child moved; many do at once."""


class Later(NamedTuple):
    """An event about a key in work. It is judged when the work ends: only then is it known which writes were its own."""

    cluster: str
    route: Primary | Owned
    event: Event


class Intake:
    """One shard's judgement of events."""

    def __init__(self, state: ShardState, loops: Loops, peers: Peers) -> None:
        self._state = state
        self._loops = loops
        self._peers = peers
        self._later: dict[RequestKey, list[Later]] = {}
        self._resyncs: dict[tuple[str, str], asyncio.Task[None]] = {}

    def in_work(self, key: RequestKey) -> None:
        """``key`` is handed out: events about it wait for ``judge``."""
        self._later[key] = []

    def events(self, cluster: str, kind: GVK, events: list[Event], writer: RequestKey | None = None) -> None:
        """A batch of changes of one kind, which the cache has taken in. ``writer``: whose own write told it."""
        route = self._state.routes.get(cluster, {}).get(kind)
        if route is None:
            return
        for event in events:
            for primary in route.primaries:
                self._primary(cluster, primary, event, writer)
            for owned in route.owned:
                self._owned(cluster, owned, event, writer)
        self._state.dispatch_soon()

    def _primary(self, cluster: str, primary: Primary, event: Event, writer: RequestKey | None) -> None:
        if primary.selector is not None:
            narrowed = _narrowed(event, primary.selector.matches)
            if narrowed is None:
                return
            event = narrowed
        meta = event.obj.meta
        key = RequestKey(primary.controller.name, cluster, meta.namespace, meta.name)
        later = self._later.get(key)
        if later is not None and writer != key:
            later.append(Later(cluster, primary, event))
            return
        known = Known(self._state.reconciled.get(key), own_writer=writer is None or writer == key)
        verdict = classify(event, known)
        if verdict.enqueue:
            self._enqueue(key, verdict, event.obj, event, event.obj)
        if event.type is EventType.DELETED:
            self._state.reconciled.pop(key, None)

    def _owned(self, cluster: str, owned: Owned, event: Event, writer: RequestKey | None) -> None:
        owners = {owner for obj in (event.old, event.new) if obj is not None for owner in self._owners(cluster, owned, obj)}
        for owner in owners:
            later = self._later.get(owner)
            if later is not None and writer != owner:
                later.append(Later(cluster, owned, event))
                continue
            verdict = classify(event, Known(is_child=True, own_writer=writer is None or writer == owner))
            if verdict.enqueue:
                self._wake_owner(owner, verdict, event)

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

    def _wake_owner(self, owner: RequestKey, verdict: Verdict, event: Event) -> None:
        home = self._state.clusters.get(owner.cluster)
        if home is None:
            self._peers.wake(owner, str(verdict.reason), verdict.real)
            return
        informer = home.informers.get(self._state.kinds[owner.controller])
        obj = informer.store.get(owner.namespace, owner.name) if informer is not None else None
        if obj is None and informer is not None:
            return  # an orphan: its owner is gone, and with it the need to look; or it is yet to be listed, and queued then
        self._enqueue(owner, verdict, obj, event, event.obj)

    def _enqueue(self, key: RequestKey, verdict: Verdict, obj: Obj | None, event: Event | None, cause: Obj | None) -> None:
        """Queue ``key`` as ``verdict`` says. ``obj`` is its object, for the tier; ``cause`` what changed."""
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
        if verdict.spread:
            delay = spread_delay(self._state.rng, controller.resync, controller.spread)
        elif verdict.debounce:
            delay = DEBOUNCE
        if verdict.clock is not None and event is not None:
            kind, observed = _clock_of(verdict, event, now)
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

    def look_after(self, cluster: str) -> None:
        """A cluster's children are known now: owners in the hub that may have some there look again (design, section 7)."""
        for controller in self._state.controllers.values():
            if controller.on != "hub" or not any(owned.on == "members" for owned in controller.owns):
                continue
            for home in controller.clusters:
                if home == cluster or home not in self._state.clusters:
                    continue
                informer = self._state.clusters[home].informers.get(self._state.kinds[controller.name])
                if informer is None or not informer.synced:
                    continue
                verdict = Verdict(True, Reason.OWNED_AWAY, Priority.OWNED_AWAY)
                for obj in informer.store:
                    key = RequestKey(controller.name, home, obj.meta.namespace, obj.meta.name)
                    self._enqueue(key, verdict, obj, None, obj)
        self._state.dispatch_soon()

    def woken(self, wake: Wake) -> bool:
        """Another shard saw a change of a child of ``wake.key``. False if there is no such owner here."""
        key = wake.key
        if not key.controller:  # another shard has listed this cluster: see ``Peers.look_after``
            self.look_after(key.cluster)
            return False
        home = self._state.clusters.get(key.cluster)
        controller = self._state.controllers.get(key.controller)
        if home is None or controller is None:
            return False
        informer = home.informers.get(self._state.kinds[key.controller])
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
        for cluster, route, event in later:
            obj = event.obj
            if event.type is EventType.DELETED:
                if (cluster, obj.meta.uid) in gone:
                    continue
            elif (cluster, obj.meta.uid, obj.rv) in own:
                continue
            if isinstance(route, Primary):
                self._primary(cluster, route, event, None)
            else:
                self._owned(cluster, route, event, None)

    def catch_up(self, before: Plan, plan: Plan) -> None:
        """A controller that is new on a kind that is watched already hears of what is in the cache."""
        known = {(c.name, cluster) for c in before.fleet.controllers for cluster in c.clusters}
        for controller in plan.fleet.controllers:
            for cluster in controller.clusters:
                if (controller.name, cluster) in known or cluster not in self._state.clusters:
                    continue
                informer = self._state.clusters[cluster].informers.get(self._state.kinds[controller.name])
                # Also of one that lists again, because more is wanted now: it tells nothing of what it knows already.
                if informer is not None:
                    now = self._state.clock.now()
                    events = [Event(EventType.ADDED, Source.INITIAL, None, obj, now) for obj in informer.store]
                    route = self._state.routes[cluster][self._state.kinds[controller.name]]
                    for primary in route.primaries:
                        if primary.controller.name == controller.name:
                            for event in events:
                                self._primary(cluster, primary, event, None)
        self._state.dispatch_soon()

    def plan_resyncs(self) -> None:
        wanted = {
            (c.name, cluster): c.resync
            for c in self._state.controllers.values()
            for cluster in c.clusters
            if cluster in self._state.clusters and c.resync
        }
        for where in [where for where in self._resyncs if where not in wanted]:
            self._resyncs.pop(where).cancel()
        for where in wanted:
            if where not in self._resyncs:
                self._resyncs[where] = self._loops.spawn(self._resync(*where), f"resync of {where[0]} in {where[1]}")

    async def _resync(self, name: str, cluster: str) -> None:
        """A second look at every object, spread over time, about every ``resync`` seconds."""
        while True:
            await self._state.clock.sleep(resync_period(self._state.rng, self._state.controllers[name].resync))
            watched = self._state.clusters.get(cluster)
            route = self._state.routes.get(cluster, {}).get(self._state.kinds[name])
            if watched is None or route is None:
                continue
            informer = watched.informers[self._state.kinds[name]]
            for primary in route.primaries:
                if primary.controller.name != name:
                    continue
                for number, obj in enumerate(informer.store):
                    event = Event(EventType.MODIFIED, Source.RESYNC, obj, obj, self._state.clock.now())
                    self._primary(cluster, primary, event, None)
                    if number % 200 == 199:
                        await asyncio.sleep(0)
            self._state.dispatch_soon()


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


def _clock_of(verdict: Verdict, event: Event, now: float) -> tuple[Kind, float]:
    """(kind, start) of the SLI clock that a verdict starts."""
    if verdict.clock == "live":
        return "user", event.observed
    return ("away" if verdict.clock == "away" else "backlog"), now
