"""A shard: watches whole clusters, decides what each event means, keeps the queue, hands out and takes back.

The way of a change: reflector → ``events`` (classify, clock, queue) → ``_dispatch`` (task with object and children, to a worker that
has credit) → ``_done`` (own writes into the cache, clock, key released). Everything runs on one loop; nothing here waits for a
cluster, a worker or the leader.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from raycp.base.clock import Clock, SystemClock
from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj
from raycp.base.tasks import Child, Done, Outcome, Task, Written
from raycp.cache import ReflectorOptions
from raycp.classify import Known, Priority, Reason, TierRules, Verdict, classify, resync_period, spread_delay
from raycp.config import TIERS
from raycp.config.tiers import TiersSpec
from raycp.fleet.channel import Connection, Peer, listen
from raycp.fleet.conductor import Conductor, WorkerSeat
from raycp.fleet.member import MemberCore, own_address
from raycp.fleet.names import Member
from raycp.fleet.peers import Peers
from raycp.fleet.plan import ClusterReport, ControllerPlan, LaneReport, Plan, Report
from raycp.fleet.reads import answer_read
from raycp.fleet.routes import Children, Owned, Primary, Route, children_of, routes_of
from raycp.fleet.telling import Teller
from raycp.fleet.watching import WatchedCluster
from raycp.fleet.wire import Clusters, ClusterState, Fold, Hello, Read, Reply, Wake
from raycp.observe import Metrics, ReflectorMetrics, SliMetrics, WorkQueueMetrics
from raycp.queueing import Item, QueuePolicy, WorkQueue
from raycp.queueing.events import QueueMetrics
from raycp.sdk.owner import owner_key
from raycp.slo import Kind, Objectives, SliClocks, SloTracker, Timelines

log = logging.getLogger(__name__)

DEBOUNCE = 0.02
"""How long more of the same is waited for when only the status of a child moved; many do at once."""

UNSEEN_WRITE = 2.0
"""How long a key is kept back for a write that its object's shard did not confirm (law 8), in seconds."""


class _Handout:
    """What a task was made from: needed when it comes back."""

    __slots__ = ("item", "rv", "task", "version")

    def __init__(self, item: Item, task: Task, rv: int) -> None:
        self.item = item
        self.task = task
        self.rv = rv
        self.version = task.version


class _Later(NamedTuple):
    """An event about a key in work. It is judged when the work ends: only then is it known which writes were its own."""

    cluster: str
    route: Primary | Owned
    event: Event


