"""A busy fleet is scraped over HTTP as Prometheus does it: every family of the catalogue has samples that count."""

import asyncio
from collections.abc import Iterable
from typing import Any

import aiohttp
import fleet_samples as samples
from collector import collector
from deadly import Deaths
from inprocess import QUIET, Led, fleet_doc, led, until
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from promtool import promtool

from raycp.base.loop_names import LoopName
from raycp.config.embedded import FaultSpec
from raycp.metrics.catalog import catalogue
from raycp.metrics.cells import Spec
from raycp.metrics.labels import OTHER
from raycp.protocol.members import Member, Role

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5"
PERMIT = 3.0
FIELDS = {
    "hub": {"requestTimeout": "2500ms"},
    "east": {"requestTimeout": "2500ms"},
    "slow": {"requestTimeout": "2500ms", "qps": 2, "burst": 1},
}
USES = [f"fleet_samples:{name}" for name in ("tracked", "parent", "wild", "writer")]
SPEC: dict[str, Any] = {
    "shards": {"standby": 1, "clustersPerShard": 1},
    "tiers": {"standard": {"workers": {"min": 1, "max": 1}}},
    "leader": {"permit": f"{PERMIT:g}s"},
    "slo": [
        {"controller": "wild", "objective": "99%", "within": "50ms"},
        {"controller": "tracked", "objective": "99%", "within": "10s"},
    ],
}


def observer_url(fleet: Led) -> str:
    return str(fleet.status()["observer"]["url"])


async def scrape(url: str, accept: str = OPENMETRICS) -> str:
    async with aiohttp.ClientSession(url) as session, session.get("/metrics", headers={"Accept": accept}) as answer:
        assert answer.status == 200
        return await answer.text()


def counted(spec: Spec, family: Metric | None) -> bool:
    """Whether a family shows what happened: a gauge any value, a counter or histogram more than 0."""
    if family is None:
        return False
    if spec.type == "gauge":
        return bool(family.samples)
    last = "_total" if spec.type == "counter" else "_count"
    return any(sample.value > 0 for sample in family.samples if sample.name.endswith(last))


def silent_families(page: str) -> set[str]:
    """The families of the catalogue that do not count yet."""
    found = by_name(page)
    return {name for name, spec in catalogue().items() if not counted(spec, found.get(name.removesuffix("_total")))}


async def put(fleet: Led, cluster: str, app: str, name: str, labels: dict[str, str] | None = None, **data: str) -> None:
    meta = {"name": name, "namespace": "default", "labels": {"app": app, **(labels or {})}}
    await fleet.cluster(cluster).api.create(
        "configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
    )


async def changes(fleet: Led) -> None:
    """Changes of every kind that a user may make."""
    for number in range(6):
        await put(fleet, "east", "tracked", f"t{number}")
        await put(fleet, "slow", "parent", f"p{number}")  # a client budget of 2 a second
    await put(fleet, "east", "tracked", "odd", {"raycp.io/qos-tier": "golden"})
    for do in ("raise", "permanent", "poll", "wait"):
        await put(fleet, "east", "wild", do, do=do)
    await until(lambda: ("wild", "east", "wait") in samples.RAN)
    await asyncio.sleep(0.1)  # the wait is declared, and goes on for a moment
    api = fleet.cluster("east").api
    await api.patch_merge("configmaps", "default", "wait", b'{"data": {"do": ""}}')


async def trouble(fleet: Led) -> None:
    """What an on-call engineer would be woken for."""
    east = fleet.cluster("east")
    for fault in (
        {"kind": "tooManyRequests", "for": 2.0, "verbs": ["create"], "resources": ["secrets"]},
        {"kind": "closeWatch", "for": 0.3},
    ):
        east.faults.add(FaultSpec.model_validate(fault))
    await put(fleet, "east", "parent", "throttled")

    async def reported() -> bool:
        return "raycp_api_throttled_total" not in silent_families(await scrape(observer_url(fleet)))

    await until(reported, 20.0, "the last second of a shard that is killed is lost")

    await replaced(fleet, fleet.substrate.living("worker")[0].member)
    await until(lambda: all(row["standbys"] for row in fleet.status()["shards"]), 20.0)
    await replaced(fleet, next(core for core in fleet.substrate.living("shard") if core.shard == home(fleet, "east")).member)

    await put(fleet, "east", "writer", "late")
    await until(lambda: samples.RUNNING["writer", "east", "late"])
    await fleet.die()
    workers = fleet.substrate.living("worker")
    await until(lambda: not any(worker.permits.held for worker in workers), PERMIT + 10.0)
    samples.OPEN["late"] = True
    await until(lambda: not samples.RUNNING["writer", "east", "late"], 10.0)
    fleet.start_leader()
    await until(lambda: fleet.status()["ready"], 20.0, "the next leader")


