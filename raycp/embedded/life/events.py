"""Events of the simulation, as ``kubectl describe`` shows them; repeated ones increment a count."""

import asyncio
from collections import OrderedDict

from raycp.base.clock import Clock
from raycp.embedded.errors import StatusError
from raycp.embedded.life.seams import Api, Object, iso

REMEMBERED = 4096
"""the number of (object, reason, message) whose repetitions are counted"""


class Events:
    """Writes ``v1`` Events as kubelet and scheduler do; a failed write is dropped."""

    def __init__(self, api: Api, clock: Clock, component: str = "kubelet") -> None:
        self.api = api
        self.clock = clock
        self.component = component
        self._known: OrderedDict[tuple[str, str, str], Object] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()
        self._count = 0

    def record(self, obj: Object, type_: str, reason: str, message: str) -> None:
        """Write an Event in a later turn of the event loop."""
        task = asyncio.get_running_loop().create_task(self._write(obj, type_, reason, message))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, obj: Object, type_: str, reason: str, message: str) -> None:
        meta = obj["metadata"]
        key = (meta["uid"], reason, message)
        now = iso(self.clock.wall())
        known = self._known.get(key)
        try:
            if known is not None:
                known = {**known, "count": known["count"] + 1, "lastTimestamp": now}
                known["metadata"] = {k: v for k, v in known["metadata"].items() if k != "resourceVersion"}
                self._known[key] = await self.api.update("events", known)
                return
            self._count += 1
            namespace = meta.get("namespace") or "default"
            event: Object = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": f"{meta['name']}.{int(self.clock.wall() * 1e6):016x}{self._count & 0xFFFF:04x}"[:253],
                    "namespace": namespace,
                },
                "involvedObject": {
                    "apiVersion": obj["apiVersion"],
                    "kind": obj["kind"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "resourceVersion": meta["resourceVersion"],
                    **({"namespace": meta["namespace"]} if meta.get("namespace") else {}),
                },
                "type": type_,
                "reason": reason,
                "message": message,
                "source": {"component": self.component},
                "reportingComponent": self.component,
                "reportingInstance": "",
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
            self._known[key] = await self.api.create("events", event, namespace)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        except StatusError:
            self._known.pop(key, None)
