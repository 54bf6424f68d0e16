"""The cost of one object, event and queue operation, without processes or network: the figures that docs/scale.md uses.

``python -m raycp.bench.unitcosts [OBJECTS]`` prints one JSON object. Times are CPU of this thread in µs per item, medians of three
rounds; memory is the growth of the process after a garbage collection, per object in the cache.
"""

import gc
import os
import sys
import time
from collections.abc import Callable
from random import Random
from statistics import median
from typing import Any

import msgspec
import psutil

from raycp.base.clock import SystemClock
from raycp.base.events import Event, Source
from raycp.base.keys import RequestKey
from raycp.base.objects import Obj
from raycp.base.tasks import Task
from raycp.bench.runner import machine
from raycp.cache import Store
from raycp.classify import Known, classify
from raycp.kube.codec import decode_watch_line
from raycp.queueing import QueuePolicy, WorkQueue
from raycp.scheduling import Candidate, Demand, Rules, place

ROUNDS = 3


def configmap(number: int, rv: int) -> dict[str, Any]:
    """0.4 kB, as users write them."""
    meta = {"name": f"cm-{number}", "namespace": f"ns-{number % 200}", "uid": f"5f0c6a3e-0000-4000-8000-{number:012d}"}
    labels = {"app": "echo", "tier": "standard"}
    dates = {"resourceVersion": str(rv), "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {**meta, **dates, "labels": labels}, "data": {"message": "x" * 64}}


def pod(number: int, rv: int) -> dict[str, Any]:
    """2.5 kB without managedFields, as a kubelet writes them."""
    found = configmap(number, rv)
    found.pop("data")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": f"cm-{number}", "uid": found["metadata"]["uid"], "controller": True}
    found["metadata"] |= {"name": f"pod-{number}", "uid": f"6f0c6a3e-0000-4000-8000-{number:012d}", "ownerReferences": [owner]}
    mount = {"name": "kube-api-access", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    container = {
        "name": "main",
        "image": "registry.example/team/worker:1.42.0",
        "command": ["/bin/worker", "--queue", "default", "--verbose"],
        "env": [{"name": f"SETTING_{each}", "value": "some value"} for each in range(8)],
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [mount],
        "terminationMessagePath": "/dev/termination-log",
        "imagePullPolicy": "IfNotPresent",
    }
    conditions = [
        {"type": each, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-01-01T00:00:02Z"}
        for each in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    started = {
        "name": "main",
        "state": {"running": {"startedAt": "2026-01-01T00:00:02Z"}},
        "ready": True,
        "restartCount": 0,
        "image": container["image"],
        "imageID": "registry.example/team/worker@sha256:" + "0" * 64,
        "containerID": "containerd://" + "0" * 64,
    }
    spec = {"containers": [container], "restartPolicy": "Never", "nodeName": "node-17", "serviceAccountName": "default"}
    addresses = {"hostIP": "10.0.0.7", "podIP": "10.4.2.9"}
    status = {"phase": "Running", "conditions": conditions, **addresses, "containerStatuses": [started]}
    return {**found, "kind": "Pod", "spec": spec, "status": status}


def line(kind: str, obj: dict[str, Any]) -> bytes:
    """The line of a watch."""
    return msgspec.json.encode({"type": kind, "object": obj})


def cost(items: int, work: Callable[[], None]) -> float:
    """CPU in µs per item."""
    gc.collect()
    begin = time.thread_time()
    work()
    return (time.thread_time() - begin) / items * 1e6


def rounds(items: int, make: Callable[[], Callable[[], None]]) -> float:
    """The median of the rounds; ``make`` does the preparation, which is not counted."""
    return round(median(cost(items, make()) for _ in range(ROUNDS)), 2)


def resident() -> int:
    gc.collect()
    return int(psutil.Process(os.getpid()).memory_info().rss)


def cached(make: Callable[[int, int], dict[str, Any]], count: int) -> dict[str, Any]:
    """Decoding, cache and classification of one kind, twice: created, then changed."""
    first = [line("ADDED", make(number, number + 1)) for number in range(count)]
    changed = []
    for number in range(count):
        obj = make(number, count + number + 1)
        obj["metadata"]["labels"]["changed"] = "yes"
        changed.append(line("MODIFIED", obj))

    def decoding() -> Callable[[], None]:
        def work() -> None:
            for each in changed:
                decode_watch_line(each)

        return work

    decoded = rounds(count, decoding)
    store = Store()
    store.by_index("owner", "")
    before = resident()
    for each in first:
        kind, decoded_object = decode_watch_line(each)
        assert isinstance(decoded_object, Obj)
        store.apply(kind, decoded_object, Source.WATCH, 0.0)
    grown = resident() - before
    objects = [obj for _, obj in map(decode_watch_line, changed) if isinstance(obj, Obj)]
    events: list[Event] = []

    def applying() -> None:
        for obj in objects:
            events.extend(store.apply("MODIFIED", obj, Source.WATCH, 1.0))

    applied = round(cost(count, applying), 2)

    def classifying() -> Callable[[], None]:
        def work() -> None:
            for event in events:
                classify(event, Known(event.obj.version - 1))

        return work

    return {
        "json_bytes": len(msgspec.json.encode(make(count, count))),
        "cached_bytes": round(grown / count),
        "decode_us": decoded,
        "apply_us": applied,
        "classify_us": rounds(count, classifying),
    }


def queueing(count: int) -> dict[str, float]:
    """One key through the queue, with ``count`` other keys queued, over 100 clusters and 200 namespaces."""
    keys = [RequestKey("c", f"cluster-{each % 100}", f"ns-{each % 200}", f"name-{each}") for each in range(count)]
    queue = WorkQueue(QueuePolicy(), SystemClock(), rng=Random(1))
    tiers = ("critical", "high", "standard", "background")

    def fill() -> None:
        for number, key in enumerate(keys):
            queue.add(key, tier=tiers[number & 3], reason="update")

    before = resident()
    added = cost(count, fill)
    grown = resident() - before

    def drain() -> None:
        while items := queue.pull("w", 32):
            for item in items:
                queue.done("w", item.key, id=item.id)

    return {"add_us": round(added, 2), "pull_and_done_us": round(cost(count, drain), 2), "queued_bytes": round(grown / count)}


def carrying(count: int) -> dict[str, float]:
    """A task with its object and one child, to msgpack and back."""
    raw = msgspec.json.encode(pod(1, 1))
    task = Task(1, RequestKey("c", "cluster-1", "ns", "name"), "standard", "update", 1, 1, "0", 1, 7, 0.0, raw)
    packed = msgspec.msgpack.encode(task)

    def work() -> None:
        for _ in range(count):
            msgspec.msgpack.decode(msgspec.msgpack.encode(task), type=Task)

    return {"task_bytes": len(packed), "encode_and_decode_us": round(cost(count, work), 2)}


def placing(clusters: int, jobs: int) -> dict[str, float]:
    """One placement decision over ``clusters`` clusters."""
    fleet = [Candidate(f"cluster-{each}", {"region": f"r{each % 10}"}) for each in range(clusters)]

    def work() -> None:
        for number in range(jobs):
            place(Demand(f"uid-{number}", 4, Rules()), fleet, 0.0)

    return {"clusters": clusters, "place_us": round(cost(jobs, work), 1)}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    costs = {
        "objects": count,
        "configmap": cached(configmap, count),
        "pod": cached(pod, count),
        "queue": queueing(count),
        "task": carrying(count),
        "placement": [placing(10, 2_000), placing(1_000, 50)],
        "machine": machine(),
    }
    print(msgspec.json.format(msgspec.json.encode(costs), indent=2).decode())


if __name__ == "__main__":
    main()
