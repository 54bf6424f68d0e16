"""``noisy-tenant``, ``dead-cluster``, ``joining-cluster``, ``starvation``, ``tiers``: how much one tenant, cluster or tier
affects the others (law 4, law 5).
"""

import asyncio
from pathlib import Path
from typing import Any

from raycp.bench.driver import LoadError
from raycp.bench.fleets import fleet_doc, fleet_under_test, naive
from raycp.bench.latencies import percentile
from raycp.bench.scenario import Row, RunOutcome, Stage, scenario
from raycp.bench.workload import WORK_MS

TIER = "raycp.io/qos-tier"
QUIET = ["bench-0"]
NOISY = ["bench-1"]


def _latencies(answer: dict[str, Any]) -> list[float]:
    rows: list[Row] = answer["rows"]
    return sorted(latency for _, _, latency in rows)


def _ratio(loaded: list[float], quiet: list[float], share: float) -> float | None:
    return round(percentile(loaded, share) / percentile(quiet, share), 3) if loaded and quiet else None


def _in_ms(ordered: list[float], share: float) -> float | None:
    return round(percentile(ordered, share) * 1000, 2) if ordered else None


async def _steady(stage: Stage, prefix: str, count: int, clusters: list[str], rate: float, namespaces: list[str]) -> dict[str, Any]:
    """``count`` changes over ``clusters`` at a total ``rate``; the merged response."""
    each = max(1, count // len(clusters))
    await asyncio.gather(*(stage.load.post(c, prefix, each, rate=rate / len(clusters), namespaces=namespaces) for c in clusters))
    return await stage.load.wait(prefix, each * len(clusters), 30)


@scenario(
    name="noisy-tenant",
    about="one namespace floods 5 000 changes, others create 100 a second",
    policies=("raycp", "fifo"),
)
async def noisy_tenant(stage: Stage) -> RunOutcome:
    """Each change of the flood needs 50 ms of work, more than ten slots can do: a queue builds up. ``p999_ratio``: the p99.9 of the
    others during the flood, divided by that before it, in the same fleet."""
    cluster = stage.ground.names[0]
    tag = f"{stage.run}{stage.policy[0]}"
    count = stage.count(int(stage.options.get("count") or 1500))
    flood = stage.count(int(stage.options.get("flood") or 5000))
    async with fleet_under_test(fleet_doc(stage.ground, slots=10, name=f"noisy{tag}"), stage.policy):
        await _steady(stage, f"w{tag}", 50, [cluster], 100.0, QUIET)
        quiet = await _steady(stage, f"q{tag}", count, [cluster], 100.0, QUIET)
        flooding = asyncio.create_task(
            stage.load.post(cluster, f"f{tag}", flood, rate=flood / 15, namespaces=NOISY, annotations={WORK_MS: "50"})
        )
        await asyncio.sleep(1.0)  # let the flood's queue build up
        loud = await _steady(stage, f"l{tag}", count, [cluster], 100.0, QUIET)
        await flooding
    await stage.load.clean(cluster)
    before, during = _latencies(quiet), _latencies(loud)
    own = {
        "p999_ratio": _ratio(during, before, 0.999),
        "p99_ratio": _ratio(during, before, 0.99),
        "quiet_p999_ms": _in_ms(before, 0.999),
    }
    return RunOutcome(during, loud["missing"], own, _curves(loud))


@scenario(
    name="dead-cluster",
    about="one of ten clusters stops answering, the others create 100 a second",
    clusters=10,
    policies=("raycp", "fifo"),
)
async def dead_cluster(stage: Stage) -> RunOutcome:
    """The tenth API server is stopped (SIGSTOP) with work in flight and queued for it: connections hang, nothing is refused."""
    names = stage.members
    if len(names) < 2 or not stage.ground.clusters:
        raise LoadError("dead-cluster needs at least three embedded clusters, including the hub: it stops one of them")
    healthy, victim = names[:-1], names[-1]
    tag = f"{stage.run}{stage.policy[0]}"
    count = stage.count(int(stage.options.get("count") or 1500))
    async with fleet_under_test(fleet_doc(stage.ground, name=f"dead{tag}"), stage.policy):
        await _steady(stage, f"w{tag}", 20 * len(names), names, 100.0, QUIET)
        before = await _steady(stage, f"q{tag}", count, healthy, 100.0, QUIET)
        await stage.load.post(victim, f"v{tag}", stage.count(500), concurrency=32, annotations={WORK_MS: "100"})
        stage.ground.clusters[victim].freeze()
        try:
            during = await _steady(stage, f"l{tag}", count, healthy, 100.0, QUIET)
        finally:
            stage.ground.clusters[victim].thaw()
        recovered = await stage.load.wait(f"v{tag}", stage.count(500), 60)
    quiet, loaded = _latencies(before), _latencies(during)
    own = {
        "p99_ratio": _ratio(loaded, quiet, 0.99),
        "quiet_p99_ms": _in_ms(quiet, 0.99),
        "victim_missing": recovered["missing"],
    }
    return RunOutcome(loaded, during["missing"], own, _curves(during))


@scenario(
    name="joining-cluster",
    about="a cluster with 50 000 objects joins, the others create 100 a second",
    clusters=3,
    policies=("raycp", "fifo"),
)
async def joining_cluster(stage: Stage) -> RunOutcome:
    from raycp.driver.fleet_builder import build_fleet

    names = stage.ground.names
    old, joins = names[1:-1], names[-1]  # the first is the hub
    if not old:
        raise LoadError("joining-cluster needs at least three clusters")
    tag = f"{stage.run}{stage.policy[0]}"
    count = stage.count(int(stage.options.get("count") or 1500))
    await stage.load.post(joins, f"x{tag}", stage.count(int(stage.options.get("existing") or 50_000)), concurrency=64)
    whole = fleet_doc(stage.ground, name=f"join{tag}")
    whole = naive(whole) if stage.policy == "fifo" else whole
    part = whole.model_copy(update={"spec": whole.spec.model_copy(update={"clusters": whole.spec.clusters[:-1]})})
    async with fleet_under_test(part, stage.policy) as fleet:
        await _steady(stage, f"w{tag}", 50, old, 100.0, QUIET)
        before = await _steady(stage, f"q{tag}", count, old, 100.0, QUIET)
        await fleet.client.apply(build_fleet(whole, Path("fleet.yaml"), []))
        during = await _steady(stage, f"l{tag}", count, old, 100.0, QUIET)
    quiet, loaded = _latencies(before), _latencies(during)
    own = {
        "p99_ratio": _ratio(loaded, quiet, 0.99),
        "p999_ratio": _ratio(loaded, quiet, 0.999),
        "quiet_p99_ms": _in_ms(quiet, 0.99),
    }
    return RunOutcome(loaded, during["missing"], own, _curves(during))


@scenario(
    name="starvation",
    about="critical is saturated for 60 s; background must get its share",
    runs=1,
    policies=("raycp", "fifo"),
)
async def starvation(stage: Stage) -> RunOutcome:
    """Ten slots, 50 ms of work each: at most 200 a second. First background is offered twice its share (``background_share``:
    its part of all reconciles), then half of it (``max_wait_s``: its longest wait)."""
    cluster = stage.ground.names[0]
    tag = f"{stage.run}{stage.policy[0]}"
    seconds = 30.0 * stage.scale
    doc = fleet_doc(stage.ground, slots=10, name=f"starve{tag}")
    share = doc.spec.tiers.background.share
    capacity = 200.0
    work = {WORK_MS: "50"}

    async def offer(prefix: str, tier: str, rate: float) -> None:
        count = max(1, int(rate * seconds))
        await stage.load.post(cluster, f"{prefix}{tag}", count, rate=rate, annotations=work, labels={TIER: tier})

    async with fleet_under_test(doc, stage.policy):
        await _steady(stage, f"w{tag}", 50, [cluster], 100.0, QUIET)
        began = (await stage.load.order("seen_times", prefix="-"))["now"]
        await asyncio.gather(offer("c", "critical", capacity * 1.25), offer("b", "background", capacity * share * 2))
        done = {p: (await stage.load.order("seen_times", prefix=f"{p}{tag}"))["times"] for p in ("c", "b")}
        settled = began + seconds * 0.2  # the queue of critical has to build up first
        critical, background = (sum(settled <= at <= began + seconds for at in done[p]) for p in ("c", "b"))
        await asyncio.gather(offer("d", "critical", capacity * 1.25), offer("e", "background", capacity * share / 2))
        offered = max(1, int(capacity * share / 2 * seconds))
        answer = await stage.load.wait(f"e{tag}", offered, 90)
        urgent = await stage.load.wait(f"d{tag}", int(capacity * 1.25 * seconds), 90)
    waits = _latencies(answer)
    own = {
        "background_share": round(background / max(1, background + critical), 4),
        "background_min_share": share,
        "max_wait_s": round(waits[-1], 3) if waits else None,
        "max_wait_limit_s": doc.spec.tiers.background.max_wait,
    }
    return RunOutcome(waits, answer["missing"] + urgent["missing"], own, _curves(answer))


@scenario(
    name="tiers",
    about="work in all four tiers at once, more than the slots can do: latency by tier",
    policies=("raycp", "fifo"),
)
async def tiers(stage: Stage) -> RunOutcome:
    """Critical and high are offered less than their share, standard and background more: only the latter two may wait."""
    cluster = stage.ground.names[0]
    tag = f"{stage.run}{stage.policy[0]}"
    seconds = 20.0 * stage.scale
    offers = {"critical": 40.0, "high": 30.0, "standard": 120.0, "background": 60.0}
    async with fleet_under_test(fleet_doc(stage.ground, slots=10, name=f"tiers{tag}"), stage.policy):
        await _steady(stage, f"w{tag}", 50, [cluster], 100.0, QUIET)
        await asyncio.gather(
            *(
                stage.load.post(
                    cluster,
                    f"{tier}{tag}",
                    max(1, int(rate * seconds)),
                    rate=rate,
                    annotations={WORK_MS: "50"},
                    labels={TIER: tier},
                )
                for tier, rate in offers.items()
            )
        )
        answers = {t: await stage.load.wait(f"{t}{tag}", max(1, int(r * seconds)), 60) for t, r in offers.items()}
    await stage.load.clean(cluster)
    own: dict[str, Any] = {}
    for tier, answer in answers.items():
        ordered = _latencies(answer)
        own[f"{tier}_p50_ms"], own[f"{tier}_p99_ms"] = _in_ms(ordered, 0.5), _in_ms(ordered, 0.99)
    missing = sum(a["missing"] for a in answers.values())
    return RunOutcome(_latencies(answers["critical"]), missing, own, _curves(answers["critical"]))


def _curves(answer: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    rows: list[Row] = answer["rows"]
    begin = min((sent for _, sent, _ in rows), default=0.0)
    return {"latency_ms": sorted((sent - begin, latency * 1000) for _, sent, latency in rows)}
