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
        record.completed = record.completed.below(step.spec.size)


def count(step: JobStep) -> None:
    """Sort the Pods: those that run, and ends that are still to be counted."""
    record = step.record
    for pod in step.pods:
        if not pod.ended:
            step.present.append(pod)
            if not (pod.terminating and step.spec.replaces_terminating):
                step.running.setdefault(pod.index, []).append(pod)
        if step.finished or step.settled(pod):
            _old(step, pod)
        elif pod.phase == "Succeeded":
            _success(step, pod)
        elif pod.given_up:
            # ended or not, its name is taken until it is deleted
            step.blocked.add(pod.index)
            if pod.ends_at is None or pod.tracked:
                step.out.ends.append(pod)
        elif pod.phase == "Failed" or pod.overdue(step.now) or (pod.terminating and step.spec.replaces_terminating):
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
    _back_off(step)


def tidy(step: JobStep) -> None:
    """Unassign indexes that will not run again, once none of their Pods runs."""
    record = step.record
    for index, cluster in list(record.assigned.items()):
        over = step.spec.completions is not None and index >= step.spec.size
        if (over or index in record.failed_indexes) and index not in step.running and step.visible(cluster):
            del record.assigned[index]


def _success(step: JobStep, pod: JobPod) -> None:
    record, index = step.record, pod.index
    record.completed.add(index)
    _forget_index(step, index)
    record.assigned.pop(index, None)
    record.tally(pod.cluster).succeeded += 1
    step.successes.append(_ended_at(step, pod))
    step.release(pod)


def _failure(step: JobStep, pod: JobPod) -> None:
    record, spec, index = step.record, step.spec, pod.index
    action, why = policy.action_for(pod, spec, step.job.namespace)
    record.attempts[index] = pod.attempt + 1
    if pod.ended or spec.replaces_terminating:
        # with replacement policy Failed, an overdue one may run on while its cluster is unreachable: it stays assigned
        record.assigned.pop(index, None)
    refusals.room_made(step, pod.cluster)
    step.release(pod)
    at = _ended_at(step, pod)
    step.failures.append(at)
    counted = action != "Ignore"
    if counted:
        record.failed += 1
        record.tally(pod.cluster).failed += 1
    if action == "FailJob":
        step.policy_failure = ("PodFailurePolicy", why)
    if spec.backoff_limit_per_index is None:
        return
    failures = record.index_failures if counted else record.index_ignored
    failures[index] = failures.get(index, 0) + 1
    if action == "FailIndex" or (counted and failures[index] > spec.backoff_limit_per_index):
        record.failed_indexes.add(index)
        _forget_index(step, index)
    else:
        record.waits[index] = at + _wait(step, record.index_failures.get(index, 0) + record.index_ignored.get(index, 0))


def _forget_index(step: JobStep, index: int) -> None:
    record = step.record
    memories: tuple[dict[int, int] | dict[int, float], ...] = (
        record.attempts,
        record.index_failures,
        record.index_ignored,
        record.waits,
    )
    for memory in memories:
        memory.pop(index, None)


def _back_off(step: JobStep) -> None:
    """The wait of the whole job, as the Job controller's ``newBackoffRecord``: a success begins a new count, and of the failures
    seen together with it those count that came later. Ignored failures are among them."""
    record = step.record
    if step.successes:
        record.failures_in_a_row, record.backoff_until = 0, 0.0
    later = [at for at in step.failures if not step.successes or at > max(step.successes)]
    if later:
        record.failures_in_a_row += len(later)
        record.backoff_until = max(later) + _wait(step, record.failures_in_a_row)


def _wait(step: JobStep, failures: int) -> float:
    backoff = step.spec.retry_backoff
    return min(backoff.initial_seconds * 2.0 ** min(failures - 1, 60), backoff.max_seconds)


def _ended_at(step: JobStep, pod: JobPod) -> float:
    """A member's kubelet stamps it: it is neither in the future nor before the Pod's creation."""
    return min(max(pod.ended_at or step.now, pod.created), step.now)


def _old(step: JobStep, pod: JobPod) -> None:
    """A Pod whose end is counted, or no longer matters."""
    if absence.replaced(step, pod):
        return
    if pod.ended or pod.terminating:
        step.release(pod)
    else:
        step.out.ends.append(pod)
