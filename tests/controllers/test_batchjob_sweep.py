"""Pods whose job is dead: what is swept, and what is held until somebody confirms it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from inprocess import until
from live_fleet import LiveFleet
from test_batchjob_live import current, job, pods
from test_batchjob_own_pods import forge
from test_batchjob_wakes import JOBS, fleet_with, job_of, pods_in, silence, submit

from raycp.base.owner_marks import MARK
from raycp.base.tasks import Outcome
from raycp.config.embedded import EmbeddedSpec, FaultSpec
from raycp.controllers.batchjob import batchjob, batchjob_sweep
from raycp.controllers.batchjob.dead_jobs import ClusterDead, DeadJob, HeldSweep, SweepDecision, SweepRecord, decide, digest_of
from raycp.controllers.batchjob.pods import TRACKING
from raycp.controllers.batchjob.sweeper import CONFIRMED, NAME, RECORD, read_record
from raycp.controllers.batchjob.types import FINALIZER, ORPHANED, crd
from raycp.sdk.owner import OWNER, OWNER_KIND, OWNER_UID, mark

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
TRUSTED = SweepRecord("hub-uid", 1000.0)


def found(dead: int, of: int, cluster: str = "east") -> ClusterDead:
    return ClusterDead(cluster, of, (DeadJob(cluster, f"uid-{cluster}", "default/pi", dead),) if dead else ())


def decision(*clusters: ClusterDead, **change: Any) -> SweepDecision:
    facts: dict[str, Any] = {"complete": True, "hub": "hub-uid", "voided": 0.0, "record": TRUSTED, "confirmed": "", "now": 2000.0}
    return decide(clusters, **{**facts, **change})


def test_a_few_pods_of_a_dead_job_are_swept() -> None:
    assert [each.pods for each in decision(found(2, 10)).jobs] == [2]
    assert decision(found(2, 10)).record == TRUSTED


@pytest.mark.parametrize(
    ("clusters", "change", "why"),
    [
        ([found(3, 10)], {}, "more than 20%"),
        ([found(1, 100)], {"voided": 1500.0}, "restored"),
        ([found(1, 100)], {"hub": "another"}, "another cluster"),
        ([found(1, 100)], {"record": SweepRecord()}, "not known yet"),
    ],
)
def test_what_may_be_the_hubs_fault_is_held_until_it_is_confirmed(
    clusters: list[ClusterDead], change: dict[str, Any], why: str
) -> None:
    held = decision(*clusters, **change)
    assert held.jobs == ()
    assert why in held.record.held[0].why
    wrong = decision(*clusters, **change, confirmed="0" * 12)
    assert wrong.jobs == (), "another finding was confirmed"
    done = decision(*clusters, **change, confirmed=held.record.digest)
    assert [each.cluster for each in done.jobs] == ["east"]
    assert (done.record.hub, done.record.trusted, done.record.held) == (change.get("hub", "hub-uid"), 2000.0, [])
    again = decision(*clusters, **{**change, "record": done.record})
    assert [each.cluster for each in again.jobs] == ["east"], "what is confirmed stays so until it is done"
    more = decision(*clusters, found(9, 10, "west"), **{**change, "record": done.record})
    assert [each.cluster for each in more.record.held] == ["west"], "and covers nothing else"
    assert decision(**{**change, "record": done.record}).record.approved == []


def test_one_cluster_with_too_many_does_not_hold_the_others() -> None:
    made = decision(found(5, 10), found(1, 10, "west"))
    assert [each.cluster for each in made.jobs] == ["west"]
    assert [each.cluster for each in made.record.held] == ["east"]


def test_a_hub_in_order_is_trusted_when_all_members_could_be_read() -> None:
    assert decision(record=SweepRecord(), complete=False).record == SweepRecord()
    assert decision(record=SweepRecord()).record == SweepRecord("hub-uid", 2000.0)
    assert decision(voided=1500.0, complete=False).record == TRUSTED
    assert decision(voided=1500.0).record.trusted == 2000.0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=5), st.booleans(), st.booleans())
def test_nothing_but_a_confirmation_sweeps_more_than_the_bound(sizes: list[tuple[int, int]], known: bool, voided: bool) -> None:
    clusters = [found(dead, dead + rest, f"c{at}") for at, (dead, rest) in enumerate(sizes)]
    made = decision(*clusters, record=TRUSTED if known else SweepRecord(), voided=1500.0 if voided else 0.0)
    swept = {each.cluster for each in made.jobs}
    for each in clusters:
        pods = sum(one.pods for one in each.jobs)
        allowed = known and not voided and 0 < pods <= 0.2 * each.pods
        assert (each.cluster in swept) == allowed
    assert {each.cluster for each in made.record.held} == {each.cluster for each in clusters if each.jobs} - swept
    assert bool(made.record.digest) == bool(made.record.held)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hub": 1}', '{"held": [3]}'])
def test_a_record_that_is_none_counts_as_unknown(text: str) -> None:
    assert read_record(text) == SweepRecord()


def test_a_digest_names_what_was_shown() -> None:
    one, other = [found(1, 10)], [found(1, 10), found(1, 10, "west")]
    assert digest_of("hub", one) != digest_of("hub", other) != digest_of("b", other)
    assert digest_of("hub", [found(0, 10)]) == ""


# against embedded clusters


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[LiveFleet]:
    spec = EmbeddedSpec.model_validate({"controllers": {"stages": False}})
    async with LiveFleet("hub", "east", "west", spec=spec) as made:
        await made.install("hub", crd())
        yield made


async def definition(fleet: LiveFleet) -> dict[str, Any]:
    everything = await fleet.objects("hub", "apiextensions.k8s.io/v1/CustomResourceDefinition")
    return next(each for each in everything if each["metadata"]["name"] == NAME)


async def sweep(fleet: LiveFleet) -> SweepRecord:
    done = await fleet.reconcile(batchjob_sweep, "", NAME)
    assert done.outcome is Outcome.OK, done.error
    return read_record(((await definition(fleet))["metadata"].get("annotations") or {}).get(RECORD, ""))


async def orphaned_by_hand(fleet: LiveFleet, count: int, *, forged: bool = False) -> None:
    """A job with Pods in east, deleted while its finalizer was taken off by hand. ``forged``: and a Pod that only claims it."""
    made = await fleet.send("create", "hub", job(parallelism=count, completions=count, placement={"clusters": ["east"]}))
    await fleet.reconcile(batchjob, "default", "pi")
    assert len([name for _, name in await pods(fleet) if name.startswith("pi-")]) == count
    if forged:
        await forge(fleet, "east", "default", "pi-7-0", "Running", 7)
    await fleet.send("delete", "hub", made, {})
    found = await current(fleet)
    assert found is not None
    await fleet.send("patch", "hub", found, {"metadata": {"finalizers": None}})
    assert await current(fleet) is None


async def others(fleet: LiveFleet, count: int) -> None:
    for index in range(count):
        container = [{"name": "main", "image": "busybox"}]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"other-{index}", "namespace": "default"}}
        await fleet.send("create", "east", {**pod, "spec": {"containers": container}})


async def test_pods_of_a_job_whose_finalizer_was_taken_off_are_swept_and_no_others(fleet: LiveFleet) -> None:
    assert (await sweep(fleet)).hub, "the hub is known from now on"
    await fleet.send("create", "hub", {**job("alive", parallelism=1, completions=1, placement={"clusters": ["east"]})})
    await fleet.reconcile(batchjob, "default", "alive")
    await others(fleet, 8)
    await orphaned_by_hand(fleet, 2, forged=True)
    await sweep(fleet)
    names = {name for _, name in await pods(fleet)}
    assert names == {"alive-0-0", "pi-7-0", *(f"other-{index}" for index in range(8))}, "the forged one has no mark"
    assert [event for event in fleet.events if event["reason"] == "Swept" and "default/pi" in event["note"]]


async def test_a_pod_that_only_lies_about_its_owner_takes_no_other_namespaces_pods_along(fleet: LiveFleet) -> None:
    """The mark covers the owner's uid, not what the annotations say of the owner: who may write to one child of another
    controller's object in a namespace of their own makes that object look like a dead job."""
    assert fleet.marks is not None
    assert (await sweep(fleet)).hub
    await others(fleet, 30)
    for namespace in ("mine", "theirs"):
        await fleet.send("create", "east", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "child", "namespace": namespace}}
        owner = {"apiVersion": "team.example/v1", "kind": "Site", "metadata": {"name": "site", "uid": "site-uid"}}
        pod["spec"] = {"containers": [{"name": "main", "image": "busybox"}]}
        made = await fleet.send("create", "east", mark(pod, owner, "hub", "east", fleet.marks))
        if namespace == "mine":
            lie = {OWNER: "hub/mine/site", OWNER_KIND: "batch.raycp.io/v1alpha1/BatchJob"}
            await fleet.send("patch", "east", made, {"metadata": {"annotations": lie}})
    await sweep(fleet)
    await sweep(fleet)
    assert [pod["metadata"]["name"] for pod in await fleet.objects("east", "v1/Pod", "theirs")] == ["child"]


