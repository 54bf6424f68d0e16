"""``plan(job, pods, clusters, now) -> JobPlan``: the next step of a job. Pure; every decision of the controller is made here.

The parts, in order, all on one ``JobStep``: ``repairs`` *mends* times that can't be; ``ends`` *forgets* clusters that were
abandoned by annotation; ``refusals`` *notes* which refuse the job's Pods, ``absence`` *mourns* those that are lost, ``taints``
*heeds* those that are to be left; ``ends`` *counts* ends that no status has counted yet; ``absence`` *welcomes* clusters that are
back; ``moves`` lets indexes *arrive* that have left their cluster; ``verdict`` *begins* the job, *judges* whether it has succeeded
or failed, *suspends* or resumes it, or *stops* it; ``creations`` *trims* surplus Pods; ``moves`` decides which *leave* their
cluster; ``creations`` *fills* up with new ones, and *withdraws* indexes that need no cluster; ``verdict`` *finishes* when all Pods
have ended; ``report`` *describes* the result as a status. The status must be written before the rest is carried out.
"""

from collections.abc import Iterable

from raycp.controllers.batchjob import absence, creations, ends, moves, refusals, repairs, report, taints, verdict
from raycp.controllers.batchjob.job import LONGEST_WAIT, Job, JobCluster, JobPlan
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.step import JobStep


def plan(job: Job, pods: Iterable[JobPod], clusters: Iterable[JobCluster], now: float) -> JobPlan:
    """The next step of ``job``. ``pods`` are all that are seen in visible clusters; ``now`` is Unix time in seconds."""
    step = JobStep(job, pods, clusters, now)
    repairs.mend(step)
    ends.forget(step)
    refusals.note(step)
    absence.mourn(step)
    taints.heed(step)
    ends.count(step)
    absence.welcome(step)
    moves.arrive(step)
    ends.tidy(step)
    if not step.finished:
        verdict.begin(step)
        verdict.judge(step)
        verdict.suspend(step)
    verdict.stop(step)
    creations.trim(step)
    moves.leave(step)
    creations.fill(step)
    creations.withdraw(step)
    verdict.finish(step)
    report.describe(step)
    if step.wakes:
        step.out.requeue_after = min(max(0.1, min(step.wakes) - now), LONGEST_WAIT)
    return step.out
