"""The simulation of one cluster: built from its spec, started and stopped as one."""

import asyncio
from typing import Any

from raycp.base.clock import Clock
from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.life.disruption import Disruption
from raycp.embedded.life.failures import Rates, plan
from raycp.embedded.life.gc import GarbageCollector
from raycp.embedded.life.gofuncs import node_ip, pod_ip
from raycp.embedded.life.logs import logs
from raycp.embedded.life.namespaces import NamespaceController
from raycp.embedded.life.nodes import STATE, Nodes, ready_status
from raycp.embedded.life.player import Player
from raycp.embedded.life.scheduler import Scheduler
from raycp.embedded.life.seams import Api, Object
from raycp.embedded.life.serviceaccounts import ServiceAccounts
from raycp.embedded.life.stageset import cluster_stages, stage_functions
from raycp.embedded.registry import Registry
from raycp.embedded.store import ObjectStore


class ClusterLife:
    """``await start()`` returns when nodes exist and all controllers are subscribed; ``await stop()`` cancels them.

    ``stages`` of the spec replace the shipped ones of the same kinds. The constructor raises ``StageError`` or ``OSError``
    for a stage file that can't be used.
    """

    def __init__(
        self, api: Api, store: ObjectStore, registry: Registry, spec: EmbeddedSpec, clock: Clock, ca_pem: str = ""
    ) -> None:
        self.spec = spec
        self.clock = clock
        self.logs = logs if spec.controllers.stages else None
        self._store = store
        self._pods = _table(registry, "pods")
        self._nodes_table = _table(registry, "nodes")
        self._rates = Rates(spec.startup_delay, spec.pod_runtime, spec.failure_rate, spec.seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._rendered: Object = {}
        on = spec.controllers
        self.gc = GarbageCollector(api, store, registry, clock) if on.gc else None
        self.namespaces = NamespaceController(api, store, registry, clock) if on.namespace else None
        self.accounts = ServiceAccounts(api, store, registry, clock, ca_pem) if on.serviceaccount else None
        self.disruption = Disruption(api, store, registry, clock) if on.disruption else None
        self.scheduler = Scheduler(api, store, registry, clock) if on.scheduler else None
        self.nodes = Nodes(api, store, registry, clock, spec.nodes, spec.node, spec.seed) if on.stages else None
        self.player = self._player(api, store, registry) if on.stages else None

    async def start(self) -> None:
        for part in (self.gc, self.namespaces, self.accounts, self.disruption, self.scheduler, self.player):
            if part is not None:
                part.start()
                self._tasks.append(asyncio.create_task(part.run(), name=f"life {type(part).__name__}"))
        if self.nodes is not None:
            self.nodes.on_state = self._node_state_changed
            await self.nodes.start()
            self._tasks.append(asyncio.create_task(self.nodes.run(), name="life Nodes"))

    async def stop(self) -> None:
        for part in (self.gc, self.namespaces, self.accounts, self.disruption, self.scheduler, self.player, self.nodes):
            if part is not None:
                part.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _player(self, api: Api, store: ObjectStore, registry: Registry) -> Player:
        stages = cluster_stages(self.spec, stage_functions(self.clock.wall, lambda: self._rendered))
        views = {"Pod": self._view_pod, "Node": self._view_node}
        return Player(api, store, registry, self.clock, stages, self.spec.seed, views, self._about_to_render)

    def _about_to_render(self, seen: Object) -> None:
        """kwok's functions without arguments (NodeName and the like), for the object that is being rendered."""
        self._rendered = seen

    # the views of stages

    def _view_pod(self, pod: Object) -> Object | None:
        node = (pod.get("spec") or {}).get("nodeName")
        if node and self.nodes is not None and not self.nodes.alive(node):
            return None  # a kubelet that is down does nothing
        nodeless = not self._nodes_table.count and not self.spec.nodes
        rates = (
            self._rates
            if not nodeless
            else Rates(
                self._rates.startup_delay,
                self._rates.pod_runtime,
                self._rates.failure_rate,
                self._rates.seed,
                nodeless=True,
            )
        )
        if not node and not nodeless and "deletionTimestamp" not in pod["metadata"]:
            return None  # not bound: no kubelet runs it yet
        meta = pod["metadata"]
        host = bool(pod["spec"].get("hostNetwork"))
        ip = pod_ip(node or "", host, meta.get("uid", ""), meta["name"], meta.get("namespace", ""))
        volatile = [ip, node_ip(node), node] if node else [ip]
        return {**pod, "raycp": {**plan(pod, rates), "ip": ip, "volatile": volatile}}

    def _view_node(self, node: Object) -> Object | None:
        assert self.nodes is not None
        state = (node["metadata"].get("annotations") or {}).get(STATE)
        about = {"alive": state is None, "ready": ready_status(node), "capacity": self.nodes.capacity}
        return {**node, "raycp": {**about, "volatile": [node_ip(node["metadata"]["name"])]}}

    def _node_state_changed(self, node: str) -> None:
        """Re-evaluate a node and its Pods after it went down or came back."""
        player = self.player
        if player is None:
            return
        player.requeue("nodes", "", node)
        name = b'"nodeName":"%s"' % node.encode()
        for record in self._pods.records(""):
            if name in record.raw:
                player.requeue("pods", record.ns, record.name)


def _table(registry: Registry, plural: str) -> Any:
    found = registry.named(plural)
    assert found is not None
    return found.table