async def replaced(fleet: Led, member: Member) -> None:
    """Kill it; another is in its place, the leader has counted that, and the observer knows: it is not lost with that leader. Until
    the leader notices, the fleet seems to be ready."""

    async def counted() -> bool:
        families = by_name(await scrape(observer_url(fleet)))
        right = rows(families["raycp_actor_replacements"], role=member.role.value, reason="death") == [1.0]
        if member.role is Role.SHARD:
            right = right and rows(families["raycp_leader_switches"], cause="death") == [1.0]
        return right and fleet.status()["ready"]

    await fleet.substrate.kill(member)
    await until(counted, 20.0, f"another for {member}")


def home(fleet: Led, cluster: str) -> str:
    plan = fleet.leader.plan
    assert plan is not None
    return plan.cluster(cluster).shard


POISON = {"raycp_poison_suspects", "raycp_poison_convicted", "raycp_poison_convictions_total"}
"""Families that only an object that ends workers gives samples to."""

FAILURES = "raycp_loop_failures_total"
"""Counts in a fleet with a fault of raycp's own."""
FAULTY = {"raycp_handouts_recovered_total", "raycp_keys_too_large", "raycp_reflector_folded_events_total"}
"""Families without samples in a fleet without faults, large objects and floods (``test_handout_audit``, ``test_large_objects``,
``test_intake``)."""


async def test_an_object_that_ends_workers_counts() -> None:
    async with led() as fleet:
        tiers = {"standard": {"workers": {"min": 2, "max": 2}}}
        await fleet.apply(fleet_doc(["hub"], ["fleet_samples:deadly"], {"controllers": QUIET}, tiers=tiers))
        Deaths(fleet.substrate)
        await put(fleet, "hub", "deadly", "bad")

        async def counts() -> bool:
            return not POISON & silent_families(await scrape(observer_url(fleet)))

        await until(counts, 30.0)
        page = by_name(await scrape(observer_url(fleet)))
        bad = {"controller": "deadly", "cluster": "hub"}
        assert (rows(page["raycp_poison_suspects"], **bad), rows(page["raycp_poison_convicted"], **bad)) == ([0.0], [1.0])
        assert rows(page["raycp_poison_convictions"], **bad) == [1.0]


async def test_the_failures_of_loops_count_for_the_leader_and_for_members() -> None:
    async with led() as fleet:
        await fleet.apply(fleet_doc(["hub"], ["fleet_samples:tracked"], {"controllers": QUIET}))
        for loops, name in (
            (fleet.leader.loops, LoopName.SUPERVISION),
            (fleet.substrate.living("shard")[0].loops, LoopName.SWEEP),
            (fleet.substrate.living("observer")[0].loops, LoopName.DEAD_PROCESSES),
        ):
            loops.inject(next(loop for loop in loops.supervised if loop.name is name), RuntimeError("on purpose"))

        async def counted_loops() -> bool:
            family = by_name(await scrape(observer_url(fleet))).get(FAILURES.removesuffix("_total"))
            names = (LoopName.SUPERVISION, LoopName.SWEEP, LoopName.DEAD_PROCESSES)
            return family is not None and all(sum(rows(family, loop=name.value)) >= 1.0 for name in names)

        await until(counted_loops, 20.0)


async def test_every_family_counts_in_a_busy_fleet() -> None:
    embedded = {"controllers": QUIET}
    async with collector() as spans, led() as fleet:
        traces = {"endpoint": spans.url, "sample": 0.2}
        await fleet.apply(fleet_doc(["hub", "east", "slow"], USES, embedded, FIELDS, **SPEC, traces=traces))
        await until(lambda: all(row["standbys"] for row in fleet.status()["shards"]), 20.0)
        await changes(fleet)
        await trouble(fleet)
        url, page, missing = observer_url(fleet), "", [""]

        async def complete() -> bool:
            nonlocal page, missing
            page = await scrape(url)
            missing = sorted(silent_families(page) - POISON - FAULTY - {FAILURES}) or wrong_gauges(fleet, by_name(page))
            return not missing

        try:
            await until(complete, 30.0)
        except AssertionError:
            raise AssertionError(f"no sample that counts, or a wrong one: {missing}") from None
        assert promtool("check", "metrics", page=(await scrape(url, "text/plain")).encode()) == ""
        assert_history(by_name(page))
        assert_exemplars(fleet, by_name(page))
        assert_bounded(by_name(page).values())


def by_name(page: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(page)}


def rows(family: Metric, **labels: str) -> list[float]:
    return [sample.value for sample in family.samples if labels.items() <= sample.labels.items()]


