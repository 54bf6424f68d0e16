"""Binds Pods to nodes by capacity.

Of the nodes that can run a Pod (``fit.obstacle``) it picks the least loaded one of a sample, as kube-scheduler samples
large clusters. A Pod that fits no node gets PodScheduled=False and an Event, and is retried when a node or a Pod
changes.
"""

from typing import NamedTuple

from raycp.base.clock import Clock
from raycp.embedded.errors import StatusError
from raycp.embedded.life.events import Events
from raycp.embedded.life.fit import Asks, PodObject, Room, asks_of, decode_node, decode_pod, explain, obstacle, room_of
from raycp.embedded.life.seams import Api, Inbox, Tables, iso
from raycp.embedded.registry import Registry
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject

NAME = "default-scheduler"
SAMPLE = 16
"""the number of fitting nodes of which the least loaded is picked"""


class _Placed(NamedTuple):
    node: str
    asks: Asks


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
        self._placed: dict[str, _Placed] = {}
        """by the Pod's uid, including Pods on unknown nodes"""
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
                self._unschedulable.pop((change.record.ns, change.record.name), None)
                self._forget(change.record.uid)
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
            return
        pod = decode_pod(raw)
        if pod.status.phase in ("Succeeded", "Failed"):
            self._forget(record.uid)
        elif pod.spec.node_name:
            self._unschedulable.pop((record.ns, record.name), None)
            self._place(record.uid, pod.spec.node_name, asks_of(pod.spec))
        elif pod.spec.scheduler_name == NAME and not pod.metadata.deletion_timestamp and not pod.spec.scheduling_gates:
            self.inbox.put((record.ns, record.name))

    def _place(self, uid: str, node: str, asks: Asks) -> None:
        if uid in self._placed:
            return
        self._placed[uid] = _Placed(node, asks)
        room = self.rooms.get(node)
        if room is not None:
            room.take(asks)

    def _forget(self, uid: str) -> None:
        placed = self._placed.pop(uid, None)
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
        node, obstacles = self._find(pod, asks)
        if node is None:
            await self._report_unschedulable(key, record, explain(len(self.rooms), obstacles))
            return None
        self._unschedulable.pop(key, None)
        self._place(record.uid, node, asks)
        try:
            await self._bind(key, record, node)
        except StatusError as error:
            self._forget(record.uid)
            if error.code not in (404, 409):
                raise
        return None

    def _find(self, pod: PodObject, asks: Asks) -> tuple[str | None, dict[str, int]]:
        """The least loaded of the first ``SAMPLE`` nodes that fit, in round-robin order."""
        obstacles: dict[str, int] = {}
        best: Room | None = None
        least, fitting, count = 2.0, 0, len(self._order)
        start = self._next % count
        for i in range(count):
            room = self.rooms[self._order[(start + i) % count]]
            why = obstacle(room, pod.spec, asks)
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

    async def _report_unschedulable(self, key: tuple[str, str], record: StoredObject, message: str) -> None:
        """Write PodScheduled=False with the reason, and an Event, unless the Pod has this message already."""
        if self._unschedulable.get(key) == message:
            return
        self._unschedulable[key] = message
        obj = record.decode()
        status = obj.setdefault("status", {})
        conditions = status.setdefault("conditions", [])
        old = next((c for c in conditions if c["type"] == "PodScheduled"), None)
        if old is None or old.get("message") != message:
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
