"""Clusters that are lost while Pods of the job run there (``placement.onUnreachable``), and what is found when they return.

Under ``Wait`` nothing happens: the Pods are assumed to be running. Under ``Replace``, when the cluster has been unreachable for the
toleration, and no write of ours can take effect there any more (``JobCluster.permit``), each index that is assigned to it starts
elsewhere as the next attempt; that is no failure. A Pod of the replaced attempt that is found later is not counted, whatever has
become of it, and deleted.
"""

from raycp.controllers.batchjob.cluster_record import whole
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.step import JobStep

_SHOWN = 5


def mourn(step: JobStep) -> None:
    """Note since when clusters are lost; replace what ran in those that are for too long."""
    record, placement = step.record, step.spec.placement
    waited_for = set(record.assigned.values())
    for name, tally in record.clusters.items():
        standing = tally.standing
        if step.visible(name) or name not in waited_for:
            standing.lost_at = None
            continue
        if standing.lost_at is None:
            standing.lost_at = whole(step.now)
        if placement.on_unreachable != "Replace":
            continue
        due = standing.lost_at + placement.unreachable_toleration_seconds + _permit(step, name)
        if step.now < due:
            step.wakes.append(due)
        else:
            _replace(step, name)


def _replace(step: JobStep, name: str) -> None:
    record, standing = step.record, step.record.tally(name).standing
    lost = sorted(index for index, cluster in record.assigned.items() if cluster == name)
    for index in lost:
        del record.assigned[index]
        record.attempts[index] = record.attempts.get(index, 0) + 1
    standing.replaced |= set(lost)
    standing.leaving.clear()
    standing.lost_at = None
    seconds = step.spec.placement.unreachable_toleration_seconds
    message = f"cluster {name} is unreachable for more than {seconds} s: {len(lost)} of the job's Pods there run anew elsewhere"
    step.out.events.append(("Warning", "PodsReplaced", message))


def _permit(step: JobStep, name: str) -> float:
    cluster = step.clusters.get(name)
    if cluster is not None:
        return cluster.permit
    return max((each.permit for each in step.clusters.values()), default=0.0)  # it has left the fleet


def replaced(step: JobStep, pod: JobPod) -> bool:
    """Whether it is a Pod that was replaced while its cluster was unreachable: what ended and was counted before is none."""
    return pod.index in step.record.tally(pod.cluster).standing.replaced and (pod.tracked or not pod.ended)


def welcome(step: JobStep) -> None:
    """Delete the replaced Pods of clusters that are back, and forget those that are gone."""
    found: dict[str, list[JobPod]] = {}
    for pod in step.pods:
        if (step.finished or step.settled(pod)) and replaced(step, pod):
            found.setdefault(pod.cluster, []).append(pod)
    for name, tally in step.record.clusters.items():
        if tally.standing.replaced and step.visible(name):
            tally.standing.replaced &= {pod.index for pod in found.get(name, ())}
    for name, pods in found.items():
        step.out.ends += [pod for pod in pods if pod.ends_at is None or pod.tracked]
        fresh = [pod.name for pod in pods if not pod.given_up and pod.ends_at is None]
        if fresh:
            shown = ", ".join(fresh[:_SHOWN]) + (", ..." if len(fresh) > _SHOWN else "")
            message = f"{shown} in cluster {name} was replaced while the cluster was unreachable: it is not counted, and deleted"
            step.out.events.append(("Normal", "ReplacedPodDeleted", message))
