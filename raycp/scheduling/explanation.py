"""Why a job is where it is, for ``raycp explain``; how queues stand, for ``raycp queues``."""

from collections.abc import Mapping

from raycp.scheduling.admissions import JobExplanation
from raycp.scheduling.attempts import attempt
from raycp.scheduling.lines import JobEntry, Misfit, QueueLine
from raycp.scheduling.queues import QueueStatus
from raycp.scheduling.reservations import HeadPlan
from raycp.scheduling.state import AdmissionState


def explained(state: AdmissionState, line: QueueLine | None, plan: HeadPlan | None, entry: JobEntry, now: float) -> JobExplanation:
    """From the present state; changes nothing."""
    job, record = entry.demand, entry.record
    pending = len(line) if line is not None else 0
    if record.state != "Pending":
        shape = state.shape(job, record.node_selector)
        verdicts = state.place(job, shape, 0, now, record.clusters).verdicts
        placed = ", ".join(f"{name}: {count}" for name, count in sorted(record.clusters.items()))
        message = f"{record.reason}: {record.message}" if record.state == "Evicting" else f"Pods by cluster: {placed}"
        return JobExplanation(job.uid, record.state, record.queue, 0, pending, "", message, verdicts)
    position = line.position(entry) if line is not None else 0
    reason, message = entry.reason, entry.message
    if line is None or not position:
        return JobExplanation(job.uid, "Pending", entry.line, 0, pending, reason, message)
    if state.ledger.queues[entry.line].stop != "None":
        reason, message = "QueueStopped", f"queue {entry.line} is stopped (stop: Hold)"
    elif (hopeless := line.hopeless.get(entry.kind)) is not None:
        reason, message = hopeless.reason, hopeless.message
    elif reason == "NotConsidered":
        found = attempt(state, entry.line, job, now)
        if isinstance(found, Misfit):
            reason, message = found.reason, found.message
        elif position > 1:
            first = line.first()
            reason, message = "BehindHead", f"{position - 1} jobs are before it, the first is {first.demand.key}"
    flavor = state.ledger.flavors(entry.line)[0]
    verdicts = state.place(job, state.shape(job, flavor.node_labels), job.pods, now, {}).verdicts
    return JobExplanation(
        job.uid, "Pending", entry.line, position, pending, reason, message, verdicts, plan.start if plan is not None else None
    )


def queue_states(state: AdmissionState, lines: Mapping[str, QueueLine]) -> list[QueueStatus]:
    """Of all queues, by name."""
    ledger = state.ledger
    return [
        QueueStatus(
            name, spec.cohort, len(lines[name]), len(state.by_queue.get(name, ())), ledger.share(name)[0], ledger.usage(name)
        )
        for name, spec in sorted(ledger.queues.items())
    ]
