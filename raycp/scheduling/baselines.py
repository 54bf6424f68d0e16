"""What a simulation is compared with: the same jobs and clusters without what is in question."""

from collections.abc import Sequence

from msgspec.structs import replace

from raycp.scheduling.capacity import CapacitySummary
from raycp.scheduling.model import Candidate
from raycp.scheduling.queues import QueueSpec
from raycp.scheduling.simulation import SimulatedJob

Clusters = Sequence[tuple[Candidate, CapacitySummary]]


def in_one_line(jobs: Sequence[SimulatedJob]) -> tuple[list[SimulatedJob], list[QueueSpec]]:
    """FIFO: one line for the fleet in the order of arrival, no priorities, no quotas, nobody passes."""
    line = QueueSpec("fifo", strategy="StrictFIFO", within_queue="Never")
    return [_changed(each, queue="fifo", priority=0) for each in jobs], [line]


def by_cluster(jobs: Sequence[SimulatedJob], clusters: Clusters) -> tuple[list[SimulatedJob], list[QueueSpec]]:
    """A queue for each cluster: a job is sent to the next one, in turn, that could hold it if it were empty, and stays there.
    Priorities, preemption and backfill as otherwise; no quotas."""
    names = [candidate.name for candidate, _ in clusters]
    made = []
    for turn, each in enumerate(sorted(jobs, key=lambda each: each.demand.created)):
        job = each.demand
        holds = [
            candidate.name
            for candidate, capacity in clusters
            if capacity.room(job.per_pod, job.node_selector, job.tolerations) >= job.needed
        ]
        chosen = holds[turn % len(holds)] if holds else names[turn % len(names)]
        rules = replace(job.rules, clusters=(chosen,))
        made.append(_changed(each, queue=f"only-{chosen}", rules=rules))
    return made, [QueueSpec(f"only-{name}") for name in names]


def _changed(job: SimulatedJob, **fields: object) -> SimulatedJob:
    return replace(job, demand=replace(job.demand, **fields))
