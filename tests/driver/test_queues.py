"""Queues over a fleet in this process: clusters with nodes of different shapes, the scheduler beside the hub's shard."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import fleet_samples
import msgspec
import pytest
import pytest_asyncio
from inprocess import CLOCK, Led, led, until
from queued_jobs import (
    JOBS,
    SHAPES,
    Audit,
    admission,
    change_queue,
    doc_of,
    job,
    pods,
    queue,
    queue_status,
    status,
    submit,
    succeed,
)
from sabotage import first_runs_raise

from raycp.base.keys import RequestKey
from raycp.base.loop_names import LoopName
from raycp.config.embedded import FaultSpec
from raycp.protocol.control import SetPause
from raycp.protocol.job_query import JobQuery
from raycp.protocol.members import Role
from raycp.sdk import conditions


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[Led]:
    async with led() as made:
        await made.apply(doc_of("east", "west", "north"))
        yield made


async def test_a_gang_spans_the_clusters_that_have_room(fleet: Led) -> None:
    """34 cores in three shapes: a gang of 34 one-core Pods needs all of them; one more fits nowhere, and is told so."""
    await queue(fleet, "batch", 100, namespaces=["default"])
    await submit(fleet, "gang", parallelism=34, completions=34, gang={})
    await until(lambda: sum(pods(fleet, "gang").values()) == 34, what="all of the gang")
    assert pods(fleet, "gang") == {"east": 16, "west": 16, "north": 2}
    assert admission(fleet, "gang")["clusters"] == pods(fleet, "gang")
    await submit(fleet, "late")
    await until(lambda: admission(fleet, "late").get("reason"))
    assert admission(fleet, "late")["reason"] == "NoRoom"

    def told() -> bool:
        found = conditions.get(status(fleet, "late").get("conditions"), "Admitted") or {}
        return (found.get("status"), found.get("reason")) == ("False", "NoRoom")

    await until(told, what="its conditions say so, once the reconcile after the scheduler's word has run")
    assert pods(fleet, "late") == {}


@pytest.mark.parametrize("names", [(["hub"], []), ([], ["batchjob"])])
async def test_while_no_job_is_reconciled_none_is_admitted(fleet: Led, names: tuple[list[str], list[str]]) -> None:
    await queue(fleet, "batch", 100, namespaces=["default"])
    await submit(fleet, "before")
    await until(lambda: sum(pods(fleet, "before").values()) == 1)
    paused = await fleet.leader.ask(SetPause(True, *names))
    await fleet.ready(paused.generation)
    await submit(fleet, "meanwhile")
    (shard,) = fleet.substrate.living(Role.SHARD)
    assert not shard.hosting.hub.writable
    await until(lambda: not shard.hosting.scheduler.ready, what="the scheduler's term ends")
    await until(lambda: any(saved.key.name == "meanwhile" for saved in shard.queue.snapshot()))
    assert not status(fleet, "meanwhile")
    await fleet.leader.ask(SetPause(False, *names))
    await until(lambda: sum(pods(fleet, "meanwhile").values()) == 1)
    assert sum(pods(fleet, "before").values()) == 1


async def test_a_lender_takes_its_quota_back_by_preemption(fleet: Led) -> None:
    """Two queues of one cohort: one borrows all. When the other needs its own, the youngest borrower makes way; its counters stay
    exact."""
    await queue(fleet, "a", 4, namespaces=["default"], cohort="all")
    await queue(fleet, "b", 4, cohort="all")
    await submit(fleet, "first", parallelism=4, completions=4)
    await until(lambda: pods(fleet, "first"))
    await submit(fleet, "second", parallelism=4, completions=4)
    await until(lambda: sum(pods(fleet).values()) == 8, what="what the other queue does not use is lent")
    await submit(fleet, "owner", parallelism=4, completions=4, queue="b")
    await until(lambda: sum(pods(fleet, "owner").values()) == 4)
    await until(lambda: status(fleet, "second").get("phase") == "Queued")
    assert sum(pods(fleet, "first").values()) == 4
    assert pods(fleet, "second") == {}
    assert status(fleet, "second").get("failed", 0) == 0
    assert "startTime" not in status(fleet, "second")
    shown = await until(lambda: (found := queue_status(fleet, "b")).get("admitted") == 1 and found)
    assert {each["resource"]: each["used"] for each in shown["usage"]} == {"cpu": "4"}
    assert conditions.is_true(shown["conditions"], "Active")
    events = fleet.cluster("hub").api.list("events.events.k8s.io", "default")[0]
    assert any(event["reason"] == "InCohortReclamation" and event["regarding"]["name"] == "second" for event in events)


async def test_a_member_that_declares_its_nodes_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used up to what it declares, whatever runs there beside the fleet's jobs."""
    monkeypatch.setitem(SHAPES, "east", {**SHAPES["east"], "capacity": [{"nodes": 2, "allocatable": {"cpu": 1, "pods": 10}}]})
    async with led() as fleet:
        await fleet.apply(doc_of("east"))
        await queue(fleet, "batch", 100, namespaces=["default"])
        for name in ("one", "two", "three"):
            await submit(fleet, name)
        await until(lambda: sum(pods(fleet).values()) == 2)
        waits = await until(lambda: [n for n in ("one", "two", "three") if admission(fleet, n).get("reason") == "NoRoom"])
        assert len(waits) == 1
        (shard,) = fleet.substrate.living(Role.SHARD)
        assert shard.hosting.answer("explain", "default", waits[0])["position"] == 1
        assert shard.hosting.answer("explain", "default", waits[0])["waitsFor"]["reason"] == "NoRoom"
        (row,) = [row for row in shard.hosting.answer("queues", "", "")["items"] if row["name"] == "batch"]
        assert (row["pending"], row["admitted"]) == (1, 2)
        assert row["head"]["job"] == f"default/{waits[0]}"
        assert (row["head"]["reason"], row["usage"][0]["full"]) == ("NoRoom", 0.02)
        view = (await until(lambda: fleet.substrate.living(Role.OBSERVER)))[0].view
        page = await until(lambda: view.jobs(JobQuery(order="name")), what="the observer has the hub's jobs")
        found = {each["name"]: each for each in page["items"]}
        assert sorted(found) == ["one", "three", "two"]
        assert {each["queue"] for each in page["items"]} == {"batch"}
        assert (found[waits[0]]["why"]["reason"], found[waits[0]]["why"]["position"]) == ("NoRoom", 1)
        assert found[waits[0]]["phase"] == "Queued"
        assert sum(each["clusters"][0]["admitted"] for each in page["items"] if each["clusters"]) == 2
        assert fleet.cluster("east").recorder is not None
        assert not shard.hosting.reports.watched


