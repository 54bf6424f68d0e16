"""The load process: makes users' changes and receives their effects, apart from the system under test.

It executes orders, JSON lines on stdin, with one response line each (``{"id", ...}`` or ``{"id", "error"}``), several at once.
Latency is POST sent → Pod received on its own watch, both on this process's monotonic clock. Sending is open-loop: a slow
response delays no later change, and ``late_ms`` shows when the generator itself could not keep up.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from raycp.base.clock import SystemClock
from raycp.kube import MERGE_PATCH, ClusterClient, ConnectSpec
from raycp.kube.errors import ApiError, KubeError
from raycp.kube.objects import JSON

OWNER_UID = "raycp.io/owner-uid"


class _OwnerRef(msgspec.Struct):
    uid: str = ""


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    owner_references: list[_OwnerRef] | None = None


class _Admission(msgspec.Struct):
    state: str = ""


class _Status(msgspec.Struct):
    admission: _Admission | None = None


class _Object(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    status: _Status | None = None


class _WatchEvent(msgspec.Struct):
    type: str
    object: _Object


class _List(msgspec.Struct):
    metadata: _Meta
    items: list[_Object] = []


_event = msgspec.json.Decoder(_WatchEvent).decode
_list = msgspec.json.Decoder(_List).decode
_object = msgspec.json.Decoder(_Object).decode

Handle = Callable[[str, str, _Object, float], None]
BATCH = "/apis/batch.raycp.io/v1alpha1"
Key = tuple[str, str, str]
"""Cluster, namespace, name."""


class Cluster:
    """One cluster: a client for changes, and the watch of Pods."""

    def __init__(self, name: str, client: ClusterClient) -> None:
        self.name = name
        self.client = client
        self.watching: asyncio.Task[None] | None = None
        self.synced = asyncio.Event()


class Load:
    """The state of the process: which changes were sent, which Pods were received."""

    def __init__(self) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.sent: dict[Key, float] = {}
        self.uids: dict[str, Key] = {}
        self.seen: dict[Key, float] = {}
        self.seen_by_owner: dict[str, float] = {}
        self.owned: list[tuple[str, float]] = []
        self.pods: dict[Key, str] = {}
        self.admitted: dict[str, float] = {}
        """When a job was first seen admitted, by its uid."""
        self.jobs_watch: asyncio.Task[None] | None = None
        self.duplicates = 0
        self.changed = asyncio.Event()

    async def open(self, clusters: dict[str, str], namespaces: list[str], selector: str) -> dict[str, Any]:
        """Connect to kubeconfigs, create namespaces, watch Pods of ``selector``."""
        for name, path in clusters.items():
            spec = ConnectSpec(name=name, mode="kubeconfig", path=path, max_in_flight=10_000, user_agent="raycp-bench-load")
            client = await ClusterClient.connect(spec, SystemClock())
            client.breaker = None
            cluster = self.clusters[name] = Cluster(name, client)
            for namespace in namespaces:
                body = msgspec.json.encode({"metadata": {"name": namespace}})
                try:
                    await client.request("POST", "/api/v1/namespaces", body=body)
                except ApiError as error:
                    if error.status != 409:
                        raise
            cluster.watching = asyncio.create_task(self._watch(cluster, "/api/v1/pods", selector, self._pod, cluster.synced))
        for cluster in self.clusters.values():
            await asyncio.wait_for(cluster.synced.wait(), 30)
        return {"pods": len(self.pods)}

    async def post(
        self,
        cluster: str,
        prefix: str,
        count: int,
        *,
        namespaces: list[str],
        rate: float | None = None,
        concurrency: int = 32,
        first: int = 0,
        kind: str = "ConfigMap",
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        spec: dict[str, Any] | None = None,
        work_label: str = "work",
    ) -> dict[str, Any]:
        """Create ``count`` workloads: at ``rate`` per second (open loop), or as fast as ``concurrency`` allows."""
        client = self.clusters[cluster].client
        free = asyncio.Semaphore(count if rate else concurrency)  # at a rate, no change is delayed
        errors: dict[str, int] = {}
        late = 0.0
        tasks: set[asyncio.Task[None]] = set()
        begin = time.monotonic()

        async def one(number: int) -> None:
            name, namespace = f"{prefix}-{number}", namespaces[number % len(namespaces)]
            path, body = _workload(kind, name, namespace, {"bench": work_label, **(labels or {})}, annotations or {}, spec or {})
            key = (cluster, namespace, name)
            try:
                self.sent[key] = time.monotonic()
                answer = await client.request("POST", path, body=body, timeout=60)
                if kind != "ConfigMap":
                    self.uids[_object(answer.body).metadata.uid] = key
                    self.changed.set()
            except KubeError as error:
                self.sent.pop(key, None)
                problem = f"{getattr(error, 'status', '')} {getattr(error, 'reason', '') or type(error).__name__}".strip()
                errors[problem] = errors.get(problem, 0) + 1
            finally:
                free.release()

        for i in range(count):
            if rate:
                due = begin + i / rate
                wait = due - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                else:
                    late = max(late, -wait)
            await free.acquire()
            task = asyncio.create_task(one(first + i))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.gather(*tasks)
        seconds = time.monotonic() - begin
        return {"sent": count - sum(errors.values()), "errors": errors, "seconds": seconds, "late_ms": late * 1000}

    async def wait(self, prefix: str, count: int, timeout: float) -> dict[str, Any]:
        """Wait until ``count`` workloads of ``prefix`` have their Pods, or for ``timeout`` seconds. Rows are (name, sent,
        latency), in seconds."""
        deadline = time.monotonic() + timeout
        while True:
            rows = self._rows(prefix)
            left = deadline - time.monotonic()
            if len(rows) >= count or left <= 0:
                break
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), min(left, 1.0))
            await asyncio.sleep(min(0.05, max(0.0, left)))  # batch: making rows costs time
        return {"rows": rows, "missing": max(0, count - len(rows)), "duplicates": self.duplicates}

    async def seen_times(self, prefix: str) -> dict[str, Any]:
        """When Pods of ``prefix`` were received (this process's monotonic clock), and the time now."""
        times = sorted(at for (_, _, name), at in self.seen.items() if name.startswith(f"{prefix}-"))
        return {"times": times, "now": time.monotonic()}

    async def owned_times(self, prefix: str, count: int, timeout: float) -> dict[str, Any]:
        """When Pods owned by workloads of ``prefix`` were received, once there are ``count`` of them or ``timeout`` seconds have
        passed."""
        deadline = time.monotonic() + timeout
        while True:
            uids = {uid for uid, key in self.uids.items() if key[2].startswith(f"{prefix}-")}
            times = sorted(at for uid, at in self.owned if uid in uids)
            if len(times) >= count or time.monotonic() >= deadline:
                return {"times": times, "now": time.monotonic()}
            await asyncio.sleep(0.1)

    async def clean(self, cluster: str, namespaces: list[str], resources: list[str], selector: str) -> dict[str, Any]:
        """Delete collections."""
        client = self.clusters[cluster].client
        for namespace in namespaces:
            for resource in resources:
                root = BATCH if resource == "batchjobs" else "/api/v1"
                with contextlib.suppress(ApiError):
                    await client.request(
                        "DELETE",
                        f"{root}/namespaces/{namespace}/{resource}",
                        query={"labelSelector": selector},
                        timeout=120,
                    )
        return {}

    async def faults(self, cluster: str, faults: list[dict[str, Any]]) -> dict[str, Any]:
        """Replace the injected faults of an embedded cluster (``FaultSpec`` fields)."""
        await self.clusters[cluster].client.request("PUT", "/raycp/admin/faults", body=msgspec.json.encode(faults))
        return {}

    async def writes(self, cluster: str, after: int = 0) -> dict[str, Any]:
        """The recorded writes of an embedded cluster that carry an epoch, oldest first: (epoch, shard, term). ``count``: the
        number of all writes; ``lost``: how many of those after number ``after`` are no longer recorded."""
        answer = await self.clusters[cluster].client.request("GET", "/raycp/admin/writes", query={"after": str(after)})
        recorded = json.loads(answer.body)
        stamps = [
            (int(w["epoch"]), w["shard"], int(w["term"] or 0)) for w in recorded["writes"] if w["epoch"] and w["resource"] == "pods"
        ]
        return {"count": recorded["count"], "stamps": stamps, "lost": max(0, recorded["count"] - after - recorded["kept"])}

    async def forget(self) -> dict[str, Any]:
        """Forget all changes and Pods; the watch goes on."""
        self.sent.clear()
        self.seen.clear()
        self.uids.clear()
        self.seen_by_owner.clear()
        self.owned.clear()
        self.admitted.clear()
        self.duplicates = 0
        return {}

    async def close(self) -> dict[str, Any]:
        if self.jobs_watch is not None:
            self.jobs_watch.cancel()
        for cluster in self.clusters.values():
            if cluster.watching:
                cluster.watching.cancel()
            await cluster.client.close()
        return {}

    def _rows(self, prefix: str) -> list[tuple[str, float, float]]:
        rows = []
        start = f"{prefix}-"
        owners = {key: self.seen_by_owner[uid] for uid, key in self.uids.items() if uid in self.seen_by_owner}
        for key, sent in self.sent.items():
            if key[2].startswith(start):
                at = owners.get(key) or self.seen.get(key)
                if at is not None:
                    rows.append((key[2], sent, at - sent))
        return rows

    async def watch_admissions(self, cluster: str, selector: str) -> dict[str, Any]:
        """Watch BatchJobs from now on, for the time at which each is admitted."""
        known, synced = self.clusters[cluster], asyncio.Event()
        self.jobs_watch = asyncio.create_task(self._watch(known, f"{BATCH}/batchjobs", selector, self._job, synced))
        await asyncio.wait_for(synced.wait(), 30)
        return {}

    async def admissions(self, prefix: str, count: int, timeout: float) -> dict[str, Any]:
        """(name, admitted, first Pod or null) of each admitted job of ``prefix``, once ``count`` of them have a Pod or ``timeout``
        seconds have passed."""
        deadline = time.monotonic() + timeout
        while True:
            names = {uid: key[2] for uid, key in self.uids.items() if key[2].startswith(f"{prefix}-")}
            rows = [(name, self.admitted[uid], self.seen_by_owner.get(uid)) for uid, name in names.items() if uid in self.admitted]
            if sum(pod is not None for _, _, pod in rows) >= count or time.monotonic() >= deadline:
                return {"rows": rows}
            await asyncio.sleep(0.1)

    async def send(self, cluster: str, method: str, path: str, body: Any) -> dict[str, Any]:
        """One request; a PATCH is a merge patch."""
        client = self.clusters[cluster].client
        kind = MERGE_PATCH if method == "PATCH" else JSON
        await client.request(method, path, body=msgspec.json.encode(body), content_type=kind)
        return {}

    def _job(self, cluster: str, type: str, obj: _Object, now: float) -> None:
        admission = obj.status.admission if obj.status is not None else None
        if type != "DELETED" and admission is not None and admission.state == "Admitted":
            self.admitted.setdefault(obj.metadata.uid, now)

    async def _watch(self, cluster: Cluster, path: str, selector: str, handle: Handle, synced: asyncio.Event) -> None:
        """List, then watch for ever; a broken watch resumes from its last version, a 410 lists again."""
        client = cluster.client
        while True:
            try:
                answer = await client.request("GET", path, query={"labelSelector": selector}, timeout=60)
                listed = _list(answer.body)
                now = time.monotonic()
                for item in listed.items:
                    handle(cluster.name, "ADDED", item, now)
                version = listed.metadata.resource_version
                synced.set()
                while True:
                    query = {"watch": "true", "labelSelector": selector, "resourceVersion": version}
                    query |= {"allowWatchBookmarks": "true", "timeoutSeconds": "3600"}
                    async with client.stream(path, query) as stream:
                        async for lines in stream:
                            now = time.monotonic()
                            for line in lines:
                                event = _event(line)
                                if event.type == "ERROR":
                                    raise ApiError(410, "Expired", "watch expired")
                                version = event.object.metadata.resource_version or version
                                if event.type != "BOOKMARK":
                                    handle(cluster.name, event.type, event.object, now)
                            self.changed.set()
            except (KubeError, OSError, msgspec.MsgspecError):
                await asyncio.sleep(0.2)

    def _pod(self, cluster: str, type: str, obj: _Object, now: float) -> None:
        meta = obj.metadata
        key = (cluster, meta.namespace, meta.name)
        if type == "DELETED":
            self.pods.pop(key, None)
            return
        known = self.pods.get(key)
        if known == meta.uid:
            return
        if known is not None:
            self.duplicates += 1
        self.pods[key] = meta.uid
        self.seen.setdefault(key, now)
        owner = (meta.labels or {}).get(OWNER_UID)
        if owner:
            self.seen_by_owner.setdefault(owner, now)
            self.owned.append((owner, now))
        for reference in meta.owner_references or ():
            self.seen_by_owner.setdefault(reference.uid, now)
            self.owned.append((reference.uid, now))


def _workload(
    kind: str, name: str, namespace: str, labels: dict[str, str], annotations: dict[str, str], spec: dict[str, Any]
) -> tuple[str, bytes]:
    meta = {"name": name, "labels": labels, "annotations": annotations}
    if kind == "ConfigMap":
        return f"/api/v1/namespaces/{namespace}/configmaps", msgspec.json.encode({"metadata": meta, "data": {"n": name}})
    body = {"apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": meta, "spec": spec}
    return f"{BATCH}/namespaces/{namespace}/batchjobs", msgspec.json.encode(body)


async def main() -> None:
    """Execute orders until stdin ends."""
    load = Load()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running: set[asyncio.Task[None]] = set()

    async def obey(order: dict[str, Any]) -> None:
        number, do = order.pop("id"), order.pop("do")
        try:
            answer = await getattr(load, do)(**order)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps({"id": number, **answer}) + "\n")
        sys.stdout.flush()

    while line := await reader.readline():
        task = asyncio.create_task(obey(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
    await load.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
