"""Why a job is where it is, for ``raycp explain``; how queues stand, for ``raycp queues``."""

from collections.abc import Mapping

from msgspec.structs import replace

from raycp.scheduling.admissions import AdmissionRecord, JobExplanation
from raycp.scheduling.attempts import Misfit, attempt
from raycp.scheduling.lines import JobEntry, QueueLine
from raycp.scheduling.model import ClusterVerdict
from raycp.scheduling.queues import QueueStatus
from raycp.scheduling.reservations import HeadPlan
from raycp.scheduling.state import AdmissionState


def explained(state: AdmissionState, line: QueueLine | None, plan: HeadPlan | None, entry: JobEntry, now: float) -> JobExplanation:
    """From the present state; changes nothing."""
    job, record = entry.demand, entry.record
    pending = len(line) if line is not None else 0
    if record.state != "Pending":
        shape = state.shape(job, record.node_selector)
        verdicts = _placed(state.place(job, shape, 0, now, existing=record.clusters, explain=True).verdicts, record)
        placed = ", ".join(f"{name}: {count}" for name, count in sorted(record.clusters.items()))
        message = f"{record.reason}: {record.message}" if record.state == "Evicting" else f"Pods by cluster: {placed}"
        return JobExplanation(job.uid, record.state, record.queue, 0, pending, "", message, verdicts)
    position = line.position(entry) if line is not None else 0
    reason, message = entry.reason, entry.message
    if line is None or not position:
        return JobExplanation(job.uid, "Pending", entry.line, 0, pending, reason, message)
    if state.ledger.queues[entry.line].stop != "None":
        reason, message = "QueueStopped", f"queue {entry.line} is stopped (stopPolicy: Hold)"
    elif reason == "NotConsidered":
        found = attempt(state, entry.line, job, now)
        if isinstance(found, Misfit):
            reason, message = found.reason, found.message
        elif position > 1:
            first = next(line.first(1))
            reason, message = "BehindHead", f"{position - 1} jobs are before it, the first is {first.demand.key}"
    flavor = state.ledger.flavors(entry.line)[0]
    verdicts = state.place(job, state.shape(job, flavor.node_labels), job.pods, now, explain=True).verdicts
    return JobExplanation(
        job.uid, "Pending", entry.line, position, pending, reason, message, verdicts, plan.start if plan is not None else None
    )


def _placed(verdicts: tuple[ClusterVerdict, ...], record: AdmissionRecord) -> tuple[ClusterVerdict, ...]:
    """What each cluster has of a job that is admitted; it asks for nothing more."""
    made = []
    for each in verdicts:
        count = record.clusters.get(each.cluster, 0)
        if each.reason == "Full":  # of none
            words = ("Assigned", f"has {count}") if count else ("NotNeeded", "none of its Pods is here")
            each = replace(each, reason=words[0], message=words[1])
        made.append(replace(each, count=count))
    return tuple(made)


def queue_states(state: AdmissionState, lines: Mapping[str, QueueLine]) -> list[QueueStatus]:
    """Of all queues, by name."""
    ledger = state.ledger
    return [
        QueueStatus(
            name, spec.cohort, len(lines[name]), len(state.by_queue.get(name, ())), ledger.share(name)[0], ledger.usage(name)
        )
        for name, spec in sorted(ledger.queues.items())
    ]
