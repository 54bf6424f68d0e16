"""Pods that leave a cluster although they could stay: it is to be left (``taints``), or its scheduler finds no node for them for
too long.

1. A Pod moves only where another cluster takes it, by the same ``place`` that placed it. Else it stays, and is tried again when
   a cluster joins, returns or changes its labels, and every ``job.POLL`` seconds.
2. That an index leaves is recorded before its Pod is given up; it starts elsewhere, as the next attempt, when that Pod is gone.
   Neither counts as a failure; a Pod that succeeds on its way out has succeeded.
3. Of Pods that run, ``placement.maxMoving`` leave at a time. Pods without a node have nothing to lose, and leave at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from raycp.base.tasks import CAPACITY
from raycp.controllers.batchjob.admission import leave_unadmitted, room_in, rules_within
from raycp.controllers.batchjob.job import UNSCHEDULABLE, JobCluster
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.refusals import open_to_one, refuse, standing_refusal
from raycp.controllers.batchjob.step import JobStep, candidate_of
from raycp.scheduling import Demand, place


def arrive(step: JobStep) -> None:
    """Indexes that were to leave, and have no Pod left in their cluster, are free for another."""
    record = step.record
    for name, tally in record.clusters.items():
        leaving = tally.standing.leaving
        for index in list(leaving):
            if record.assigned.get(index) != name:
                leaving.discard(index)
            elif step.visible(name) and index not in step.running and index not in step.blocked:
                leaving.discard(index)
                del record.assigned[index]
                record.attempts[index] = record.attempts.get(index, 0) + 1


def leave(step: JobStep) -> None:
    """Decide which Pods leave their cluster."""
    if step.finished or step.ending() or step.spec.suspend:
        return
    leave_unadmitted(step)
    _leave_full(step)
    _leave_vacated(step)


def _leave_full(step: JobStep) -> None:
    """Pods that no node takes."""
    toleration = step.spec.placement.unschedulable_toleration_seconds
    stuck: list[JobPod] = []
    for pod in step.live:
        if pod.unschedulable_since is not None:
            due = pod.unschedulable_since + toleration
            if step.now >= due:
                stuck.append(pod)
            else:
                step.wakes.append(due)
    if not stuck:
        return
    full = {pod.cluster for pod in stuck}
    going = _with_a_place(step, stuck, lambda cluster: cluster.name in full)
    words = {pod.cluster: pod.trouble[1] for pod in stuck if pod.trouble is not None}
    if len(going) < len(stuck):
        names = ", ".join(f"{name}: {words.get(name) or 'they stay pending'}" for name in sorted(full))
        step.stuck = f"no node takes {len(stuck) - len(going)} Pods, and no other cluster does ({names})"
    step.unscheduled = Counter(pod.cluster for pod in stuck) - Counter(pod.cluster for pod in going)
    refusing = {pod.cluster for pod in going}
    if step.admission.needed:  # the scheduler may know a better place
        refusing |= {name for name in full if standing_refusal(step, name) is None}
    for name in sorted(refusing):
        message = f"cluster {name} has no node for Pods of the job: {words.get(name) or 'they stay pending'}"
        refuse(step, name, UNSCHEDULABLE, message, first=float(toleration))
    _give_up(step, going, "no node takes them")


def _leave_vacated(step: JobStep) -> None:
    """Pods in clusters that are to be left, some at a time."""
    going = [pod for pod in step.live if pod.cluster in step.vacated]
    if not going:
        return
    bound = step.may_move()
    if bound <= 0:
        return  # an end of one of them wakes the job
    unfit = sorted(going, key=lambda pod: (pod.ready, pod.phase == "Running", pod.index))
    why = "; ".join(sorted({f"{pod.cluster}: {step.vacated[pod.cluster]}" for pod in unfit[:bound]}))
    _give_up(step, _with_a_place(step, unfit[:bound], lambda cluster: False), why)


def _with_a_place(step: JobStep, pods: list[JobPod], full: Callable[[JobCluster], bool]) -> list[JobPod]:
    """Of ``pods``, in order, as many as other clusters take; where that is not all, the job asks again."""
    if not pods:
        return []
    record = step.record
    homes = Counter(pod.cluster for pod in pods)
    existing = step.load() - homes
    stays = {name for name in step.used() if name not in homes or existing[name]}
    whole = step.rules.strategy == "Single"  # it leaves as a whole, or not at all
    others = [
        candidate
        for cluster in step.clusters.values()
        if not (cluster.name in step.vacated or full(cluster) or standing_refusal(step, cluster.name))
        and (candidate := room_in(step, candidate_of(cluster) if whole else open_to_one(step, cluster), existing)) is not None
    ]
    count = len(pods) + _homeless(step)
    demand = Demand(step.job.uid, count, rules_within(step, step.rules), existing, frozenset(stays))
    room = max(0, len(pods) - place(demand, others, step.now).unplaced)
    if room < len(pods):
        step.out.waiting = step.out.waiting or CAPACITY
        step.poll()
        untils = [tally.standing.refusal.until for tally in record.clusters.values() if tally.standing.refusal is not None]
        step.wakes += [until for until in untils if until > step.now]
    return pods[:room]


def _homeless(step: JobStep) -> int:
    """Pods that are wanted and have no place, or lose it: they come before those that have one."""
    most, record = step.admission.most, step.record
    wanted = min(step.spec.at_once if most is None else most, step.spec.size - len(record.completed.union(record.failed_indexes)))
    return max(0, wanted - len(step.live) - len(step.counted_on()))


def _give_up(step: JobStep, pods: Iterable[JobPod], why: str) -> None:
    by_cluster: dict[str, int] = {}
    for pod in pods:
        step.record.tally(pod.cluster).standing.leaving.add(pod.index)
        step.out.ends.append(pod)
        by_cluster[pod.cluster] = by_cluster.get(pod.cluster, 0) + 1
    if by_cluster:
        step.live = [pod for pod in step.live if not step.leaves(pod)]
        shown = ", ".join(f"{name}: {count}" for name, count in sorted(by_cluster.items()))
        step.out.events.append(("Normal", "PodsMoved", f"Pods leave for other clusters ({shown}): {why}"))
