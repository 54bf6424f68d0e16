"""Which Pods have ended, and what of it no status has counted yet."""

from raycp.controllers.batchjob import absence, policy, refusals
from raycp.controllers.batchjob.pods import JobPod
from raycp.controllers.batchjob.step import JobStep


def forget(step: JobStep) -> None:
    """Give up what was assigned to clusters that were abandoned by annotation; drop indexes that no longer exist."""
    record = step.record
    for index, cluster in list(record.assigned.items()):
        if cluster in step.job.forgotten and not step.visible(cluster):
            del record.assigned[index]
            record.attempts[index] = record.attempts.get(index, 0) + 1
    if step.spec.completions is not None and not step.finished:
        # an elastic Indexed job that has shrunk; attempts and failures are kept, in case it grows again
        record.completed = {index for index in record.completed if index < step.spec.size}


def count(step: JobStep) -> None:
    """Sort the Pods: those that run, and ends that are still to be counted."""
    record = step.record
    for pod in step.pods:
        if not pod.ended:
            step.running.setdefault(pod.index, []).append(pod)
        if step.finished or step.settled(pod):
            _old(step, pod)
        elif pod.phase == "Succeeded":
            record.completed.add(pod.index)
            for memory in (record.attempts, record.index_failures, record.assigned):
                memory.pop(pod.index, None)
            record.tally(pod.cluster).succeeded += 1
            record.failures_in_a_row = 0
            refusals.room_made(step, pod.cluster)
            step.release(pod)
        elif pod.given_up:
            # ended or not, its name is taken until it is deleted
            step.blocked.add(pod.index)
            if pod.ends_at is None or pod.tracked:
                step.out.ends.append(pod)
        elif pod.phase == "Failed" or pod.overdue(step.now):
            _failure(step, pod)
        elif pod.terminating:
            step.wakes.append(pod.overdue_at)
        elif step.leaves(pod) or any(other.index == pod.index for other in step.live[-1:]):
            step.out.ends.append(pod)  # law 1 rules two of one index out; should it happen, one of them is deleted
        else:
            step.live.append(pod)
            record.assigned.setdefault(pod.index, pod.cluster)
            if pod.attempt > record.attempts.get(pod.index, 0):
                record.attempts[pod.index] = pod.attempt


def tidy(step: JobStep) -> None:
    """Unassign indexes that will not run again, once none of their Pods runs."""
    record = step.record
    for index, cluster in list(record.assigned.items()):
        over = step.spec.completions is not None and index >= step.spec.size
        if (over or index in record.failed_indexes) and index not in step.running and step.visible(cluster):
            del record.assigned[index]


def _failure(step: JobStep, pod: JobPod) -> None:
    record, spec, index = step.record, step.spec, pod.index
    action, why = policy.action_for(pod, spec)
    record.attempts[index] = pod.attempt + 1
    if pod.ended:  # an overdue one may run on while its cluster is unreachable: it stays assigned
        record.assigned.pop(index, None)
    refusals.room_made(step, pod.cluster)
    step.release(pod)
    if action == "Ignore":
        return
    record.failed += 1
    record.tally(pod.cluster).failed += 1
    record.failures_in_a_row += 1
    backoff = spec.retry_backoff
    wait = min(backoff.initial_seconds * 2.0 ** min(record.failures_in_a_row - 1, 60), backoff.max_seconds)
    record.backoff_until = step.now + wait
    if action == "FailJob":
        step.policy_failure = ("PodFailurePolicy", why)
    if spec.backoff_limit_per_index is not None:
        record.index_failures[index] = record.index_failures.get(index, 0) + 1
        if action == "FailIndex" or record.index_failures[index] > spec.backoff_limit_per_index:
            record.failed_indexes.add(index)
            record.attempts.pop(index, None)


def _old(step: JobStep, pod: JobPod) -> None:
    """A Pod whose end is counted, or no longer matters."""
    if absence.replaced(step, pod):
        return
    if pod.ended or pod.terminating:
        step.release(pod)
    else:
        step.out.ends.append(pod)
