"""What the scheduler's decision (``status.admission``) means for the job's Pods.

1. A job that needs the scheduler has no Pod before its admission, and none outside of it: in each cluster at most as many as were
   admitted there.
2. Where that becomes less, Pods leave as from a drained cluster: given up, some at a time, which is no failure, and started anew
   where there is admitted room. Where it becomes nothing (preemption), the job is held as if it were suspended.
3. A job that had started before its namespace got a queue runs on: the scheduler admits it as it stands.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec

from raycp.controllers.batchjob.step import JobStep
from raycp.scheduling import Candidate, Rules

QUOTA = "quota"
"""What a held job waits for, as it is counted (``Done.waiting``)."""

_SETTLES = 1.0
"""Seconds after which a Pod that is not there counts as never created."""


def room_in(step: JobStep, candidate: Candidate, existing: Mapping[str, int]) -> Candidate | None:
    """The cluster with no more room than is admitted there; None where none is."""
    if not step.admission.needed:
        return candidate
    room = step.admission.clusters.get(candidate.name, 0) - existing.get(candidate.name, 0)
    if room <= 0:
        return None
    return msgspec.structs.replace(candidate, free_pods=room if candidate.free_pods is None else min(room, candidate.free_pods))


def rules_within(step: JobStep, rules: Rules) -> Rules:
    """The job's own rules; those of an admitted job have been applied by the scheduler."""
    if not step.admission.needed:
        return rules
    return Rules("Pack", clusters=tuple(step.admission.clusters), tolerations=rules.tolerations)


def leave_unadmitted(step: JobStep) -> None:
    """More indexes are assigned to a cluster than are admitted there: the surplus leaves, those without a Pod first."""
    record, admission = step.record, step.admission
    if not admission.needed:
        return
    assigned = Counter(record.assigned.values())
    over = {name: count - admission.clusters.get(name, 0) for name, count in assigned.items() if step.visible(name)}
    if not any(count > 0 for count in over.values()):
        return
    pods = {pod.index: pod for pod in step.live}
    bound = step.may_move()

    def worth(index: int) -> int:
        pod = pods.get(index)
        return 0 if pod is None else 1 + (pod.phase == "Running") + 2 * pod.ready

    for index, name in sorted(record.assigned.items(), key=lambda item: (worth(item[0]), -item[0])):
        leaving = record.tally(name).standing.leaving
        if over.get(name, 0) <= 0:
            continue
        over[name] -= 1
        if index in leaving:
            continue
        if worth(index) > 1:
            bound -= 1
            if bound < 0:
                continue  # an end of one of those that leave wakes the job
        leaving.add(index)
        step.wakes.append(step.now + _SETTLES)
    step.out.ends += [pod for pod in step.live if step.leaves(pod)]
    step.live = [pod for pod in step.live if not step.leaves(pod)]


def describe_admission(step: JobStep) -> None:
    """Conditions ``QuotaReserved`` and ``Admitted``, and ``Scheduled`` of a held job, in the scheduler's words."""
    admission = step.admission
    if not admission.needed or step.finished or step.spec.suspend:
        return
    if not admission.held:
        where = ", ".join(f"{name}: {count}" for name, count in admission.clusters.items())
        step.condition("QuotaReserved", True, "QuotaReserved", "")
        if step.condition("Admitted", True, "Admitted", f"Pods may run ({where})"):
            step.out.events.append(("Normal", "Admitted", f"admitted ({where})"))
        return
    reason, message = admission.reason, admission.message
    step.condition("QuotaReserved", False, reason, message)
    if step.condition("Admitted", False, reason, message) and step.job.status.get("admission"):
        step.out.events.append(("Normal", reason, message))
    step.condition("Scheduled", False, reason, message)
    step.out.waiting = QUOTA
