"""The process that hosts the scheduler is killed in the middle of its decisions, on a real Ray."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from queued_jobs import Audit
from rayhouse import Cluster, House, clusters_of, house, until

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient, ConnectSpec

pytestmark = [pytest.mark.ray, pytest.mark.wide, pytest.mark.timeout(300)]

JOBS = "/apis/batch.raycp.io/v1alpha1/namespaces/default/batchjobs"
QUEUES = "/apis/raycp.io/v1alpha1/queues"
NODES = {
    "east": {"nodes": 4, "node": {"cpu": "4", "memory": "8Gi"}},
    "west": {"nodes": 2, "node": {"cpu": "8", "memory": "64Gi"}},
    "north": {"nodes": 1, "node": {"cpu": "2", "memory": "4Gi"}},
}
QUOTA = {"a": 10, "b": 6}
ROUNDS = 3


@pytest.fixture(scope="module")
def ray_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture
def fleet(ray_house: House) -> Iterator[Path]:
    path = ray_house.file("q", ["hub", *NODES], ["raycp.controllers.batchjob"], shards={"standby": 1})
    content = yaml.safe_load(path.read_text())
    for row in content["spec"]["clusters"][1:]:
        row["embedded"] |= NODES[row["name"]]
    path.write_text(yaml.safe_dump(content))
    ray_house.raycp("run", "-c", str(path), "--address", ray_house.address)
    yield path
    ray_house.raycp("down", "--fleet", "q", "--address", ray_house.address)


def queue(name: str) -> dict[str, Any]:
    flavors = [{"name": "default", "resources": [{"name": "cpu", "nominalQuota": QUOTA[name]}]}]
    spec = {"cohort": "all", "flavors": flavors, "preemption": {"reclaimWithinCohort": "Never"}}
    return {"apiVersion": "raycp.io/v1alpha1", "kind": "Queue", "metadata": {"name": name}, "spec": spec}


def job(name: str, pods: int, queue: str, gang: bool) -> dict[str, Any]:
    container = {"name": "main", "image": "busybox", "resources": {"requests": {"cpu": "1"}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"parallelism": pods, "completions": pods, "queue": queue, "template": template, **({"gang": {}} if gang else {})}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": meta, "spec": spec}


async def watch(hub: Cluster, handle: Any, path: str) -> None:
    """Each change, in the order of the hub's commits."""
    client = await ClusterClient.connect(ConnectSpec(name="hub", mode="kubeconfig", path=hub.kubeconfig), SystemClock())
    try:
        async with client.stream(path, {"watch": "true", "resourceVersion": "0"}) as batches:
            async for lines in batches:
                for line in lines:
                    event = msgspec.json.decode(line)
                    handle("hub", event["type"], event["object"])
    finally:
        await client.close()


def settled(ray_house: House, killed: Sequence[int] = ()) -> Any:
    """The status of the fleet once it is ready, by processes that have not been killed."""
    found = ray_house.status("q")
    return found if found["ready"] and not found["unsettled"] and found["shards"][0]["pid"] not in killed else None


def left_over(ray_house: House, clusters: dict[str, Cluster], sizes: dict[str, int], moments: list[str]) -> str:
    """What is known of the jobs that have not ended: for whoever reads that the test ran out of time."""
    jobs = asyncio.run(clusters["hub"].request("GET", JOBS))["items"]
    done = asyncio.run(ended(clusters["hub"]))
    left = [each for each in jobs if each["metadata"]["name"] not in done]
    lines = [f"{len(done)} of {len(sizes)} jobs have ended; {', '.join(moments)}"]
    for each in left[:4]:
        status, name = each.get("status") or {}, each["metadata"]["name"]
        true = [c["type"] for c in status.get("conditions") or () if c["status"] == "True"]
        pods = [pod for member in NODES for pod in asyncio.run(clusters[member].created("pods")) if name in str(pod)]
        lines.append(f"{name}: {status.get('admission')} {status.get('phase')} {true} {status.get('progress')} created {pods}")
    if left:
        why = f"hub/BatchJob/default/{left[0]['metadata']['name']}"
        lines += ray_house.raycp("why", why, "--fleet", "q", "--address", ray_house.address).splitlines()[-25:]
    return "\n".join(lines)


