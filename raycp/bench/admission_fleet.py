"""``admission-fleet``: jobs with queues in a real fleet, from the hub's queues to Pods in the members."""

import asyncio
from typing import Any

from raycp.bench.admission import play_decisions
from raycp.bench.driver import LoadError
from raycp.bench.fleets import BATCHJOB, fleet_doc, fleet_under_test
from raycp.bench.jobs import LABEL, job_spec
from raycp.bench.scenario import RunOutcome, Stage, scenario

QUEUES = 10
RATE = 50.0
"""Jobs a second while there is room."""

PODS = 2
NODES = 10
WAIT = 60.0
"""Seconds for the last Pods, once all jobs have been sent."""


class _Queued:
    """Queues on the hub, nodes in the members, and the jobs of one run."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._hub = stage.ground.names[0]

    async def set_up(self, room: int) -> None:
        """Quota for ``room`` Pods in all queues together, room for far more in the members."""
        load = self._stage.load
        for member in self._stage.members:
            for number in range(NODES):
                node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}"}}
                status = {
                    "allocatable": {"cpu": "100000", "memory": "1Ti", "pods": "100000"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                }
                await load.order("send", cluster=member, method="POST", path="/api/v1/nodes", body=node)
                path = f"/api/v1/nodes/n{number}/status"
                await load.order("send", cluster=member, method="PATCH", path=path, body={"status": status})
        for number in range(QUEUES):
            quota = [{"name": "cpu", "nominalQuota": room // QUEUES}]
            spec = {"cohort": "all", "flavors": [{"name": "default", "resources": quota}]}
            queue = {"apiVersion": "raycp.io/v1alpha1", "kind": "Queue", "metadata": {"name": f"q{number}"}, "spec": spec}
            await load.order("send", cluster=self._hub, method="POST", path="/apis/raycp.io/v1alpha1/queues", body=queue)
        await load.order("watch_admissions", cluster=self._hub, selector=f"bench={LABEL}")

    async def send(self, prefix: str, count: int, rate: float | None) -> int:
        """``count`` jobs, in turn over the queues; how many were sent."""
        each = max(1, count // QUEUES)
        await asyncio.gather(*(self._post(prefix, number, each, rate) for number in range(QUEUES)))
        return each * QUEUES

    async def _post(self, prefix: str, number: int, count: int, rate: float | None) -> None:
        spec = {**job_spec(PODS), "queue": f"q{number}"}
        spec["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
        how: dict[str, Any] = {"rate": rate / QUEUES} if rate else {"concurrency": 4}
        await self._stage.load.post(
            self._hub, f"{prefix}-q{number}", count, kind="BatchJob", spec=spec, work_label=LABEL, **how
        )

    async def admitted(self, prefix: str, count: int, timeout: float) -> list[tuple[float, float | None]]:
        """(admitted, first Pod) of its jobs, in the order of admission."""
        found = await self._stage.load.order("admissions", prefix=prefix, count=count, timeout=timeout)
        return sorted((at, pod) for _, at, pod in found["rows"])


@scenario(
    name="admission-fleet",
    about="BatchJobs with queues through one hub: 50 a second while there is room, then more than the quotas hold at once",
    clusters=4,
)
async def admission_fleet(stage: Stage) -> RunOutcome:
    """The latencies are from a job's admission, as received on a watch of the hub, to its first Pod, as received on a watch of its
    member, while jobs come at ``RATE``. ``admitted_per_second``: first to last of the jobs that are sent at once and fit.
    ``over_quota``: Pods of admitted jobs beyond the quotas, though a fifth more jobs were sent. ``decisions_per_second``: of the
    scenario ``admission``, with no fleet beside it."""
    calm, burst = stage.count(500), stage.count(2000)
    calm, burst = max(QUEUES, calm // QUEUES * QUEUES), max(QUEUES, burst // QUEUES * QUEUES)
    room = (calm + burst) * PODS
    jobs = _Queued(stage)
    async with fleet_under_test(fleet_doc(stage.ground, controllers=[{"use": BATCHJOB}]), stage.policy):
        await jobs.set_up(room)
        first, then = f"a{stage.run}", f"b{stage.run}"
        await jobs.send(first, calm, RATE)
        calmly = await jobs.admitted(first, calm, WAIT)
        await jobs.send(then, burst + burst // 5, None)
        at_once = await jobs.admitted(then, burst, WAIT)
        await stage.load.clean(stage.ground.names[0], selector=f"bench={LABEL}", resources=["batchjobs"])
    if len(at_once) < 2:
        raise LoadError(f"of {burst} jobs only {len(at_once)} were admitted")
    admitted = len(calmly) + len(at_once)
    latencies = [pod - at for at, pod in calmly if pod is not None]
    fitting = at_once[:burst]
    return RunOutcome(
        latencies,
        max(0, calm - len(latencies)) + max(0, burst - sum(pod is not None for _, pod in at_once)),
        {
            "measures": "admission to first Pod",
            "admitted_per_second": round((len(fitting) - 1) / max(1e-9, fitting[-1][0] - fitting[0][0]), 1),
            "admitted": admitted,
            "over_quota": max(0, admitted * PODS - room),
            "decisions_per_second": play_decisions(min(1.0, stage.scale))["decisions_per_second"],
        },
        {"jobs admitted": [(at - fitting[0][0], float(number + 1)) for number, (at, _) in enumerate(fitting)]},
    )
