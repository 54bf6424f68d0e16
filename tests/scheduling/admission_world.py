"""A fleet of numbers for tests of admission: jobs come and end, clusters are lost, the scheduler dies."""

from collections import defaultdict
from typing import Any

from raycp.scheduling.admission import Admission
from raycp.scheduling.admissions import AdmissionDecision, AdmissionRecord
from raycp.scheduling.capacity import DeclaredNodes, declared_capacity
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.model import Candidate
from raycp.scheduling.queues import FlavorQuotas, FlavorResource, QueueSpec
from raycp.scheduling.state import AdmissionState

CPU = "cpu"


def queue(name: str, cpu: int, cohort: str = "", **fields: Any) -> QueueSpec:
    limits = {key: fields.pop(key) for key in ("borrowing_limit", "lending_limit") if key in fields}
    return QueueSpec(name, (FlavorQuotas("default", (FlavorResource(CPU, cpu, **limits),)),), cohort, **fields)


def job(uid: str, pods: int = 1, cpu: int = 1, created: float = 0.0, **fields: Any) -> JobDemand:
    return JobDemand(uid, "ns", uid, created, pods, {CPU: cpu}, **fields)


class World:
    """The scheduler and what it can't see: the jobs' records, as they stand on the hub."""

    def __init__(
        self, queues: list[QueueSpec], clusters: dict[str, tuple[int, int]], state: type[AdmissionState] = AdmissionState
    ) -> None:
        """``clusters``: nodes and cpu of each."""
        self.queues, self.clusters, self.state = queues, clusters, state
        self.jobs: dict[str, JobDemand] = {}
        self.records: dict[str, AdmissionRecord] = {}
        self.lost: set[str] = set()
        self.observed: set[str] = set()
        """Clusters whose nodes are observed, not declared: Pods that are not seen there take no room for ever."""
        self.fields: dict[str, dict[str, Any]] = {}
        """More of each ``Candidate``."""
        self.now = 0.0
        self.decisions: list[AdmissionDecision] = []
        self.restart()

    def restart(self) -> None:
        """Another scheduler, which knows the records alone."""
        self.admission = Admission(self.state())
        self.decisions = []
        self.admission.set_queues(self.queues, self.now)
        for name in self.clusters:
            self.tell(name)
        for uid, demand in self.jobs.items():
            self.admission.submit(demand, self.records.get(uid), self.now)

    def tell(self, name: str) -> None:
        nodes, cpu = self.clusters[name]
        labels = {"zone": f"z-{name[-1]}"}
        capacity = declared_capacity(name, [DeclaredNodes(nodes, {CPU: cpu, "pods": 110})])
        capacity.declared = name not in self.observed
        candidate = Candidate(name, labels, name not in self.lost, "it is silent", **self.fields.get(name, {}))
        self.admission.set_cluster(candidate, capacity, self.now)

    def submit(self, demand: JobDemand) -> None:
        self.jobs[demand.uid] = demand
        self.admission.submit(demand, None, self.now)

    def end(self, uid: str, outcome: Any = "Complete") -> None:
        self.admission.finish(uid, outcome, self.now)
        self.jobs.pop(uid)
        self.records.pop(uid, None)

    def gone(self, uid: str) -> None:
        record = self.admission.evicted(uid, self.now)
        assert record is not None
        self.records[uid] = record

    def decide(self, limit: int = 1000, *, step_by_step: bool = False) -> list[AdmissionDecision]:
        """``step_by_step``: in as many calls as possible."""
        made = self.admission.decide(self.now, limit, lambda: step_by_step)
        while step_by_step and self.admission.undecided:
            made += self.admission.decide(self.now, limit, lambda: True)
        for decision in made:
            before = self.records.get(decision.uid, AdmissionRecord("Pending"))
            assert before.state == ("Pending" if decision.kind == "Admit" else "Admitted"), decision
            self.records[decision.uid] = decision.record
        self.decisions += made
        self.check()
        return made

    def names(self, state: str) -> list[str]:
        return sorted(uid for uid, record in self.records.items() if record.state == state)

    @property
    def admitted(self) -> list[str]:
        return self.names("Admitted")

    @property
    def waiting(self) -> list[str]:
        return sorted(uid for uid in self.jobs if self.records.get(uid, AdmissionRecord("Pending")).state == "Pending")

    def check(self) -> None:
        """Quota and room, counted from the records alone."""
        assert self.admission.over_quota() == []
        used: defaultdict[str, int] = defaultdict(int)
        filled: defaultdict[str, int] = defaultdict(int)
        for uid, record in self.records.items():
            if record.state == "Pending":
                continue
            demand = self.jobs[uid]
            pods = sum(record.clusters.values())
            assert demand.needed <= pods <= demand.pods or record.state == "Evicting" or not demand.min_available
            used[record.queue] += pods * demand.requests[CPU]
            for name, count in record.clusters.items():
                filled[name] += count * demand.requests[CPU]
        for name, amount in filled.items():
            nodes, cpu = self.clusters[name]
            assert amount <= nodes * cpu, (name, amount)
        cohorts: defaultdict[str, list[QueueSpec]] = defaultdict(list)
        for each in self.queues:
            cohorts[each.cohort or f"/{each.name}"].append(each)
        for members in cohorts.values():
            shared = taken = 0
            for each in members:
                quota = each.flavors[0].resources[0]
                lends = quota.nominal if quota.lending_limit is None else min(quota.nominal, quota.lending_limit)
                shared += lends
                taken += max(0, used[each.name] - (quota.nominal - lends))
                if quota.borrowing_limit is not None:
                    assert used[each.name] <= quota.nominal + quota.borrowing_limit
            assert taken <= shared
