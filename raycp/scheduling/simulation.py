"""``simulate``: admission in virtual time over a list of jobs. The decisions are those of ``Admission``; only time is simulated.

Pods of an admitted job run at once and for the job's ``duration``; one with an ``active_deadline`` below it ends then. Pods of a
job
that is preempted go after ``grace`` seconds, and what it has done is lost: it starts again from the beginning.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from raycp.scheduling.admission import Admission
from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.model import Candidate
from raycp.scheduling.queues import QueueSpec

CURVE_POINTS = 400


class SimulatedJob(msgspec.Struct, frozen=True):
    """A job that arrives at ``demand.created``, in seconds from the start, and needs ``duration`` seconds. ``group``: the priority
    that it is reported under."""

    demand: JobDemand
    duration: float
    group: int = 0


class ClassReport(msgspec.Struct, frozen=True):
    """Jobs of one priority. A job's wait is all the time from its arrival to its end in which it did not do what was needed:
    before it started, and what it did in vain before it was preempted. ``unfinished``: jobs that could never run."""

    priority: int
    jobs: int
    unfinished: int
    wait_mean_s: float
    wait_p50_s: float
    wait_p99_s: float
    wait_max_s: float
    preemptions: int


class SimulationReport(msgspec.Struct, frozen=True):
    """What came of it. ``utilisation``: share of each resource that admitted jobs asked for, averaged from the first arrival to the
    last. ``lost_share``: of the core seconds used, those that were lost by preemption. Curves are (seconds, value)."""

    name: str
    classes: tuple[ClassReport, ...]
    utilisation: dict[str, float]
    lost_share: float
    preemptions: int
    decisions: int
    makespan_s: float
    over_quota: int
    curves: dict[str, list[tuple[float, float]]]


class SimulationError(ValueError):
    """It can't be simulated; the text says what is missing."""


def simulate(
    name: str,
    jobs: Sequence[SimulatedJob],
    clusters: Iterable[tuple[Candidate, CapacitySummary]],
    queues: Iterable[QueueSpec],
    grace: float = 30.0,
) -> SimulationReport:
    """Run all jobs to their end. Raises ``SimulationError``."""
    run = _Run(jobs, list(clusters), list(queues), grace)
    run.play()
    return run.report(name)


