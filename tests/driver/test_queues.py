"""Queues over a fleet in this process: clusters with nodes of different shapes, the scheduler beside the hub's shard."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from inprocess import Led, fleet_doc, led, until

from raycp.config import FleetDoc
from raycp.protocol.members import Role
from raycp.sdk import conditions

BATCHJOB = ["raycp.controllers.batchjob"]
JOBS, QUEUES = "batchjobs.batch.raycp.io", "queues.raycp.io"
SHAPES: dict[str, dict[str, Any]] = {
    "east": {"embedded": {"nodes": 4, "node": {"cpu": "4", "memory": "8Gi"}, "podRuntime": "1h"}},
    "west": {"embedded": {"nodes": 2, "node": {"cpu": "8", "memory": "64Gi"}, "podRuntime": "1h"}},
    "north": {"embedded": {"nodes": 1, "node": {"cpu": "2", "memory": "4Gi"}, "podRuntime": "1h"}},
}


def doc_of(*members: str, **spec: Any) -> FleetDoc:
    return fleet_doc(["hub", *members], BATCHJOB, embedded={"controllers": {"stages": False}}, fields=SHAPES, **spec)


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[Led]:
    async with led() as made:
        await made.apply(doc_of("east", "west", "north"))
        yield made


async def queue(fleet: Led, name: str, cpu: int, **spec: Any) -> None:
    flavors = [{"name": "default", "resources": [{"name": "cpu", "nominalQuota": cpu}]}]
    obj = {"apiVersion": "raycp.io/v1alpha1", "kind": "Queue", "metadata": {"name": name}, "spec": {"flavors": flavors, **spec}}
    await fleet.cluster("hub").api.create(QUEUES, obj)


async def submit(fleet: Led, name: str, cpu: str = "1", **spec: Any) -> None:
    container = {"name": "main", "image": "busybox", "resources": {"requests": {"cpu": cpu}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    meta = {"name": name, "namespace": "default"}
    job = {"apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": meta, "spec": {"template": template, **spec}}
    await fleet.cluster("hub").api.create(JOBS, job)


def job(fleet: Led, name: str) -> dict[str, Any]:
    return fleet.cluster("hub").api.get(JOBS, "default", name) or {}


def status(fleet: Led, name: str) -> dict[str, Any]:
    return job(fleet, name).get("status") or {}


def admission(fleet: Led, name: str) -> dict[str, Any]:
    return status(fleet, name).get("admission") or {}


def pods(fleet: Led, name: str = "") -> dict[str, int]:
    """Living Pods by cluster, of one job or of all."""
    found: Counter[str] = Counter()
    for cluster in SHAPES:
        if fleet.substrate.living(Role.EMBEDDED, cluster):
            for pod in fleet.cluster(cluster).api.list("pods", "default")[0]:
                alive = not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") not in ("Succeeded", "Failed")
                if alive and pod["metadata"]["name"].startswith(name):
                    found[cluster] += 1
    return dict(found)


async def test_a_gang_spans_the_clusters_that_have_room(fleet: Led) -> None:
    """34 cores in three shapes: a gang of 34 one-core Pods needs all of them; one more fits nowhere, and is told so."""
    await queue(fleet, "batch", 100, namespaces=["default"])
    await submit(fleet, "gang", parallelism=34, completions=34, gang={})
    await until(lambda: sum(pods(fleet, "gang").values()) == 34, what="all of the gang")
    assert pods(fleet, "gang") == {"east": 16, "west": 16, "north": 2}
    assert admission(fleet, "gang")["clusters"] == pods(fleet, "gang")
    await submit(fleet, "late")
    await until(lambda: admission(fleet, "late").get("reason"))
    assert admission(fleet, "late")["reason"] == "NoRoom"
    found = conditions.get(status(fleet, "late")["conditions"], "Admitted")
    assert found is not None
    assert (found["status"], found["reason"]) == ("False", "NoRoom")
    assert pods(fleet, "late") == {}
