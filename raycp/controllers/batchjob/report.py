"""``describe``: the result of a step, as a status."""

from collections import Counter

from raycp.base.tasks import CLUSTER
from raycp.controllers.batchjob.obstacles import placement, released, waits_for
from raycp.controllers.batchjob.step import JobStep
from raycp.sdk import conditions


def describe(step: JobStep) -> None:
    """Write the record as a status."""
    record, out = step.record, step.out
    for pod in step.live:
        record.tally(pod.cluster)
    live = Counter(pod.cluster for pod in step.live)
    ready_in = Counter(pod.cluster for pod in step.live if pod.ready)
    created = Counter(create.cluster for create in out.creates)
    waited_for = set(record.assigned.values())
    unreachable = []
    for name, tally in record.clusters.items():
        cluster = step.clusters.get(name)
        visible = cluster is not None and cluster.visible
        # A finished job waits for no cluster, and is not written again whenever one that it used is lost or returns.
        tally.reachable = visible or step.finished
        tally.message = "" if tally.reachable else (cluster.reason if cluster else "") or "not reachable"
        if not visible:
            if name in waited_for:
                unreachable.append(name)
            else:  # nothing is assumed to run there: it was forgotten, or replaced
                tally.active = tally.ready = 0
            continue
        tally.active, tally.ready = live[name] + created[name], ready_in[name]
    if unreachable and not step.finished:
        step.poll()
        out.waiting = out.waiting or CLUSTER
        message = f"can't reach {', '.join(sorted(unreachable))}; Pods there are assumed to be running"
        if step.condition("ClustersReachable", False, "ClusterUnreachable", message):
            out.events.append(("Warning", "ClusterUnreachable", message))
    elif conditions.get(record.conditions, "ClustersReachable"):
        step.condition("ClustersReachable", True, "Reachable", "")
    active = sum(tally.active for tally in record.clusters.values())
    ready = sum(tally.ready for tally in record.clusters.values())
    placement(step)
    released(step)
    if not step.finished and not step.spec.suspend:
        whole = active > 0 and ready == active
        step.condition("PodsReady", whole, *(("AllReady", "") if whole else waits_for(step)))
    elif step.finished:
        conditions.remove(record.conditions, "PodsReady")
    terminating = sum(pod.terminating for pods in step.running.values() for pod in pods)
    out.status = record.write(step.job.generation, terminating, _phase(step, active))


def _phase(step: JobStep, active: int) -> str:
    if step.finished:
        return "Complete" if step.record.true("Complete") else "Failed"
    if step.ending():
        return "Completing" if step.record.true("SuccessCriteriaMet") else "Failing"
    if step.spec.suspend:
        return "Suspended"
    return "Running" if active else "Pending"