async def test_members_of_other_shards_are_used_though_the_first_run_of_each_loop_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = first_runs_raise(monkeypatch)
    async with led() as fleet:
        await fleet.apply(doc_of("north", shards={"standby": 0, "clustersPerShard": 1}), 60.0)
        await queue(fleet, "batch", 100, namespaces=["default"])
        await submit(fleet, "job", parallelism=2, completions=2, gang={})
        await until(lambda: pods(fleet) == {"north": 2})
        await submit(fleet, "late")
        await until(lambda: admission(fleet, "late").get("reason") == "NoRoom")
        await until(lambda: queue_status(fleet, "batch").get("pending") == 1)
        assert raised.keys() >= {LoopName.SCHEDULER, LoopName.CAPACITY, LoopName.CAPACITY_REPORTS, LoopName.QUEUE_STATUS}


async def test_a_job_that_is_admitted_is_an_exception_of_the_watermark_until_it_is_reconciled(fleet: Led) -> None:
    """The scheduler's own write is silent: else a successor without a standby would take the job for reconciled."""
    await queue(fleet, "batch", 100, namespaces=["default"])
    await submit(fleet, "first")
    await until(lambda: sum(pods(fleet, "first").values()) == 1)
    (shard,) = fleet.substrate.living(Role.SHARD)

    def due(name: str) -> list[int]:
        key = RequestKey("batchjob", "hub", "default", name)
        return [each.last for each in shard.ledger.marks.due_of(key) if each.kind.endswith("/BatchJob")]

    hub, patch = shard.hosting.hub, shard.hosting.hub.patch_status

    async def held(*given: Any) -> Any:
        found = await patch(*given)
        shard.dispatcher.paused = True  # nothing is reconciled from here on
        return found

    hub.patch_status = held
    await submit(fleet, "second")
    await until(lambda: admission(fleet, "second").get("state") == "Admitted")
    version = int(job(fleet, "second")["metadata"]["resourceVersion"])
    await until(lambda: version in due("second"), what="the admission is an exception")
    shard.dispatcher.paused = False
    shard.dispatcher.dispatch_soon()
    await until(lambda: sum(pods(fleet, "second").values()) == 1)


