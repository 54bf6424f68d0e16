"""From a pulled key to a task at its worker: with its object, its children, and the epoch and term of the hand-out.

What has more than ``INLINE`` bytes stays here (``read_pages``): the worker reads it in pages when it has room. An object that fits
in no frame, and children that are more than a reconcile is given, go to no worker: the task says so (``Task.refused``), and the
worker reports it where users look.

Whatever fails on the way is an error of that key alone.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

import msgspec

from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Obj
from raycp.base.selections import selection_of
from raycp.base.tasks import FOREIGN_SHOWN, Child, Done, Outcome, Task
from raycp.base.text import message_of
from raycp.protocol.frames import LARGEST, LARGEST_TASK, PAGE, Tasks, Unsendable, pages, task_token
from raycp.protocol.plan import ControllerPlan
from raycp.protocol.transport import Connection
from raycp.queueing import Item
from raycp.shard.caches import Caches
from raycp.shard.change_traces import ChangeTraces
from raycp.shard.identity import ShardIdentity
from raycp.shard.ledger import Ledger
from raycp.shard.owned_objects import names_of, owned_objects
from raycp.shard.read_pages import ReadPages, size_of
from raycp.shard.routes import KindRoutes, Routes
from raycp.shard.tokens import Tokens
from raycp.shard.watches import Watches

log = logging.getLogger(__name__)

INLINE = PAGE // 4
"""Bytes of object and children that travel with their task: a worker is sent so much for each of its slots, and the rest as it asks
for it."""


class TaskMaker:
    """One shard's."""

    def __init__(
        self, identity: ShardIdentity, routes: Routes, caches: Caches, ledger: Ledger, watches: Watches, pages: ReadPages
    ) -> None:
        self._identity = identity
        self._routes = routes
        self._caches = caches
        self._ledger = ledger
        self._watches = watches
        self._pages = pages
        self.traces: ChangeTraces | None = None
        """Where traces are exported."""
        self.queue_of: dict[str, Callable[[Obj], str]] = {}
        """By controller, the queue that admits an object's work (``Task.queue``); of those whose work a scheduler admits."""

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
        foreign: list[str] = []
        if obj is not None:
            for place in self._routes.children.get((key.controller, key.cluster), ()):
                kind = str(place.kind)
                for cluster in place.clusters:
                    there = self._caches.informer(cluster, place.kind)
                    if there is None or not there.synced:
                        unknown.append(cluster)
                    if there is None:
                        continue
                    meta, here = obj.meta, cluster == key.cluster
                    found, claims = owned_objects(there.store, meta.uid, references=here, namespace=meta.namespace)
                    children.extend([Child(cluster, kind, child.raw) for child in found])
                    if claims and self._routes.marks is None:
                        unknown.append(cluster)
                    elif claims:
                        foreign += names_of(cluster, claims)
        kind_of = self._routes.kind_of[key.controller]
        return self._started(worker, item, obj, kind_of, children, sorted(set(unknown)), foreign[:FOREIGN_SHOWN])

    def _mapping(self, worker: str, item: Item) -> Task | None:
        """The task of a watched object, whose map function is to run; None where its controller has no such watch any more."""
        found = self._watches.watched(item.key)
        if found is None:
            return None
        kind, obj = found
        states = [Child(item.key.cluster, str(kind), raw) for raw in self._watches.handed_out(item.key, kind)]
        return self._started(worker, item, obj, kind, states, [], [])

    def _started(
        self,
        worker: str,
        item: Item,
        obj: Obj | None,
        kind: GVK,
        children: list[Child],
        unknown: list[str],
        foreign: list[str],
    ) -> Task:
        identity, raw = self.identity_of(item), obj.raw if obj is not None else None
        rest, partial, refused = 0, False, ""
        size = 0 if raw is None else len(raw)
        if children:
            size += size_of(children)
        if size > INLINE:
            refused = _too_large(raw, children, size)
            partial = not refused and raw is not None and len(raw) > INLINE
            if partial and raw is not None:
                children.insert(0, Child(item.key.cluster, "", raw))
            if obj is not None and (refused or partial):
                raw = _head(obj, kind)
            rest = 0 if refused else size_of(children)
        task = Task(
            identity,
            item.key,
            item.tier,
            item.reason,
            item.attempt,
            self._identity.epoch,
            self._identity.shard,
            self._identity.term,
            obj.version if obj is not None else 0,
            item.waited,
            raw,
            [] if rest or refused else children,
            unknown,
            fleet=self._routes.sequence,
            rest=rest,
            partial=partial,
            refused=refused,
            foreign=foreign,
            orphans=item.key in self._ledger.notes.orphaning,
            queue=self._queue(item.key.controller, obj) if self.queue_of and obj is not None else "",
            change=self.traces.handed_out(item, identity, worker) if self.traces is not None else "",
        )
        if rest:
            self._pages.keep(worker, task_token(identity), children)
        self._ledger.started(worker, item, task, obj.rv if obj is not None else 0)
        return task

    def _queue(self, controller: str, obj: Obj) -> str:
        asks = self.queue_of.get(controller)
        return asks(obj) if asks is not None else ""

    def exists(self, key: RequestKey) -> bool:
        """Whether the object of ``key``, or the watched object that it stands for, is cached."""
        if selection_of(key) is None:
            return self._caches.object(key) is not None
        found = self._watches.watched(key)
        return found is not None and found[1] is not None

    def identity_of(self, item: Item) -> int:
        """The id of the task that is made of ``item``: ids rise, over the shard's terms too."""
        return item.id | self._identity.term << 40

    def version_after(self, done: Done) -> int | None:
        """The version of the key's object as the reconcile's own writes left it; None where they left it as it was."""
        return self._caches.version_after(done.key, done.writes)


