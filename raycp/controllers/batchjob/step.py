"""``JobStep``: one step of planning a job: what is seen, what is remembered, and what is decided so far."""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property

from raycp.controllers.batchjob.job import POLL, Job, JobCluster, JobPlan
from raycp.controllers.batchjob.placementtypes import rules_of
from raycp.controllers.batchjob.podadmission import admission_of
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.record import JobRecord
from raycp.scheduling import Candidate, Rules, allowed
from raycp.sdk import conditions


class JobStep:
    """The parts of the plan (``ends``, ``verdict``, ``creations``, ``report``) work on it one after the other."""

    def __init__(self, job: Job, pods: Iterable[JobPod], clusters: Iterable[JobCluster], now: float) -> None:
        self.job, self.spec, self.now = job, job.spec, now
        self.clusters = {cluster.name: cluster for cluster in clusters}
        self.record = JobRecord.read(dict(job.status))
        assigned = self.record.assigned
        self.pods = sorted(pods, key=lambda pod: (pod.index, pod.attempt, assigned.get(pod.index) != pod.cluster, pod.cluster))
        self.out = JobPlan()
        self.present: list[JobPod] = []
        """Pods that have not ended: the job is not over while there are any."""
        self.running: dict[int, list[JobPod]] = {}
        """Those of them that keep their index from getting another Pod, by index."""
        self.blocked: set[int] = set()
        self.live: list[JobPod] = []
        """Pods that run and are wanted."""
        self.policy_failure: tuple[str, str] | None = None
        self.failures: list[float] = []
        self.successes: list[float] = []
        """When the Pods ended whose ends are counted in this step, in Unix seconds."""
        self.wakes: list[float] = []
        self.unplaced = ""
        """Why Pods have no cluster, a sentence; ``stuck``: why some have one and no node, and no better place."""
        self.stuck = ""
        self.vacated = {cluster.name: "it is drained" for cluster in self.clusters.values() if cluster.draining}
        """Clusters that the job's Pods are to leave, and why."""
        self.short = 0
        """Pods that have no cluster, and ``closed``: the clusters that took none of them, whatever their room."""
        self.closed: set[str] = set()
        self.unscheduled: Counter[str] = Counter()
        """Pods that no node takes, and that have no better place, by cluster."""
        self.admission = admission_of(job)
        self.finished = self.record.true("Complete") or self.record.true("Failed")

    @cached_property
    def rules(self) -> Rules:
        """Its ``placement``."""
        return rules_of(self.spec.placement)

    def poll(self) -> None:
        """Wait for a cluster: no event of the job reports that one is back."""
        self.wakes.append(self.now + POLL)

    def settled(self, pod: JobPod) -> bool:
        """Whether its end is counted already, or its index no longer exists."""
        record, index = self.record, pod.index
        if self.spec.completions is not None and index >= self.spec.size:
            return True
        if index in record.completed or index in record.failed_indexes:
            return True
        return pod.attempt < record.attempts.get(index, 0)

    def release(self, pod: JobPod) -> None:
        """Let its object go: its end is counted."""
        if pod.tracked:
            self.out.releases.append(pod)

    def visible(self, cluster: str) -> bool:
        """Whether its Pods are known at the moment."""
        found = self.clusters.get(cluster)
        return found is not None and found.visible

    def hidden(self) -> set[int]:
        """Indexes assigned to unreachable clusters: assumed to be running."""
        return {index for index, cluster in self.record.assigned.items() if not self.visible(cluster)}

    def counted_on(self) -> set[int]:
        """Those of them that the job still has: an elastic job that has shrunk has fewer."""
        size = self.spec.size if self.spec.completions is not None else None
        return {index for index in self.hidden() if size is None or index < size}

    def used(self) -> set[str]:
        """Clusters that have run Pods of the job, or will: not those that it has to leave, or has left."""
        record = self.record
        runs = {cluster for index, cluster in record.assigned.items() if index not in record.tally(cluster).standing.leaving}
        left = set(self.vacated)
        touched = set(runs)
        for name, tally in record.clusters.items():
            if tally.succeeded or tally.failed:
                touched.add(name)
            gone = not self.visible(name) and (tally.standing.replaced or name in self.job.forgotten)
            if name not in runs and (gone or tally.standing.refusal is not None):
                left.add(name)
        return touched - left

    def load(self) -> Counter[str]:
        """Unfinished indexes by the cluster that they are assigned to, without those of clusters that are to be left."""
        return Counter(cluster for cluster in self.record.assigned.values() if cluster not in self.vacated)

    def eligible(self) -> list[str]:
        """The clusters in which the job may run, reachable or not, by their names."""
        return sorted(name for name, cluster in self.clusters.items() if allowed(candidate_of(cluster), self.rules))

    def may_move(self) -> int:
        """How many more running Pods may leave their cluster now (``placement.maxMoving``)."""
        usual = self.spec.at_once if self.spec.gang is not None else self.spec.at_once // 4
        bound = self.spec.placement.max_moving or max(1, usual)
        return bound - sum(len(tally.standing.leaving) for tally in self.record.clusters.values())

    def leaves(self, pod: JobPod) -> bool:
        """Whether it is given up, to run elsewhere."""
        return pod.index in self.record.tally(pod.cluster).standing.leaving

    @property
    def idle(self) -> bool:
        """Whether no Pod is to run: it is suspended, or not admitted."""
        return self.spec.suspend or self.admission.held

    def ending(self) -> bool:
        """Whether success or failure is decided; Pods may still run."""
        return self.record.true("SuccessCriteriaMet") or self.record.true("FailureTarget")

    def condition(self, type: str, status: bool, reason: str, message: str) -> bool:
        """Set a condition of the job; whether that changed anything."""
        return conditions.set(
            self.record.conditions,
            type,
            status,
            reason,
            message,
            now=self.now,
            observed_generation=self.job.generation,
        )


def candidate_of(cluster: JobCluster) -> Candidate:
    """The cluster as placement sees it."""
    return Candidate(cluster.name, cluster.labels, cluster.visible, cluster.reason, cluster.free_pods, taints=cluster.taints)