async def test_controllers_that_read_a_job_are_told_that_it_is_admitted() -> None:
    """The scheduler's write is no news to the job's own controller only."""
    async with led() as fleet:
        await fleet.apply(doc_of("east", uses=["fleet_samples:job_reader"]))
        await queue(fleet, "batch", 2, namespaces=["default"])
        await submit(fleet, "first", parallelism=2, completions=2)
        await until(lambda: sum(pods(fleet, "first").values()) == 2)
        await submit(fleet, "next")
        await until(lambda: admission(fleet, "next").get("reason") == "WaitingForQuota")
        await fleet.put("hub", "job-reader", "reader", job="next")
        await until(lambda: ("job-reader", "hub", "reader") in fleet_samples.RAN)
        (shard,) = fleet.substrate.living(Role.SHARD)
        reader = RequestKey("job-reader", "hub", "default", "reader")
        await until(lambda: not shard.ledger.marks.due_of(reader), what="all that has been until now is read")
        patch = shard.hosting.hub.patch_status

        async def held(namespace: str, name: str, body: bytes) -> Any:
            if b'"Admitted"' in body:
                shard.dispatcher.paused = True  # the job's controller does not write its status any more
            return await patch(namespace, name, body)

        shard.hosting.hub.patch_status = held
        await succeed(fleet, "first")
        await until(lambda: admission(fleet, "next").get("state") == "Admitted")
        version = int(job(fleet, "next")["metadata"]["resourceVersion"])
        await until(lambda: version in [due.last for due in shard.ledger.marks.due_of(reader)], what="the reader is due for it")


async def test_a_suspended_job_gives_its_quota_to_the_next(fleet: Led) -> None:
    await queue(fleet, "batch", 2, namespaces=["default"])
    await submit(fleet, "holder", parallelism=2, completions=2)
    await until(lambda: sum(pods(fleet, "holder").values()) == 2)
    await submit(fleet, "next", parallelism=2, completions=2)
    await until(lambda: admission(fleet, "next").get("reason") == "WaitingForQuota")
    hub = fleet.cluster("hub").api
    await hub.patch_merge(JOBS, "default", "holder", b'{"spec":{"suspend":true}}')
    await until(lambda: sum(pods(fleet, "next").values()) == 2)
    assert admission(fleet, "holder")["state"] == "Pending", "or it would run again at once when it is resumed"
    await hub.patch_merge(JOBS, "default", "holder", b'{"spec":{"suspend":false}}')
    await until(lambda: admission(fleet, "holder").get("reason") == "WaitingForQuota")
    assert pods(fleet, "holder") == {}
    await hub.delete(JOBS, "default", "next")
    await until(lambda: sum(pods(fleet, "holder").values()) == 2)


async def test_jobs_wait_for_others_and_a_cycle_is_named(fleet: Led) -> None:
    """Also for jobs that have no queue: they run at once, and count."""
    await submit(fleet, "second", dependsOn=[{"job": "first"}], parallelism=1)
    await until(lambda: admission(fleet, "second").get("reason") == "DependencyMissing")
    await submit(fleet, "first", parallelism=1, completions=1)
    await until(lambda: admission(fleet, "second").get("reason") == "DependsOn")
    await until(lambda: sum(pods(fleet, "first").values()) == 1)
    assert "admission" not in status(fleet, "first")
    assert pods(fleet, "second") == {}
    (cluster,) = pods(fleet, "first")
    done = b'{"status":{"phase":"Succeeded"}}'
    await fleet.cluster(cluster).api.patch_merge("pods", "default", "first-0-0", done, subresource="status")
    await until(lambda: sum(pods(fleet, "second").values()) == 1)
    await submit(fleet, "x", dependsOn=[{"job": "y"}])
    await submit(fleet, "y", dependsOn=[{"job": "x"}])
    await until(lambda: admission(fleet, "x").get("reason") == "DependencyCycle")
    assert "default/x" in admission(fleet, "x")["message"]
    assert "default/y" in admission(fleet, "x")["message"]


