"""``cleanup``: deletes the Pods of a deleted job in every member; then its finalizer is removed, and with it the job."""

from collections.abc import Iterable, Mapping
from typing import Any

from raycp.controllers.batchjob.job import POLL, JobCluster, JobPlan
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.record import JobRecord


def cleanup(
    status: Mapping[str, Any], forgotten: frozenset[str], pods: Iterable[JobPod], clusters: Iterable[JobCluster]
) -> tuple[JobPlan, str]:
    """What to delete now, and what the cleanup waits for: empty when no Pod is left and the finalizer may be removed. The job's
    spec does not matter: an invalid one is cleaned up too.

    It waits for an unreachable cluster that ever had Pods of the job, unless annotation ``batch.raycp.io/forget-clusters`` names
    it (``forgotten``).
    """
    out = JobPlan()
    remaining = 0
    for pod in pods:
        remaining += 1
        if pod.ends_at is None or pod.tracked:
            out.ends.append(pod)
    visible = {cluster.name for cluster in clusters if cluster.visible}
    touched = set(JobRecord.read(dict(status)).clusters)
    missing = sorted(touched - visible - forgotten)
    if missing:
        out.requeue_after = POLL
        return out, f"waits for unreachable clusters, to delete the Pods there: {', '.join(missing)}"
    return out, f"{remaining} Pods are not deleted yet" if remaining else ""
