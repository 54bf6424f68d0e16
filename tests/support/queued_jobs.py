"""Queues and jobs of a fleet in this process, as a user has them, and ``Audit``, which judges every single change of theirs.

The members have nodes of different shapes. Unless a test says otherwise, Pods there live until the test ends them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from inprocess import Led, fleet_doc

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


def doc_of(*members: str, timeout: str = "5s", stages: bool = False, uses: Sequence[str] = (), **spec: Any) -> FleetDoc:
    fields = {name: {**shape, "requestTimeout": timeout} for name, shape in SHAPES.items()}
    fields["hub"] = {"requestTimeout": timeout}
    return fleet_doc(["hub", *members], [*BATCHJOB, *uses], embedded={"controllers": {"stages": stages}}, fields=fields, **spec)


async def queue(fleet: Led, name: str, cpu: int, **spec: Any) -> None:
    flavors = [{"name": "default", "resources": [{"name": "cpu", "nominalQuota": cpu}]}]
    obj = {"apiVersion": "raycp.io/v1alpha1", "kind": "Queue", "metadata": {"name": name}, "spec": {"flavors": flavors, **spec}}
    await fleet.cluster("hub").api.create(QUEUES, obj)


async def change_queue(fleet: Led, name: str, **spec: Any) -> None:
    await fleet.cluster("hub").api.patch_merge(QUEUES, "", name, msgspec.json.encode({"spec": spec}))


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


def is_over(fleet: Led, name: str) -> bool:
    return over(status(fleet, name))


def over(status: dict[str, Any]) -> bool:
    """Whether a job has ended by its status."""
    return any(conditions.is_true(status.get("conditions"), type) for type in ("Complete", "Failed"))


def has_pods(status: dict[str, Any]) -> bool:
    """Whether a job has Pods by its status, or may have. The quota of an evicted job is free when it has none."""
    return bool(status.get("active") or status.get("terminating") or any(each.get("assigned") for each in status["clusters"]))


def queue_status(fleet: Led, name: str) -> dict[str, Any]:
    return (fleet.cluster("hub").api.get(QUEUES, "", name) or {}).get("status") or {}


def alive(pod: dict[str, Any]) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") not in ("Succeeded", "Failed")


def pods(fleet: Led, name: str = "") -> dict[str, int]:
    """Living Pods by cluster, of one job or of all."""
    found: Counter[str] = Counter()
    for cluster in SHAPES:
        if fleet.substrate.living(Role.EMBEDDED, cluster):
            for pod in fleet.cluster(cluster).api.list("pods", "default")[0]:
                if alive(pod) and pod["metadata"]["name"].startswith(name):
                    found[cluster] += 1
    return dict(found)


async def succeed(fleet: Led, prefix: str) -> None:
    """The living Pods whose names begin so succeed."""
    done = msgspec.json.encode({"status": {"phase": "Succeeded"}})
    for cluster in pods(fleet, prefix):
        api = fleet.cluster(cluster).api
        for pod in api.list("pods", "default")[0]:
            if pod["metadata"]["name"].startswith(prefix) and alive(pod):
                await api.patch_merge("pods", "default", pod["metadata"]["name"], done, subresource="status")


class Audit:
    """Sees each change of a job, a queue and a Pod when it is committed, before anybody else does, and keeps what is wrong with it:

    - the quota that admitted jobs hold, by their records, and that living Pods use exceeds no queue's limit and no cohort's sum;
    - a job is admitted once, and again only after it was evicted or suspended; what it was admitted to changes only in a job for
      which ``moves`` says so;
    - a Pod is created only for an admitted job, only where and as many as its record says, and never beside a living one of its
      index;
    - an index succeeds once.
    """

    def __init__(self, moves: frozenset[str] = frozenset()) -> None:
        self.wrong: list[str] = []
        self.order: list[str] = []
        """Names of jobs as they were admitted."""
        self.evicted: list[str] = []
        """Names of jobs as they were evicted."""
        self.events = 0
        self.created: Counter[str] = Counter()
        """Creations of Pods by name."""
        self.succeeded: Counter[str] = Counter()
        """Successes by job and index."""
        self.at_admission: Any = None
        """Called with the name of each job that is admitted."""
        self._moves = moves
        self._limits: dict[str, dict[str, Any]] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._pods: dict[tuple[str, str], dict[str, Any]] = {}

    def follow(self, fleet: Led, *members: str) -> "Audit":
        """All changes in the hub and these members from now on, as they are committed."""
        hub = fleet.cluster("hub").api
        for cluster, api, resource, handle in [
            ("hub", hub, QUEUES, self.queue),
            ("hub", hub, JOBS, self.job),
            *((name, fleet.cluster(name).api, "pods", self.pod) for name in members),
        ]:
            served = api.resource(resource)

            def changed(change: Any, served: Any = served, handle: Any = handle, cluster: str = cluster) -> None:
                handle(cluster, change.type, served.read(change.record))

            served.table.subscribe("", changed)
        return self

    def check(self) -> None:
        """Nothing was wrong."""
        if self.wrong or not self.events:
            raise AssertionError("\n".join([f"{len(self.wrong)} of {self.events} changes are wrong:", *self.wrong[:20]]))

    def lose(self, cluster: str) -> None:
        """What runs there is given up: nobody can end it."""
        for key in [key for key in self._pods if key[0] == cluster]:
            del self._pods[key]

    def queue(self, cluster: str, type: str, obj: dict[str, Any]) -> None:
        """A change of a queue."""
        self.events += 1
        self._limits[obj["metadata"]["name"]] = obj["spec"]

    def job(self, cluster: str, type: str, obj: dict[str, Any]) -> None:
        """A change of a job."""
        self.events += 1
        name, before = obj["metadata"]["name"], self._record(obj["metadata"]["name"])
        if type == "DELETED":
            self._jobs.pop(name, None)
            return
        self._jobs[name] = obj
        record = self._record(name)
        was, now = before.get("state", "Pending"), record.get("state", "Pending")
        if now == "Admitted" and (was == "Pending" or (was == "Evicting" and not has_pods(obj["status"]))):
            self.order.append(name)
            if self.at_admission is not None:
                self.at_admission(name)
        elif now == "Admitted" and was == "Admitted":
            if record != before and name not in self._moves:
                self.wrong.append(f"{name} was admitted twice: {before}, {record}")
        elif now == "Evicting" and was == "Admitted":
            self.evicted.append(name)
        elif was != now and (was, now) not in (("Evicting", "Pending"), ("Admitted", "Pending")):
            self.wrong.append(f"{name} went from {was} to {now}")
        self._quota(f"after {name} is {now}")

    def pod(self, cluster: str, type: str, obj: dict[str, Any]) -> None:
        """A change of a Pod. What it is compared with are the jobs as they are by now."""
        self.events += 1
        name, key = obj["metadata"]["name"], (cluster, obj["metadata"]["name"])
        owner, index = name.rsplit("-", 2)[:2]
        lives = type != "DELETED" and obj["status"].get("phase") not in ("Succeeded", "Failed")
        if type == "ADDED":
            self.created[name] += 1
            record = self._record(owner)
            here = sum(1 for where, pod in self._pods if where == cluster and pod.rsplit("-", 2)[0] == owner)
            if record.get("state") not in ("Admitted", "Evicting") or here >= record["clusters"].get(cluster, 0):
                self.wrong.append(f"Pod {name} is the {here + 1}th of its job in {cluster}, which has {record}")
            twins = [other for other in self._pods if other[1].rsplit("-", 1)[0] == name.rsplit("-", 1)[0]]
            if twins:
                self.wrong.append(f"Pod {name} in {cluster} runs beside {twins}")
        if lives:
            self._pods[key] = obj
        elif self._pods.pop(key, None) is not None and obj["status"].get("phase") == "Succeeded":
            self.succeeded[f"{owner}-{index}"] += 1
            if self.succeeded[f"{owner}-{index}"] > 1:
                self.wrong.append(f"index {index} of {owner} succeeded twice")
        self._quota(f"after Pod {name} is {type}")

    def _record(self, name: str) -> dict[str, Any]:
        return ((self._jobs.get(name) or {}).get("status") or {}).get("admission") or {}

    def _cpu(self, name: str) -> int:
        return int(self._jobs[name]["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])

    def _quota(self, when: str) -> None:
        held: defaultdict[str, int] = defaultdict(int)
        used: defaultdict[str, int] = defaultdict(int)
        for name, obj in self._jobs.items():
            record = self._record(name)
            status = obj.get("status") or {}
            if not over(status) and (record.get("state") == "Admitted" or (record.get("state") == "Evicting" and has_pods(status))):
                held[record.get("queue", "")] += self._cpu(name) * sum(record["clusters"].values())
        for _, pod in self._pods:
            owner = pod.rsplit("-", 2)[0]
            if owner in self._jobs:
                used[self._record(owner).get("queue", "")] += self._cpu(owner)
        shared: defaultdict[str, list[str]] = defaultdict(list)
        for name, spec in self._limits.items():
            shared[spec.get("cohort") or name].append(name)
            limit = spec["flavors"][0]["resources"][0]
            if "borrowingLimit" in limit and held[name] > int(limit["nominalQuota"]) + int(limit["borrowingLimit"]):
                self.wrong.append(f"queue {name} holds {held[name]} {when}")
        for names in shared.values():
            most = sum(int(self._limits[name]["flavors"][0]["resources"][0]["nominalQuota"]) for name in names)
            for what, found in (("hold", held), ("use", used)):
                if sum(found[name] for name in names) > most:
                    self.wrong.append(f"queues {names} {what} {sum(found[name] for name in names)} of {most} {when}")
