"""What the scheduler answers to whoever asks: a job's place, and the queues; as plain values, for JSON."""

from typing import Any

import msgspec

from raycp.base.quantities import shown_quantity
from raycp.scheduler.core import FleetScheduler
from raycp.scheduling.admissions import JobExplanation
from raycp.scheduling.queues import QueueStatus, ResourceUsage

Answer = dict[str, Any]


def explained(scheduler: FleetScheduler, namespace: str, name: str) -> Answer | None:
    """For ``raycp explain job``; None for a job that the scheduler does not know: it has no queue, or is over, or is not there."""
    found = scheduler.explain(namespace, name)
    return _job(namespace, name, found) if found is not None else None


def _job(namespace: str, name: str, found: JobExplanation) -> Answer:
    return {
        "namespace": namespace,
        "name": name,
        "state": found.state,
        "queue": found.queue,
        "position": found.position,
        "pending": found.pending,
        "waitsFor": {"reason": found.reason, "message": found.message},
        "reservedFrom": found.reserved_from,
        "clusters": [
            {"name": each.cluster, **{key: value for key, value in msgspec.to_builtins(each).items() if key != "cluster"}}
            for each in found.clusters
        ],
    }


def queue_rows(scheduler: FleetScheduler) -> list[Answer]:
    """For ``raycp queues``; ``-`` stands for jobs that have no queue and wait for their gang or for other jobs."""
    return [_queue(scheduler, status) for status in scheduler.queue_status() if status.name or status.pending or status.admitted]


def capacity_rows(scheduler: FleetScheduler) -> list[Answer]:
    """For ``raycp simulate --capacity live``: what the members have beside the jobs that the scheduler has admitted."""
    return [msgspec.to_builtins(each) for each in scheduler.capacity()]


def _queue(scheduler: FleetScheduler, status: QueueStatus) -> Answer:
    spec = scheduler.queues.specs.get(status.name)
    problem = scheduler.queues.problems.get(status.name, "")
    return {
        "name": status.name or "-",
        "cohort": status.cohort,
        "pending": status.pending,
        "admitted": status.admitted,
        "share": status.share,
        "namespaces": list(spec.namespaces) if spec is not None else [],
        "problem": problem or ("it is held (stopPolicy)" if spec is not None and spec.stop == "Hold" else ""),
        "head": msgspec.to_builtins(status.head),
        "usage": [row | {"full": _full(each)} for row, each in zip(usage_rows(status), status.usage, strict=True)],
    }


def _full(each: ResourceUsage) -> float:
    """Used of nominal, as a part of 1; more than that is borrowed."""
    return round(each.used / each.nominal, 3) if each.nominal else float(each.used > 0)


def usage_rows(status: QueueStatus) -> list[Answer]:
    """A queue's usage, in quantities."""
    return [
        {
            "flavor": each.flavor,
            "resource": each.resource,
            "nominal": shown_quantity(each.nominal, each.resource),
            "used": shown_quantity(each.used, each.resource),
            "borrowed": shown_quantity(each.borrowed, each.resource),
        }
        for each in status.usage
    ]
