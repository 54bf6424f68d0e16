"""Which Pods are a job's own, whatever labels others write. Pure, and against embedded clusters."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from live_fleet import LiveFleet
from test_batchjob_live import current, job, until

from raycp.base.keys import GVK
from raycp.base.owner_marks import MARK, MarkKeys
from raycp.base.tasks import Outcome
from raycp.config.embedded import EmbeddedSpec
from raycp.controllers.batchjob import batchjob
from raycp.controllers.batchjob.job import Create
from raycp.controllers.batchjob.newpod import new_pod
from raycp.controllers.batchjob.pods import own_pods, read_pod
from raycp.controllers.batchjob.record import JobRecord
from raycp.controllers.batchjob.specs import read_spec
from raycp.controllers.batchjob.types import crd
from raycp.sdk import conditions
from raycp.sdk.owner import OWNER_UID, mark, ownership

KEYS = MarkKeys({"key-1": b"s" * 32}, "key-1", "2026-01-01T00:00:00Z")
BEFORE, AFTER = "2025-12-31T00:00:00Z", "2026-06-01T00:00:00Z"
POD = GVK("", "v1", "Pod")
JOB = {**job("pi", parallelism=4, completions=4), "metadata": {"name": "pi", "namespace": "default", "uid": "job-uid"}}
CLUSTERS = ["east", "west", "north"]


def pod_of(index: int, attempt: int, cluster: str) -> dict[str, Any]:
    """A Pod as the fleet creates it."""
    made = mark(new_pod(JOB, read_spec(JOB), Create(cluster, index, attempt)), JOB, "hub", cluster, KEYS, label=True)
    made["metadata"] |= {"uid": f"{cluster}-{index}-{attempt}", "creationTimestamp": AFTER}
    return made


def judge(pods: list[tuple[str, dict[str, Any]]], record: JobRecord) -> list[tuple[str, str]]:
    """Cluster and name of each Pod that counts."""
    read = [read_pod(JOB["metadata"], at, pod, ownership(pod, POD, JOB, "hub", at, KEYS)) for at, pod in pods]
    own, _ = own_pods([pod for pod in read if pod is not None], record)
    return [(pod.cluster, pod.name) for pod in own]


@st.composite
def forged(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A Pod of somebody who can read a real one, and create objects with any content outside of the job's namespace in the
    clusters of the job, or anywhere in others."""
    model = pod_of(draw(st.integers(0, 3)), draw(st.integers(0, 2)), "east")
    cluster = draw(st.sampled_from(CLUSTERS))
    meta = model["metadata"]
    if cluster == "east" or draw(st.booleans()):
        meta["namespace"] = draw(st.sampled_from(["evil", "kube-system", ""]))
    if draw(st.booleans()):
        meta["annotations"][MARK] = draw(st.sampled_from(["", "key-1/", "key-2/abc", "key-1/AAAAAAAAAAAAAAAAAAAAAA"]))
    if draw(st.booleans()):
        meta["labels"]["batch.raycp.io/index"] = draw(st.sampled_from(["0", "3", "x", "-1"]))
    if draw(st.booleans()):
        meta["ownerReferences"] = [{"apiVersion": JOB["apiVersion"], "kind": "BatchJob", "name": "pi", "uid": "job-uid"}]
    model["status"] = {"phase": draw(st.sampled_from(["Succeeded", "Failed", "Running"]))}
    return cluster, model


@given(
    st.lists(forged(), max_size=6),
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from(["east", "west"])), max_size=6),
)
def test_forged_pods_change_nothing_and_marked_ones_all_count(
    lies: list[tuple[str, dict[str, Any]]], real: set[tuple[int, int, str]]
) -> None:
    record = JobRecord()
    for index, _, cluster in real:
        record.assigned[index] = cluster
        record.tally(cluster)
    record.tally("east")
    pods = [(cluster, pod_of(index, attempt, cluster)) for index, attempt, cluster in real]
    expected = [(cluster, pod["metadata"]["name"]) for cluster, pod in pods]
    assert judge(pods + lies, record) == expected


@given(st.sampled_from(CLUSTERS), st.sampled_from(CLUSTERS), st.booleans(), st.sampled_from([BEFORE, AFTER]), st.booleans())
def test_a_pod_without_mark_counts_if_it_is_older_than_the_key_and_where_the_status_says(
    cluster: str, assigned: str, touched: bool, created: str, moved: bool
) -> None:
    """Jobs that ran before the upgrade."""
    pod = pod_of(1, 0, cluster)
    del pod["metadata"]["annotations"][MARK]
    pod["metadata"]["creationTimestamp"] = created
    if moved:
        pod["metadata"]["namespace"] = "evil"
    record = JobRecord(assigned={1: assigned})
    record.tally(assigned)
    if touched:
        record.tally(cluster)
    counts = created == BEFORE and cluster == assigned and not moved
    assert bool(judge([(cluster, pod)], record)) == counts


