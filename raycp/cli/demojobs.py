"""The demo's user: makes queues, submits BatchJobs to the hub in bursts, and counts their Pods on the members."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec

from raycp.base.clock import SystemClock
from raycp.cli.demoqueues import manifests, queue_of
from raycp.kube import ApiError, ClusterClient, ConnectSpec

NAMESPACE = "demo"
JOBS = f"/apis/batch.raycp.io/v1alpha1/namespaces/{NAMESPACE}/batchjobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
QUEUES = "/apis/raycp.io/v1alpha1/queues"
BURSTS = 10
PAUSE = 0.5
TIERS = ("standard", "standard", "high", "critical")
SIZES = (1, 2, 3)


@dataclass
class JobProgress:
    """Jobs and Pods so far. ``waiting``: jobs that wait for quota."""

    submitted: int
    finished: int = 0
    running: int = 0
    waiting: int = 0
    pods: Counter[str] = field(default_factory=Counter)


@dataclass
class JobFindings:
    """Jobs and Pods at the end, and what is wrong with them."""

    complete: int = 0
    failed: int = 0
    duplicates: int = 0
    pods: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def job(number: int, count: int) -> dict[str, Any]:
    """The ``number``-th of ``count`` jobs: one to three Pods, tiers mixed, some in a queue: these last, so that others wait."""
    size, queue = SIZES[number % len(SIZES)], queue_of(number, count)
    container = {"name": "work", "image": "busybox", "command": ["sleep", "2"] if queue is not None else ["true"]}
    return {
        "apiVersion": "batch.raycp.io/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": f"job-{number:03d}", "namespace": NAMESPACE},
        "spec": {
            "completions": size,
            "parallelism": size,
            "qosTier": TIERS[number % len(TIERS)],
            **({"queue": queue} if queue is not None else {}),
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


class DemoJobs:
    """Submits and reads jobs through the clusters' APIs, as a user does."""

    def __init__(self, clients: dict[str, ClusterClient], hub: str) -> None:
        self._clients = clients
        self._hub = hub
        self._submitted = 0

    @classmethod
    async def connect(cls, connections: dict[str, ConnectSpec], hub: str) -> "DemoJobs":
        """Raises ``ConnectError``."""
        clock = SystemClock()
        return cls({name: await ClusterClient.connect(spec, clock) for name, spec in connections.items()}, hub)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    async def prepare(self, count: int) -> None:
        """Create the namespace in all clusters, and in the hub the queues of ``count`` jobs."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        for cluster in self._clients:
            await self._create(cluster, "/api/v1/namespaces", namespace)
        pods = sum(SIZES[number % len(SIZES)] for number in range(count) if queue_of(number, count))
        for queue in manifests(pods, max(SIZES)) if pods else ():
            await self._create(self._hub, QUEUES, queue)

    async def _create(self, cluster: str, path: str, obj: dict[str, Any]) -> None:
        """Unless it is there."""
        try:
            await self._clients[cluster].request("POST", path, body=msgspec.json.encode(obj))
        except ApiError as error:
            if not error.already_exists:
                raise

    async def submit(self, count: int) -> None:
        """Submit ``count`` jobs, in bursts."""
        size = -(-count // BURSTS)
        for start in range(0, count, size):
            numbers = range(start, min(start + size, count))
            await asyncio.gather(*(self._submit(number, count) for number in numbers))
            await asyncio.sleep(PAUSE)

    async def _submit(self, number: int, count: int) -> None:
        await self._clients[self._hub].request("POST", JOBS, body=msgspec.json.encode(job(number, count)))
        self._submitted += 1

    async def _list(self, cluster: str, path: str) -> list[dict[str, Any]]:
        answer = await self._clients[cluster].request("GET", path)
        found: list[dict[str, Any]] = msgspec.json.decode(answer.body)["items"]
        return found

    async def progress(self) -> JobProgress:
        """Jobs in the hub, Pods in the members."""
        progress = JobProgress(self._submitted)
        for each in await self._list(self._hub, JOBS):
            if _condition(each, "Complete") or _condition(each, "Failed"):
                progress.finished += 1
            elif (each.get("status") or {}).get("active"):
                progress.running += 1
            elif _waits(each):
                progress.waiting += 1
        for cluster in self._clients:
            if cluster != self._hub:
                progress.pods[cluster] = len(await self._list(cluster, PODS))
        return progress

    async def waiting(self, count: int) -> list[str]:
        """Of ``count`` jobs those that wait for quota, in order."""
        queued = [number for number in range(count) if queue_of(number, count)]
        found = await self._list(self._hub, f"{JOBS}?limit={len(queued)}") if queued else []  # their names come first
        return [each["metadata"]["name"] for each in found if _waits(each)]

    async def findings(self, count: int) -> JobFindings:
        """Check that every job is complete and that each of its Pods was created exactly once in the fleet."""
        found = JobFindings()
        wanted: dict[str, int] = {}
        for each in await self._list(self._hub, JOBS):
            name = each["metadata"]["name"]
            wanted[each["metadata"]["uid"]] = each["spec"]["completions"]
            if _condition(each, "Complete"):
                found.complete += 1
            elif _condition(each, "Failed"):
                found.failed += 1
                found.problems.append(f"{name} failed")
            else:
                found.problems.append(f"{name} did not complete: {(each.get('status') or {}).get('phase', 'no status')}")
        made: Counter[str] = Counter()
        names: Counter[str] = Counter()
        for cluster in self._clients:
            if cluster == self._hub:
                continue
            pods = await self._list(cluster, PODS)
            found.pods[cluster] = len(pods)
            for pod in pods:
                made[(pod["metadata"].get("labels") or {}).get("raycp.io/owner-uid", "")] += 1
                names[pod["metadata"]["name"]] += 1
        found.duplicates = sum(number - 1 for number in names.values())
        found.duplicates += sum(max(0, made[uid] - number) for uid, number in wanted.items())
        if found.duplicates:
            found.problems.append(f"{found.duplicates} Pods were created twice")
        if len(wanted) != count:
            found.problems.append(f"{count - len(wanted)} jobs were not submitted")
        missing = sum(max(0, number - made[uid]) for uid, number in wanted.items())
        if missing:
            found.problems.append(f"{missing} Pods are missing")
        return found


def _waits(each: dict[str, Any]) -> bool:
    return ((each.get("status") or {}).get("admission") or {}).get("reason") == "WaitingForQuota"


def _condition(each: dict[str, Any], name: str) -> bool:
    return any(c["type"] == name and c["status"] == "True" for c in (each.get("status") or {}).get("conditions") or ())
