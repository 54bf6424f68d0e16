"""``jobs``, ``jobs-large`` and ``jobs-live``: BatchJobs on the hub, their Pods on the member clusters."""

import contextlib
from typing import Any

import psutil

from raycp.bench.driver import LoadError
from raycp.bench.fleets import BATCHJOB, fleet_doc, fleet_under_test
from raycp.bench.scenario import RunOutcome, Stage, outcome_of, scenario
from raycp.driver.fleet_client import FleetHandle

LABEL = "jobs"
WARM_UP = 20
"""Jobs before the measured ones."""
PODS_WAIT = 60.0
"""Seconds for the last Pods, once all jobs have been sent."""


def job_spec(pods: int) -> dict[str, Any]:
    """A job of so many Pods at once. On the bench's clusters, without nodes, they stay Pending."""
    return {
        "parallelism": pods,
        "completions": pods,
        "template": {
            "metadata": {"labels": {"bench": LABEL}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}]},
        },
    }


class _Jobs:
    """The jobs of one run, sent to the hub."""

    def __init__(self, stage: Stage, pods: int) -> None:
        self._stage = stage
        self._hub = stage.ground.names[0]
        self._pods = pods

    async def send(self, prefix: str, count: int, rate: float | None, pods: int = 0) -> dict[str, Any]:
        """``count`` jobs at ``rate`` a second, or as fast as the hub takes them; of ``pods`` Pods each, where given."""
        spec = job_spec(pods or self._pods)
        return await self._stage.load.post(self._hub, prefix, count, rate=rate, kind="BatchJob", spec=spec, work_label=LABEL)

    async def warm_up(self, rate: float) -> None:
        """Connections, imports, first allocations."""
        prefix = f"jw{self._stage.run}"
        sent = await self.send(prefix, WARM_UP, rate, 2)
        await self._stage.load.wait(prefix, sent["sent"], 30)

    async def pod_times(self, prefix: str, jobs: int, timeout: float) -> list[float]:
        """When their Pods were received, in seconds of the load process's clock."""
        found = await self._stage.load.order("owned_times", prefix=prefix, count=jobs * self._pods, timeout=timeout)
        times: list[float] = found["times"]
        return times

    async def clean(self) -> None:
        """Delete the jobs."""
        await self._stage.load.clean(self._hub, selector=f"bench={LABEL}", resources=["batchjobs"])


def _per_second(times: list[float]) -> float | None:
    return round((len(times) - 1) / max(1e-9, times[-1] - times[0]), 1) if len(times) > 1 else None


@scenario(
    name="jobs",
    about="BatchJobs of 2 Pods, 50 a second, over three members: POST sent until the first Pod is received",
    clusters=4,
)
async def jobs(stage: Stage) -> RunOutcome:
    """``jobs_per_second`` and ``pods_per_second``: first to last Pod. ``duplicates``: Pods that were created twice."""
    rate = float(stage.options.get("rate") or 50.0)
    count, pods = stage.count(int(stage.options.get("count") or 500)), int(stage.options.get("pods") or 2)
    sender = _Jobs(stage, pods)
    async with fleet_under_test(fleet_doc(stage.ground, controllers=[{"use": BATCHJOB}]), stage.policy):
        await sender.warm_up(rate)
        prefix = f"j{stage.run}"
        await sender.send(prefix, count, rate)
        answer = await stage.load.wait(prefix, count, 60)
        times = await sender.pod_times(prefix, count, 30.0)
        await sender.clean()
    per_second = _per_second(times)
    return outcome_of(
        answer,
        rate=rate,
        jobs_per_second=round(per_second / pods, 1) if per_second else None,
        pods_per_second=per_second,
        pods_missing=count * pods - len(times),
    )


@scenario(
    name="jobs-large",
    about="BatchJobs of 100 Pods, offered faster than they can be made: Pods per second, first to last",
    clusters=4,
)
async def jobs_large(stage: Stage) -> RunOutcome:
    """``pods_per_second``: first to last Pod, of 60 jobs. ``pods_missing``: Pods that were not there at the end."""
    count, pods = stage.count(int(stage.options.get("count") or 60)), int(stage.options.get("pods") or 100)
    sender = _Jobs(stage, pods)
    async with fleet_under_test(fleet_doc(stage.ground, controllers=[{"use": BATCHJOB}]), stage.policy):
        await sender.warm_up(20.0)
        prefix = f"l{stage.run}"
        await sender.send(prefix, count, None)
        times = await sender.pod_times(prefix, count, PODS_WAIT)
        answer = await stage.load.wait(prefix, count, 5)
        await sender.clean()
    outcome = outcome_of(answer, pods_per_second=_per_second(times), pods_missing=count * pods - len(times))
    outcome.missing += count * pods - len(times)
    outcome.curves = {"Pods made": [(at - times[0], float(number + 1)) for number, at in enumerate(times)]}
    return outcome


async def _memory(fleet: FleetHandle) -> int:
    """What raycp's processes take, in bytes: leader, shards, workers, observer."""
    status = await fleet.status()
    rows = [status["leader"], *status["shards"], *status["standbys"], *status["workers"], status.get("observer") or {}]
    total = 0
    for row in rows:
        with contextlib.suppress(psutil.NoSuchProcess, KeyError, TypeError):
            total += int(psutil.Process(int(row["pid"])).memory_info().rss)
    return total


@scenario(
    name="jobs-live",
    about="10 000 BatchJobs with 50 000 Pods live in one fleet; then 200 more, 10 a second",
    clusters=4,
    runs=1,
)
async def jobs_live(stage: Stage) -> RunOutcome:
    """``jobs`` and ``pods`` that live at once; ``bytes_per_pod``: how much raycp's processes have grown, by Pods. The latencies are
    of the 200 jobs that follow, POST sent until the first Pod is received."""
    count, pods = stage.count(int(stage.options.get("count") or 10_000)), int(stage.options.get("pods") or 5)
    more = stage.count(200)
    sender = _Jobs(stage, pods)
    async with fleet_under_test(fleet_doc(stage.ground, controllers=[{"use": BATCHJOB}]), stage.policy) as fleet:
        await sender.warm_up(20.0)
        before = await _memory(fleet)
        prefix = f"v{stage.run}"
        await sender.send(prefix, count, None)
        times = await sender.pod_times(prefix, count, PODS_WAIT + count * pods / 100)
        if not times:
            raise LoadError(f"of {count} jobs none has a Pod")
        grown = await _memory(fleet) - before
        then = f"t{stage.run}"
        await sender.send(then, more, 10.0)
        answer = await stage.load.wait(then, more, 60)
        await sender.clean()
    missing = count * pods - len(times)
    outcome = outcome_of(
        answer,
        jobs=count,
        pods=len(times),
        pods_missing=missing,
        pods_per_second=_per_second(times),
        bytes_per_pod=round(grown / len(times)),
    )
    outcome.missing += missing
    return outcome
