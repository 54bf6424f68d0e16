"""Whether the job has succeeded or failed, is suspended, or is finished: its conditions."""

from raycp.controllers.batchjob import policy, refusals
from raycp.controllers.batchjob.step import JobStep
from raycp.sdk import conditions


def judge(step: JobStep) -> None:
    """Decide on success or failure, once."""
    record, spec = step.record, step.spec
    if record.true("SuccessCriteriaMet") or record.true("FailureTarget"):
        return
    failed = sum(index < spec.size for index in record.failed_indexes)
    done = len(record.completed) + failed
    met = policy.success_met(spec, record.completed)
    if met:
        step.condition("SuccessCriteriaMet", True, "SuccessPolicy", met)
    elif spec.work_queue and record.completed and not step.running and not step.hidden():
        step.condition("SuccessCriteriaMet", True, "CompletionsReached", "a Pod succeeded and all have ended")
    elif not spec.work_queue and done >= spec.size and not failed:
        step.condition("SuccessCriteriaMet", True, "CompletionsReached", f"{len(record.completed)} of {spec.size} succeeded")
    else:
        failure = _failure_reason(step, done, failed)
        if failure is not None:
            step.condition("FailureTarget", True, *failure)
            step.out.events.append(("Warning", *failure))


def _failure_reason(step: JobStep, done: int, failed: int) -> tuple[str, str] | None:
    record, spec = step.record, step.spec
    if (refused := refusals.refused_everywhere(step)) is not None:
        return refused
    if step.policy_failure is not None:
        return step.policy_failure
    if spec.backoff_limit_per_index is None and record.failed > spec.backoff_limit:
        return "BackoffLimitExceeded", f"{record.failed} Pods failed, backoffLimit is {spec.backoff_limit}"
    if spec.max_failed_indexes is not None and failed > spec.max_failed_indexes:
        return "MaxFailedIndexesExceeded", f"{failed} indexes failed, maxFailedIndexes is {spec.max_failed_indexes}"
    if failed and not spec.work_queue and done >= spec.size:
        return "FailedIndexes", f"{failed} of {spec.size} indexes failed"
    if spec.active_deadline_seconds is not None and record.start is not None and not spec.suspend:
        due = record.start + spec.active_deadline_seconds
        if step.now >= due:
            return "DeadlineExceeded", f"it was active longer than {spec.active_deadline_seconds} s"
        step.wakes.append(due)
    return None


def suspend(step: JobStep) -> None:
    """Suspend, start or resume the job."""
    record = step.record
    if step.ending():
        return
    if step.spec.suspend:
        if step.condition("Suspended", True, "JobSuspended", "spec.suspend is true"):
            step.out.events.append(("Normal", "Suspended", "the job is suspended; its Pods are deleted"))
        record.start = None
        step.out.ends += step.live
        step.live = []
        return
    if record.true("Suspended"):
        step.condition("Suspended", False, "JobResumed", "spec.suspend is false")
        step.out.events.append(("Normal", "Resumed", "the job is resumed"))
    if record.start is None:
        record.start = float(int(step.now))
        if step.spec.active_deadline_seconds is not None:
            step.wakes.append(record.start + step.spec.active_deadline_seconds)


def finish(step: JobStep) -> None:
    """Where success or failure is decided and no Pod is left: the job is over. Then its time to live runs."""
    record = step.record
    if not step.finished and step.ending():
        hidden = step.hidden()
        if not step.running and not hidden:
            step.finished = True
            success = conditions.get(record.conditions, "SuccessCriteriaMet")
            reached = success if success and success["status"] == "True" else None
            target = reached or conditions.get(record.conditions, "FailureTarget")
            assert target is not None
            step.condition("Complete" if reached else "Failed", True, target["reason"], target["message"])
            if reached:
                record.completion = float(int(step.now))
                step.out.events.append(("Normal", "Completed", f"{len(record.completed)} succeeded"))
            record.assigned.clear()
            record.attempts.clear()
            record.failures_in_a_row = 0
        elif hidden:
            step.poll()
    ttl = step.spec.ttl_seconds_after_finished
    if step.finished and ttl is not None:
        ended = conditions.get(record.conditions, "Complete" if record.true("Complete") else "Failed")
        at = conditions.parse_time((ended or {}).get("lastTransitionTime")) or step.now
        if step.now >= at + ttl:
            step.out.delete_job = True
        else:
            step.wakes.append(at + ttl)
