"""The seed as a peer: an operator as it was before its improvements, in a process of its own, doing the same work.

One Pod of several leads, *for life*: the lock is a ConfigMap owned by the leader's Pod, and goes when the garbage collector finds
that Pod deleted. The others try to create it, and wait between tries from 1 s, doubled up to 16 s (operator-framework's
``leader.Become``: jitter 0.2, the same Pod started anew finds its own lock). The leader starts the informers, so caches are cold
at each take-over; every object listed is a create event, queued at once, in one queue in order of arrival.

Reports what happens as JSON lines: ``{"event", "at"}``, ``at`` on the machine's monotonic clock.
"""

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from typing import Any

import msgspec

from raycp.base.clock import SystemClock
from raycp.bench.workload import LABEL, pod_for
from raycp.kube import ClusterClient, ConnectSpec
from raycp.kube.errors import ApiError, KubeError

LABEL_VALUE = "seed"
LOCK = "raycp-bench-seed-lock"
NAMESPACE = "default"
BACKOFF_MIN = 1.0
BACKOFF_MAX = 16.0
JITTER = 0.2
WORKERS = 32

Key = tuple[str, str]


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class _List(msgspec.Struct):
    metadata: _Meta
    items: list[_Object] = []


class _WatchEvent(msgspec.Struct):
    type: str
    object: _Object


_event = msgspec.json.Decoder(_WatchEvent).decode
_list = msgspec.json.Decoder(_List).decode


def report(event: str, **more: Any) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **more}) + "\n")
    sys.stdout.flush()


class Operator:
    """One Pod's process. ``pod`` and ``uid`` are its own."""

    def __init__(self, client: ClusterClient, pod: str, uid: str) -> None:
        self._client = client
        self._pod = pod
        self._uid = uid
        self._workloads: dict[Key, str] = {}
        self._children: set[Key] = set()
        # client-go's work queue: what is in work when it changes is queued once more when that ends
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._synced: dict[str, asyncio.Event] = {"configmaps": asyncio.Event(), "pods": asyncio.Event()}
        self._first = True
        self._idle = False
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Wait to lead, then lead until asked to stop."""
        if not await self._become():
            return
        report("leader")
        informers = [asyncio.create_task(self._inform(resource)) for resource in self._synced]
        for synced in self._synced.values():
            await synced.wait()
        report("synced", objects=len(self._workloads) + len(self._children))
        workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        await self.stopping.wait()
        for task in informers:
            task.cancel()
        await asyncio.gather(*workers)  # what is in work is finished, what is queued is left
        report("stopped")

    async def _become(self) -> bool:
        """True when it leads, False when it was asked to stop before."""
        lock = {
            "metadata": {
                "name": LOCK,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": self._pod, "uid": self._uid}],
            }
        }
        path, backoff = f"/api/v1/namespaces/{NAMESPACE}/configmaps", BACKOFF_MIN
        while not self.stopping.is_set():
            try:
                found = json.loads((await self._client.request("GET", f"{path}/{LOCK}")).body)
                if any(owner["uid"] == self._uid for owner in found["metadata"].get("ownerReferences", ())):
                    return True  # its own, from before it was started anew
            except ApiError as error:
                if error.status != 404:
                    raise
            try:
                await self._client.request("POST", path, body=msgspec.json.encode(lock))
                return True
            except ApiError as error:
                if error.status != 409:
                    raise
            report("waiting", seconds=backoff)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), backoff * (1 + JITTER * random.random()))
            backoff = min(BACKOFF_MAX, backoff * 2)
        return False

    async def _inform(self, resource: str) -> None:
        """List, then watch for ever."""
        path, selector = f"/api/v1/{resource}", f"{LABEL}={LABEL_VALUE}"
        while True:
            try:
                listed = _list((await self._client.request("GET", path, query={"labelSelector": selector}, timeout=60)).body)
                for item in listed.items:
                    self._seen(resource, "ADDED", item.metadata)
                self._synced[resource].set()
                version = listed.metadata.resource_version
                while True:
                    query = {"watch": "true", "labelSelector": selector, "resourceVersion": version, "timeoutSeconds": "3600"}
                    async for lines in self._client.stream(path, query):
                        for line in lines:
                            event = _event(line)
                            if event.type == "ERROR":
                                raise ApiError(410, "Expired", "watch expired")
                            version = event.object.metadata.resource_version or version
                            self._seen(resource, event.type, event.object.metadata)
            except (KubeError, OSError, msgspec.MsgspecError):
                await asyncio.sleep(0.2)

    def _seen(self, resource: str, type: str, meta: _Meta) -> None:
        key = (meta.namespace, meta.name)
        if resource == "pods":
            (self._children.discard if type == "DELETED" else self._children.add)(key)
        elif type == "DELETED":
            self._workloads.pop(key, None)
        else:
            self._workloads[key] = meta.uid
        self._add(key)  # a workload, or the owner of a child: they have the same name

    def _add(self, key: Key) -> None:
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._queue.put_nowait(key)

    async def _work(self) -> None:
        stopping = asyncio.create_task(self.stopping.wait())
        while not self.stopping.is_set():
            try:
                key = self._queue.get_nowait()
            except asyncio.QueueEmpty:
                getting = asyncio.create_task(self._queue.get())
                await asyncio.wait((getting, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    return
                key = getting.result()
            self._waiting.discard(key)
            self._working.add(key)
            await self._reconcile(key)
            self._working.discard(key)
            if key in self._again:
                self._again.discard(key)
                self._add(key)
            self._told()

    def _told(self) -> None:
        if self._first:
            self._first = False
            report("first")
        if not self._idle and not self._waiting:
            self._idle = True
            report("idle")

    async def _reconcile(self, key: Key) -> None:
        uid = self._workloads.get(key)
        if uid is None or key in self._children:
            await asyncio.sleep(0)
            return
        namespace, name = key
        pod = pod_for(name, {LABEL: LABEL_VALUE})
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "controller": True}
        pod["metadata"]["ownerReferences"] = [owner]
        try:
            await self._client.request("POST", f"/api/v1/namespaces/{namespace}/pods", body=msgspec.json.encode(pod))
        except ApiError as error:
            if error.status != 409:
                asyncio.get_running_loop().call_later(1.0, self._add, key)
        except KubeError:
            asyncio.get_running_loop().call_later(1.0, self._add, key)


async def main(kubeconfig: str, pod: str, uid: str) -> None:
    """Run until SIGTERM, or until the bench (its standard input) is closed."""
    spec = ConnectSpec(name="bench", mode="kubeconfig", path=kubeconfig, max_in_flight=10_000, user_agent="raycp-bench-seed")
    client = await ClusterClient.connect(spec, SystemClock())
    client.breaker = None
    operator = Operator(client, pod, uid)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, operator.stopping.set)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    orphaned = asyncio.create_task(reader.read())
    orphaned.add_done_callback(lambda _: operator.stopping.set())
    report("started")
    try:
        await operator.run()
    finally:
        orphaned.cancel()
        await client.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(*sys.argv[1:4]))
