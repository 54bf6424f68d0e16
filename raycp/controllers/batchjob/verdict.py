"""Whether the job has succeeded or failed, is suspended, or is finished: its conditions, as ``syncJob`` of the Job controller."""

from raycp.controllers.batchjob import policy, refusals
from raycp.controllers.batchjob.step import JobStep
from raycp.sdk import conditions


def begin(step: JobStep) -> None:
    """Start the clock of a job whose Pods may run, before it is judged: a deadline of 0 seconds is over at once."""
    if (step.record.start is None or step.record.true("Suspended")) and not step.idle and not step.ending():
        step.record.start = float(int(step.now))


def judge(step: JobStep) -> None:
    """Decide on success or failure, once. Failure is judged first."""
    if step.ending():
        return
    record, spec = step.record, step.spec
    failed = len(record.failed_indexes.below(spec.size))
    failure = _failure_reason(step, failed)
    if failure is not None:
        step.condition("FailureTarget", True, *failure)
        return
    if spec.indexed and (met := policy.success_met(spec, record.completed)):
        step.condition("SuccessCriteriaMet", True, "SuccessPolicy", met)
        return
    enough = bool(record.completed) if spec.work_queue else len(record.completed) >= spec.size
    if enough and not step.live and not step.counted_on():
        step.condition("SuccessCriteriaMet", True, "CompletionsReached", "Reached expected number of succeeded pods")


def _failure_reason(step: JobStep, failed: int) -> tuple[str, str] | None:
    record, spec = step.record, step.spec
    if (refused := refusals.refused_everywhere(step)) is not None:
        return refused
    if step.policy_failure is not None:
        return step.policy_failure
    if record.failed > spec.failure_limit or _restarts_exceed(step):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    if spec.active_deadline_seconds is not None and record.start is not None and not spec.suspend:
        due = record.start + spec.active_deadline_seconds
        if step.now >= due:
            return "DeadlineExceeded", "Job was active longer than specified deadline"
        step.wakes.append(due)
    if spec.max_failed_indexes is not None and failed > spec.max_failed_indexes:
        return "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
    if failed and not spec.work_queue and len(record.completed) + failed >= spec.size:
        return "FailedIndexes", "Job has failed indexes"
    return None


def _restarts_exceed(step: JobStep) -> bool:
    """Whether containers that were restarted in their Pods have used up ``backoffLimit``; for ``restartPolicy: OnFailure``."""
    if step.spec.template.spec.restart_policy != "OnFailure":
        return False
    restarts = sum(pod.restarts for pod in step.present)
    return restarts >= max(step.spec.failure_limit, 1)


def suspend(step: JobStep) -> None:
    """Suspend or resume the job."""
    record = step.record
    if step.ending():
        return
    if step.spec.suspend:
        if step.condition("Suspended", True, "JobSuspended", "Job suspended"):
            step.out.events.append(("Normal", "Suspended", "Job suspended"))
        record.start = None
        step.out.ends += step.live
        step.live = []
        return
    if record.true("Suspended"):
        step.condition("Suspended", False, "JobResumed", "Job resumed")
        step.out.events.append(("Normal", "Resumed", "Job resumed"))
    if step.admission.held:
        record.start = None


def stop(step: JobStep) -> None:
    """End what still runs of a job whose success or failure is decided. A failed job's Pods count as failed, as they do for the
    Job controller: in the status that is written before they are deleted."""
    if not (step.finished or step.ending()):
        return
    record = step.record
    if not step.finished and record.true("FailureTarget"):
        for pod in step.live:
            record.attempts[pod.index] = pod.attempt + 1
            if policy.action_for(pod, step.spec, step.job.namespace)[0] != "Ignore":
                record.failed += 1
                record.tally(pod.cluster).failed += 1
    step.out.ends += step.live
    step.live = []


def finish(step: JobStep) -> None:
    """Where success or failure is decided and no Pod is left: the job is over. Then its time to live runs."""
    record = step.record
    if not step.finished and step.ending():
        if step.hidden():
            step.poll()
        elif not step.present:
            _close(step)
    ttl = step.spec.ttl_seconds_after_finished
    if step.finished and ttl is not None:
        at = record.ended_at or step.now
        if step.now >= at + ttl:
            step.out.delete_job = True
        else:
            step.wakes.append(at + ttl)


def _close(step: JobStep) -> None:
    record = step.record
    step.finished = True
    reached = record.true("SuccessCriteriaMet")
    target = conditions.get(record.conditions, "SuccessCriteriaMet" if reached else "FailureTarget")
    assert target is not None
    step.condition("Complete" if reached else "Failed", True, target["reason"], target["message"])
    if reached:
        record.completion = float(int(step.now))
        step.out.events.append(("Normal", "Completed", "Job completed"))
    else:
        step.out.events.append(("Warning", target["reason"], target["message"]))
    record.assigned.clear()
    record.attempts.clear()
    record.waits.clear()
    record.failures_in_a_row = 0