async def test_a_priority_class_says_who_is_first(fleet: Led) -> None:
    """One that is not there is named, and the job goes on when it is."""
    await queue(fleet, "batch", 1, namespaces=["default"])
    await submit(fleet, "holder", priority=5)
    await until(lambda: pods(fleet, "holder"))
    await submit(fleet, "urgent", priorityClassName="urgent")
    await until(lambda: admission(fleet, "urgent").get("reason") == "NoPriorityClass")
    assert "urgent" in admission(fleet, "urgent")["message"]
    made = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}, "value": 1000}
    await fleet.cluster("hub").api.create("priorityclasses.scheduling.k8s.io", made)
    await until(lambda: pods(fleet, "urgent"))
    assert pods(fleet, "holder") == {}, "it has made way"


async def test_capacity_quota_labels_and_reachability_wake_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through all of the way from where they change; the scheduler itself looks at nothing from time to time here."""
    monkeypatch.setattr("raycp.scheduler.core.IDLE", 3600.0)
    monkeypatch.setattr("raycp.scheduler.term.IDLE", 3600.0)
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    async with led() as fleet:
        await fleet.apply(doc_of("east", timeout="500ms"))
        api = fleet.cluster("east").api
        await queue(fleet, "batch", 8, namespaces=["default"])

        async def waits(name: str, reason: str) -> None:
            await until(lambda: admission(fleet, name).get("reason") == reason, what=f"{name} waits: {reason}")

        await submit(fleet, "large", cpu="8")
        await waits("large", "NoClusterFit")
        amounts = {"cpu": "8", "memory": "8Gi", "pods": "110"}
        state = {"allocatable": amounts, "capacity": amounts, "conditions": [{"type": "Ready", "status": "True"}]}
        await api.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "large"}})
        await api.patch_merge("nodes", "", "large", msgspec.json.encode({"status": state}), subresource="status")
        await until(lambda: pods(fleet, "large") == {"east": 1}, what="a node wakes it")

        await submit(fleet, "more", cpu="2")
        await waits("more", "WaitingForQuota")
        await change_queue(fleet, "batch", flavors=[{"name": "default", "resources": [{"name": "cpu", "nominalQuota": 12}]}])
        await until(lambda: pods(fleet, "more") == {"east": 1}, what="quota wakes it")

        await submit(fleet, "choosy", placement={"clusterSelector": {"region": "east"}})
        await waits("choosy", "NoClusterFit")
        monkeypatch.setitem(SHAPES, "east", {**SHAPES["east"], "labels": {"region": "east"}})
        await fleet.apply(doc_of("east", timeout="500ms"))
        await until(lambda: pods(fleet, "choosy") == {"east": 1}, what="a label wakes it")

        for fault in ({"kind": "reset"}, {"kind": "closeWatch", "for": "100ms"}):
            fleet.cluster("east").faults.add(FaultSpec.model_validate(fault))
        (shard,) = fleet.substrate.living(Role.SHARD)
        await submit(fleet, "never", cpu="99")
        await waits("never", "ExceedsMaxQuota")
        known = lambda: shard.hosting.answer("explain", "default", "never")["clusters"][0]["reason"]  # noqa: E731
        await until(lambda: known() == "Unreachable", what="the scheduler has been told")
        await submit(fleet, "patient")
        await waits("patient", "NoClusterFit")
        fleet.cluster("east").faults.clear()
        await until(lambda: pods(fleet, "patient") == {"east": 1}, what="a member that answers again wakes it")


async def test_without_a_queue_nothing_of_the_scheduler_runs(fleet: Led) -> None:
    await submit(fleet, "plain", parallelism=3, completions=3)
    await until(lambda: sum(pods(fleet, "plain").values()) == 3)
    assert "admission" not in status(fleet, "plain")
    (shard,) = fleet.substrate.living(Role.SHARD)
    assert not shard.hosting.scheduler.engaged
    assert not shard.hosting.scheduler.ready
    assert not shard.hosting.reports.active, "no node and no foreign Pod is watched"


@pytest.mark.wide
async def test_the_jobs_of_a_lost_cluster_are_queued_again_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gang goes whole and comes first again, as it is the oldest; another job moves the part that is lost; one that waits for the
    cluster stays.

    The gangs are made in different seconds: a ``creationTimestamp`` has no more, and of one second the uid decides, which is drawn.
    The permit is long enough for a process that others keep from running for a while: one of 1 s ended again and again under load,
    and with each the scheduler's term, so that nothing was ever decided to the end."""
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.5)
    rules = {"onUnreachable": "Replace", "unreachableTolerationSeconds": 0}
    async with led() as fleet:
        await fleet.apply(doc_of("east", "west", leader={"permit": "4s"}, timeout="2s"))
        audit = Audit(moves=frozenset({"moves"})).follow(fleet, "east", "west")
        await queue(fleet, "batch", 100, namespaces=["default"])
        for name in ("older", "younger"):
            await submit(fleet, name, parallelism=8, completions=8, gang={}, placement=rules)
            await until(lambda name=name: pods(fleet, name) == {"east": 4, "west": 4})  # type: ignore[misc]
            created = job(fleet, name)["metadata"]["creationTimestamp"]
            await until(lambda created=created: conditions.time_text(CLOCK.wall()) > created)  # type: ignore[misc]
        await submit(fleet, "moves", parallelism=8, completions=8, placement=rules)
        await until(lambda: pods(fleet, "moves") == {"east": 4, "west": 4})
        await submit(fleet, "waits", parallelism=2, completions=2, placement={"clusters": ["east"]})
        await until(lambda: pods(fleet, "waits") == {"east": 2})
        for fault in ({"kind": "reset"}, {"kind": "closeWatch"}):  # of a watch that is just being opened, too
            fleet.cluster("east").faults.add(FaultSpec.model_validate(fault))
        audit.lose("east")
        await until(lambda: admission(fleet, "moves").get("clusters") == {"west": 8})
        await until(lambda: admission(fleet, "older").get("clusters") == {"west": 8}, what="the gang runs in what is left")
        await until(lambda: admission(fleet, "younger").get("reason") == "NoRoom")
        await until(lambda: [status(fleet, name).get("active") for name in ("older", "moves", "younger")] == [8, 8, 0])
        assert admission(fleet, "waits")["clusters"] == {"east": 2}
        assert [status(fleet, name).get("failed", 0) for name in ("older", "younger", "moves", "waits")] == [0, 0, 0, 0]
        assert audit.order == ["older", "younger", "moves", "waits", "older"]
        assert audit.evicted == ["older", "younger"]
        audit.check()


