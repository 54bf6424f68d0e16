"""``cleanup``: what becomes of the Pods of a deleted job; when that is done in every member its finalizer is removed, and with it
the job.

Owner references lead into no other cluster, so that the API server's garbage collector does not know the Pods. What
``propagationPolicy`` asks for is done here: with Background and Foreground they are deleted, and the job stays until they are gone;
with Orphan they stay, without anything that makes them the job's.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from raycp.controllers.batchjob.job import POLL, JobCluster, JobPlan
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.record import JobRecord
from raycp.controllers.batchjob.types import FORGET, ORPHANED

_ORPHAN = "orphan"
"""Finalizer that the API server sets for propagation policy Orphan (``metav1.FinalizerOrphanDependents``)."""


def orphans(meta: Mapping[str, Any]) -> bool:
    """Whether the deleted job's Pods are to stay."""
    return _ORPHAN in (meta.get("finalizers") or ()) or ORPHANED in (meta.get("annotations") or {})


def cleanup(
    status: Mapping[str, Any],
    forgotten: frozenset[str],
    pods: Iterable[JobPod],
    clusters: Iterable[JobCluster],
    *,
    orphan: bool = False,
) -> tuple[JobPlan, str]:
    """What to delete now, or with ``orphan`` to release; and what the cleanup waits for: empty when no Pod is left and the
    finalizer may be removed. The job's spec does not matter: an invalid one is cleaned up too.

    It waits for an unreachable cluster that ever had Pods of the job, unless annotation ``batch.raycp.io/forget-clusters`` names
    it (``forgotten``).
    """
    out = JobPlan()
    remaining = 0
    for pod in pods:
        remaining += 1
        if orphan:
            out.releases.append(pod)
        elif pod.ends_at is None or pod.tracked:
            out.ends.append(pod)
    visible, of_fleet = set[str](), set[str]()
    for cluster in clusters:
        of_fleet.add(cluster.name)
        if cluster.visible:
            visible.add(cluster.name)
    touched = set(JobRecord.read(dict(status)).clusters)
    missing = sorted(touched - visible - forgotten)
    if missing:
        out.requeue_after = POLL
        what = "release" if orphan else "delete"
        lost = [name for name in missing if name in of_fleet]
        gone = [name for name in missing if name not in of_fleet]
        why = [f"waits for unreachable clusters, to {what} the Pods there: {', '.join(lost)}"] if lost else []
        if gone:
            named = ",".join(gone)
            why.append(f"had Pods in clusters that are not in the fleet any more: annotate it {FORGET}={named} to leave them there")
        return out, "; ".join(why)
    return out, f"{remaining} Pods are not {'released' if orphan else 'deleted'} yet" if remaining else ""
