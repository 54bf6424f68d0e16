"""``steady`` and ``cold``: latency and throughput without faults."""

import asyncio

from raycp.bench.fleets import fleet_doc, fleet_under_test
from raycp.bench.peer_kopf import LABEL_VALUE, kopf_operator
from raycp.bench.scenario import RunOutcome, Stage, outcome_of, scenario

WARM_UP = 50
"""Changes before the measured ones: connections, imports, first allocations."""


async def _steady_load(stage: Stage, label: str) -> RunOutcome:
    """The measured load on all member clusters, at the total rate."""
    rate = float(stage.options.get("rate") or 100.0)
    names = stage.members
    count = stage.count(int(stage.options.get("count") or 1500))
    prefix = f"s{stage.run}-{label}"
    warm = f"w{stage.run}-{label}"
    for name in names:
        await stage.load.post(name, warm, WARM_UP, rate=rate / len(names), work_label=label)
    warmed = await stage.load.wait(warm, WARM_UP * len(names), 30)
    if warmed["missing"]:
        return RunOutcome(
            missing=count,
            own={"why": f"{warmed['missing']} of {WARM_UP * len(names)} changes before the measured ones got no Pod"},
        )
    each = count // len(names)
    sent = await asyncio.gather(*(stage.load.post(n, prefix, each, rate=rate / len(names), work_label=label) for n in names))
    answer = await stage.load.wait(prefix, each * len(names), 30)
    for name in names:
        await stage.load.clean(name, selector=f"bench={label}")
    return outcome_of(answer, rate=rate, generator_late_ms=round(max(s["late_ms"] for s in sent), 2))


async def _steady_kopf(stage: Stage) -> RunOutcome:
    import contextlib

    async with contextlib.AsyncExitStack() as stack:
        for name, path in stage.ground.kubeconfigs.items():
            await stack.enter_async_context(kopf_operator(path, stage.ground.directory / f"kopf-{name}.log"))
        return await _steady_load(stage, LABEL_VALUE)


@scenario(
    name="steady",
    about="100 changes a second: POST sent until the Pod is received",
    peer=_steady_kopf,
)
async def steady(stage: Stage) -> RunOutcome:
    async with fleet_under_test(fleet_doc(stage.ground), stage.policy):
        return await _steady_load(stage, "work")


async def _cold(stage: Stage, prefix: str, count: int, began: float) -> RunOutcome:
    answer = await stage.load.wait(prefix, count, 240)
    response = await stage.load.order("seen_times", prefix=prefix)
    times = response["times"]
    outcome = RunOutcome(missing=answer["missing"], own={"duplicates": answer["duplicates"]})
    if len(times) >= 2:
        outcome.own["per_second"] = round((len(times) - 1) / max(1e-9, times[-1] - times[0]), 1)
        outcome.own["seconds_from_start"] = round(times[-1] - began, 3)
        outcome.own["first_after_seconds"] = round(times[0] - began, 3)
        outcome.curves["Pods made"] = [(at - times[0], float(i + 1)) for i, at in enumerate(times)]
    return outcome


async def _backlog(stage: Stage, label: str) -> tuple[str, int]:
    prefix, count = f"c{stage.run}-{label}", stage.count(int(stage.options.get("count") or 5000))
    names = stage.members
    for name in names:
        await stage.load.post(name, prefix, count // len(names), work_label=label, concurrency=32)
    return prefix, count // len(names) * len(names)


async def _clean(stage: Stage, label: str) -> None:
    for name in stage.members:
        await stage.load.clean(name, selector=f"bench={label}")


async def _cold_kopf(stage: Stage) -> RunOutcome:
    import contextlib

    prefix, count = await _backlog(stage, LABEL_VALUE)
    async with contextlib.AsyncExitStack() as stack:
        began = (await stage.load.order("seen_times", prefix="-"))["now"]
        for name, path in stage.ground.kubeconfigs.items():
            await stack.enter_async_context(kopf_operator(path, stage.ground.directory / f"kopf-{name}.log"))
        outcome = await _cold(stage, prefix, count, began)
    await _clean(stage, LABEL_VALUE)
    return outcome


@scenario(
    name="cold",
    about="the fleet starts with 5 000 workloads that have no Pods: Pods per second, first to last",
    peer=_cold_kopf,
)
async def cold(stage: Stage) -> RunOutcome:
    prefix, count = await _backlog(stage, "work")
    began = (await stage.load.order("seen_times", prefix="-"))["now"]
    async with fleet_under_test(fleet_doc(stage.ground), stage.policy):
        outcome = await _cold(stage, prefix, count, began)
    await _clean(stage, "work")
    return outcome
