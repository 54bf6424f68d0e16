"""What ``kubectl`` shows and does of a ``BatchJob``: columns, descriptions, scale; and jobs that end, on embedded clusters."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from live_fleet import LiveFleet
from test_batchjob_live import current, job, pods, until

from raycp.base.tasks import Outcome
from raycp.config.embedded import EmbeddedSpec, FaultSpec
from raycp.controllers.batchjob import batchjob
from raycp.controllers.batchjob.cleanup import cleanup
from raycp.controllers.batchjob.execution import HELD_POLL
from raycp.controllers.batchjob.invalidity import time_to_live
from raycp.controllers.batchjob.job import JobCluster
from raycp.controllers.batchjob.specs import InvalidSpec
from raycp.controllers.batchjob.types import crd
from raycp.sdk import conditions

PATH = "/apis/batch.raycp.io/v1alpha1/namespaces/default/batchjobs"


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[LiveFleet]:
    async with LiveFleet("hub", "east", "west", spec=EmbeddedSpec.model_validate({"podRuntime": "200ms"})) as made:
        await made.install("hub", crd())
        yield made


def columns(status: dict[str, Any]) -> dict[str, Any]:
    """What the printer columns show of a job with this status."""
    shown = {}
    for column in crd()["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = column["jsonPath"].split(".")[1:]
        if path[0] == "status" and "*" not in column["jsonPath"]:
            shown[column["name"]] = status.get(path[1])
    return shown


async def test_the_columns_are_those_of_a_job_and_none_is_blank(fleet: LiveFleet) -> None:
    await fleet.send("create", "hub", job(parallelism=2, completions=2))
    await fleet.reconcile(batchjob, "default", "pi")
    found = await current(fleet)
    assert found is not None
    started = columns(found["status"])
    assert None not in started.values(), started
    assert (started["Status"], started["Completions"], started["Failed"], started["Tier"]) == ("Pending", "0/2", 0, "standard")
    done = columns((await until(fleet, "Complete"))["status"])
    assert (done["Status"], done["Completions"], done["Active"]) == ("Complete", "2/2", 0)
    assert done["Duration"].endswith("s")


async def test_events_tell_what_was_created_deleted_and_how_it_ended(fleet: LiveFleet) -> None:
    await fleet.send("create", "hub", job(parallelism=2, completions=2, suspend=False))
    await fleet.reconcile(batchjob, "default", "pi")
    found = await current(fleet)
    assert found is not None
    await fleet.send("patch", "hub", found, {"spec": {"suspend": True}})
    await fleet.reconcile(batchjob, "default", "pi")
    await fleet.send("patch", "hub", found, {"spec": {"suspend": False}})
    await until(fleet, "Complete")
    told = [(event["reason"], event["note"]) for event in fleet.events]
    for wanted in (
        ("SuccessfulCreate", "created Pods (east: 1, west: 1)"),
        ("Suspended", "Job suspended"),
        ("SuccessfulDelete", "deleted Pods (east: 1, west: 1)"),
        ("Resumed", "Job resumed"),
        ("Completed", "Job completed"),
    ):
        assert wanted in told, told


async def test_scale_sets_parallelism_and_shows_active_pods(fleet: LiveFleet) -> None:
    await fleet.send("create", "hub", job(parallelism=1, completions=9))
    client = fleet.clients["hub"]
    body = b'{"spec":{"replicas":3}}'
    await client.request("PATCH", f"{PATH}/pi/scale", body=body, content_type="application/merge-patch+json")
    found = await current(fleet)
    assert found is not None
    assert found["spec"]["parallelism"] == 3
    await fleet.reconcile(batchjob, "default", "pi")
    assert len(await pods(fleet)) == 3
    scale = msgspec.json.decode((await client.request("GET", f"{PATH}/pi/scale")).body)
    assert scale["spec"]["replicas"] == 3


def undescribed(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, inner in (schema.get("properties") or {}).items():
        if not inner.get("description"):
            yield f"{path}.{name}"
        yield from undescribed(inner, f"{path}.{name}")
        yield from undescribed(inner.get("items") or {}, f"{path}.{name}[]")


def test_explain_has_a_plain_description_of_every_field() -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    of_pods = ".spec.template.spec."  # whose fields are core/v1's
    found = [path for part in ("spec", "status") for path in undescribed(schema[part], f".{part}") if not path.startswith(of_pods)]
    assert found == []
    assert "``" not in str(schema), "no markup"


@pytest_asyncio.fixture
async def noded() -> AsyncIterator[LiveFleet]:
    async with LiveFleet("hub", "east", "west", spec=EmbeddedSpec.model_validate({"podRuntime": "1h", "nodes": 1})) as made:
        await made.install("hub", crd())
        yield made


async def test_a_deadline_ends_a_job_whose_pods_no_node_takes(noded: LiveFleet) -> None:
    fleet = noded
    stuck = job(activeDeadlineSeconds=1, completions=2, parallelism=2)
    stuck["spec"]["template"]["spec"]["nodeSelector"] = {"no": "where"}
    await fleet.send("create", "hub", stuck)
    found = await until(fleet, "Failed")
    failed = conditions.get(found["status"]["conditions"], "Failed")
    assert failed is not None
    assert failed["reason"] == "DeadlineExceeded"
    assert (found["status"]["failed"], found["status"]["active"], found["status"]["terminating"]) == (2, 0, 0)
    assert await pods(fleet) == []


async def test_pods_of_an_indexed_job_are_taken_by_a_real_schema(fleet: LiveFleet) -> None:
    await fleet.send("create", "hub", job(parallelism=2, completions=2, completionMode="Indexed", backoffLimitPerIndex=1))
    await fleet.reconcile(batchjob, "default", "pi")
    found = [pod for cluster in ("east", "west") for pod in await fleet.objects(cluster, "v1/Pod", selector="job-name=pi")]
    assert sorted(pod["spec"]["hostname"] for pod in found) == ["pi-0", "pi-1"]
    assert {pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] for pod in found} == {"0"}
    env = found[0]["spec"]["containers"][0]["env"][0]["valueFrom"]["fieldRef"]
    assert env["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-completion-index']"


async def test_a_spec_that_only_the_controller_refuses_fails_with_its_cause(fleet: LiveFleet) -> None:
    """An index that is named twice in the middle: CEL can't tell."""
    rules = {"rules": [{"succeededIndexes": "0,1,1-2"}]}
    await fleet.send("create", "hub", job(completions=3, completionMode="Indexed", successPolicy=rules))
    found = await until(fleet, "Failed")
    failed = conditions.get(found["status"]["conditions"], "Failed")
    assert failed is not None
    assert failed["reason"] == "InvalidSpec"
    assert "spec.successPolicy.rules[0].succeededIndexes" in failed["message"]
    shown = columns(found["status"])
    assert (shown["Status"], shown["Failed"], shown["Tier"]) == ("Failed", 0, "standard")
    assert await pods(fleet) == []
    assert "InvalidSpec" in {event["reason"] for event in fleet.events}