def used(fleet: Led) -> dict[str, int]:
    """Cores that jobs hold by what is recorded of them, by queue."""
    found: Counter[str] = Counter()
    for each in fleet.cluster("hub").api.list(JOBS, "default")[0]:
        record = (each.get("status") or {}).get("admission") or {}
        over = any(conditions.is_true((each.get("status") or {}).get("conditions"), type) for type in ("Complete", "Failed"))
        if record.get("state") in ("Admitted", "Evicting") and not over:
            request = each["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
            found[record["queue"]] += int(request) * sum(record["clusters"].values())
    return dict(found)


async def test_quota_is_never_exceeded_though_the_scheduler_dies_in_the_middle(fleet: Led) -> None:
    """Its successor, the standby of the hub's shard, goes on from what is recorded in the jobs: none is admitted twice."""
    await until(lambda: fleet.leader.roster.standby_of("0") is not None)
    await queue(fleet, "a", 6, namespaces=["default"], cohort="all")
    await queue(fleet, "b", 6, cohort="all")
    for number in range(14):
        await submit(fleet, f"j{number}", parallelism=2, completions=2, queue="a" if number % 2 else "b")
    most = 0

    def sample() -> int:
        nonlocal most
        most = max(most, sum(used(fleet).values()))
        return most

    await until(sample)
    (shard,) = fleet.substrate.living(Role.SHARD)
    await fleet.substrate.kill(shard.member)
    successor = await until(lambda: [s for s in fleet.substrate.living(Role.STANDBY) if s.identity.term == 2])
    await until(lambda: successor[0].hosting.scheduler.ready and sample())
    await until(lambda: sample() == 12 == sum(used(fleet).values()) and sum(pods(fleet).values()) == 12)
    await until(lambda: sum(admission(fleet, f"j{n}").get("reason") == "WaitingForQuota" for n in range(14)) == 8)
    assert most == 12
    admitted = [n for n in range(14) if admission(fleet, f"j{n}").get("state") == "Admitted"]
    assert len(admitted) == 6
    for number in admitted:
        await succeed(fleet, f"j{number}-")
    await until(lambda: sample() and sum(status(fleet, f"j{n}").get("succeeded", 0) for n in range(14)) == 12)
    await until(lambda: sum(pods(fleet).values()) == 12, what="the next six run")
    assert sample() == 12
    assert sum(status(fleet, f"j{n}").get("failed", 0) for n in range(14)) == 0
