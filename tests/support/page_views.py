"""Fleets for the status page: what the leader sends and the members report, built in Python, and the observer's real view of it."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from inprocess import fleet_doc
from job_samples import JobShard

from raycp.base.clock import VirtualClock
from raycp.base.problems import FleetProblem, ProblemCode, ProblemOwner
from raycp.leadership.switches import Switch
from raycp.metrics import Merger, Metrics
from raycp.metrics.catalog import ApiMetrics, ReconcileMetrics, ReflectorMetrics, WorkQueueMetrics
from raycp.observer.chronicle import Chronicle
from raycp.observer.fleet_view import FleetView
from raycp.observer.sources import MemberReport
from raycp.observer.status_feed import StatusFeed
from raycp.protocol.job_query import JobQuery
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import ControllerPlan, Fleet
from raycp.protocol.report import ClusterReport, FailureReport, LaneReport, Report
from raycp.protocol.status import (
    ControllerStatus,
    FleetClusterStatus,
    FleetStatus,
    LaneStatus,
    LeaderStatus,
    ShardStatus,
    SuspectStatus,
    WorkerStatus,
    with_readiness,
)

WALL = 1_795_786_860.0
"""2026-11-27 13:41 UTC."""

SINCE = WALL - 180.0
"""13:38."""

JOB = "batch.raycp.io/v1alpha1/BatchJob"
SHARDS = [Member(Role.SHARD, "0", 0), Member(Role.SHARD, "1", 0)]
WORKERS = [Member(Role.WORKER, name, 0) for name in ("critical/0", "standard/0", "standard/1")]


def cluster(number: int, name: str, **fields: Any) -> FleetClusterStatus:
    role = "hub" if name == "hub" else "member"
    labels = {} if name == "hub" else {"region": name.split("-")[0], "raycp.io/cluster": name}
    known = FleetClusterStatus(
        name=name, role=role, shard=str(number % 2), reachable=True, synced=True, objects=214 + 97 * number, lag_seconds=0.2,
        breaker="closed", version="v1.36.2", labels=labels, reason="",
    )  # fmt: skip
    return msgspec.structs.replace(known, **fields)


def fleet(names: list[str], **fields: Any) -> FleetStatus:
    """A fleet in which all is well."""
    clusters = [cluster(number, name) for number, name in enumerate(names)]
    places = [(member.actor_name, member.place) for member in WORKERS]
    found = FleetStatus(
        fleet="production",
        generation="fdfc0d622c85",
        plan=7,
        leader=LeaderStatus(epoch=3, incarnation=2, holder="node-4/leader", since=WALL - 7200.0, lock="configMap"),
        shards=[
            ShardStatus(
                shard=str(at), member=member.actor_name, state="running", ready=True, node=f"node-{at + 1}", term=4 - at,
                standbys=1, clusters=[each.name for each in clusters if each.shard == str(at)],
            )
            for at, member in enumerate(SHARDS)
        ],
        workers=[
            WorkerStatus(worker=name, tier=name.split("/")[0], member=actor, state="running", ready=True, slots=32, node="node-3")
            for actor, name in places
        ],
        clusters=clusters,
        lanes=[LaneStatus(tier=tier, share=share) for tier, share in (("critical", 0.4), ("standard", 0.25), ("background", 0.1))],
        controllers=[
            ControllerStatus(name="batchjob", kind=JOB, on="hub", clusters=["hub"]),
            ControllerStatus(name="website", kind="v1/ConfigMap", on="all", clusters=names),
        ],
        switches=[
            Switch(WALL - 7200.0, "cold start", "leader", 3, 1, "node-4/leader", leaderless=0.41, ramp_up=0.2, backlog=0.3),
            Switch(WALL - 5400.0, "death", "shard 0", 3, 4, "node-1/shard", leaderless=0.18, ramp_up=0.012, backlog=0.04),
        ],
    )  # fmt: skip
    return msgspec.structs.replace(found, **fields)


def failure(cluster: str, name: str, **fields: Any) -> FailureReport:
    known = FailureReport(
        cluster=cluster, object=f"{cluster}/v1/ConfigMap/default/{name}", controller="website",
        cause="TypeError: 'NoneType' object is not subscriptable", frame="website.py:40", attempts=7, next_try=WALL + 12.0,
        since=SINCE,
    )  # fmt: skip
    return msgspec.structs.replace(known, **fields)


def suspect(**fields: Any) -> SuspectStatus:
    known = SuspectStatus(
        object="east-1/v1/ConfigMap/default/bomb", controller="website", convicted=True, deaths=3,
        reason="its reconcile ended worker quarantine/0 by SIGKILL", since=SINCE,
    )  # fmt: skip
    return msgspec.structs.replace(known, **fields)


NAMES = ["hub", "east-1", "east-2", "west-1", "west-2"]


def failing_fleet() -> tuple[FleetStatus, list[FailureReport]]:
    """Ready, and one controller fails in three clusters."""
    return fleet(NAMES), [failure("hub", "a"), failure("east-1", "b", since=SINCE + 60.0), failure("west-1", "c", attempts=2)]


def crashing_fleet() -> FleetStatus:
    """No worker is at work: each dies at once."""
    dead = [f"worker {member.place}: starting" for member in WORKERS]
    workers = [
        msgspec.structs.replace(row, member="", state="missing", ready=False, reasons=[reason])
        for row, reason in zip(fleet(NAMES).workers, dead, strict=True)
    ]
    loop = FleetProblem(
        ProblemCode.CRASH_LOOP, ProblemOwner(member="pool standard"), "the last 4 workers died within 2 s of their start", SINCE
    )
    return fleet(NAMES, workers=workers, problems=[loop])


def one_down() -> FleetStatus:
    """Degraded: a cluster does not answer."""
    reason = "connection refused: https://10.0.7.1:6443, tried again in 8 s"
    down = FleetProblem(ProblemCode.CLUSTER_UNREACHABLE, ProblemOwner(cluster="west-2"), reason, SINCE)
    clusters = fleet(NAMES).clusters
    gone = {"reachable": False, "synced": False, "breaker": "open", "reason": reason, "lag_seconds": 41.0}
    return fleet(NAMES, clusters=[*clusters[:-1], msgspec.structs.replace(clusters[-1], **gone)], problems=[down])


def objective(controller: str, tier: str, within: float, bad: int, remaining: float) -> dict[str, Any]:
    ratio = 1 - bad / 48_210
    windows = {name: {"total": 900, "bad": bad / 60, "ratio": ratio, "burn": bad / 40} for name in ("instant", "5m", "1h", "30d")}
    return {
        "name": f"{controller}-{tier}-{within:g}s",
        "controller": controller,
        "tier": tier,
        "objective": 0.999,
        "within_seconds": within,
        "total": 48_210,
        "bad": bad,
        "windows": windows,
        "budget": {"allowed": 48.2, "spent": bad, "remaining": remaining},
        "alerts": [{"severity": "page", "long": "1h", "short": "5m", "factor": 14.4}] if remaining < 0 else [],
        "latency": {"p50": 0.0061, "p99": 0.0189, "p999": 0.0437},
        "attribution": {"watch_lag": 0.09, "delay": 0.0, "queue": 0.21, "dispatch": 0.12, "work": 0.16, "api": 0.42},
    }


CALL = {"verb": "create", "cluster": "east-1", "path": "/api/v1/namespaces/default/pods", "status": 201, "seconds": 0.004}
STEPS: list[dict[str, Any]] = [
    {"at": WALL - 9.3, "what": "received", "reason": "update", "tier": "critical", "delay": 0.0, "why": "field spec.qosTier"},
    {"at": WALL - 9.2, "what": "handed_out", "worker": "standard/0", "attempt": 1, "waited": 0.00019},
    {
        "at": WALL - 9.1,
        "what": "failed",
        "seconds": 0.2,
        "error": "ApiError 403: pods is forbidden",
        "calls": [CALL | {"status": 403}],
    },
    {"at": WALL - 4.1, "what": "handed_out", "worker": "standard/1", "attempt": 2, "waited": 0.0004},
    {"at": WALL - 4.0, "what": "succeeded", "seconds": 0.0103, "calls": [CALL]},
]


class Shards:
    """Knows one object, and the jobs of ``jobs``."""

    def __init__(self, jobs: JobShard) -> None:
        self.jobs = jobs

    async def timeline(
        self, shard: str, cluster: str, kind: str, namespace: str, name: str, topic: str = "", jobs: JobQuery | None = None
    ) -> bytes | None:
        if topic:
            return await self.jobs.answer(topic, jobs)
        if (cluster, kind, namespace, name) != ("hub", JOB, "default", "hello"):
            return None
        return msgspec.json.encode({"controllers": [{"controller": "batchjob", "queue": None, "steps": STEPS}]})


class Book:
    """The service levels."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def report(self) -> list[dict[str, Any]]:
        return self.rows


