"""Clusters that the job's Pods have to leave: drained ones, and those with a taint ``NoExecute`` that the job does not tolerate, or
no longer.

How long it tolerates one is counted from when the job met it there: that is remembered in ``status.clusters[].taintedAt`` as long
as indexes are assigned to the cluster. Nothing new is placed there meanwhile, so that nothing goes back and forth.
"""

from raycp.controllers.batchjob.cluster_record import whole
from raycp.controllers.batchjob.step import JobStep
from raycp.scheduling.labels import expelling


def heed(step: JobStep) -> None:
    """Note since when taints stand, and which clusters are to be left because of one."""
    tolerations = step.rules.tolerations
    stay = set(step.record.assigned.values())
    for name, tally in step.record.clusters.items():
        cluster, standing = step.clusters.get(name), tally.standing
        found = expelling(cluster.taints, tolerations) if cluster is not None and cluster.taints else None
        if found is None or name not in stay:
            standing.tainted_at = None
            continue
        taint, seconds = found
        if standing.tainted_at is None:
            standing.tainted_at = whole(step.now)
        due = standing.tainted_at + seconds if seconds else step.now
        if step.now < due:
            step.wakes.append(due)
        else:
            step.vacated.setdefault(name, f"its taint {taint} is not tolerated{f' for more than {seconds} s' if seconds else ''}")
