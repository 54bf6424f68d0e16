"""Binds Pods to nodes by capacity.

Of the nodes that can run a Pod (``fit.obstacle``) it picks the least loaded one of a sample, as kube-scheduler samples
large clusters. A Pod that fits no node gets PodScheduled=False and an Event, and is retried when a node or a Pod
changes. One of higher priority than others preempts them: they are deleted, and the node is nominated for it meanwhile.
"""

from typing import Any, NamedTuple

from raycp.base.clock import Clock
from raycp.embedded.errors import StatusError
from raycp.embedded.evictions import disruption_target
from raycp.embedded.life.events import Events
from raycp.embedded.life.fit import Asks, PodObject, Room, asks_of, decode_node, decode_pod, explain, obstacle, room_of
from raycp.embedded.life.preemption import Preemption, RunningPod, best, candidate
from raycp.embedded.life.seams import Api, Inbox, Tables, iso
from raycp.embedded.registry import Registry
from raycp.embedded.selectors import parse_label_dict
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject

NAME = "default-scheduler"
SAMPLE = 16
"""the number of fitting nodes of which the least loaded is picked"""


UNSCHEDULABLE = "embedded.raycp.io/unschedulable"
"""the annotation of a Pod that fits no node, for the reason that it names"""


class _Nominated(NamedTuple):
    """The node that is being cleared for a Pod."""

    node: str
    asks: Asks
    priority: int