def fleet_file(
    generation: str, clusters: Iterable[str] = ("hub",), controllers: Iterable[ControllerPlan] = (), **spec: Any
) -> Fleet:
    """What was applied."""
    return Fleet("production", fleet_doc(clusters, ["batchjob"], **spec).canonical(), generation, 1, tuple(controllers))


class PagePlan:
    """Of a plan what the observer's view and chronicle ask."""

    following: object = None
    home = "blue"

    def __init__(self, status: FleetStatus) -> None:
        self.fleet = fleet_file(status.generation)
        self.clusters = status.clusters
        self.hub = next((row for row in status.clusters if row.role == "hub"), None)
        self.shards = [type("Place", (), {"member": row.member, "shard": row.shard}) for row in status.shards]
        self._by_name = {row.name: row for row in status.clusters}

    def cluster(self, name: str) -> FleetClusterStatus:
        return self._by_name[name]


class PageFleet:
    """``view`` is the observer's, of ``status``; ``failing`` objects fail in all. ``work`` counts, and time passes."""

    def __init__(
        self,
        status: FleetStatus | None,
        failures: list[FailureReport] | None = None,
        failing: int | None = None,
        slo: list[dict[str, Any]] | None = None,
        lanes: dict[str, int] | None = None,
        jobs: JobShard | None = None,
    ) -> None:
        self.jobs = jobs or JobShard([])
        self.clock = VirtualClock(wall=WALL)
        self.merger = Merger()
        self.reports: dict[str, MemberReport] = {}
        self.feed = StatusFeed(self.clock, self.reports)
        self.status = with_readiness(status) if status is not None else None
        self._metrics = Metrics()
        self._reconciles = ReconcileMetrics(self._metrics)
        self._queue = WorkQueueMetrics(self._metrics)
        self._api = ApiMetrics(self._metrics)
        self._cache = ReflectorMetrics(self._metrics)
        if self.status is not None:
            self.feed.receive(self.status)
            self._report(self.status, failures or [], failing, lanes or {})
        self.plan: Any = PagePlan(self.status) if self.status is not None else None
        self.book = Book(slo or [])
        self.view, self.chronicle = self.observer()

    def observer(self, restored: Callable[[], bool] = lambda: True) -> tuple[FleetView, Chronicle]:
        """A new observer's view of this fleet, and its memory."""
        chronicle = Chronicle(self.clock, self.feed, self.merger, self.book.report, lambda: self.plan, restored)
        return FleetView(self.clock, self.feed, self.merger, self.book, Shards(self.jobs), lambda: self.plan, chronicle), chronicle

    def _report(self, status: FleetStatus, failures: list[FailureReport], failing: int | None, lanes: dict[str, int]) -> None:
        for at, member in enumerate(SHARDS):
            rows = [ClusterReport(row.name, objects=row.objects, lag=row.lag_seconds or 0.0) for row in status.clusters]
            report = Report(pid=1, node=f"node-{at}", plan=7, ready=True, state="running")
            report.clusters = [row for row, known in zip(rows, status.clusters, strict=True) if known.shard == str(at)]
            if at == 0:
                report.failures, report.failing = failures, len(failures) if failing is None else failing
                report.lanes = [LaneReport(tier, ready=ready, in_flight=min(ready, 12)) for tier, ready in lanes.items()]
            self.reports[member.actor_name] = MemberReport(member, report, self.clock.now())
        for worker in WORKERS:
            busy = min(30, sum(lanes.values()))
            self.reports[worker.actor_name] = MemberReport(worker, Report(pid=1, node="n", slots=32, busy=busy), self.clock.now())

    def become(self, **fields: Any) -> None:
        """The leader sends another status."""
        assert self.status is not None
        self.status = with_readiness(msgspec.structs.replace(self.status, **fields))
        self.feed.receive(self.status)

    async def measured(self, points: int, runs: int = 30, *, failed: int = 0) -> None:
        """So many points of the history, with ``runs`` reconciles in each."""
        for _ in range(points):
            await self.work(runs, failed=failed)
            await self.chronicle.sample()
            await self.chronicle.look()

    async def work(self, runs: int, *, failed: int = 0, seconds: float = 10.0) -> None:
        """``runs`` reconciles of each controller in each of its clusters, ``failed`` of them in vain, within ``seconds``."""
        assert self.status is not None
        await self.view.controllers()
        for controller in self.status.controllers:
            for name in controller.clusters:
                self._reconciles.total.labels(controller.name, name, "success").inc(runs - failed)
                self._reconciles.total.labels(controller.name, name, "error").inc(failed)
                self._reconciles.seconds.labels(controller.name, name).observe(0.02, runs)
                self._queue.depth.labels(name, controller.name, "standard").set(3)
                self._cache.objects.labels(name, controller.kind, "shard").set(400)
                self._cache.objects.labels(name, controller.kind, "standby").set(400)
                self._api.requests.labels(name, "patch", "200").inc(runs)
                self._api.requests.labels(name, "patch", "409").inc(failed)
                self._api.requests.labels(name, "patch", "403").inc(failed)
                self._api.seconds.labels(name, "patch").observe(0.004, runs)
                self._api.in_flight.labels(name).set(2)
        self.merger.feed("worker", self._metrics.snapshot())
        self.feed.receive(self.status)
        await self.clock.advance(seconds)
        self.feed.receive(self.status)
