"""Simulated nodes: they renew their Lease, and can fail.

The nodes of the spec are created at start; nodes that clients create are simulated as well. A node with the annotation
``embedded.raycp.io/state: down`` (or after ``fail(name)``) stops renewing its Lease. After ``GRACE`` its conditions
become Unknown, it is tainted unreachable, and its Pods are evicted when their tolerations expire, as
kube-controller-manager's node lifecycle controller does. ``state: not-ready`` is a running kubelet that reports
Ready=False.
"""

import asyncio
import heapq
import random
from collections.abc import Callable
from typing import Any

from raycp.base.clock import Clock
from raycp.config.embedded import NodeShape
from raycp.embedded.errors import StatusError
from raycp.embedded.life.failures import PREFIX
from raycp.embedded.life.fit import Taint, decode_node, decode_pod, tolerated
from raycp.embedded.life.seams import Api, Inbox, Object, Tables, iso, iso_micro, unix
from raycp.embedded.registry import Registry
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject

STATE = PREFIX + "state"
LEASES = "leases.coordination.k8s.io"
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
RENEW = 10.0
"""seconds between renewals: a quarter of the lease duration, as in kubelet"""
GRACE = 40.0
"""seconds from the last renewal until a node's conditions become Unknown (node-monitor-grace-period)"""
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


def taints_for(ready: str, old: list[Object], now: str) -> list[Object]:
    """The taints of a node whose Ready condition is ``ready`` (True, False, Unknown); foreign taints are kept."""
    wanted = {"True": None, "False": NOT_READY}.get(ready, UNREACHABLE)
    kept = [t for t in old if t.get("key") not in (NOT_READY, UNREACHABLE) or t.get("key") == wanted]
    if wanted is not None:
        have = {t["effect"] for t in kept if t.get("key") == wanted}
        if "NoSchedule" not in have:
            kept.append({"key": wanted, "effect": "NoSchedule", "timeAdded": now})
        if "NoExecute" not in have:
            kept.append({"key": wanted, "effect": "NoExecute", "timeAdded": now})
    return kept


