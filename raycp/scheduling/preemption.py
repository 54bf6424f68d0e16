"""Which jobs make way for another.

1. Victims are jobs of lower priority in the same queue (``within_queue``), and jobs of queues of the cohort that borrow, if the
   other stays within its own nominal quota (``reclaim_within_cohort``).
2. Those of lowest priority go first, of equal priority the one that was admitted last; a queue that no longer borrows loses no
more.
3. No more than necessary: of those found, each that turns out not to be needed stays.
4. What is on its way out already counts as gone, so nobody is chosen in its place.
5. What has Pods in an unreachable cluster is no victim, and is not waited for for long: nobody knows when it will be gone.

It never goes round in circles: within a queue, victims have strictly lower priority; who takes back its own borrows nothing of
what it uses then, and is no victim of a queue of the cohort.
"""

from raycp.scheduling.attempts import feasible
from raycp.scheduling.demand import JobDemand
from raycp.scheduling.lines import JobEntry
from raycp.scheduling.queues import FlavorQuotas
from raycp.scheduling.state import AdmissionState, Undo

LOOKED_AT = 512
"""Candidates that are looked at for one job at least; more, until they use ``AMPLE`` times what it needs."""

AMPLE = 4
"""Rooms are by node: of victims that are scattered, more have to go than the sum says."""

_FINE = 16
"""Whether enough have gone is asked after each of so many, then each time that a sixteenth more have: what is too much then turns
out not to be needed."""


def victims(state: AdmissionState, queue: str, job: JobDemand, now: float) -> tuple[FlavorQuotas, list[JobEntry]] | None:
    """The flavor and the jobs (none: what is on its way out suffices) that have to go so that ``job`` can run; None: no such."""
    spec = state.ledger.queues[queue]
    if spec.within_queue == "Never" and spec.reclaim_within_cohort == "Never" and not state.making_way(now):
        return None
    for flavor in state.ledger.flavors(queue):
        found = _in_flavor(state, queue, flavor, job, now)
        if found is not None:
            return flavor, found
    return None


def _in_flavor(state: AdmissionState, queue: str, flavor: FlavorQuotas, job: JobDemand, now: float) -> list[JobEntry] | None:
    candidates = _candidates(state, queue, flavor, job, now)
    leaving = state.making_way(now)
    if not candidates and not leaving:
        return None
    chosen: list[JobEntry] = []
    with state.what_if() as undo:
        for entry in leaving:
            state.lift(entry, undo)
        if feasible(state, queue, flavor, job):
            return []
        first, asked = len(undo), 0
        for entry in candidates:
            if entry.record.queue != queue and not _contested(state, flavor, job, entry):
                continue
            state.lift(entry, undo)
            chosen.append(entry)
            if len(chosen) - asked > asked // _FINE:
                asked = len(chosen)
                if feasible(state, queue, flavor, job):
                    return _needed(state, queue, flavor, job, chosen, undo, first)
        if len(chosen) > asked and feasible(state, queue, flavor, job):
            return _needed(state, queue, flavor, job, chosen, undo, first)
    return None


def _contested(state: AdmissionState, flavor: FlavorQuotas, job: JobDemand, entry: JobEntry) -> bool:
    """Whether it uses of what its queue borrows and ``job`` needs. Of what else its queue borrows it is free to use its own."""
    resources = [name for name, amount in job.per_pod.items() if amount and entry.amounts.get(name)]
    return state.ledger.borrows(entry.record.queue, flavor.name, resources)


def _candidates(state: AdmissionState, queue: str, flavor: FlavorQuotas, job: JobDemand, now: float) -> list[JobEntry]:
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
            if record.state != "Admitted" or record.flavor != flavor.name or entry.stays_until > now:
                continue
            if (any_priority or record.priority < job.priority) and not state.stranded(entry):
                found.append(entry)
    found.sort(key=lambda each: (each.record.priority, -each.record.admitted_at, each.uid))
    return _ample(found, job)


def _ample(found: list[JobEntry], job: JobDemand) -> list[JobEntry]:
    """The first of them that suffice, as far as one can tell: a small job does not look at thousands."""
    if len(found) <= LOOKED_AT:
        return found
    wanted = {name: AMPLE * amount * job.needed for name, amount in job.per_pod.items() if amount}
    wanted = {name: amount for name, amount in wanted.items() if any(entry.amounts.get(name) for entry in found)}
    for at, entry in enumerate(found):
        if at >= LOOKED_AT and all(amount <= 0 for amount in wanted.values()):
            return found[:at]
        for name in wanted:
            wanted[name] -= entry.amounts.get(name, 0)
    return found


def _needed(
    state: AdmissionState, queue: str, flavor: FlavorQuotas, job: JobDemand, chosen: list[JobEntry], undo: Undo, first: int
) -> list[JobEntry]:
    """Those of ``chosen`` that are needed, tried from the last to the first; all of them are lifted, in ``undo`` from ``first``
    on."""
    needed: list[JobEntry] = []
    for at in range(len(chosen) - 1, -1, -1):
        entry, grants = undo.pop(first + at)  # what was before it still is
        state.lower(entry, grants)
        if not feasible(state, queue, flavor, job):
            state.lift(entry, undo)
            needed.append(entry)
    needed.reverse()
    return needed
