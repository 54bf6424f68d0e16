"""``cleanup``: a deleted job's way out. Its Pods go first, in every member; then the finalizer, and with it the job."""

from collections.abc import Iterable

from raycp.controllers.batchjob.job import POLL, Job, JobCluster, JobPlan
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.record import JobRecord


def cleanup(job: Job, pods: Iterable[JobPod], clusters: Iterable[JobCluster], now: float) -> tuple[JobPlan, str]:
    """What to delete now, and what it waits for: empty when nothing is left and the finalizer may go.

    A cluster out of sight that ever had Pods of the job is waited for, unless annotation
    ``batch.raycp.io/forget-clusters`` names it.
    """
    out = JobPlan()
    remaining = 0
    for pod in pods:
        remaining += 1
        if pod.ends_at is None or pod.tracked:
            out.ends.append(pod)
    visible = {cluster.name for cluster in clusters if cluster.visible}
    touched = set(JobRecord.read(dict(job.status)).clusters)
    missing = sorted(touched - visible - job.forgotten)
    if missing:
        out.requeue_after = POLL
        return out, f"waits for {', '.join(missing)}, out of sight, to delete the Pods there"
    return out, f"{remaining} Pods are still to go" if remaining else ""