async def test_an_end_that_a_member_refuses_is_not_tried_every_half_second(fleet: LiveFleet) -> None:
    await fleet.send("create", "hub", job(placement={"clusters": ["east"]}))
    await fleet.reconcile(batchjob, "default", "pi")
    refusal = {"kind": "error", "status": 403, "verbs": ["patch"], "resources": ["pods"]}
    fleet.embedded["east"].faults.add(FaultSpec.model_validate(refusal))
    found = await current(fleet)
    assert found is not None
    await fleet.send("patch", "hub", found, {"spec": {"suspend": True}})
    for _ in range(3):
        done = await fleet.reconcile(batchjob, "default", "pi")
        assert (done.outcome, done.requeue_after) == (Outcome.OK, HELD_POLL)


async def test_a_job_that_is_complete_stays_so_whatever_rules_come_later(fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    await fleet.send("create", "hub", job())
    before = await until(fleet, "Complete")

    def refuse(_: Any) -> None:
        raise InvalidSpec("a rule of a later release")

    monkeypatch.setattr("raycp.controllers.batchjob.reconcile.read_spec", refuse)
    await fleet.reconcile(batchjob, "default", "pi")
    assert await current(fleet) == before


async def test_what_runs_of_a_job_whose_spec_can_not_be_read_any_more_is_ended(
    fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.send("create", "hub", job(parallelism=2, completions=4, placement={"clusters": ["east"]}))
    await fleet.reconcile(batchjob, "default", "pi")
    assert len(await pods(fleet)) == 2

    def refuse(_: Any) -> None:
        raise InvalidSpec("spec.parallelism: a rule of a later release")

    monkeypatch.setattr("raycp.controllers.batchjob.reconcile.read_spec", refuse)
    done = await fleet.reconcile(batchjob, "default", "pi")
    found = await current(fleet)
    assert found is not None
    assert (found["status"]["phase"], done.requeue_after) == ("Failing", 0.5)
    found = await until(fleet, "Failed")
    assert (found["status"]["active"], found["status"]["phase"]) == (0, "Failed")
    assert [event["reason"] for event in fleet.events].count("InvalidSpec") == 1
    left = await fleet.objects("east", "v1/Pod")
    assert not any(pod["metadata"].get("finalizers") for pod in left if pod["status"]["phase"] not in ("Succeeded", "Failed"))
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert (done.writes, done.requeue_after) == ([], None)


@pytest.mark.parametrize("ran", [False, True])
async def test_a_job_whose_spec_can_not_be_read_is_deleted_after_its_time_to_live(
    fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch, ran: bool
) -> None:
    """Whether it was complete before the release that can't read it, or never ran."""
    await fleet.send("create", "hub", job(ttlSecondsAfterFinished=3600))
    if ran:
        await until(fleet, "Complete")

    def refuse(_: Any) -> None:
        raise InvalidSpec("a rule of a later release")

    monkeypatch.setattr("raycp.controllers.batchjob.reconcile.read_spec", refuse)
    if not ran:
        await until(fleet, "Failed")
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert done.requeue_after is not None
    assert 3590 < done.requeue_after <= 3600
    found = await current(fleet)
    assert found is not None
    await fleet.send("patch", "hub", found, {"spec": {"ttlSecondsAfterFinished": 0}})
    for _ in range(5):
        if await current(fleet) is not None:
            await fleet.reconcile(batchjob, "default", "pi")
    assert await current(fleet) is None
    assert await pods(fleet) == []


@pytest.mark.parametrize(
    ("found", "read"),
    [
        ({}, None),
        ({"ttlSecondsAfterFinished": 4}, 4),
        ({"ttlSecondsAfterFinished": "4"}, None),
        ({"ttlSecondsAfterFinished": True}, None),
        ({"ttlSecondsAfterFinished": -1}, None),
    ],
)
def test_a_time_to_live_is_read_as_a_number_or_not_at_all(found: dict[str, Any], read: int | None) -> None:
    assert time_to_live(found) == read


def test_a_damaged_status_keeps_no_deletion_up() -> None:
    status = {"completedIndexes": "zero", "failedIndexes": "0-3000000000", "clusters": [{"name": "a", "assigned": "x-y"}]}
    _, waits = cleanup(status, frozenset(), [], [JobCluster("a")])
    assert waits == ""


async def test_wait_for_complete_sees_a_condition_of_the_standard_form(fleet: LiveFleet) -> None:
    await fleet.send("create", "hub", job())
    found = await until(fleet, "Complete")
    complete = conditions.get(found["status"]["conditions"], "Complete")
    assert complete is not None
    assert {"type", "status", "reason", "message", "lastTransitionTime", "lastProbeTime"} <= set(complete)