async def test_more_than_a_fifth_is_shown_and_swept_only_when_confirmed(fleet: LiveFleet) -> None:
    await sweep(fleet)
    await orphaned_by_hand(fleet, 2)
    record = await sweep(fleet)
    assert record.held == [HeldSweep("east", 2, 2, ["default/pi"], record.held[0].why)]
    assert len(await pods(fleet)) == 2
    assert [event for event in fleet.events if event["reason"] == "SweepHeld"]
    held = await definition(fleet)
    await fleet.send("patch", "hub", held, {"metadata": {"annotations": {CONFIRMED: record.digest}}})
    assert (await sweep(fleet)).held == []
    assert await pods(fleet) == []
    assert CONFIRMED not in (await definition(fleet))["metadata"]["annotations"]


async def test_a_member_that_cannot_be_read_is_swept_when_it_can(fleet: LiveFleet) -> None:
    await sweep(fleet)
    await others(fleet, 20)
    await orphaned_by_hand(fleet, 2)
    fleet.hidden.add("east")
    await sweep(fleet)
    assert len(await pods(fleet)) == 22
    fleet.hidden.clear()
    await sweep(fleet)
    assert len(await pods(fleet)) == 20


async def test_a_member_that_refuses_to_be_read_or_changed_hinders_no_other(fleet: LiveFleet) -> None:
    await sweep(fleet)
    await others(fleet, 20)
    await orphaned_by_hand(fleet, 2)
    away = await fleet.send("create", "hub", job("away", parallelism=1, completions=1, placement={"clusters": ["west"]}))
    await fleet.reconcile(batchjob, "default", "away")
    await fleet.send("delete", "hub", away, {})
    await fleet.send("patch", "hub", away, {"metadata": {"finalizers": None}})
    fault = {"kind": "error", "status": 403, "verbs": ["list"], "resources": ["pods"]}
    fleet.embedded["west"].faults.add(FaultSpec.model_validate(fault))
    done = await fleet.reconcile(batchjob_sweep, "", NAME)
    assert done.outcome is Outcome.OK, done.error
    fleet.embedded["west"].faults.clear(None)
    assert len(await pods(fleet)) == 21, "east is swept, west could not be read"


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_a_deleted_job_takes_its_pods_along(fleet: LiveFleet, policy: str) -> None:
    made = await fleet.send("create", "hub", job(parallelism=2, completions=2))
    await fleet.reconcile(batchjob, "default", "pi")
    await fleet.send("delete", "hub", made, {"propagationPolicy": policy})
    deleted = await current(fleet)
    assert deleted is not None
    assert FINALIZER in deleted["metadata"]["finalizers"]
    for _ in range(3):
        await fleet.reconcile(batchjob, "default", "pi")
    assert await pods(fleet) == []


