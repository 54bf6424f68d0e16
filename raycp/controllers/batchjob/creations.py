"""Which Pods are surplus, which are to be created, and where."""

from raycp.controllers.batchjob.job import POLL, Create, JobCluster
from raycp.controllers.batchjob.step import JobStep
from raycp.controllers.batchjob.types import Placement
from raycp.scheduling import Candidate, Demand, Rules, place


def trim(step: JobStep) -> None:
    """End Pods that are too many."""
    over = len(step.live) + len(step.hidden()) - step.spec.at_once
    if over > 0:
        cheap = sorted(step.live, key=lambda pod: (pod.ready, pod.phase == "Running", -pod.index))
        step.out.ends += cheap[:over]
        step.live = sorted(cheap[over:], key=lambda pod: pod.index)


def fill(step: JobStep) -> None:
    """Create Pods up to the parallelism, each where its index is assigned."""
    record, spec = step.record, step.spec
    if step.finished or step.ending() or spec.suspend or (spec.work_queue and record.completed):
        return
    hidden = step.hidden()
    want = spec.at_once - sum(map(len, step.running.values())) - len(hidden)
    chosen: list[int] = []
    if want > 0 and spec.backoff_limit_per_index is None and step.now < record.backoff_until:
        _wait_until(step, record.backoff_until)
        return
    for index in record.completed.union(record.failed_indexes).missing(spec.size) if want > 0 else ():
        if index in step.running or index in step.blocked or index in hidden:
            continue
        if spec.backoff_limit_per_index is not None and step.now < record.waits.get(index, 0.0):
            _wait_until(step, record.waits[index])
            continue
        chosen.append(index)
        if len(chosen) >= want:
            break
    homeless = [index for index in chosen if index not in record.assigned]
    _place(step, homeless)
    for index in chosen:
        cluster = record.assigned.get(index)
        if cluster is not None:
            record.tally(cluster)
            failures = None if spec.backoff_limit_per_index is None else record.index_failures.get(index, 0)
            ignored = record.index_ignored.get(index, 0)
            step.out.creates.append(Create(cluster, index, record.attempts.get(index, 0), failures, ignored))
            record.waits.pop(index, None)


def _wait_until(step: JobStep, at: float) -> None:
    step.wakes.append(at)
    step.out.waiting = "backoff"


def _place(step: JobStep, homeless: list[int]) -> None:
    """Assign these indexes to clusters, each cluster a run of them."""
    if not homeless:
        return
    record = step.record
    existing: dict[str, int] = {}
    for cluster in record.assigned.values():
        existing[cluster] = existing.get(cluster, 0) + 1
    demand = Demand(step.job.uid, len(homeless), rules_of(step.spec.placement), existing, frozenset(step.used()))
    decision = place(demand, [_candidate(cluster) for cluster in step.clusters.values()], step.now)
    left = iter(homeless)
    for cluster, count in decision.assigned.items():
        for _ in range(count):
            record.assigned[next(left)] = cluster
    step.unplaced = decision.reason
    if decision.unplaced:
        step.out.waiting = "capacity"
        step.wakes.append(step.now + POLL)


def rules_of(placement: Placement) -> Rules:
    """The job's ``placement`` as placement rules."""
    return Rules(
        strategy=placement.strategy,
        clusters=tuple(placement.clusters),
        selector=placement.cluster_selector,
        max_clusters=placement.max_clusters,
        max_per_cluster=placement.max_pods_per_cluster,
        weights=placement.weights,
    )


def _candidate(cluster: JobCluster) -> Candidate:
    return Candidate(cluster.name, cluster.labels, cluster.visible, cluster.reason, cluster.free_pods)
