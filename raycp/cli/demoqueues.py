"""The demo's queues: two of one cohort, with quota for half of what their jobs ask for at once, so that some of them wait."""

from collections.abc import Iterable
from typing import Any

from raycp.cli import explain, queues
from raycp.cli.errors import CliError
from raycp.cli.observer import fetch
from raycp.cli.output import Page

NAMES = ("demo-research", "demo-serving")
_OF_JOBS = ("demo-research", "demo-research", "demo-research", "demo-serving")
"""Most jobs ask for the first, which borrows what the second leaves."""


def queue_of(number: int, count: int) -> str | None:
    """The queue of the ``number``-th of ``count`` jobs: the first quarter, which is submitted first, has one."""
    return _OF_JOBS[number % len(_OF_JOBS)] if number < count // 4 else None


def manifests(pods: int, largest: int) -> list[dict[str, Any]]:
    """The queues for jobs of ``pods`` Pods together, of which none has more than ``largest``: each of these fits alone."""
    quota = max(largest, pods // 4)
    resources = [{"name": "pods", "nominalQuota": quota}]
    flavors = [{"name": "default", "resources": resources}]
    spec = {"cohort": "demo", "preemption": {"reclaimWithinCohort": "Never"}, "flavors": flavors}
    return [{"apiVersion": "raycp.io/v1alpha1", "kind": "Queue", "metadata": {"name": name}, "spec": spec} for name in NAMES]


def waiting_page(url: str, namespace: str, waiting: Iterable[str]) -> Page | None:
    """What ``raycp queues`` and ``raycp explain job`` show now, if a job of ``waiting`` still waits for quota. None where the
    observer does not answer: the jobs are what counts."""
    for name in waiting:
        try:
            found = fetch(url, f"/api/v1/explain/{namespace}/{name}", timeout=2.0)
            if found is None or found["waitsFor"]["reason"] != "WaitingForQuota":
                continue
            rows = queues.queues_at(url)
        except CliError:
            return None
        page = Page(f"\nTwo queues share their quota of Pods. raycp queues; raycp explain job {name} -n {namespace}:")
        page.add(queues.show(rows, "table"))
        page.add(explain.show(found))
        page.add("")
        return page
    return None
