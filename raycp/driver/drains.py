"""Moves the Pods of ``BatchJob``s out of clusters of a running fleet: says which, asks for it, waits until they have left.

What moves is read from the jobs' statuses on the hub. The fleet itself moves it, bounded by each job's ``placement.maxMoving``:
here only its document is changed (``spec.clusters[].drain``), and watched what becomes of it.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from raycp.base.clock import Clock
from raycp.controllers.batchjob.indexes import IndexSet
from raycp.controllers.batchjob.types import GROUP, VERSION
from raycp.kube import ApiError, ClusterClient, decode_answer
from raycp.kube.pages import each_page
from raycp.protocol.control import Question, SetDrain

A = TypeVar("A")

PAGE = 500
"""Jobs of one page of a list."""

EVERY = 1.0
"""Seconds between two looks at the jobs."""

_HIGHEST = 2**31 - 1
_PATH = f"/apis/{GROUP}/{VERSION}/batchjobs"


class ChangesFleet(Protocol):
    """``FleetClient``: asks the leader."""

    async def ask(self, question: Question[A]) -> A: ...


@dataclass(frozen=True)
class JobPresence:
    """``pods`` Pods of ``job`` (namespace/name) run in ``cluster``, or are on their way there. ``why``: what keeps the job's Pods
    from a place elsewhere, in its own words; empty where nothing is known to."""

    job: str
    cluster: str
    pods: int
    why: str = ""

    def __str__(self) -> str:
        return f"{self.job}: {self.pods} Pod{'' if self.pods == 1 else 's'} in {self.cluster}{f' ({self.why})' if self.why else ''}"


class _Entry(msgspec.Struct):
    name: str = ""
    assigned: str = ""


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""
    message: str = ""


class _Status(msgspec.Struct):
    clusters: list[_Entry] = []
    conditions: list[_Condition] = []


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""


class _Job(msgspec.Struct):
    metadata: _Meta
    status: _Status = msgspec.field(default_factory=_Status)


class _Jobs(msgspec.Struct):
    items: list[_Job]


async def jobs_in(hub: ClusterClient, clusters: Collection[str]) -> list[JobPresence]:
    """The jobs with Pods in ``clusters``, as the hub's statuses say. Raises ``KubeError``."""
    found: list[JobPresence] = []
    try:
        async for body in each_page(hub, _PATH, {"limit": PAGE}):
            for job in decode_answer(body, _Jobs, f"GET {_PATH}").items:
                found += _presences(job, clusters)
    except ApiError as error:
        if not error.not_found:
            raise
        return []  # no fleet has ever installed the kind
    return found


def _presences(job: _Job, clusters: Collection[str]) -> Iterable[JobPresence]:
    refused = [each.message for each in job.status.conditions if each.type == "Scheduled" and each.status == "False"]
    for entry in job.status.clusters:
        pods = len(IndexSet.read(entry.assigned, _HIGHEST))
        if entry.name in clusters and pods:
            yield JobPresence(f"{job.metadata.namespace}/{job.metadata.name}", entry.name, pods, "".join(refused[:1]))


async def drain(
    fleet: ChangesFleet,
    hub: ClusterClient,
    clusters: Collection[str],
    clock: Clock,
    seconds: float,
    progress: Callable[[Sequence[JobPresence]], None],
    by: str = "",
) -> list[JobPresence]:
    """Drain ``clusters`` of the running fleet, and wait up to ``seconds`` until no job has Pods there; those that have still.
    ``progress`` is called when that has changed; ``by``: who asks. Raises ``KubeError``, ``FleetError``, ``ControlError``."""
    await fleet.ask(SetDrain(True, list(clusters), by))
    deadline, shown = clock.now() + seconds, list[Any]()
    while True:
        left = await jobs_in(hub, clusters)
        if left != shown:
            progress(left)
            shown = left
        if not left or clock.now() > deadline:
            return left
        await clock.sleep(EVERY)