class TaskedSeat(Protocol):
    """A worker, as hand-outs need it: see ``dispatcher.WorkerSeat``."""

    name: str
    credit: int
    in_flight: dict[int, int]
    connection: Connection | None


S = TypeVar("S", bound=TaskedSeat)


class HandOuts(Generic[S]):
    """Pulled keys on their way to a worker. ``ended`` is called for a task that was made and can't be sent, with the error."""

    def __init__(
        self,
        ledger: Ledger,
        tasks: TaskMaker,
        tokens: Tokens,
        rests: ReadPages,
        ended: Callable[[S, Done], None],
    ) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._tokens = tokens
        self._rests = rests
        self._ended = ended

    def send(self, seat: S, items: Iterable[Item]) -> None:
        """Hand out ``items``, which were pulled for ``seat``."""
        tasks: list[Task] = []
        weight = 0
        for item in items:
            try:
                task = self._tasks.make(seat.name, item)
                if task is None:
                    self._ledger.dropped(seat.name, item)
                    continue
                if self._tokens.active:
                    self._tokens.lend(seat.name, task)
            except Exception as error:
                self._not_started(seat, item, error)
                continue
            tasks.append(task)
            if task.raw is not None:
                weight += len(task.raw)
            if task.children:
                weight += size_of(task.children)
        if tasks:
            self._send(seat, tasks, weight)

    def _send(self, seat: S, tasks: list[Task], weight: int) -> None:
        """Send, in frames that fit. What may have reached the worker counts as handed out, whatever fails: it is never handed out
        again before the worker says that it does not have it."""
        refused: dict[int, Done] = {}

        def refuse(task: Task, why: str) -> None:
            refused[task.id] = Done(task.id, task.key, Outcome.RETRY, 0.0, error=why, unused=task.tokens)

        connection = seat.connection
        try:
            if connection is not None and (weight > PAGE or not _sent(connection, tasks)):
                for body in pages(tasks, lambda part, last: Tasks(list(part)), _weigh, refuse):
                    connection.write(body)
        finally:
            number = connection.sent if connection is not None else 0
            for task in tasks:
                if task.id not in refused:
                    seat.in_flight[task.id] = number
                    seat.credit -= 1
        for done in refused.values():
            log.error("%s could not be handed out: %s", done.key, done.error)
            self._ended(seat, done)

    def _not_started(self, seat: S, item: Item, error: Exception) -> None:
        log.exception("no task could be made of %s", item.key)
        identity = self._tasks.identity_of(item)
        self._rests.drop(seat.name, task_token(identity))
        self._ledger.not_started(seat.name, item, identity, f"internal: {message_of(error)}")


def _sent(connection: Connection, tasks: list[Task]) -> bool:
    """Whether all fit into one frame, and were sent in it."""
    try:
        connection.send(Tasks(tasks))
    except Unsendable:
        return False
    return True


def _selects(route: KindRoutes, controller: ControllerPlan, obj: Obj) -> bool:
    for primary in route.primaries:
        if primary.controller.name == controller.name:
            return primary.selector is None or primary.selector.matches(obj.meta.labels)
    return True


def _too_large(raw: bytes | None, children: list[Child], size: int) -> str:
    """Why a reconcile can't be given this object and these children, of ``size`` bytes together; empty where it can."""
    if raw is not None and len(raw) > LARGEST:
        return f"the object has {_mebibytes(len(raw))}; the largest that is handed to a worker has {_mebibytes(LARGEST)}"
    large = next((child for child in children if len(child.raw) > LARGEST), None)
    if large is not None:
        what = f"a child, a {large.kind} in cluster {large.cluster}, has {_mebibytes(len(large.raw))}"
        return f"{what}; the largest that is handed to a worker has {_mebibytes(LARGEST)}"
    if size > LARGEST_TASK:
        what = f"the object and its {len(children)} children have {_mebibytes(size)}"
        return f"{what}; a reconcile is given {_mebibytes(LARGEST_TASK)} at most"
    return ""


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _head(obj: Obj, kind: GVK) -> bytes:
    """What an Event needs of an object that is not sent."""
    meta = obj.meta
    named = {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "resourceVersion": meta.resource_version}
    return msgspec.json.encode({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": named})


def _weigh(task: Task) -> int:
    weight = 256 if task.raw is None else 256 + len(task.raw)
    return weight + size_of(task.children) if task.children else weight
