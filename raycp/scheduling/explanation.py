"""Why a job is where it is, for ``raycp explain``; how queues stand, for ``raycp queues``."""

from collections.abc import Mapping

from msgspec.structs import replace

from raycp.scheduling.admissions import AdmissionRecord, JobExplanation, JobWait, WaitReason
from raycp.scheduling.attempts import attempt
from raycp.scheduling.lines import JobEntry, Misfit, QueueLine
from raycp.scheduling.model import ClusterVerdict
from raycp.scheduling.queues import QueueHead, QueueStatus
from raycp.scheduling.reservations import HeadPlan
from raycp.scheduling.state import AdmissionState


def explained(state: AdmissionState, line: QueueLine | None, plan: HeadPlan | None, entry: JobEntry, now: float) -> JobExplanation:
    """From the present state; changes nothing."""
    job, record = entry.demand, entry.record
    pending = len(line) if line is not None else 0
    if record.state != "Pending":
        shape = state.shape(job, record.node_selector)
        verdicts = _placed(state.place(job, shape, 0, now, record.clusters).verdicts, record)
        placed = ", ".join(f"{name}: {count}" for name, count in sorted(record.clusters.items()))
        message = f"{record.reason}: {record.message}" if record.state == "Evicting" else f"Pods by cluster: {placed}"
        return JobExplanation(job.uid, record.state, record.queue, 0, pending, "", message, verdicts)
    position = line.position(entry) if line is not None else 0
    if line is None or not position:
        reason, message = _known(entry)  # it waits for something else than its turn
    else:
        reason, message = _in_line(state, line, entry, position)
        if entry.reason == "NotConsidered" and reason != "QueueStopped" and entry.kind not in line.hopeless:
            found = attempt(state, entry.line, job, now)
            if isinstance(found, Misfit):
                reason, message = found.reason, found.message
    labels = state.ledger.flavors(entry.line)[0].node_labels if line is not None else {}
    verdicts = state.place(job, state.shape(job, labels), job.pods, now, {}).verdicts
    start = plan.start if plan is not None else None
    return JobExplanation(
        job.uid, "Pending", entry.line, position, pending, reason, message, verdicts, start, fulfilled=record.fulfilled
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


def waits(state: AdmissionState, line: QueueLine | None, entry: JobEntry) -> JobWait | None:
    """What a job waits for, as it is known; None for one that is admitted. Costs no placement: it may be asked of many."""
    if entry.record.state != "Pending":
        return None
    position = line.position(entry) if line is not None else 0
    if line is None or not position:
        return JobWait(*_known(entry), 0, len(line) if line is not None else 0)
    return JobWait(*_in_line(state, line, entry, position), position, len(line))


def _in_line(state: AdmissionState, line: QueueLine, entry: JobEntry, position: int) -> tuple[WaitReason, str]:
    if state.ledger.queues[entry.line].stop != "None":
        return "QueueStopped", f"queue {entry.line} is stopped (stopPolicy: Hold)"
    if (hopeless := line.hopeless.get(entry.kind)) is not None:
        return hopeless.reason, hopeless.message
    if entry.reason == "NotConsidered" and position > 1:
        return "BehindHead", f"{position - 1} jobs are before it, the first is {line.first().demand.key}"
    return _known(entry)


def _known(entry: JobEntry) -> tuple[WaitReason, str]:
    return entry.reason, entry.message or ("it has not been considered yet" if entry.reason == "NotConsidered" else "")


def queue_states(state: AdmissionState, lines: Mapping[str, QueueLine]) -> list[QueueStatus]:
    """Of all queues, by name."""
    ledger = state.ledger
    return [
        QueueStatus(
            name,
            spec.cohort,
            len(lines[name]),
            len(state.by_queue.get(name, ())),
            ledger.share(name)[0],
            ledger.usage(name),
            _head(state, lines[name]),
        )
        for name, spec in sorted(ledger.queues.items())
    ]


def _head(state: AdmissionState, line: QueueLine) -> QueueHead | None:
    entry = line.first() if line else None
    return QueueHead(entry.demand.key, *_in_line(state, line, entry, 1)) if entry is not None else None
