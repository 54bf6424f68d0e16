"""``AdmissionQuestions``: what others ask of the state of admission; nothing here changes it."""

from raycp.scheduling.admissions import JobExplanation, JobWait
from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.explanation import explained, queue_states, waits
from raycp.scheduling.lines import JobEntry, QueueLine
from raycp.scheduling.queues import QueueStatus
from raycp.scheduling.reservations import Reservations
from raycp.scheduling.state import AdmissionState


class AdmissionQuestions:
    """The half of ``Admission`` that only reads."""

    def __init__(self, state: AdmissionState | None = None) -> None:
        self._state = state or AdmissionState()
        self._lines: dict[str, QueueLine] = {"": QueueLine()}
        self._jobs: dict[str, JobEntry] = {}
        self._plans = Reservations(self._state)

    def explain(self, uid: str, now: float) -> JobExplanation | None:
        """Why the job waits, or where it runs; None if it is not known."""
        entry = self._jobs.get(uid)
        if entry is None:
            return None
        return explained(self._state, self._lines.get(entry.line), self._plans.of(uid), entry, now)

    def waits(self, uid: str) -> JobWait | None:
        """What the job waits for, as it is known: cheap. None for one that is admitted or not known."""
        entry = self._jobs.get(uid)
        return waits(self._state, self._lines.get(entry.line), entry) if entry is not None else None

    def queue_status(self) -> list[QueueStatus]:
        """All queues, by name; the one without quotas, of jobs that belong to no queue, has an empty name."""
        return queue_states(self._state, self._lines)

    def capacity(self) -> list[CapacitySummary]:
        """What the clusters have, by name."""
        return [room.summary for _, room in sorted(self._state.rooms.items())]

    def over_quota(self) -> list[tuple[str, str, str]]:
        """(queue or cohort, flavor, resource) of which more is used than there is: only where quota was taken away."""
        return self._state.ledger.excess()