class Nodes:
    """``start()`` creates the nodes; ``run()`` renews their Leases until cancelled."""

    def __init__(
        self, api: Api, store: ObjectStore, registry: Registry, clock: Clock, count: int, shape: NodeShape, seed: int = 0
    ) -> None:
        self.api = api
        self.clock = clock
        self.count = count
        self.shape = shape
        self.inbox = Inbox(self._reconcile, clock)
        self._rng = random.Random(f"nodes/{seed}")
        self._tables = Tables(store, registry)
        self._heap: list[tuple[float, str]] = []
        self._known: set[str] = set()
        self._wake = asyncio.Event()
        self._evictions: set[asyncio.Task[None]] = set()
        self.down: set[str] = set()
        """names of the nodes that are down"""
        self.on_state: Callable[[str], None] = lambda name: None
        """called with each node that goes down or comes back"""

    @property
    def capacity(self) -> dict[str, str]:
        return {"cpu": self.shape.cpu, "memory": self.shape.memory, "pods": str(self.shape.pods)}

    async def start(self) -> None:
        def changed(change: StoreChange) -> None:
            if change.type == "DELETED":
                self._known.discard(change.record.name)
                self.down.discard(change.record.name)
            else:
                self._seen(change.record)

        table = self._tables.subscribe("nodes", changed)
        for record in table.records(""):
            self._seen(record)
        for i in range(self.count):
            if table.get("", f"node-{i}") is None:
                await self.api.create("nodes", self._node(f"node-{i}"))
            if i % 64 == 63:
                await asyncio.sleep(0)

    def stop(self) -> None:
        self._tables.close()
        for task in self._evictions:
            task.cancel()

    def alive(self, name: str) -> bool:
        return name not in self.down

    async def fail(self, name: str) -> None:
        """Take a node down, as a power or network failure does. Raises ``StatusError`` 404."""
        await self._set_state(name, "down")

    async def recover(self, name: str) -> None:
        await self._set_state(name, None)

    async def _set_state(self, name: str, state: str | None) -> None:
        node = self._tables.read("nodes", "", name)
        if node is None:
            raise StatusError(404, "NotFound", f'nodes "{name}" not found')
        notes = node["metadata"].setdefault("annotations", {})
        notes.pop(STATE, None)
        if state is not None:
            notes[STATE] = state
        await self.api.update("nodes", node)

    def _node(self, name: str) -> Object:
        node: Object = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    **self.shape.labels,
                },
            },
            "spec": {},
            "status": {"capacity": self.capacity, "allocatable": self.capacity},
        }
        if self.shape.taints:
            node["spec"]["taints"] = [dict(taint) for taint in self.shape.taints]
        return node

    def _seen(self, record: StoredObject) -> None:
        if record.name not in self._known:
            self._known.add(record.name)
            heapq.heappush(self._heap, (self.clock.now(), record.name))
            self._wake.set()
        self.inbox.put(record.name)

    async def run(self) -> None:
        reconciling = asyncio.create_task(self.inbox.run())
        try:
            await self._renew_for_ever()
        finally:
            reconciling.cancel()

    async def _renew_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            until = loop.time() + Inbox.SLICE
            while self._heap and self._heap[0][0] <= self.clock.now() + 1e-9:
                _, name = heapq.heappop(self._heap)
                if name not in self._known:
                    continue
                if name not in self.down:
                    try:
                        await self._renew(name)
                    except StatusError:
                        pass  # the next renewal is due soon
                heapq.heappush(self._heap, (self.clock.now() + RENEW * self._rng.uniform(0.96, 1.04), name))
                if loop.time() > until:
                    await asyncio.sleep(0)
                    until = loop.time() + Inbox.SLICE
            if not self._heap:
                await self._wake.wait()
            else:
                await self._sleep(self._heap[0][0] - self.clock.now())

    async def _sleep(self, seconds: float) -> None:
        waits = [asyncio.create_task(self._wake.wait()), asyncio.ensure_future(self.clock.sleep(max(0.0, seconds)))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _renew(self, name: str) -> None:
        now = iso_micro(self.clock.wall())
        lease = self._tables.read(LEASES, LEASE_NAMESPACE, name)
        if lease is not None:
            lease["spec"]["renewTime"] = now
            await self.api.update(LEASES, lease)
            return
        node = self._tables.table("nodes").get("", name)
        if node is None:
            return
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.uid}
        await self.api.create(
            LEASES,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
            },
            LEASE_NAMESPACE,
        )

    # node lifecycle

    async def _reconcile(self, name: str) -> float | None:
        node = self._tables.read("nodes", "", name)
        if node is None:
            return None
        state = (node["metadata"].get("annotations") or {}).get(STATE)
        if (state == "down") is not (name in self.down):
            (self.down.add if state == "down" else self.down.discard)(name)
            self.on_state(name)
        wait: float | None = None
        if state == "down":
            left = self._last_renewed(name) + GRACE - self.clock.wall()
            if left > 0:
                return left
            node = await self._conditions(node, "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
        elif state == "not-ready":
            node = await self._conditions(node, "False", "KubeletNotReady", "the node is set not ready by an annotation")
        ready = ready_status(node)
        if ready:
            await self._taint(node, ready)
            if ready != "True":
                self._evict(name)
        return wait

    def _last_renewed(self, name: str) -> float:
        lease = self._tables.read(LEASES, LEASE_NAMESPACE, name)
        return unix(lease["spec"]["renewTime"]) if lease is not None else self.clock.wall()

    async def _conditions(self, node: Object, status: str, reason: str, message: str) -> Object:
        """Set Ready to ``status``; Unknown sets all conditions."""
        conditions: list[Any] = (node.get("status") or {}).get("conditions") or []
        changed = False
        for condition in conditions:
            if condition["status"] != status and (condition["type"] == "Ready" or status == "Unknown"):
                condition.update(status=status, reason=reason, message=message, lastTransitionTime=iso(self.clock.wall()))
                changed = True
        return await self.api.update("nodes", node, subresource="status") if changed else node

    async def _taint(self, node: Object, ready: str) -> None:
        spec = node.setdefault("spec", {})
        old = spec.get("taints") or []
        new = taints_for(ready, old, iso(self.clock.wall()))
        if new != old:
            spec["taints"] = new
            if not new:
                del spec["taints"]
            await self.api.update("nodes", node)

    def _evict(self, node: str) -> None:
        """Evict the Pods of a node that is not ready as their tolerations expire."""
        if any(task.get_name() == f"evict {node}" for task in self._evictions):
            return
        task = asyncio.get_running_loop().create_task(self._evict_slowly(node), name=f"evict {node}")
        self._evictions.add(task)
        task.add_done_callback(self._evictions.discard)

    async def _evict_slowly(self, node: str) -> None:
        begin = self.clock.wall()
        while True:
            record = self._tables.table("nodes").get("", node)
            taints = decode_node(record.raw).spec.taints or [] if record is not None else []
            taints = [t for t in taints if t.effect == "NoExecute"]
            if not taints:
                return
            nearest: float | None = None
            for pod in self._tables.table("pods").records(""):
                if b'"nodeName":"%s"' % node.encode() not in pod.raw:
                    continue
                seconds = patience(pod.raw, taints)
                if seconds is None:
                    continue
                left = begin + seconds - self.clock.wall()
                if left <= 0:
                    try:
                        await self.api.delete("pods", pod.ns, pod.name, uid=pod.uid)
                    except StatusError:
                        pass
                else:
                    nearest = left if nearest is None else min(nearest, left)
            await self.clock.sleep(min(nearest, 5.0) if nearest is not None else 5.0)


def patience(raw: bytes, taints: list[Taint]) -> float | None:
    """Seconds that a Pod may stay on a node with these NoExecute taints; None: no limit, or already terminating."""
    pod = decode_pod(raw)
    if pod.metadata.deletion_timestamp:
        return None
    shortest: float | None = None
    for taint in taints:
        covering = [t for t in pod.spec.tolerations or () if tolerated(taint, [t])]
        if not covering:
            return 0.0
        limits = [float(max(0, t.toleration_seconds)) for t in covering if t.toleration_seconds is not None]
        if limits:
            shortest = min(limits) if shortest is None else min(shortest, *limits)
    return shortest


def ready_status(node: Object) -> str:
    """The status of a node's condition Ready: True, False, Unknown, or empty."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((str(condition["status"]) for condition in conditions if condition["type"] == "Ready"), "")