class _Run:
    def __init__(
        self, jobs: Sequence[SimulatedJob], clusters: list[tuple[Candidate, CapacitySummary]], queues: list[QueueSpec], grace: float
    ) -> None:
        if not jobs:
            raise SimulationError("there are no jobs")
        if not clusters:
            raise SimulationError("no cluster has a known capacity")
        self.jobs = {each.demand.uid: each for each in jobs}
        self.grace = grace
        self.total: Counter[str] = Counter()
        self.admission = Admission()
        self.admission.set_queues(queues, 0.0)
        for cluster, capacity in clusters:
            known = replace(capacity, declared=True, jobs={})  # nothing ever shows the Pods that are simulated
            self.admission.set_cluster(cluster, known, 0.0)
            self.total.update(capacity.allocatable())
        self.heap: list[tuple[float, int, str, str, int]] = []
        self.turn: Counter[str] = Counter()
        """How often a job has started: an end of an earlier start means nothing."""
        self.pods: dict[str, int] = {}
        self.since: dict[str, float] = {}
        self.used: Counter[str] = Counter()
        self.first = min(each.demand.created for each in jobs)
        self.last_arrival = max(each.demand.created for each in jobs)
        self.integral: Counter[str] = Counter()
        self.now = self.first
        self.ended: dict[str, float] = {}
        self.waiting = 0
        self.work = self.lost = 0.0
        self.preempted: Counter[str] = Counter()
        self.decisions = self.over = 0
        self.points: list[tuple[float, float, float]] = []
        for at, each in enumerate(sorted(jobs, key=lambda each: (each.demand.created, each.demand.uid))):
            heapq.heappush(self.heap, (each.demand.created, at, "arrive", each.demand.uid, 0))
        self.sequence = len(jobs)
        self.main = "cpu" if self.total["cpu"] else next(iter(self.total), "pods")

    def play(self) -> None:
        """Until nothing happens any more."""
        while True:
            wake = self.admission.next_wake(self.now)
            if not self.heap and (wake is None or not self.waiting or wake <= self.now):
                break
            at = min(self.heap[0][0] if self.heap else wake or 0.0, wake if wake is not None else float("inf"))
            self.advance(max(at, self.now))
            while self.heap and self.heap[0][0] <= self.now:
                _, _, what, uid, turn = heapq.heappop(self.heap)
                self.happen(what, uid, turn)
            self.decide()
            self.points.append((self.now, self.used[self.main] / max(1, self.total[self.main]), float(self.waiting)))

    def advance(self, to: float) -> None:
        """Time passes."""
        span = max(0.0, min(to, self.last_arrival) - self.now)
        for resource, amount in self.used.items():
            self.integral[resource] += amount * span  # type: ignore[assignment]
        self.now = to

    def happen(self, what: str, uid: str, turn: int) -> None:
        """An event whose time has come."""
        if what == "arrive":
            self.waiting += 1
            self.admission.submit(self.jobs[uid].demand, None, self.now)
        elif what == "gone":
            self.release(uid, lost=True)
            self.waiting += 1
            self.admission.evicted(uid, self.now)
        elif what == "end" and turn == self.turn[uid]:
            self.release(uid, lost=False)
            self.ended[uid] = self.now
            job = self.jobs[uid]
            deadline = job.demand.active_deadline
            failed = deadline is not None and deadline < job.duration
            self.admission.finish(uid, "Failed" if failed else "Complete", self.now)

    def release(self, uid: str, *, lost: bool) -> None:
        """A job stops to use what it has used."""
        pods = self.pods.pop(uid)
        for resource, amount in self.jobs[uid].demand.per_pod.items():
            self.used[resource] -= amount * pods
        work = self.jobs[uid].demand.per_pod.get(self.main, 0) * pods * (self.now - self.since[uid])
        self.work += work
        self.lost += work if lost else 0.0

    def decide(self) -> None:
        """Carry out what is decided."""
        while made := self.admission.decide(self.now):
            self.decisions += len(made)
            for decision in made:
                uid = decision.uid
                self.turn[uid] += 1
                if decision.kind == "Admit":
                    self.start(uid, sum(decision.record.clusters.values()))
                else:
                    self.preempted[uid] += 1
                    self.later(self.grace, "gone", uid)
            self.over += len(self.admission.over_quota())

    def start(self, uid: str, pods: int) -> None:
        """It runs; with fewer Pods than it wants, it takes longer."""
        job = self.jobs[uid]
        self.waiting -= 1
        self.pods[uid], self.since[uid] = pods, self.now
        for resource, amount in job.demand.per_pod.items():
            self.used[resource] += amount * pods
        takes = job.duration * job.demand.pods / pods
        if job.demand.active_deadline is not None:
            takes = min(takes, job.demand.active_deadline)
        self.later(takes, "end", uid)
        self.admission.pods(uid, pods, self.now)

    def later(self, seconds: float, what: str, uid: str) -> None:
        """An event to come."""
        self.sequence += 1
        heapq.heappush(self.heap, (self.now + seconds, self.sequence, what, uid, self.turn[uid]))

    def wait(self, job: SimulatedJob) -> float:
        """Of a job that has ended."""
        return max(0.0, self.ended[job.demand.uid] - job.demand.created - _needs(job))

    def report(self, name: str) -> SimulationReport:
        """What came of it."""
        classes = []
        for priority in sorted({each.group for each in self.jobs.values()}, reverse=True):
            members = [each for each in self.jobs.values() if each.group == priority]
            waits = sorted(self.wait(each) for each in members if each.demand.uid in self.ended)
            classes.append(
                ClassReport(
                    priority,
                    len(members),
                    len(members) - len(waits),
                    sum(waits) / len(waits) if waits else 0.0,
                    quantile(waits, 0.5),
                    quantile(waits, 0.99),
                    waits[-1] if waits else 0.0,
                    sum(self.preempted[each.demand.uid] for each in members),
                )
            )
        span = max(1e-9, self.last_arrival - self.first)
        return SimulationReport(
            name,
            tuple(classes),
            {each: round(self.integral[each] / span / total, 4) for each, total in sorted(self.total.items()) if total},
            self.lost / self.work if self.work else 0.0,
            sum(self.preempted.values()),
            self.decisions,
            max(self.ended.values(), default=self.now) - self.first,
            self.over,
            _curves(self.points),
        )


def _needs(job: SimulatedJob) -> float:
    deadline = job.demand.active_deadline
    return job.duration if deadline is None else min(job.duration, deadline)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of ordered values, by nearest rank; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _curves(points: list[tuple[float, float, float]]) -> dict[str, list[tuple[float, Any]]]:
    step = max(1, len(points) // CURVE_POINTS)
    return {
        "utilisation": [(at, round(used, 4)) for at, used, _ in points[::step]],
        "waiting jobs": [(at, waiting) for at, _, waiting in points[::step]],
    }
