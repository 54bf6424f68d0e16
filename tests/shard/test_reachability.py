"""Clusters as an input (law 13): lost, usable again, unknown to a worker, known by an older fleet file."""

from collections import Counter
from types import SimpleNamespace

import fleet_samples as samples
import msgspec
import pytest
from inprocess import CLOCK, Stack, fleet_doc, fleet_of, holds, quiet, stack, until

from raycp.classify import Reason, pace_width
from raycp.classify.spread import AT_ONCE, PACED_WITHIN
from raycp.config.embedded import FaultSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ConnectSpec
from raycp.queueing import Saved

HOMES = {"hub": "0", "far": "1"}


def ran() -> Counter[str]:
    return Counter(name for *_, name in samples.RAN)


def silence(fleet: Stack, cluster: str) -> None:
    """End its watches, and forbid watching and listing."""
    for fault in ({"kind": "error", "status": 503, "verbs": ["watch", "list"]}, {"kind": "closeWatch", "for": "100ms"}):
        fleet.clusters[cluster].faults.add(FaultSpec.model_validate(fault))


async def test_a_reconcile_that_found_a_shard_silent_is_run_again_when_it_is_back() -> None:
    """No cluster was lost: only the worker could not tell. Nothing polls (soak: a child was missing for ever)."""
    async with stack(["remote"], HOMES) as fleet:
        await fleet.put("hub", "remote", "before")
        await until(lambda: fleet.clusters["far"].api.get("secrets", "default", "before-child"))
        await fleet.kill("shard", "1")
        await until(lambda: not fleet.worker().links["1"].connected)
        await fleet.put("hub", "remote", "during")
        await until(lambda: ran()["during"])
        assert fleet.clusters["far"].api.get("secrets", "default", "during-child") is None
        await fleet.new_shard("1")
        await fleet.configure()
        await until(lambda: fleet.clusters["far"].api.get("secrets", "default", "during-child"), 20.0)


async def test_a_reconcile_on_a_worker_that_was_cut_off_from_a_shard_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing happened to shard or cluster: it notices the worker's new connection."""
    async with stack(["remote"], HOMES) as fleet:
        await fleet.put("hub", "remote", "before")
        await until(lambda: fleet.clusters["far"].api.get("secrets", "default", "before-child"))
        await quiet(fleet)
        with monkeypatch.context() as patch:
            patch.setattr("raycp.worker.shard_link.dial", refused)
            fleet.worker().links["1"].reset()
            await until(lambda: not fleet.worker().links["1"].connected)
            await fleet.put("hub", "remote", "during")
            await until(lambda: ran()["during"] and not samples.RUNNING["remote", "hub", "during"])
        await until(lambda: fleet.clusters["far"].api.get("secrets", "default", "during-child"), 20.0)


async def refused(*args: object) -> None:
    raise ConnectionRefusedError("a test's")


@pytest.mark.parametrize(
    "fault",
    [{"kind": "error", "status": 503}, {"kind": "error", "status": 401}, {"kind": "badAnswer", "answer": "emptyObject"}],
    ids=["503", "401", "nonsense"],
)
async def test_a_failed_write_to_a_lost_cluster_is_tried_again_when_it_returns(
    monkeypatch: pytest.MonkeyPatch, fault: dict[str, str | int]
) -> None:
    """Not after its backoff, which the outage has made long."""
    monkeypatch.setattr("raycp.worker.admission.random", SimpleNamespace(uniform=lambda low, high: 100.0))
    async with stack(["remote"], HOMES) as fleet:
        guard = fleet.shard("1").guard
        fleet.clusters["far"].faults.add(FaultSpec.model_validate({**fault, "verbs": ["create", "get"]}))
        for number in range(6):
            await fleet.put("hub", "remote", f"r{number}")
        await until(lambda: guard.state_of("far")[0] == "open", 15.0)
        waiting = await until(lambda: [s for s in fleet.shard("0").queue.snapshot() if s.key.name == "r0" and s.delay > 20.0])
        assert waiting[0].retry
        fleet.clusters["far"].faults.clear(None)
        await until(
            lambda: all(fleet.clusters["far"].api.get("secrets", "default", f"r{n}-child") for n in range(6)),
            20.0,
            "as soon as its breaker has closed",
        )


