"""``CapacityWatch``: nodes and Pods of one member, watched while the scheduler wants to know them, as a ``CapacitySummary``.

These are all nodes and all Pods, of other owners too, apart from those that have ended; their objects are in the memory of the
member's shard for that long (``limits.memory``). What the member does not let the fleet list is not known.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from raycp.base.clock import Clock
from raycp.base.events import Event
from raycp.base.keys import GVK
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.cache import Reflector, ReflectorOptions, Store
from raycp.cache.memory import CacheMemory
from raycp.kube import ClusterClient
from raycp.scheduler.nodes import read_node, read_pod_state
from raycp.scheduling.accumulator import ClusterCapacity
from raycp.scheduling.capacity import CapacitySummary

NODES, PODS = GVK.parse("v1/Node"), GVK.parse("v1/Pod")
_NOT_ENDED = "status.phase!=Succeeded,status.phase!=Failed"


class CapacityWatch:
    """One member's. ``changed`` is called when its summary may be another one."""

    def __init__(self, cluster: str, clock: Clock, loops: Loops, memory: CacheMemory, changed: Callable[[], None]) -> None:
        self.client: ClusterClient | None = None
        self._cluster = cluster
        self._clock = clock
        self._loops = loops
        self._memory = memory
        self._changed = changed
        self._capacity = ClusterCapacity(cluster)
        self._reflectors: dict[GVK, Reflector] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def summary(self) -> CapacitySummary | None:
        """What is known; None before nodes and Pods are listed, and while they can't be."""
        if not self._reflectors or not all(each.synced.is_set() for each in self._reflectors.values()):
            return None
        return self._capacity.summary()

    @property
    def reason(self) -> str:
        """Why it is not known; empty where it is, or will be soon."""
        for kind, reflector in self._reflectors.items():
            status = reflector.status()
            if not status.synced and status.last_error:
                return f"{kind}: {status.last_error}; declare its nodes in the fleet file (`capacity`)"
        return ""

    def start(self, client: ClusterClient) -> None:
        """Watch over this connection from now on."""
        self.stop()
        self.client = client
        self._capacity = ClusterCapacity(self._cluster)
        for kind, handle, fields in ((NODES, self._node, ""), (PODS, self._pod, _NOT_ENDED)):
            reflector = Reflector(
                client,
                kind,
                Store(),
                partial(self._handled, handle),
                self._clock,
                field_selector=fields,
                options=ReflectorOptions(check_identity=False),
                memory=self._memory,
            )
            self._reflectors[kind] = reflector
            owner = ProblemOwner(cluster=self._cluster, kind=str(kind))
            self._tasks.append(self._loops.supervise(reflector.run, LoopName.CAPACITY, owner))
            self._tasks.append(self._loops.spawn(self._when_synced(reflector), f"first list of {kind} for the scheduler"))

    def stop(self) -> None:
        """Watch no longer."""
        for task in self._tasks:
            task.cancel()
        for reflector in self._reflectors.values():
            self._memory.drop(reflector.store)
        self._tasks, self._reflectors, self.client = [], {}, None

    async def _when_synced(self, reflector: Reflector) -> None:
        await reflector.synced.wait()
        self._changed()

    def _handled(self, handle: Callable[[Event], None], events: list[Event]) -> None:
        for event in events:
            handle(event)
        self._changed()

    def _node(self, event: Event) -> None:
        state = read_node(event.new) if event.new is not None else None
        if state is None:
            self._capacity.remove_node(event.obj.meta.name)
        else:
            self._capacity.set_node(event.obj.meta.name, state)

    def _pod(self, event: Event) -> None:
        state = read_pod_state(event.new) if event.new is not None else None
        if state is None:
            self._capacity.remove_pod(event.obj.meta.uid)
        else:
            self._capacity.set_pod(event.obj.meta.uid, state)


encode_summary = msgspec.msgpack.Encoder().encode
decode_summary = msgspec.msgpack.Decoder(CapacitySummary).decode
"""A summary on its way from shard to shard."""