def test_labels_that_say_another_index_than_the_name_are_not_believed() -> None:
    pod = pod_of(1, 0, "east")
    pod["metadata"]["labels"]["batch.raycp.io/index"] = "2"
    assert judge([("east", pod)], JobRecord(assigned={1: "east", 2: "east"})) == []


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[LiveFleet]:
    async with LiveFleet("hub", "east", "west", spec=EmbeddedSpec.model_validate({"podRuntime": "200ms"})) as made:
        await made.install("hub", crd())
        yield made


async def forge(fleet: LiveFleet, cluster: str, namespace: str, name: str, phase: str, index: int) -> dict[str, Any]:
    """A Pod with a job's labels, by somebody who may create Pods and write their status there."""
    found = await current(fleet)
    assert found is not None
    pod = new_pod(found, read_spec(found), Create("east", index, 0))
    pod["metadata"]["labels"][OWNER_UID] = found["metadata"]["uid"]
    pod["metadata"]["annotations"] = {"raycp.io/owner": "hub/default/pi", MARK: "key-1/AAAAAAAAAAAAAAAAAAAAAA"}
    pod["metadata"] |= {"name": name, "namespace": namespace}
    pod["metadata"].pop("finalizers")
    pod["spec"]["nodeName"] = "none"
    made = await fleet.send("create", cluster, pod)
    client = fleet.clients[cluster]
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
    body = b'{"status":{"phase":"%s"}}' % phase.encode()
    await client.request("PATCH", path, body=body, content_type="application/merge-patch+json")
    return made


async def test_forged_successes_complete_no_job(fleet: LiveFleet) -> None:
    for cluster in ("east", "west"):
        await fleet.send("create", cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "evil"}})
    await fleet.send("create", "hub", job(parallelism=2, completions=3, backoffLimit=0, placement={"clusters": ["east"]}))
    for index in range(3):
        await forge(fleet, "east", "evil", f"pi-{index}-0", "Succeeded", index)
        await forge(fleet, "west", "default", f"pi-{index}-0", "Failed", index)
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert done.outcome is Outcome.OK, done.error
    found = await current(fleet)
    assert found is not None
    status = found["status"]
    assert status.get("failed", 0) == 0
    assert status["succeeded"] == 0
    assert [(entry["name"], entry["assigned"]) for entry in status["clusters"]] == [("east", "0,1")]
    found = await until(fleet, "Complete")
    assert found["status"]["succeeded"] == 3
    own = await fleet.objects("east", "v1/Pod", "default")
    assert {pod["status"]["phase"] for pod in own} == {"Succeeded"}
    assert len(own) == 3, "all of them its own"
    await fleet.send("delete", "hub", found, {})
    for _ in range(100):
        await fleet.reconcile(batchjob, "default", "pi")
        if await current(fleet) is None:
            break
    assert await current(fleet) is None, "the deletion waits for no Pod of others"
    assert len(await fleet.objects("east", "v1/Pod", "evil")) == 3, "and deletes none"
    assert len(await fleet.objects("west", "v1/Pod", "default")) == 3


async def test_a_name_that_anothers_pod_has_is_reported_and_the_pod_left_alone(
    fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raycp.controllers.batchjob.refusals.FIRST", 0.5)
    await fleet.send("create", "hub", job(parallelism=2, completions=2, placement={"clusters": ["east"]}))
    taken = await forge(fleet, "east", "default", "pi-0-0", "Succeeded", 0)
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert (done.outcome, done.waiting) == (Outcome.OK, "name"), done.error
    assert done.requeue_after is not None
    found = await current(fleet)
    assert found is not None
    scheduled = conditions.get(found["status"]["conditions"], "Scheduled")
    assert scheduled is not None
    assert (scheduled["status"], scheduled["reason"]) == ("False", "PodNameTaken")
    assert "default/pi-0-0 in cluster east" in scheduled["message"]
    assert "PodNameTaken" in {event["reason"] for event in fleet.events}
    assert found["status"]["succeeded"] == 0
    names = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await fleet.objects("east", "v1/Pod", "default")}
    assert names.keys() == {"pi-0-0", "pi-1-0"}
    assert names["pi-0-0"] == taken["metadata"]["uid"]
    await fleet.send("delete", "east", taken, {})
    await until(fleet, "Complete")


async def test_without_keys_no_pod_is_created(fleet: LiveFleet) -> None:
    await fleet.send("create", "hub", job(parallelism=2, completions=2))
    keys, fleet.marks = fleet.marks, None
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert done.outcome is Outcome.RETRY
    assert "keys for owner marks" in done.error
    assert not await fleet.objects("east", "v1/Pod")
    fleet.marks = keys
    await until(fleet, "Complete")