async def test_a_lost_cluster_requeues_many_keys_in_the_background_of_live_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    many = 4 * AT_ONCE
    async with stack(["reader"], HOMES) as fleet:
        for number in range(many):
            await fleet.put("hub", "reader", f"r{number}", place="far")
        await fleet.put("hub", "reader", "elsewhere", place="hub")
        await until(lambda: len(ran()) == many + 1, 30.0)
        await quiet(fleet)
        shard = fleet.shard("0")
        shard.dispatcher.paused = True
        silence(fleet, "far")

        def queued() -> list[Saved]:
            return [each for each in shard.queue.snapshot() if each.reason == Reason.CLUSTER]

        found = await until(lambda: queued() if len(queued()) == many else None, 20.0)
        assert {each.priority for each in found} == {70}, "behind users' changes, which have 100"
        assert 0.0 < max(each.age + each.delay for each in found) <= pace_width(many) + 0.1
        await fleet.put("hub", "reader", "elsewhere", more="1")
        await until(lambda: any(each.key.name == "elsewhere" for each in shard.queue.snapshot()))
        shard.dispatcher.paused = False
        samples.RAN.clear()
        shard.dispatcher.dispatch_soon()
        await until(lambda: len(ran()) == many + 1, 30.0)
        assert ran()["elsewhere"] == 1


def test_however_many_keys_a_change_concerns_all_are_due_within_a_bound() -> None:
    assert pace_width(AT_ONCE) == 0.0
    widths = [pace_width(count) for count in (AT_ONCE + 1, 1_000, 100_000)]
    assert widths == sorted(widths)
    assert widths[-1] == PACED_WITHIN


async def test_a_worker_waits_for_the_fleet_file_that_the_shard_decided_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its reconcile would decide by the old one, and nothing would wake it again."""
    monkeypatch.setattr("raycp.worker.runs.PLAN_WITHIN", 60.0)
    async with stack(["reader"], HOMES) as fleet:
        await fleet.put("hub", "reader", "r")
        await until(lambda: ran()["r"])
        await quiet(fleet)
        before = ran()["r"]
        doc = fleet_doc(HOMES, ["fleet_samples:reader"], controllers=[{"use": "fleet_samples:reader", "config": {"mode": "new"}}])
        fleet.doc, fleet.fleet = doc, msgspec.structs.replace(fleet_of(doc), sequence=1)
        shard, worker = fleet.shard("0"), fleet.worker()
        await fleet.configure(shard.member)
        await until(lambda: worker.runs.in_flight("0"), what="the shard has made the key due, and handed it out")
        await holds(lambda: ran()["r"] == before, 0.3, "the worker has an older fleet file")
        await fleet.configure(worker.member)
        await until(lambda: ran()["r"] > before)
        assert samples.READ["hub", "r"]["config"] == {"mode": "new"}


async def test_a_worker_that_never_receives_the_fleet_file_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.worker.runs.PLAN_WITHIN", 0.2)
    async with stack(["tracked"]) as fleet:
        fleet.fleet = msgspec.structs.replace(fleet.fleet, sequence=5)
        await fleet.configure(fleet.shard().member)
        await fleet.put("here", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        await fleet.put("here", "tracked", "b")
        await until(lambda: ran()["b"] == 1)


async def test_what_was_decided_by_an_outdated_fleet_file_is_decided_again_until_that_has_arrived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raycp.worker.runs.PLAN_WITHIN", 0.2)
    async with stack(["reader"], HOMES) as fleet:
        await fleet.put("hub", "reader", "r")
        await until(lambda: ran()["r"])
        await quiet(fleet)
        doc = fleet_doc(HOMES, ["fleet_samples:reader"], controllers=[{"use": "fleet_samples:reader", "config": {"mode": "new"}}])
        fleet.doc, fleet.fleet = doc, msgspec.structs.replace(fleet_of(doc), sequence=1)
        before = ran()["r"]
        await fleet.configure(fleet.shard("0").member)
        await until(lambda: ran()["r"] >= before + 2, what="the worker goes on without it, again and again")
        assert samples.READ["hub", "r"]["config"] != {"mode": "new"}
        await fleet.configure(fleet.worker().member)
        await until(lambda: samples.READ["hub", "r"]["config"] == {"mode": "new"})
        await quiet(fleet)
        after = ran()["r"]
        await holds(lambda: ran()["r"] == after, 0.5, "it is decided by the document in force: nothing makes it due")


async def test_a_cluster_at_another_address_is_used_at_once_though_its_breaker_was_open() -> None:
    limits = {"here": {"breaker": {"min": "300s", "max": "300s"}}}
    async with stack(["parent"], fields=limits) as fleet:
        shard = fleet.shard()
        for _ in range(8):
            shard.guard.breaker("here").failure("a test's")
        assert shard.guard.state_of("here")[0] in ("open", "half-open")
        second = EmbeddedCluster("here", fleet.doc.cluster("here").embedded, CLOCK)  # type: ignore[arg-type]
        try:
            endpoint = await second.start()
            fleet.connects["here"] = ConnectSpec(
                name="here", mode="direct", server=endpoint.server, ca_pem=endpoint.ca_pem, token=endpoint.token
            )
            await fleet.configure()
            await until(lambda: shard.guard.state_of("here")[0] == "closed", what="the new endpoint has answered")
            meta = {"name": "p", "namespace": "default", "labels": {"app": "parent"}}
            await second.api.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
            await until(lambda: second.api.get("secrets", "default", "p-child"))
        finally:
            await second.stop()