def test_nothing_is_admitted_twice_and_no_quota_exceeded_though_the_scheduler_is_killed_again_and_again(
    ray_house: House, fleet: Path
) -> None:
    """Three SIGKILLs, each at a random one of the first writes after many jobs were submitted; the standby goes on."""
    chance = random.Random(19)
    status = until(lambda: settled(ray_house), 60.0, "ready with a standby")
    clusters = clusters_of(status)
    hub = clusters["hub"]
    sizes: dict[str, int] = {}
    killed: list[int] = []
    moments: list[str] = []
    clock = SystemClock()
    began = clock.now()

    async def work() -> Audit:
        audit = Audit()
        following = [
            asyncio.ensure_future(watch(hub, handle, path)) for handle, path in ((audit.queue, QUEUES), (audit.job, JOBS))
        ]
        for name in QUOTA:
            await hub.request("POST", QUEUES, queue(name))
        for number in range(ROUNDS):
            status = await asyncio.to_thread(until, lambda: settled(ray_house, killed), 60.0, "ready with a standby")
            (shard,) = status["shards"]
            moments.append(f"round {number} at {clock.now() - began:.1f} s with {len(audit.order)} admitted")
            await kill_at(audit, chance.randint(1, 8), shard["pid"], number)
        while (await ended(hub)).keys() != sizes.keys():
            assert not any(each.done() for each in following)
            await asyncio.sleep(0.3)
        await asyncio.sleep(0.3)  # the last events are on their way
        for each in following:
            each.cancel()
        return audit

    async def kill_at(audit: Audit, count: int, pid: int, number: int) -> None:
        before = len(audit.order)
        dead = asyncio.Event()

        def admitted(name: str) -> None:
            if len(audit.order) == before + count and not dead.is_set():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                dead.set()

        audit.at_admission = admitted
        made = [
            job(f"j{number}{at:02}", chance.choice((1, 2, 5, 8)), chance.choice("ab"), gang=chance.random() < 0.5)
            for at in range(16)
        ]
        sizes.update({each["metadata"]["name"]: each["spec"]["parallelism"] for each in made})
        await asyncio.gather(*(hub.request("POST", JOBS, each) for each in made))
        await asyncio.wait_for(dead.wait(), 60.0)

    try:
        audit = asyncio.run(asyncio.wait_for(work(), 200.0))
    except TimeoutError:
        pytest.fail(left_over(ray_house, clusters, sizes, moments))
    audit.check()
    assert len(set(killed)) == ROUNDS
    assert Counter(audit.order) == Counter(sizes.keys()), "each is admitted once"
    assert audit.evicted == []
    found = asyncio.run(ended(hub))
    assert {name: each["status"]["succeeded"] for name, each in found.items()} == sizes
    assert [each["status"].get("failed", 0) for each in found.values()] == [0] * len(sizes)
    created = [pod for name in NODES for pod in asyncio.run(clusters[name].created("pods"))]
    assert len(created) == len(set(created)) == sum(sizes.values()), "each Pod once, in one cluster"
    after = until(lambda: settled(ray_house), 60.0, "ready again")
    assert [row["term"] for row in after["shards"]] == [1 + ROUNDS]
    assert after["leader"]["epoch"] == status["leader"]["epoch"]


async def ended(hub: Cluster) -> dict[str, dict[str, Any]]:
    """Jobs that have ended, by name."""
    found = (await hub.request("GET", JOBS))["items"]
    return {
        each["metadata"]["name"]: each
        for each in found
        if any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in each.get("status", {}).get("conditions", ()))
    }
