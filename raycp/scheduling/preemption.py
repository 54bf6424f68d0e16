"""Which jobs make way for another.

1. Victims are jobs of lower priority in the same queue (``within_queue``), and jobs of queues of the cohort that borrow, if the
   other stays within its own nominal quota (``reclaim_within_cohort``).
2. Those of lowest priority go first, of equal priority the one that was admitted last; a queue that no longer borrows loses no
more.
3. No more than necessary: of those found, each that turns out not to be needed stays.
4. What is on its way out already counts as gone, so nobody is chosen in its place.

It never goes round in circles: within a queue, victims have strictly lower priority; who takes back its own does not borrow then,
and
is no victim of a queue of the cohort.
"""

from raycp.scheduling.attempts import feasible
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.lines import JobEntry
from raycp.scheduling.queues import FlavorQuotas
from raycp.scheduling.state import AdmissionState, Undo

MOST_TRIED = 512
"""Candidates that are looked at for one job."""


def victims(state: AdmissionState, queue: str, job: JobDemand, now: float) -> tuple[FlavorQuotas, list[JobEntry]] | None:
    """The flavor and the jobs (none: what is on its way out suffices) that have to go so that ``job`` can run; None: no such."""
    spec = state.ledger.queues[queue]
    if spec.within_queue == "Never" and spec.reclaim_within_cohort == "Never" and not state.leaving:
        return None
    for flavor in state.ledger.flavors(queue):
        found = _in_flavor(state, queue, flavor, job, now)
        if found is not None:
            return flavor, found
    return None


def _in_flavor(state: AdmissionState, queue: str, flavor: FlavorQuotas, job: JobDemand, now: float) -> list[JobEntry] | None:
    candidates = _candidates(state, queue, flavor, job)
    leaving = state.leaving.values()
    if not candidates and not leaving:
        return None
    chosen: list[JobEntry] = []
    with state.what_if() as undo:
        for entry in leaving:
            state.lift(entry, undo)
        if feasible(state, queue, flavor, job):
            return []
        resources = job.per_pod
        for entry in candidates:
            if entry.record.queue != queue and not state.ledger.borrows(entry.record.queue, flavor.name, resources):
                continue
            state.lift(entry, undo)
            chosen.append(entry)
            if feasible(state, queue, flavor, job):
                return _needed(state, queue, flavor, job, now, chosen, undo)
    return None


def _candidates(state: AdmissionState, queue: str, flavor: FlavorQuotas, job: JobDemand) -> list[JobEntry]:
    ledger = state.ledger
    spec = ledger.queues[queue]
    owns = ledger.own_pods(queue, flavor.name, job.per_pod, job.needed) == job.needed
    reclaims = spec.reclaim_within_cohort != "Never" and owns
    found = []
    for other, running in state.by_queue.items():
        if other == queue:
            if spec.within_queue == "Never":
                continue
            any_priority = False
        else:
            if not (reclaims and ledger.same_cohort(queue, other) and ledger.borrows(other, flavor.name, job.per_pod)):
                continue
            any_priority = spec.reclaim_within_cohort == "Any"
        for entry in running.values():
            record = entry.record
            if record.state == "Admitted" and record.flavor == flavor.name and (any_priority or record.priority < job.priority):
                found.append(entry)
    found.sort(key=lambda each: (each.record.priority, -each.record.admitted_at, each.uid))
    return found[:MOST_TRIED]


def _needed(
    state: AdmissionState, queue: str, flavor: FlavorQuotas, job: JobDemand, now: float, chosen: list[JobEntry], undo: Undo
) -> list[JobEntry]:
    """Those of ``chosen`` that are needed, tried from the last to the first; all of them are lifted."""
    needed = list(chosen)
    for entry in reversed(chosen[:-1]):
        at = next(number for number, (lifted, _) in enumerate(undo) if lifted is entry)
        _, grants = undo[at]
        state.lower(entry, grants)
        if feasible(state, queue, flavor, job):
            del undo[at]
            needed.remove(entry)
        else:
            del undo[at]
            state.lift(entry, undo)
    return needed
