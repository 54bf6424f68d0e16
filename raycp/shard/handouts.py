"""From a place in the queue to a task, and from an acknowledgement to a released key."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj
from raycp.base.tasks import ApiCall, Child, Done, Outcome, Task, Written
from raycp.protocol.plan import ControllerPlan
from raycp.queueing import Item
from raycp.shard.events import EventHandler
from raycp.shard.routes import KindRoutes
from raycp.shard.state import ShardState
from raycp.shard.wakes import WakeExchange

if TYPE_CHECKING:
    from raycp.shard.dispatcher import WorkerSeat

log = logging.getLogger(__name__)

_NOTHING = GVK("", "", "")

UNSEEN_WRITE = 2.0
"""How long a key is kept back for a write that its object's shard did not confirm (law 8), in seconds."""


class Handout:
    """What a task was made from: needed when it comes back. ``comebacks``: ``EventHandler.comebacks`` then."""

    __slots__ = ("comebacks", "item", "rv", "task", "version")

    def __init__(self, item: Item, task: Task, rv: int, comebacks: int) -> None:
        self.comebacks = comebacks
        self.item = item
        self.task = task
        self.rv = rv
        self.version = task.version


class Handouts:
    """What one shard has in work."""

    def __init__(
        self, state: ShardState, intake: EventHandler, peers: WakeExchange, heard: Callable[[list[ApiCall]], None]
    ) -> None:
        self._state = state
        self._intake = intake
        self._peers = peers
        self._open: dict[int, Handout] = {}
        self._heard = heard

    def __len__(self) -> int:
        return len(self._open)

    def make_task(self, item: Item) -> Task | None:
        """The task of a hand-out, with object and children; None for a key of a controller or cluster that has left."""
        key = item.key
        controller = self._state.controllers.get(key.controller)
        watched = self._state.clusters.get(key.cluster)
        if controller is None or watched is None:
            return None
        informer = watched.informers.get(self._state.kinds[key.controller])
        if informer is None:
            return None
        obj = informer.store.get(key.namespace, key.name)
        if obj is not None and controller.selector and not _selects(informer.route, controller, obj):
            obj = None
        children: list[Child] = []
        unknown_clusters: list[str] = []
        if obj is not None:
            for place in self._state.children.get((key.controller, key.cluster), ()):
                kind = str(place.kind)
                for cluster in place.clusters:
                    there = self._state.clusters[cluster].informers.get(place.kind)
                    if there is None or not there.synced:
                        unknown_clusters.append(cluster)
                    if there is not None:
                        children.extend(Child(cluster, kind, child.raw) for child in there.store.by_index("owner", obj.meta.uid))
        task = Task(
            item.id | self._state.term << 40,
            key,
            item.tier,
            item.reason,
            item.attempt,
            self._state.epoch,
            self._state.shard,
            self._state.term,
            obj.version if obj is not None else 0,
            item.waited,
            obj.raw if obj is not None else None,
            children,
            sorted(set(unknown_clusters)),
        )
        self._open[task.id] = Handout(item, task, obj.rv if obj is not None else 0, self._intake.comebacks)
        self._intake.in_work(key)
        self._state.clocks.handed_out(key)
        self._peers.handed_out(key)
        return task

    def done(self, seat: "WorkerSeat", done: Done) -> None:
        """An acknowledgement: own writes into the cache, then the key is released."""
        if done.calls:
            self._heard(done.calls)
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
        watched = self._state.clusters.get(write.cluster)
        if watched is None:
            return False
        kind = GVK.parse(write.kind)
        informer = watched.informers.get(kind)
        if informer is None:
            return True
        if write.raw is None and not write.deleted:
            return informer.store.reached(write.namespace, write.name, write.uid, write.rv)
        events = informer.store.fold(write, self._state.clock.now())
        if events:
            self._intake.events(write.cluster, kind, events, writer)
        return True

    def _release(self, seat: "WorkerSeat", done: Done) -> None:
        handout = self._open.pop(done.id, None)
        key = done.key
        if handout is None:
            # A hand-out of the primary before us, held back until now (law 6g).
            self._state.queue.release(key, why_held(seat.name, done.id))
            self._state.dispatch_soon()
            return
        identity = handout.item.id
        api = sum(call.seconds for call in done.calls)
        delay: float | None = None
        if done.outcome is Outcome.OK:
            if done.requeue_after is not None:
                self._state.queue.requeue(seat.name, key, done.requeue_after, id=identity, tier=done.tier)
                delay = done.requeue_after
            else:
                self._state.queue.done(seat.name, key, id=identity)
            self._count(key, True, done, api)
            if handout.task.raw is not None:
                self._state.reconciled[key] = self._version_after(key, done.writes, handout.version)
            else:
                self._state.reconciled.pop(key, None)
        elif done.outcome is Outcome.RETRY:
            delay = self._state.queue.retry(seat.name, key, id=identity, retry_after=done.retry_after, error=done.error)
            self._count(key, False, done, api)
            if delay is not None:
                self._state.clocks.delayed(key, self._state.clock.now() + delay)
        elif done.outcome is Outcome.PERMANENT:
            self._state.queue.done(seat.name, key, id=identity)
            self._count(key, False, done, api, permanent=True)
            self._state.reconciled[key] = handout.version
        else:
            self._state.queue.interrupted(seat.name, key, id=identity)
            self._state.clocks.returned(key)
        self._intake.judge(key, done.writes)
        self._intake.waits(key, done.waiting, handout.comebacks)
        settled = done.outcome is Outcome.PERMANENT or (done.outcome is Outcome.OK and not done.waiting)
        if not settled and done.outcome is not Outcome.INTERRUPTED:
            # Failing and waiting ones stay exceptions of the watermark, whatever brought them here.
            self._state.marks.due(key, key.cluster, self._state.kinds.get(key.controller, _NOTHING), handout.rv)
        self._state.marks.ended(key, settled)
        self._state.timelines.ended(
            key, _word(done), seconds=done.seconds, calls=done.calls, error=done.error, waiting=done.waiting
        )
        if delay is not None:
            self._state.timelines.delayed(key, seconds=delay, reason="retry" if done.error else "requeue_after")
        self._peers.reconciled(key)
        self._state.dispatch_soon()

    def _version_after(self, key: RequestKey, writes: list[Written], seen: int) -> int:
        """The version that counts as reconciled: the one handed out, or what the reconcile's own write made of it."""
        informer = (
            self._state.clusters[key.cluster].informers.get(self._state.kinds[key.controller])
            if key.cluster in self._state.clusters
            else None
        )
        obj = informer.store.get(key.namespace, key.name) if informer is not None else None
        if obj is not None and any(w.rv == obj.rv and w.uid == obj.meta.uid and w.cluster == key.cluster for w in writes):
            return obj.version
        return seen

    def _count(self, key: RequestKey, ok: bool, done: Done, api: float, permanent: bool = False) -> None:
        samples = self._state.clocks.done(key, ok, work=done.seconds, api=api, waiting=done.waiting, permanent=permanent)
        if samples:
            self._state.tracker.take(samples)

    def returned(self, seat: "WorkerSeat", identity: int) -> None:
        """A hand-out that its living worker does not know: it got lost on the way."""
        handout = self._open.pop(identity, None)
        if handout is not None:
            self._state.queue.interrupted(seat.name, handout.task.key, id=handout.item.id)
            self._state.clocks.returned(handout.task.key)
            self._intake.judge(handout.task.key, [])
            self._state.marks.ended(handout.task.key, False)

    def worker_lost(self, seat: "WorkerSeat", culprits: dict[int, str]) -> None:
        """The worker's process is dead for certain: its keys return, culprits with backoff."""
        for identity, error in culprits.items():
            handout = self._open.pop(identity, None)
            if handout is not None:
                key = handout.task.key
                delay = self._state.queue.retry(seat.name, key, id=handout.item.id, reason="worker_lost", error=error)
                self._state.clocks.done(key, False)
                self._state.clocks.delayed(key, self._state.clock.now() + (delay or 0.0))
                self._intake.judge(key, [])
                self._state.marks.ended(key, False)
                self._state.timelines.record(key, "failed", error=error, worker=seat.name)
        for key in self._state.queue.forget_worker(seat.name):
            self._state.clocks.returned(key)
            self._intake.judge(key, [])
            self._state.marks.ended(key, False)
            self._state.timelines.record(key, "returned", worker=seat.name, reason="its worker died")
        for identity in [identity for identity in seat.in_flight if identity in self._open]:
            del self._open[identity]
        self._state.dispatch_soon()


def why_held(worker: str, identity: int) -> str:
    """Why a key is held that another primary's hand-out still runs: one reason for each hand-out, since a key may have ended
    at one worker, and run at another or again, while neither has told of it."""
    return f"in work at {worker} ({identity})"


def _word(done: Done) -> str:
    if done.outcome is Outcome.OK:
        return "waiting" if done.waiting else "succeeded"
    return {Outcome.RETRY: "failed", Outcome.PERMANENT: "gave_up", Outcome.INTERRUPTED: "returned"}[done.outcome]


def _selects(route: KindRoutes, controller: ControllerPlan, obj: Obj) -> bool:
    for primary in route.primaries:
        if primary.controller.name == controller.name:
            return primary.selector is None or primary.selector.matches(obj.meta.labels)
    return True
