"""Jobs of a hub as its shard caches them, built in Python; what the shard answers of them, without a fleet."""

from collections.abc import Iterator
from typing import Any

import msgspec

from raycp.base.clock import SystemClock
from raycp.base.objects import Obj
from raycp.kube.codec import decode_object
from raycp.protocol.job_query import JobQuery
from raycp.scheduler.job_list import JobList
from raycp.scheduling.admissions import JobWait
from raycp.sdk import conditions

BEGIN = 1_795_780_800.0
"""2026-11-27 12:00 UTC."""


def condition(type: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": type, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-11-27T12:00:00Z"}


def pods(name: str, assigned: str = "", **numbers: Any) -> dict[str, Any]:
    """What one member does for a job."""
    return {"name": name, "assigned": assigned, **numbers}


def batch_job(
    name: str, phase: str = "", *, rv: int = 1, at: float = 0.0, namespace: str = "default", spec: Any = None, **status: Any
) -> Obj:
    """``at``: created so many seconds after ``BEGIN``."""
    created = conditions.time_text(BEGIN + at)
    meta = {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}", "resourceVersion": str(rv)}
    template = {"spec": {"containers": [{"name": "main", "image": "registry/image:1", "command": ["work"] * 20}]}}
    found: dict[str, Any] = {
        "apiVersion": "batch.raycp.io/v1alpha1",
        "kind": "BatchJob",
        "metadata": {**meta, "creationTimestamp": created},
        "spec": {"template": template, **(spec or {})},
    }
    if phase:
        found["status"] = {"phase": phase, **status}
    return decode_object(msgspec.json.encode(found))


FITS_NOWHERE = condition("Scheduled", "False", "NoClusterFits", "no cluster has room for 8 Pods with 4 CPUs each")
FAILED = condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
GOING = condition("FailureTarget", "True", "PodFailurePolicy", "container main of Pod purge-3 ended with exit code 42")
PULL = condition("PodsReady", "False", "ImagePullBackOff", "ImagePullBackOff: Pod resize-0 in cluster east-2: no such image")
QUOTA = {"state": "Pending", "queue": "research", "reason": "WaitingForQuota", "message": "cpu: 410 of 400 are used"}


def some_jobs() -> list[Obj]:
    """One of each sort, as the page shows them."""
    spec = {"parallelism": 8, "completions": 20}
    east = pods("east-1", "5-8", active=4, ready=3, succeeded=6)
    gone = pods("west-2", "3", active=1, failed=3, reachable=False)
    west = pods("west-1", "9-12", active=4, ready=4, succeeded=7, failed=1)
    return [
        batch_job("render", "Running", at=600, spec=spec, active=8, ready=7, succeeded=13, failed=1, clusters=[east, west]),
        batch_job("train", "Queued", at=900, namespace="research", spec={**spec, "queue": "research"}, admission=QUOTA),
        batch_job("index", "Pending", at=1200, spec=spec, conditions=[FITS_NOWHERE]),
        batch_job("resize", "Running", at=300, spec=spec, active=1, conditions=[PULL], clusters=[pods("east-2", "0", active=1)]),
        batch_job("import", "Failed", at=60, failed=7, conditions=[FAILED], clusters=[pods("west-2", failed=7)]),
        batch_job("report", "Complete", at=30, succeeded=20, spec=spec, clusters=[pods("east-1", succeeded=20)]),
        batch_job("purge", "Failing", at=100, failed=3, conditions=[GOING], clusters=[gone]),
        batch_job("fresh", at=5000),
    ]


PHASES = ("Running", "Running", "Complete", "Complete", "Complete", "Queued", "Pending", "Failed", "Suspended", "Failing")


def many_jobs(count: int, clusters: list[str]) -> list[Obj]:
    """``count`` jobs in 20 namespaces, of all phases, each in three of ``clusters``."""
    spec = {"parallelism": 6, "completions": 30}
    return [
        batch_job(
            f"job-{number:05}", PHASES[number % len(PHASES)], rv=number + 1, at=float(number), namespace=f"team-{number % 20:02}",
            spec={**spec, "queue": f"queue-{number % 7}"} if number % 2 else spec,
            active=5, ready=4, succeeded=12, failed=number % 3,
            conditions=[FITS_NOWHERE] if number % len(PHASES) == 6 else [],
            clusters=[pods(clusters[(number + at) % len(clusters)], "0-1", active=2, ready=1, succeeded=4) for at in range(3)],
        )
        for number in range(count)
    ]  # fmt: skip


class HubCache:
    """The jobs that a shard caches. ``looked``: how often all of them were."""

    def __init__(self, jobs: list[Obj]) -> None:
        self.jobs = jobs
        self.listed = True
        self.looked = 0

    def all_cached(self) -> Iterator[Obj]:
        self.looked += 1
        return iter(list(self.jobs))


WAITS = {("research", "train"): JobWait("BehindHead", "2 jobs are before it, the first is research/big", 3, 14)}

QUEUES: list[dict[str, Any]] = [
    {
        "name": "research", "cohort": "company", "pending": 14, "admitted": 41, "share": 0.1, "namespaces": ["research"],
        "problem": "",
        "head": {"job": "research/big", "reason": "WaitingForQuota", "message": "needs 64 cpu of flavor default, 0 are free"},
        "usage": [
            {"flavor": "default", "resource": "cpu", "nominal": "400", "used": "410", "borrowed": "10", "full": 1.025},
            {"flavor": "default", "resource": "memory", "nominal": "1600Gi", "used": "980Gi", "borrowed": "0", "full": 0.612},
            {"flavor": "gpu", "resource": "nvidia.com/gpu", "nominal": "16", "used": "12", "borrowed": "0", "full": 0.75},
        ],
    },
    {
        "name": "nightly", "cohort": "company", "pending": 0, "admitted": 3, "share": 0.0, "namespaces": ["default"], "problem": "",
        "head": None,
        "usage": [{"flavor": "default", "resource": "cpu", "nominal": "200", "used": "36", "borrowed": "0", "full": 0.18}],
    },
    {
        "name": "held", "cohort": "", "pending": 2, "admitted": 0, "share": 0.0, "namespaces": [], "usage": [],
        "problem": "it is held (stopPolicy)",
        "head": {"job": "default/later", "reason": "QueueStopped", "message": "queue held is stopped (stop: Hold)"},
    },
]  # fmt: skip


class JobShard:
    """Answers what the observer asks of jobs and queues, as the hub's shard does. ``silent``: it does not."""

    def __init__(self, jobs: list[Obj], queues: list[dict[str, Any]] | None = None) -> None:
        self.cache = HubCache(jobs)
        self.list = JobList(self.cache, _nightly if queues else _none, lambda *key: WAITS.get(key), SystemClock())
        self.queues = queues or []
        self.silent = False

    async def answer(self, topic: str, query: JobQuery | None) -> bytes | None:
        if self.silent:
            return None
        if topic == "queues":
            return msgspec.json.encode({"items": self.queues})
        return msgspec.json.encode(await self.list.answer(query or JobQuery())) if topic == "jobs" else None


def _nightly(namespace: str) -> str:
    return "nightly" if namespace == "default" else ""


def _none(namespace: str) -> str:
    return ""