class Scheduler:
    """``start()`` subscribes; ``run()`` works until cancelled. Without nodes it binds nothing: Pods run without a node."""

    def __init__(self, api: Api, store: ObjectStore, registry: Registry, clock: Clock) -> None:
        self.api = api
        self.clock = clock
        self.events = Events(api, clock, NAME)
        self.rooms: dict[str, Room] = {}
        self.inbox = Inbox(self._reconcile, clock)
        self._tables = Tables(store, registry)
        self._order: list[str] = []
        self._next = 0
        self._placed: dict[str, RunningPod] = {}
        """by the Pod's uid, including Pods on unknown nodes"""
        self._leaving: set[str] = set()
        """uids of placed Pods that are being deleted"""
        self._nominated: dict[tuple[str, str], _Nominated] = {}
        self._unschedulable: dict[tuple[str, str], str] = {}
        """messages of the Pods that fit no node"""

    def start(self) -> None:
        def node_changed(change: StoreChange) -> None:
            if change.type == "DELETED":
                if self.rooms.pop(change.record.name, None) is not None:
                    self._order.remove(change.record.name)
            else:
                self._take_node(change.record)
            self._retry()

        def pod_changed(change: StoreChange) -> None:
            if change.type == "DELETED":
                key = (change.record.ns, change.record.name)
                self._unschedulable.pop(key, None)
                freed = self._nominated.pop(key, None) is not None
                self._forget(change.record.uid)
                if freed:
                    self._retry()
            else:
                self._take_pod(change.record)

        nodes = self._tables.subscribe("nodes", node_changed)
        pods = self._tables.subscribe("pods", pod_changed)
        for record in nodes.records(""):
            self._take_node(record)
        for record in pods.records(""):
            self._take_pod(record)
        self._pods = pods

    def stop(self) -> None:
        self._tables.close()

    async def run(self) -> None:
        await self.inbox.run()

    def _retry(self) -> None:
        if self._unschedulable and self.rooms:
            self.inbox.put_all(self._unschedulable)

    def _take_node(self, record: StoredObject) -> None:
        room = room_of(decode_node(record.raw))
        old = self.rooms.get(record.name)
        if old is None:
            self._order.append(record.name)
            for placed in self._placed.values():
                if placed.node == record.name:
                    room.take(placed.asks)
        else:
            room.used, room.pods, room.ports = old.used, old.pods, old.ports
        self.rooms[record.name] = room
        if old is None and len(self.rooms) == 1:
            self._tables_waiting()

    def _tables_waiting(self) -> None:
        """Evaluate all Pods when the first node appears."""
        for record in self._tables.table("pods").records(""):
            self._take_pod(record)

    def _take_pod(self, record: StoredObject) -> None:
        raw = record.raw
        placed = self._placed.get(record.uid)
        if placed is not None and b'"phase":"Succeeded"' not in raw and b'"phase":"Failed"' not in raw:
            if b'"deletionTimestamp":"' in raw:
                self._leaving.add(record.uid)
            return
        pod = decode_pod(raw)
        if pod.status.phase in ("Succeeded", "Failed"):
            self._forget(record.uid)
        elif pod.spec.node_name:
            self._unschedulable.pop((record.ns, record.name), None)
            self._nominated.pop((record.ns, record.name), None)
            self._place(record, pod, pod.spec.node_name, asks_of(pod.spec))
        elif pod.spec.scheduler_name == NAME and not pod.metadata.deletion_timestamp and not pod.spec.scheduling_gates:
            self.inbox.put((record.ns, record.name))

    def _place(self, record: StoredObject, pod: PodObject, node: str, asks: Asks) -> None:
        if record.uid in self._placed:
            return
        start = pod.status.start_time or pod.metadata.creation_timestamp or ""
        self._placed[record.uid] = RunningPod(node, asks, record.uid, record.ns, record.name, pod.spec.priority, start)
        room = self.rooms.get(node)
        if room is not None:
            room.take(asks)

    def _forget(self, uid: str) -> None:
        placed = self._placed.pop(uid, None)
        self._leaving.discard(uid)
        if placed is None:
            return
        room = self.rooms.get(placed.node)
        if room is not None:
            room.free(placed.asks)
            self._retry()

    async def _reconcile(self, key: tuple[str, str]) -> float | None:
        record = self._pods.get(*key)
        if record is None or not self.rooms:
            return None
        pod = decode_pod(record.raw)
        if pod.spec.node_name or pod.metadata.deletion_timestamp or pod.status.phase not in ("", "Pending"):
            self._unschedulable.pop(key, None)
            return None
        asks = asks_of(pod.spec)
        told = (pod.metadata.annotations or {}).get(UNSCHEDULABLE)
        node: str | None = None
        obstacles: dict[str, int] = {told or "node(s) were unschedulable": len(self.rooms)}
        if told is None:
            node, obstacles = self._find(key, pod, asks)
        if node is None:
            chosen = self._preempt(key, pod, asks) if told is None else None
            message = explain(len(self.rooms), obstacles)
            await self._report_unschedulable(key, record, message, chosen.node if chosen is not None else "")
            if chosen is not None and not await self._remove(chosen, record):
                self.inbox.put(key)  # a victim changed meanwhile: choose again
            return None
        self._unschedulable.pop(key, None)
        self._nominated.pop(key, None)
        self._place(record, pod, node, asks)
        try:
            await self._bind(key, record, node)
        except StatusError as error:
            self._forget(record.uid)
            if error.code not in (404, 409):
                raise
        return None

    def _obstacle(self, key: tuple[str, str], room: Room, pod: PodObject, asks: Asks) -> str | None:
        """Why the node can't run the Pod, also beside the Pods of no lower priority that it is nominated for."""
        others = [
            one.asks
            for other, one in self._nominated.items()
            if one.node == room.name and other != key and one.priority >= pod.spec.priority
        ]
        ports = set(room.ports)  # a port may be that of a Pod which is being removed, too
        for one in others:
            room.take(one)
        try:
            return obstacle(room, pod.spec, asks)
        finally:
            for one in others:
                room.free(one)
            room.ports = ports

    def _preempt(self, key: tuple[str, str], pod: PodObject, asks: Asks) -> Preemption | None:
        """The node to clear for the Pod; None if it may preempt none, or waits for the one that is being cleared."""
        if pod.spec.preemption_policy == "Never":
            return None
        by_node: dict[str, list[RunningPod]] = {}
        for one in self._placed.values():
            if one.priority < pod.spec.priority:
                by_node.setdefault(one.node, []).append(one)
        own = self._nominated.get(key)
        if own is not None and any(one.uid in self._leaving for one in by_node.get(own.node, ())):
            return None
        breaks = self._budgets() if by_node else None
        found = []
        for name, placed in by_node.items():
            room = self.rooms.get(name)
            if room is not None and breaks is not None:
                made = candidate(room, pod.spec, asks, placed, breaks)
                if made is not None:
                    found.append(made)
        chosen = best(found)
        if chosen is not None:
            self._nominated[key] = _Nominated(chosen.node, asks, pod.spec.priority)
        return chosen

    def _budgets(self) -> Any:
        """Which of some Pods no PodDisruptionBudget lets go, if they go in their order."""
        table = self._tables.table("poddisruptionbudgets.policy")
        budgets = [record.decode() for record in table.records("")]

        def breaks(pods: list[RunningPod]) -> list[bool]:
            left = [(one.get("status") or {}).get("disruptionsAllowed") or 0 for one in budgets]
            found = []
            for pod in pods:
                record = self._pods.get(pod.ns, pod.name)
                bad = False
                for index, one in enumerate(budgets):
                    selector = (one.get("spec") or {}).get("selector")
                    if record is None or not selector or one["metadata"].get("namespace") != pod.ns:
                        continue
                    if parse_label_dict(selector)(record.labels):
                        left[index] -= 1
                        bad = bad or left[index] < 0
                found.append(bad)
            return found

        return breaks

    async def _remove(self, chosen: Preemption, preemptor: StoredObject) -> bool:
        """Mark the victims as disrupted, and delete them. One that is gone meanwhile needs nothing. False if one was not deleted
        because it changed."""
        done = True
        for one in chosen.victims:
            record = self._pods.get(one.ns, one.name)
            if record is None or record.uid != one.uid:
                continue
            pod = record.decode()
            condition = {"reason": "PreemptionByScheduler", "message": f"{NAME}: preempting to accommodate a higher priority pod"}
            disruption_target(pod, condition, iso(self.clock.wall()))
            try:
                await self.api.update("pods", pod, subresource="status")
                self.events.record(pod, "Normal", "Preempted", f"Preempted by pod {preemptor.uid} on node {chosen.node}")
                await self.api.delete("pods", one.ns, one.name, uid=one.uid)
            except StatusError as error:
                if error.code not in (404, 409):
                    raise
                done = done and error.code == 404
        return done

    def _find(self, key: tuple[str, str], pod: PodObject, asks: Asks) -> tuple[str | None, dict[str, int]]:
        """The least loaded of the first ``SAMPLE`` nodes that fit, in round-robin order."""
        obstacles: dict[str, int] = {}
        best: Room | None = None
        least, fitting, count = 2.0, 0, len(self._order)
        start = self._next % count
        for i in range(count):
            room = self.rooms[self._order[(start + i) % count]]
            why = self._obstacle(key, room, pod, asks) if self._nominated else obstacle(room, pod.spec, asks)
            if why is not None:
                obstacles[why] = obstacles.get(why, 0) + 1
                continue
            fitting += 1
            load = room.load()
            if load < least:
                best, least = room, load
            if fitting >= SAMPLE:
                self._next = start + i + 1
                break
        return (best.name if best is not None else None), obstacles

    async def _bind(self, key: tuple[str, str], record: StoredObject, node: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": key[1], "namespace": key[0], "uid": record.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self.api.create("pods", binding, key[0], subresource="binding", name=key[1])

    async def _report_unschedulable(self, key: tuple[str, str], record: StoredObject, message: str, nominated: str) -> None:
        """Write PodScheduled=False with the reason and the node that is ``nominated``, and an Event, unless the Pod has them
        already."""
        if self._unschedulable.get(key) == message and not nominated:
            return
        self._unschedulable[key] = message
        obj = record.decode()
        status = obj.setdefault("status", {})
        conditions = status.setdefault("conditions", [])
        old = next((c for c in conditions if c["type"] == "PodScheduled"), None)
        if nominated:
            status["nominatedNodeName"] = nominated
        if old is None or old.get("message") != message or nominated:
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": (old or {}).get("lastTransitionTime") or iso(self.clock.wall()),
                "reason": "Unschedulable",
                "message": message,
            }
            if old is None:
                conditions.append(condition)
            else:
                conditions[conditions.index(old)] = condition
            try:
                await self.api.update("pods", obj, subresource="status")
            except StatusError as error:
                self._unschedulable.pop(key, None)
                if error.code == 409:
                    self.inbox.put(key)
                elif error.code != 404:
                    raise
                return
        self.events.record(obj, "Warning", "FailedScheduling", message)