class ShardCore(MemberCore):
    """One shard's primary."""

    def __init__(self, member: Member, clock: Clock, host: str, node: str) -> None:
        super().__init__(member, clock, host, node)
        self.shard = member.place
        self.rng = random.Random(secrets.randbits(64))
        self.metrics = Metrics()
        self._counts = ReflectorMetrics(self.metrics)
        self._queue_metrics = QueueMetrics(WorkQueueMetrics(self.metrics))
        self.queue = WorkQueue(QueuePolicy(), clock, self._queue_metrics, self.rng)
        self.clocks = SliClocks(clock)
        self._tracker = SloTracker(Objectives(), SliMetrics(self.metrics))
        self.timelines = Timelines(clock)
        self._rules = TierRules.compile(TiersSpec())
        self._labels: dict[str, dict[str, str]] = {}
        self.clusters: dict[str, WatchedCluster] = {}
        self._routes: dict[str, dict[GVK, Route]] = {}
        self._children: dict[tuple[str, str], list[Children]] = {}
        self._controllers: dict[str, ControllerPlan] = {}
        self._kinds: dict[str, GVK] = {}
        self.reconciled: dict[RequestKey, int] = {}
        self._handouts: dict[int, _Handout] = {}
        self._later: dict[RequestKey, list[_Later]] = {}
        self._resyncs: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.conductor = Conductor(self)
        self.peers = Peers(self)
        self._server: asyncio.Server | None = None
        self._port = 0
        self.epoch = 0
        self.term = 0
        self._configured_at: float | None = None
        self._teller = Teller(member, clock, self.loops, self.metrics, self.report, self._tracker.report, self._answer)
        self.metrics.before_snapshot(self._set_gauges)

    # the plan

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        if self._server is None:
            self._server, self._port = await listen(self.host, plan.token, self._accept)
            self.loops.forever(self._sweep, "sweep", every=1.0)
            self._configured_at = self.clock.now()
        doc = plan.fleet.doc
        mine = next((shard for shard in plan.shards if shard.member == self.member.actor_name), None)
        self.epoch = plan.epoch
        self.term = mine.term if mine is not None else 0
        self._controllers = {controller.name: controller for controller in plan.fleet.controllers}
        self._kinds = {controller.name: GVK.parse(controller.kind) for controller in plan.fleet.controllers}
        specs = {controller.name: doc.spec.controllers[controller.spec] for controller in plan.fleet.controllers}
        labels = {cluster.name: cluster.labels for cluster in plan.clusters}
        self._rules = TierRules.compile(doc.spec.tiers, set(self._controllers))
        self._labels = labels
        policy = QueuePolicy.of(
            doc.spec.tiers, specs, {c.name: c.max_in_flight for c in doc.spec.clusters}, slots=doc.spec.workers.slots
        )
        self.queue.set_policy(policy)
        objectives = Objectives.compile(doc.spec.slo)
        self.clocks.set_objectives(objectives)
        self._tracker.set_objectives(objectives)
        clusters = {cluster.name: cluster for cluster in plan.clusters if cluster.shard == self.shard}
        self._routes = routes_of(plan, clusters)
        self._children = children_of(plan, clusters)
        for name in [name for name in self.clusters if name not in clusters]:
            await self._drop_cluster(name)
        for controller in {c.name for c in before.fleet.controllers} - set(self._controllers) if before else ():
            self._drop_controller(controller)
        options = ReflectorOptions(stall=doc.spec.timeouts.watch_silence, list_timeout=doc.spec.timeouts.list)
        for name, cluster in clusters.items():
            watched = self.clusters.get(name)
            if watched is None:
                watched = self.clusters[name] = WatchedCluster(cluster, self, self.clock, self.loops, lambda *_: None, options)
            watched.update(cluster, self._routes[name])
        self._plan_resyncs()
        if before is not None:
            self._catch_up(before, plan)
        self.plan = plan
        self._teller.update(plan)
        self.peers.update(plan)
        self.conductor.update(plan)

    def _catch_up(self, before: Plan, plan: Plan) -> None:
        """A controller that is new on a kind that is watched already hears of what is in the cache."""
        known = {(c.name, cluster) for c in before.fleet.controllers for cluster in c.clusters}
        for controller in plan.fleet.controllers:
            for cluster in controller.clusters:
                if (controller.name, cluster) in known or cluster not in self.clusters:
                    continue
                informer = self.clusters[cluster].informers.get(self._kinds[controller.name])
                if informer is not None and informer.synced:
                    now = self.clock.now()
                    events = [Event(EventType.ADDED, Source.INITIAL, None, obj, now) for obj in informer.store]
                    route = self._routes[cluster][self._kinds[controller.name]]
                    for primary in route.primaries:
                        if primary.controller.name == controller.name:
                            for event in events:
                                self._primary(cluster, primary, event, None)
        self.conductor.dispatch_soon()

    async def _drop_cluster(self, name: str) -> None:
        log.info("cluster %s leaves this shard", name)
        watched = self.clusters.pop(name)
        self.queue.remove_cluster(name)
        self.clocks.drop_where(cluster=name)
        self.reconciled = {key: version for key, version in self.reconciled.items() if key.cluster != name}
        await watched.close()

    def _drop_controller(self, name: str) -> None:
        self.queue.remove_controller(name)
        self.clocks.drop_where(controller=name)
        self.reconciled = {key: version for key, version in self.reconciled.items() if key.controller != name}

    # events

    def events(self, cluster: str, kind: GVK, events: list[Event], writer: RequestKey | None = None) -> None:
        """A batch of changes of one kind, which the cache has taken in. ``writer``: whose own write told it."""
        route = self._routes.get(cluster, {}).get(kind)
        if route is None:
            return
        for event in events:
            for primary in route.primaries:
                self._primary(cluster, primary, event, writer)
            for owned in route.owned:
                self._owned(cluster, owned, event, writer)
        self.conductor.dispatch_soon()

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
            later.append(_Later(cluster, primary, event))
            return
        known = Known(self.reconciled.get(key), own_writer=writer is None or writer == key)
        verdict = classify(event, known)
        if verdict.enqueue:
            self._enqueue(key, verdict, event.obj, event, event.obj)
        if event.type is EventType.DELETED:
            self.reconciled.pop(key, None)

    def _owned(self, cluster: str, owned: Owned, event: Event, writer: RequestKey | None) -> None:
        owners = {owner for obj in (event.old, event.new) if obj is not None for owner in self._owners(cluster, owned, obj)}
        for owner in owners:
            later = self._later.get(owner)
            if later is not None and writer != owner:
                later.append(_Later(cluster, owned, event))
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
        home = self.clusters.get(owner.cluster)
        if home is None:
            self.peers.wake(owner, str(verdict.reason), verdict.real)
            return
        informer = home.informers.get(self._kinds[owner.controller])
        obj = informer.store.get(owner.namespace, owner.name) if informer is not None else None
        if obj is None and informer is not None and informer.synced:
            return  # an orphan: its owner is gone, and with it the need to look
        self._enqueue(owner, verdict, obj, event, event.obj)

    def _enqueue(self, key: RequestKey, verdict: Verdict, obj: Obj | None, event: Event | None, cause: Obj | None) -> None:
        """Queue ``key`` as ``verdict`` says. ``obj`` is its object, for the tier; ``cause`` what changed."""
        controller = self._controllers[key.controller]
        now = self.clock.now()
        why = ""
        tier: str
        if verdict.background:
            tier = TIERS[-1]
        elif obj is None:
            tier = self._rules.default
        else:
            choice = self._rules.tier_of(obj, key.controller, self._labels.get(key.cluster))
            tier, why = choice.tier, choice.reason
            if choice.problem:
                self._counts.tier_problems.labels(key.controller, key.cluster).inc()
                self.timelines.record(key, "problem", problem=choice.problem)
        delay = 0.0
        if verdict.spread:
            delay = spread_delay(self.rng, controller.resync, controller.spread)
        elif verdict.debounce:
            delay = DEBOUNCE
        if verdict.clock is not None and event is not None:
            kind, observed = _clock_of(verdict, event, now)
            self.clocks.started(key, kind, observed, tier=tier, version=event.obj.version if event.new is not None else 0)
        if self.queue.add(key, tier=tier, priority=verdict.priority, delay=delay, reason=str(verdict.reason), real=verdict.real):
            if delay:
                self.clocks.delayed(key, now + delay)
            else:
                self.clocks.woken(key)
        self._counts.verdicts.labels(key.cluster, key.controller, str(verdict.reason)).inc()
        self.timelines.received(
            key, reason=str(verdict.reason), source=str(event.source) if event is not None else "wake", tier=tier,
            rv=cause.rv if cause is not None else 0, delay=delay, why=why,
        )

    def cluster_changed(self, cluster: str) -> None:
        """A cluster connected, synced, or failed."""
        watched = self.clusters.get(cluster)
        if watched is not None and watched.synced:
            self._look_after(cluster)
        self.conductor.broadcast(Clusters(self.states()))
        self.changed()

    def _look_after(self, cluster: str) -> None:
        """A cluster's children are known now: owners in the hub that may have some there look again (design, section 7)."""
        for controller in self._controllers.values():
            if controller.on != "hub" or not any(owned.on == "members" for owned in controller.owns):
                continue
            for home in controller.clusters:
                if home == cluster or home not in self.clusters:
                    continue
                informer = self.clusters[home].informers.get(self._kinds[controller.name])
                if informer is None or not informer.synced:
                    continue
                verdict = Verdict(True, Reason.OWNED_AWAY, Priority.OWNED_AWAY)
                for obj in informer.store:
                    key = RequestKey(controller.name, home, obj.meta.namespace, obj.meta.name)
                    self._enqueue(key, verdict, obj, None, obj)
        self.conductor.dispatch_soon()

    def woken(self, wake: Wake) -> bool:
        """Another shard saw a change of a child of ``wake.key``. False if there is no such owner here."""
        key = wake.key
        home = self.clusters.get(key.cluster)
        controller = self._controllers.get(key.controller)
        if home is None or controller is None:
            return False
        informer = home.informers.get(self._kinds[key.controller])
        obj = informer.store.get(key.namespace, key.name) if informer is not None else None
        if obj is None and informer is not None and informer.synced:
            return False
        verdict = Verdict(True, Reason.OWNED if wake.real else Reason.OWNED_AWAY, debounce=True)
        self._enqueue(key, verdict, obj, None, obj)
        self.conductor.dispatch_soon()
        return True

    # resync

    def _plan_resyncs(self) -> None:
        wanted = {
            (c.name, cluster): c.resync for c in self._controllers.values() for cluster in c.clusters if cluster in self.clusters and c.resync
        }
        for where in [where for where in self._resyncs if where not in wanted]:
            self._resyncs.pop(where).cancel()
        for where in wanted:
            if where not in self._resyncs:
                self._resyncs[where] = self.loops.spawn(self._resync(*where), f"resync of {where[0]} in {where[1]}")

    async def _resync(self, name: str, cluster: str) -> None:
        """A second look at every object, spread over time, about every ``resync`` seconds."""
        while True:
            await self.clock.sleep(resync_period(self.rng, self._controllers[name].resync))
            watched = self.clusters.get(cluster)
            route = self._routes.get(cluster, {}).get(self._kinds[name])
            if watched is None or route is None:
                continue
            informer = watched.informers[self._kinds[name]]
            for primary in route.primaries:
                if primary.controller.name != name:
                    continue
                for number, obj in enumerate(informer.store):
                    event = Event(EventType.MODIFIED, Source.RESYNC, obj, obj, self.clock.now())
                    self._primary(cluster, primary, event, None)
                    if number % 200 == 199:
                        await asyncio.sleep(0)
            self.conductor.dispatch_soon()

    # hand-outs, for the conductor

    def make_task(self, item: Item) -> Task | None:
        """The task of a hand-out, with object and children; None for a key of a controller or cluster that has left."""
        key = item.key
        controller = self._controllers.get(key.controller)
        watched = self.clusters.get(key.cluster)
        if controller is None or watched is None:
            return None
        informer = watched.informers.get(self._kinds[key.controller])
        if informer is None:
            return None
        obj = informer.store.get(key.namespace, key.name)
        if obj is not None and controller.selector and not _selects(informer.route, controller, obj):
            obj = None
        children: list[Child] = []
        blind: list[str] = []
        if obj is not None:
            for place in self._children.get((key.controller, key.cluster), ()):
                kind = str(place.kind)
                for cluster in place.clusters:
                    there = self.clusters[cluster].informers.get(place.kind)
                    if there is None or not there.synced:
                        blind.append(cluster)
                    if there is not None:
                        children.extend(Child(cluster, kind, child.raw) for child in there.store.by_index("owner", obj.meta.uid))
        task = Task(
            item.id | self.term << 40, key, item.tier, item.reason, item.attempt, self.epoch, self.shard, self.term,
            obj.version if obj is not None else 0, item.waited, obj.raw if obj is not None else None, children, sorted(set(blind)),
        )
        self._handouts[task.id] = _Handout(item, task, obj.rv if obj is not None else 0)
        self._later[key] = []
        self.clocks.handed_out(key)
        self.peers.handed_out(key)
        return task

    def done(self, seat: WorkerSeat, done: Done) -> None:
        """An acknowledgement: own writes into the cache, then the key is released."""
        unseen = False
        for write in done.writes:
            if not self.fold(write, done.key) and write.raw is None and not write.deleted:
                unseen = True
        if unseen:
            asyncio.get_running_loop().call_later(UNSEEN_WRITE, self._release, seat, done)
        else:
            self._release(seat, done)

    def fold(self, write: Written, writer: RequestKey) -> bool:
        """Take an own write in; False if the cluster is not this shard's."""
        watched = self.clusters.get(write.cluster)
        if watched is None:
            return False
        kind = GVK.parse(write.kind)
        informer = watched.informers.get(kind)
        if informer is None:
            return True
        if write.raw is None and not write.deleted:
            return informer.store.reached(write.namespace, write.name, write.uid, write.rv)
        events = informer.store.fold(write, self.clock.now())
        if events:
            self.events(write.cluster, kind, events, writer)
        return True

    def _release(self, seat: WorkerSeat, done: Done) -> None:
        handout = self._handouts.pop(done.id, None)
        key = done.key
        if handout is None:
            # A hand-out of the primary before us, held back until now (law 6g).
            self.queue.release(key)
            self.conductor.dispatch_soon()
            return
        identity = handout.item.id
        api = sum(call.seconds for call in done.calls)
        delay: float | None = None
        if done.outcome is Outcome.OK:
            if done.requeue_after is not None:
                self.queue.requeue(seat.name, key, done.requeue_after, id=identity, tier=done.tier)
                delay = done.requeue_after
            else:
                self.queue.done(seat.name, key, id=identity)
            self._count(key, True, done, api)
            if handout.task.raw is not None:
                self.reconciled[key] = self._version_after(key, done.writes, handout.version)
            else:
                self.reconciled.pop(key, None)
        elif done.outcome is Outcome.RETRY:
            delay = self.queue.retry(seat.name, key, id=identity, retry_after=done.retry_after, error=done.error)
            self._count(key, False, done, api)
            if delay is not None:
                self.clocks.delayed(key, self.clock.now() + delay)
        elif done.outcome is Outcome.PERMANENT:
            self.queue.done(seat.name, key, id=identity)
            self._count(key, False, done, api, permanent=True)
            self.reconciled[key] = handout.version
        else:
            self.queue.interrupted(seat.name, key, id=identity)
            self.clocks.returned(key)
        self._judge(key, done.writes)
        self.timelines.ended(
            key, _word(done), seconds=done.seconds, calls=done.calls, error=done.error, waiting=done.waiting
        )
        if delay is not None:
            self.timelines.delayed(key, seconds=delay, reason="retry" if done.error else "requeue_after")
        self.peers.reconciled(key)
        self.conductor.dispatch_soon()

    def _version_after(self, key: RequestKey, writes: list[Written], seen: int) -> int:
        """The version that counts as reconciled: the one handed out, or what the reconcile's own write made of it."""
        informer = self.clusters[key.cluster].informers.get(self._kinds[key.controller]) if key.cluster in self.clusters else None
        obj = informer.store.get(key.namespace, key.name) if informer is not None else None
        if obj is not None and any(w.rv == obj.rv and w.uid == obj.meta.uid and w.cluster == key.cluster for w in writes):
            return obj.version
        return seen

    def _judge(self, key: RequestKey, writes: list[Written]) -> None:
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

    def _count(self, key: RequestKey, ok: bool, done: Done, api: float, permanent: bool = False) -> None:
        samples = self.clocks.done(key, ok, work=done.seconds, api=api, waiting=done.waiting, permanent=permanent)
        if samples:
            self._tracker.take(samples)

    def returned(self, seat: WorkerSeat, identity: int) -> None:
        """A hand-out that its living worker does not know: it got lost on the way."""
        handout = self._handouts.pop(identity, None)
        if handout is not None:
            self.queue.interrupted(seat.name, handout.task.key, id=handout.item.id)
            self.clocks.returned(handout.task.key)
            self._judge(handout.task.key, [])

    def worker_lost(self, seat: WorkerSeat, culprits: dict[int, str]) -> None:
        """The worker's process is dead for certain: its keys return, culprits with backoff."""
        for identity, error in culprits.items():
            handout = self._handouts.pop(identity, None)
            if handout is not None:
                key = handout.task.key
                delay = self.queue.retry(seat.name, key, id=handout.item.id, reason="worker_lost", error=error)
                self.clocks.done(key, False)
                self.clocks.delayed(key, self.clock.now() + (delay or 0.0))
                self._judge(key, [])
                self.timelines.record(key, "failed", error=error, worker=seat.name)
        for key in self.queue.forget_worker(seat.name):
            self.clocks.returned(key)
            self._judge(key, [])
            self.timelines.record(key, "returned", worker=seat.name, reason="its worker died")
        for identity in [identity for identity in seat.in_flight if identity in self._handouts]:
            del self._handouts[identity]
        self.conductor.dispatch_soon()

    # connections

    def _accept(self, connection: Connection, hello: Hello) -> Peer | str:
        if hello.role == "worker":
            return self.conductor.accept(connection, hello)
        if hello.role == "shard":
            return self.peers.accept(connection, hello)
        return f"a shard does not talk to {hello.role!r}"

    def read(self, read: Read) -> Reply:
        """A read from the caches."""
        return answer_read(self.clusters, read)

    def fold_for(self, fold: Fold) -> Reply:
        """Own writes of a key in another shard."""
        for write in fold.writes:
            if not self.fold(write, RequestKey("", "", "", "")):
                return Reply(fold.id, error=f"shard {self.shard} does not watch {write.cluster}")
        return Reply(fold.id)

    def states(self) -> list[ClusterState]:
        """What workers are told of the clusters."""
        found = []
        for watched in self.clusters.values():
            report = ClusterReport(watched.name)
            watched.fill(report)
            found.append(
                ClusterState(watched.name, watched.plan.role, watched.plan.labels, report.reachable, report.synced, report.reason)
            )
        return found

    # telling

    async def _sweep(self) -> None:
        self._tracker.take_overdue(self.clocks.sweep())

    def _set_gauges(self) -> None:
        self._queue_metrics.publish(self.queue)
        now = self.clock.now()
        for watched in self.clusters.values():
            for kind, informer in watched.informers.items():
                labels = (watched.name, str(kind))
                self._counts.synced.labels(*labels).set(1.0 if informer.synced else 0.0)
                self._counts.objects.labels(*labels).set(len(informer.store))
                self._counts.bytes.labels(*labels).set(informer.store.memory_bytes)
                if informer.reflector is not None:
                    self._counts.watch_lag.labels(*labels).set(max(0.0, now - informer.reflector.status().last_contact))

    def _answer(self, what: str, arguments: list[str]) -> bytes:
        if what != "timeline" or len(arguments) != 4:
            return b"null"
        cluster, kind, namespace, name = arguments
        return msgspec.json.encode(self.timeline(cluster, kind, namespace, name))

    def timeline(self, cluster: str, kind: str, namespace: str, name: str) -> dict[str, object] | None:
        """For ``raycp why``: per controller, the last steps and where the key is now."""
        rows = []
        for controller, gvk in self._kinds.items():
            if kind not in (str(gvk), gvk.kind):
                continue
            key = RequestKey(controller, cluster, "" if namespace == "-" else namespace, name)
            steps = [step for _, found in self.timelines.of(*key[1:], {controller}) for step in found]
            why = self.queue.why(key)
            if steps or why is not None:
                rows.append(
                    {
                        "controller": controller,
                        "queue": msgspec.to_builtins(why) if why is not None else None,
                        "steps": [{"at": step.at, "what": step.what, **step.detail} for step in steps],
                    }
                )
        return {"cluster": cluster, "kind": kind, "namespace": namespace, "name": name, "controllers": rows} if rows else None

    def fill(self, report: Report) -> None:
        report.port = self._port
        plan = self.plan
        for watched in self.clusters.values():
            row = ClusterReport(watched.name)
            watched.fill(row)
            report.clusters.append(row)
            report.cached_bytes += sum(informer.store.memory_bytes for informer in watched.informers.values())
        lanes: dict[str, LaneReport] = {tier: LaneReport(tier) for tier in TIERS}
        for depth in self.queue.depths():
            lane = lanes.setdefault(depth.tier, LaneReport(depth.tier))
            lane.ready += depth.ready
            lane.delayed += depth.delayed
            lane.in_flight += depth.running
            lane.oldest = max(lane.oldest, depth.oldest)
        report.lanes = list(lanes.values())
        report.busy = sum(lane.in_flight for lane in report.lanes)
        if plan is None or self._configured_at is None:
            report.reasons = ["waiting for the fleet's plan"]
            return
        late = self.clock.now() - self._configured_at > plan.fleet.doc.spec.timeouts.sync_deadline
        waiting = [f"cluster {row.name}: {row.reason or 'not synced'}" for row in report.clusters if not row.synced]
        if not self.epoch:
            waiting.insert(0, "the hub has not recorded the leader yet")
        elif not self.term:
            waiting.insert(0, "not in the plan yet")
        report.ready = bool(self.epoch and self.term) and (not waiting or late)
        report.reasons = [] if report.ready else waiting
        report.state = "running" if report.ready else "syncing"

    async def drain(self, timeout: float) -> None:
        """Hand out no more and wait for what is in work."""
        self.conductor.paused = True
        deadline = self.clock.now() + timeout
        while self._handouts and self.clock.now() < deadline:
            await self.clock.sleep(0.01)


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


def _word(done: Done) -> str:
    if done.outcome is Outcome.OK:
        return "waiting" if done.waiting else "succeeded"
    return {Outcome.RETRY: "failed", Outcome.PERMANENT: "gave_up", Outcome.INTERRUPTED: "returned"}[done.outcome]


def _selects(route: Route, controller: ControllerPlan, obj: Obj) -> bool:
    for primary in route.primaries:
        if primary.controller.name == controller.name:
            return primary.selector is None or primary.selector.matches(obj.meta.labels)
    return True


def _clock_of(verdict: Verdict, event: Event, now: float) -> tuple[Kind, float]:
    """(kind, start) of the SLI clock that a verdict starts."""
    if verdict.clock == "live":
        return "user", event.observed
    return ("away" if verdict.clock == "away" else "backlog"), now


def shard_core(member: Member, namespace: str) -> ShardCore:
    """The core of a shard's actor."""
    host, node = own_address()
    return ShardCore(member, SystemClock(), host, node)
