"""Which Pods are surplus, which are to be created and where, and which indexes need no cluster."""

from msgspec.structs import replace

from raycp.base.tasks import CAPACITY
from raycp.controllers.batchjob.admission import room_in, rules_within
from raycp.controllers.batchjob.job import Create, JobCluster
from raycp.controllers.batchjob.refusals import open_to_one, standing_refusal, tried
from raycp.controllers.batchjob.step import JobStep, candidate_of
from raycp.scheduling import Candidate, Demand, place

_SETTLES = 1.0
"""Seconds after which a Pod that is not there counts as never created."""


def trim(step: JobStep) -> None:
    """End Pods that are too many; not of a work queue that has a success, as the Job controller's ``manageJob``: they run on."""
    if step.spec.work_queue and step.record.completed:
        return
    over = len(step.live) + len(step.counted_on()) - step.spec.at_once
    if over > 0:
        cheap = sorted(step.live, key=lambda pod: (pod.ready, pod.phase == "Running", -pod.index))
        step.out.ends += cheap[:over]
        step.live = sorted(cheap[over:], key=lambda pod: pod.index)


def fill(step: JobStep) -> None:
    """Create Pods up to the parallelism, each where its index is assigned."""
    record, spec = step.record, step.spec
    if step.finished or step.ending() or step.idle or (spec.work_queue and record.completed):
        return
    hidden = step.counted_on()
    most = spec.at_once if step.admission.most is None else min(spec.at_once, step.admission.most)
    want = most - sum(map(len, step.running.values())) - len(hidden)
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
    chosen = [index for index in chosen if not _leaves_unborn(step, index)]
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


def withdraw(step: JobStep) -> None:
    """Indexes that have a cluster, no Pod and none to be created leave it: of a job that is suspended, or runs fewer Pods than it
    did. Should the cluster be lost, a Pod there would be assumed to be running that has never been, or is gone."""
    if step.finished or step.ending() or step.job.refused:
        return  # where creations were refused, those that were not are done, and not seen yet
    assigned = step.record.assigned
    for index in assigned.keys() - step.running.keys() - step.blocked - {create.index for create in step.out.creates}:
        if step.visible(assigned[index]):
            step.record.tally(assigned[index]).standing.leaving.add(index)
            step.wakes.append(step.now + _SETTLES)


def _wait_until(step: JobStep, at: float) -> None:
    step.wakes.append(at)
    step.out.waiting = "backoff"


def _place(step: JobStep, homeless: list[int]) -> None:
    """Assign these indexes to clusters, each cluster a run of them."""
    if not homeless:
        return
    record = step.record
    load = step.load()
    rules = rules_within(step, step.rules)
    demand = Demand(step.job.uid, len(homeless), rules, load, frozenset(step.used()))
    found = [room_in(step, _candidate(step, cluster), load) for cluster in step.clusters.values()]
    decision = place(demand, [candidate for candidate in found if candidate is not None], step.now)
    left = iter(homeless)
    for cluster, count in decision.assigned.items():
        for _ in range(count):
            record.assigned[index := next(left)] = cluster
            tried(step, cluster, index)
    step.unplaced, step.short = decision.reason, decision.unplaced
    step.closed = {each.cluster for each in decision.verdicts if not each.fits or each.reason == "Full"}
    if decision.unplaced:
        step.out.waiting = CAPACITY
        step.poll()
        untils = [tally.standing.refusal.until for tally in record.clusters.values() if tally.standing.refusal is not None]
        step.wakes += [until for until in untils if until > step.now]


def _candidate(step: JobStep, cluster: JobCluster) -> Candidate:
    """The cluster as placement sees it, with what the job knows of it."""
    found = candidate_of(cluster)
    tally = step.record.clusters.get(cluster.name)
    verdict = tally.standing.refusal if tally is not None else None
    if (why := step.vacated.get(cluster.name)) is not None:
        return replace(found, refusal=why)
    if verdict is not None and standing_refusal(step, cluster.name) is not None:
        return replace(found, refusal=verdict.message or verdict.reason)
    return open_to_one(step, cluster)


def _leaves_unborn(step: JobStep, index: int) -> bool:
    """Whether the index is assigned to a cluster that is to be left: it is not created there. That it leaves is recorded first, as
    for a Pod: a creation by a process that has died since may still take effect."""
    name = step.record.assigned.get(index)
    if name is None or name not in step.vacated:
        return False
    step.record.tally(name).standing.leaving.add(index)
    step.wakes.append(step.now + _SETTLES)
    return True