def wrong_gauges(fleet: Led, families: dict[str, Metric]) -> list[str]:
    """Gauges that do not show the fleet as it is. They are a second old."""

    def shown(family: str, *labels: str) -> dict[str, float]:
        return {" ".join(sample.labels[label] for label in labels): sample.value for sample in families[family].samples}

    plan = fleet.leader.plan
    assert plan is not None
    objects = shown("raycp_cache_objects", "cluster", "kind", "role")
    right = {
        "raycp_cluster_reachable": shown("raycp_cluster_reachable", "cluster") == {"hub": 1.0, "east": 1.0, "slow": 1.0},
        "raycp_cluster_breaker_state": shown("raycp_cluster_breaker_state", "cluster") == {"hub": 0.0, "east": 0.0, "slow": 0.0},
        "raycp_shard_term": shown("raycp_shard_term", "shard") == {each.shard: float(each.term) for each in plan.shards},
        "raycp_worker_slots": shown("raycp_worker_slots", "tier") == {"standard": plan.fleet.doc.spec.workers.slots},
        "raycp_cache_objects": all(objects.get(f"slow v1/ConfigMap {role}") == 6.0 for role in ("shard", "standby")),
        "raycp_slo_open_overdue_changes": shown("raycp_slo_open_overdue_changes", "controller") == {"wild": 1.0, "tracked": 0.0},
        "raycp_permit_remaining_seconds": set(shown("raycp_permit_remaining_seconds", "role")) == {"shard", "worker"},
        "raycp_leader_incarnation": shown("raycp_leader_incarnation") == {"": 2.0},
    }
    return [name for name, is_right in right.items() if not is_right]


def assert_history(families: dict[str, Metric]) -> None:
    """What happened is counted once, whoever counted it and has died since."""
    replaced = families["raycp_actor_replacements"]
    assert rows(replaced, role="worker", reason="death") == [1.0]
    assert rows(replaced, role="shard", reason="death") == [1.0]
    assert rows(replaced, role="observer", reason="death") == [0.0]
    switches = families["raycp_leader_switches"]
    assert rows(switches, cause="death") == [1.0]
    assert rows(switches, cause="restart") == [1.0]
    assert sum(rows(families["raycp_fenced_writes"], cluster="east", reason="permit")) >= 1.0
    assert rows(families["raycp_reconcile_errors"], controller="wild", error="ZeroDivisionError")[0] >= 1.0
    assert sum(rows(families["raycp_reconcile_errors"], error="Permanent")) == 1.0


def assert_exemplars(fleet: Led, families: dict[str, Metric]) -> None:
    """A bucket names the change that fell into it: the version that the API server gave it."""
    named = 0
    for sample in families["raycp_reconcile_latency_seconds"].samples:
        if sample.exemplar is not None:
            cluster, _, version = sample.exemplar.labels["change"].partition("@")
            namespace, _, name = sample.exemplar.labels["object"].partition("/")
            assert cluster == sample.labels["cluster"]
            found = fleet.cluster(cluster).api.get("configmaps", namespace, name)
            assert found is not None
            if name != "wait":  # the others were not changed since
                assert version == found["metadata"]["resourceVersion"]
                named += 1
    assert named


def assert_bounded(families: Iterable[Metric]) -> None:
    """No label value is a text, and none of our own words is unknown to the catalogue."""
    for family in families:
        for sample in family.samples:
            for label, value in sample.labels.items():
                assert len(value) <= 64, (sample.name, label, value)
                assert not (value == OTHER and sample.value), (sample.name, label)


async def test_a_cluster_that_left_the_fleet_is_not_on_the_page() -> None:
    async with led() as fleet:
        await fleet.apply(fleet_doc(["hub", "east", "west"], USES, timeouts={"drain": 1}))
        for cluster in ("east", "west"):
            await put(fleet, cluster, "tracked", "a")
        clusters = {"hub", "east", "west"}

        async def shown() -> bool:
            families = by_name(await scrape(observer_url(fleet)))
            samples = [sample for each in families.values() for sample in each.samples]
            found = {sample.labels["cluster"] for sample in samples if "cluster" in sample.labels}
            return found == clusters and bool(rows(families["workqueue_adds"], cluster="west"))

        await until(shown)
        await fleet.substrate.kill(fleet.substrate.living("worker")[0].member)  # the dead are in the sums
        await until(lambda: fleet.status()["ready"], 20.0)
        await fleet.apply(fleet_doc(["hub", "west"], USES, timeouts={"drain": 1}))
        clusters.remove("east")
        await until(shown, 30.0, "nothing of it is left behind, and the others stay")
        for core in [*fleet.substrate.living("shard"), *fleet.substrate.living("worker")]:
            kept = [each for each in core.metrics.families() if any("east" in values for values, _ in each.rows)]
            assert not kept, f"{core.member} would keep the series of every cluster that ever was"
