"""What members refuse, against embedded clusters: quotas, invalid Pods, names that are taken, patches; and Pods that do not run."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from live_fleet import LiveFleet
from test_batchjob_live import current, job, pods, until
from test_batchjob_own_pods import forge

from raycp.base.keys import GVK
from raycp.base.tasks import Outcome
from raycp.config.embedded import EmbeddedSpec, FaultSpec
from raycp.controllers.batchjob import batchjob
from raycp.controllers.batchjob.job import Job, JobCluster, RefusedCreate
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.pods import TRACKING
from raycp.controllers.batchjob.troubles import trouble_of
from raycp.controllers.batchjob.types import BatchJobSpec, crd
from raycp.kube import Unreachable
from raycp.sdk import conditions

INDEXED = {"completionMode": "Indexed", "placement": {"clusters": ["east", "west"]}}


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[LiveFleet]:
    async with LiveFleet("hub", "east", "west", spec=EmbeddedSpec.model_validate({"controllers": {"stages": False}})) as made:
        await made.install("hub", crd())
        yield made


async def condition(fleet: LiveFleet, kind: str) -> dict[str, Any]:
    found = await current(fleet)
    assert found is not None
    return dict(conditions.get(found["status"]["conditions"], kind) or {})


def refuse(fleet: LiveFleet, cluster: str, status: int, *verbs: str) -> None:
    fault = {"kind": "error", "status": status, "verbs": list(verbs), "resources": ["pods"]}
    fleet.embedded[cluster].faults.add(FaultSpec.model_validate(fault))


async def report(fleet: LiveFleet, status: dict[str, Any]) -> None:
    """The kubelet of Pod pi-0-0 in cluster east reports this."""
    resource = await fleet.clients["east"].resource(GVK("", "v1", "Pod"))
    path, body = resource.path("default", "pi-0-0", "status"), msgspec.json.encode({"status": status})
    await fleet.clients["east"].request("PATCH", path, body=body, content_type="application/merge-patch+json")


async def test_pods_beyond_a_quota_go_to_another_cluster_and_the_words_are_shown(fleet: LiveFleet) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": "default"}}
    await fleet.send("create", "east", {**quota, "spec": {"hard": {"pods": "1"}}})
    await fleet.send("create", "hub", job(parallelism=4, completions=4, **INDEXED))
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert done.outcome is Outcome.OK, done.error
    found = await pods(fleet)
    assert sorted(name for _, name in found) == ["pi-0-0", "pi-1-0", "pi-2-0", "pi-3-0"]
    assert len([cluster for cluster, _ in found if cluster == "east"]) == 1
    accepted = await condition(fleet, "PodsAccepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "PodsRefused")
    assert "exceeded quota: few" in accepted["message"]
    assert (await condition(fleet, "Scheduled"))["status"] == "True"
    assert [event for event in fleet.events if event["reason"] == "PodsRefused" and "exceeded quota" in event["note"]]


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_one_refused_retry_does_not_fail_the_running_job(fleet: LiveFleet, status: int) -> None:
    retried = job(parallelism=3, completions=3, completionMode="Indexed", placement={"clusters": ["east"]})
    retried["spec"]["retryBackoff"] = {"initialSeconds": 0, "maxSeconds": 0}
    await fleet.send("create", "hub", retried)
    await fleet.reconcile(batchjob, "default", "pi")
    refuse(fleet, "east", status, "create")
    (first,) = [pod for pod in await fleet.objects("east", "v1/Pod") if pod["metadata"]["name"] == "pi-0-0"]
    await report(fleet, {"phase": "Failed"})
    async with asyncio.timeout(10):  # it is retried when its backoff is over
        while True:
            done = await fleet.reconcile(batchjob, "default", "pi")
            assert done.outcome is Outcome.OK, done.error
            if (await condition(fleet, "Scheduled"))["status"] == "False":
                break
            await asyncio.sleep(0.1)
    found = await current(fleet)
    assert found is not None
    assert not conditions.is_true(found["status"]["conditions"], "FailureTarget")
    assert found["status"]["active"] == 2
    running = [pod for pod in await fleet.objects("east", "v1/Pod") if pod["metadata"]["name"] != first["metadata"]["name"]]
    assert not [pod for pod in running if pod["metadata"].get("deletionTimestamp")], "healthy Pods run on"
    scheduled = await condition(fleet, "Scheduled")
    assert "cluster east refuses the Pod" in scheduled["message"]
    assert done.requeue_after is not None


async def test_a_pod_whose_creation_was_answered_to_nobody_is_no_refusal(fleet: LiveFleet) -> None:
    """The request took effect, its answer was lost, and the next one meets a quota before anybody looks at its name."""
    await fleet.send("create", "hub", job(parallelism=1, completions=1, **INDEXED))
    answered = fleet.request

    async def lost(task: Any, call: Any) -> Any:
        answer = await answered(task, call)
        if call.verb == "create" and call.kind.kind == "Pod":
            raise Unreachable("no answer", sent=True)
        return answer

    fleet.request = lost  # type: ignore[method-assign]
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert done.outcome is Outcome.RETRY
    fleet.request = answered  # type: ignore[method-assign]
    for cluster in ("east", "west"):
        refuse(fleet, cluster, 403, "create")
    before = await pods(fleet)
    fleet.hide_pods = True
    done = await fleet.reconcile(batchjob, "default", "pi")
    fleet.hide_pods = False
    assert done.outcome is Outcome.OK, done.error
    assert await pods(fleet) == before
    assert await condition(fleet, "PodsAccepted") == {}
    async with asyncio.timeout(10):
        while (await current(fleet) or {})["status"]["active"] != 1:
            await fleet.reconcile(batchjob, "default", "pi")
            await asyncio.sleep(0.1)
    assert await pods(fleet) == before


async def test_a_name_that_is_taken_in_one_cluster_is_used_in_another(fleet: LiveFleet) -> None:
    await fleet.send(
        "create", "hub", job(parallelism=1, completions=1, placement={"clusters": ["east", "west"], "strategy": "Pack"})
    )
    await forge(fleet, "east", "default", "pi-0-0", "Succeeded", 0)
    await fleet.reconcile(batchjob, "default", "pi")
    own = await fleet.objects("west", "v1/Pod", "default")
    assert [pod["metadata"]["name"] for pod in own] == ["pi-0-0"]
    assert (await condition(fleet, "PodsAccepted"))["reason"] == "PodNameTaken"


@pytest.mark.parametrize("status", [403, 422, 500])
async def test_pods_that_a_member_refuses_to_patch_are_released_when_it_accepts_again(fleet: LiveFleet, status: int) -> None:
    await fleet.send("create", "hub", job(parallelism=1, completions=1, placement={"clusters": ["east"]}))
    await fleet.reconcile(batchjob, "default", "pi")
    await report(fleet, {"phase": "Succeeded"})
    refuse(fleet, "east", status, "patch")
    for _ in range(8):
        done = await fleet.reconcile(batchjob, "default", "pi")
        assert (done.outcome, done.requeue_after) == (Outcome.OK, 15.0), "no backoff that doubles"
    released = await condition(fleet, "PodsReleased")
    assert (released["status"], released["reason"]) == ("False", "WriteRefused")
    assert "pi-0-0" in released["message"]
    fleet.embedded["east"].faults.clear(None)
    await fleet.reconcile(batchjob, "default", "pi")
    (pod,) = await fleet.objects("east", "v1/Pod")
    assert TRACKING not in (pod["metadata"].get("finalizers") or ())
    await fleet.reconcile(batchjob, "default", "pi")
    assert (await condition(fleet, "PodsReleased"))["status"] == "True"


async def test_a_deletion_that_a_member_refuses_says_so_and_goes_on_when_it_accepts(fleet: LiveFleet) -> None:
    made = await fleet.send("create", "hub", job(parallelism=1, completions=1, placement={"clusters": ["east"]}))
    await fleet.reconcile(batchjob, "default", "pi")
    refuse(fleet, "east", 403, "patch")
    await fleet.send("delete", "hub", made, {})
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert (done.outcome, done.requeue_after) == (Outcome.OK, 15.0)
    assert (await condition(fleet, "Deleting"))["reason"] == "WriteRefused"
    fleet.embedded["east"].faults.clear(None)
    async with asyncio.timeout(20):
        while await current(fleet) is not None:
            await fleet.reconcile(batchjob, "default", "pi")
            await asyncio.sleep(0.05)
    assert await pods(fleet) == []


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CrashLoopBackOff"])
async def test_what_keeps_a_pod_from_running_is_in_the_conditions(fleet: LiveFleet, reason: str) -> None:
    await fleet.send("create", "hub", job(parallelism=1, completions=1, placement={"clusters": ["east"]}))
    await fleet.reconcile(batchjob, "default", "pi")
    waiting = [{"name": "main", "state": {"waiting": {"reason": reason, "message": "back-off 10s"}}}]
    await report(fleet, {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": waiting})
    async with asyncio.timeout(10):
        while (await condition(fleet, "PodsReady")).get("reason") != reason:
            await fleet.reconcile(batchjob, "default", "pi")
            await asyncio.sleep(0.1)
    message = (await condition(fleet, "PodsReady"))["message"]
    assert "pi-0-0 in cluster east" in message
    assert "back-off 10s" in message


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({}, None),
        ({"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}}]}, None),
        ({"containerStatuses": [{"name": "main", "state": {"running": {}}}]}, None),
        ({"initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]}, "ErrImagePull"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}, "Unschedulable"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}, None),
    ],
)
def test_only_what_may_not_pass_is_a_trouble(status: dict[str, Any], reason: str | None) -> None:
    found = trouble_of(status)
    assert (found[0] if found is not None else None) == reason


async def test_a_template_that_every_cluster_refuses_fails_the_job_with_all_words(fleet: LiveFleet) -> None:
    refuse(fleet, "east", 422, "create")
    refuse(fleet, "west", 400, "create")
    await fleet.send("create", "hub", job(parallelism=2, completions=2))
    found = await until(fleet, "Failed")
    failed = conditions.get(found["status"]["conditions"], "Failed")
    assert failed is not None
    assert failed["reason"] == "InvalidTemplate"
    assert "cluster east refuses" in failed["message"]
    assert "cluster west refuses" in failed["message"]


async def test_pods_for_which_the_scheduler_finds_no_node_move_to_another_cluster() -> None:
    async with LiveFleet("hub", "east", "west", spec=EmbeddedSpec.model_validate({"nodes": 1, "podRuntime": "1h"})) as fleet:
        await fleet.install("hub", crd())
        (node,) = await fleet.objects("east", "v1/Node")
        await fleet.send("patch", "east", node, {"spec": {"unschedulable": True}})
        rules = {"clusters": ["east", "west"], "strategy": "Pack", "unschedulableTolerationSeconds": 3}
        await fleet.send("create", "hub", job(parallelism=2, completions=2, placement=rules))
        reasons: set[str] = set()
        async with asyncio.timeout(20):
            while len([pod for pod in await fleet.objects("west", "v1/Pod") if pod["spec"].get("nodeName")]) < 2:
                await fleet.reconcile(batchjob, "default", "pi")
                reasons.add((await condition(fleet, "PodsReady")).get("reason", ""))
                await asyncio.sleep(0.05)
        assert "Unschedulable" in reasons, "it is shown before they move"
        assert await fleet.objects("east", "v1/Pod") == []
        found = await current(fleet)
        assert found is not None
        (east,) = [each for each in found["status"]["clusters"] if each["name"] == "east"]
        assert east["refusal"]["reason"] == "Unschedulable"
        assert "nodes are available" in east["refusal"]["message"], "in the scheduler's words"
        assert found["status"]["failed"] == 0


@pytest.mark.parametrize("kind", ["scheduler", "kubelet"])
def test_words_of_a_member_make_no_status_large(kind: str) -> None:
    """Its API server stores what is written into a Pod's status, of any length; the hub's would refuse the job's."""
    words = "no room " * 200_000
    scheduler = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}
    kubelet = {"containerStatuses": [{"name": words, "state": {"waiting": {"reason": words, "message": words}}}]}
    found = trouble_of(scheduler if kind == "scheduler" else kubelet)
    assert found is not None
    assert max(map(len, found)) <= 1000
    assert found[1].endswith("...")


def test_what_every_cluster_of_a_large_fleet_says_fits_into_a_status() -> None:
    names = [f"c{n}" for n in range(300)]
    spec = BatchJobSpec.model_validate(job(parallelism=300, completions=300)["spec"])
    refusals = tuple(RefusedCreate(name, n, "PodsRefused", "x" * 4096) for n, name in enumerate(names))
    found = plan(Job("uid", spec, {}, 1, refused=refusals), [], [JobCluster(name) for name in names], 1_700_000_000.0)
    assert all(entry["refusal"]["message"] for entry in found.status["clusters"])
    assert len(msgspec.json.encode(found.status)) < 2**20