async def test_pods_that_an_orphan_deletion_has_released_are_nobodys(fleet: LiveFleet) -> None:
    await sweep(fleet)
    made = await fleet.send("create", "hub", job(parallelism=2, completions=2, placement={"clusters": ["east"]}))
    await fleet.reconcile(batchjob, "default", "pi")
    await fleet.send("patch", "hub", made, {"metadata": {"annotations": {ORPHANED: "true"}}})
    await fleet.send("delete", "hub", made, {})
    await fleet.reconcile(batchjob, "default", "pi")
    for pod in await fleet.objects("east", "v1/Pod"):
        meta = pod["metadata"]
        assert TRACKING not in (meta.get("finalizers") or ())
        assert OWNER_UID not in meta["labels"]
        assert not {MARK, OWNER} & set(meta.get("annotations") or ())
        assert not meta.get("deletionTimestamp")
    await fleet.reconcile(batchjob, "default", "pi")
    found = await current(fleet)
    assert found is None or FINALIZER not in found["metadata"]["finalizers"]
    await sweep(fleet)
    assert len(await pods(fleet)) == 2, "never swept later"


# on a fleet


@pytest.mark.parametrize("home", ["0", "1"])
async def test_orphan_deletion_is_seen_though_its_finalizer_goes_at_once(home: str) -> None:
    async with fleet_with({"hub": "0", "east": home}, "60s") as fleet:
        await submit(fleet, "j", parallelism=2, completions=2)
        await until(lambda: len(pods_in(fleet, "east")) == 2)
        await fleet.clusters["hub"].api.delete(JOBS, "default", "j", propagation="Orphan")
        await until(lambda: job_of(fleet, "j") is None, 20.0)
        left = pods_in(fleet, "east")
        assert len(left) == 2
        assert not [pod for pod in left if pod["metadata"].get("deletionTimestamp") or pod["metadata"].get("finalizers")]


async def test_pods_of_a_job_that_went_while_its_member_was_away_are_swept_when_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    monkeypatch.setattr("raycp.controllers.batchjob.dead_jobs.MOST", 1.0)
    async with fleet_with({"hub": "0", "east": "1"}, "60s") as fleet:
        hub = fleet.clusters["hub"].api
        await until(lambda: RECORD in ((hub.get(CRDS, "", NAME) or {})["metadata"].get("annotations") or {}), 20.0)
        await submit(fleet, "j", parallelism=2, completions=2)
        await until(lambda: len(pods_in(fleet, "east")) == 2)
        silence(fleet, "east")
        await until(lambda: not fleet.worker().links["1"].states["east"].reachable, 20.0)
        await hub.delete(JOBS, "default", "j")
        await hub.patch_merge(JOBS, "default", "j", b'{"metadata":{"finalizers":null}}')
        await until(lambda: job_of(fleet, "j") is None)
        assert len(pods_in(fleet, "east")) == 2
        fleet.clusters["east"].faults.clear(None)
        await until(lambda: not pods_in(fleet, "east"), 30.0, "swept without waiting for the next round")
