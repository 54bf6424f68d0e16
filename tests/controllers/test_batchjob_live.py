"""BatchJob on embedded clusters, over HTTPS: from a job on the hub to Pods in members and back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from live_fleet import LiveFleet

from raycp.base.tasks import Outcome
from raycp.config.embedded import EmbeddedSpec
from raycp.controllers.batchjob import batchjob
from raycp.controllers.batchjob.types import FINALIZER, crd
from raycp.kube import ApiError
from raycp.sdk import ApiRequest, conditions

KIND = "batch.raycp.io/v1alpha1/BatchJob"


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[LiveFleet]:
    async with LiveFleet("hub", "east", "west", spec=EmbeddedSpec.model_validate({"podRuntime": "200ms"})) as made:
        await made.install("hub", crd())
        yield made


def job(name: str = "pi", **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "main", "image": "busybox"}], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch.raycp.io/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **spec},
    }


async def pods(fleet: LiveFleet) -> list[tuple[str, str]]:
    return sorted([(c, o["metadata"]["name"]) for c in ("east", "west") for o in await fleet.objects(c, "v1/Pod")])


async def current(fleet: LiveFleet, name: str = "pi") -> dict[str, Any] | None:
    found = [o for o in await fleet.objects("hub", KIND, "default") if o["metadata"]["name"] == name]
    return found[0] if found else None


async def until(fleet: LiveFleet, condition: str, name: str = "pi") -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            done = await fleet.reconcile(batchjob, "default", name)
            assert done.outcome is Outcome.OK or "changed meanwhile" in done.error or "Conflict" in done.error
            found = await current(fleet, name)
            assert found is not None
            if conditions.is_true(found.get("status", {}).get("conditions"), condition):
                return found
            await asyncio.sleep(0.05)


async def test_a_job_runs_to_completion_and_is_not_written_again(fleet: LiveFleet) -> None:
    await fleet.send("create", "hub", job(parallelism=4, completions=4, completionMode="Indexed"))
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert done.outcome is Outcome.OK, done.error
    assert len(await pods(fleet)) == 4
    assert {cluster for cluster, _ in await pods(fleet)} == {"east", "west"}
    assert [call.verb for call in fleet.calls if call.cluster == "hub" and call.subresource] == ["patch"]
    found = await until(fleet, "Complete")
    assert found["status"]["succeeded"] == 4
    assert found["status"]["completedIndexes"] == "0-3"
    assert sum(entry["succeeded"] for entry in found["status"]["clusters"]) == 4
    assert len(await pods(fleet)) == 4, "ended Pods stay, for their logs"
    await fleet.reconcile(batchjob, "default", "pi")
    fleet.calls.clear()
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert (done.writes, fleet.calls) == ([], []), "nothing to do costs nothing"


async def test_deletion_of_a_job_cleans_up_in_every_cluster(fleet: LiveFleet) -> None:
    made = await fleet.send("create", "hub", job(parallelism=4, completions=4))
    await fleet.reconcile(batchjob, "default", "pi")
    await fleet.send("delete", "hub", made, {})
    found = await current(fleet)
    assert found is not None
    assert found["metadata"]["finalizers"] == [FINALIZER]
    async with asyncio.timeout(20):
        while await current(fleet) is not None:
            done = await fleet.reconcile(batchjob, "default", "pi")
            assert done.outcome in (Outcome.OK, Outcome.RETRY), done.error
            await asyncio.sleep(0.05)
    assert await pods(fleet) == []


async def test_an_invalid_template_fails_the_job_once(fleet: LiveFleet) -> None:
    bad = job()
    bad["spec"]["template"]["spec"]["containers"] = [
        {"name": "main", "image": "busybox", "volumeMounts": [{"name": "none", "mountPath": "/none"}]}
    ]
    await fleet.send("create", "hub", bad)
    found = await until(fleet, "Failed")
    failed = conditions.get(found["status"]["conditions"], "Failed")
    assert failed is not None
    assert failed["reason"] == "InvalidTemplate"
    assert "refuses the Pod" in failed["message"]
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert (done.outcome, done.writes) == (Outcome.OK, [])


async def test_the_schema_refuses_an_invalid_job(fleet: LiveFleet) -> None:
    for wrong in ({"parallelism": -1}, {"template": {"spec": {"containers": []}}}, {"qosTier": "urgent"}):
        with pytest.raises(ApiError) as refused:
            await fleet.send("create", "hub", job(**wrong))
        assert refused.value.status == 422


async def test_a_missing_namespace_is_created_in_the_member(fleet: LiveFleet) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
    await fleet.send("create", "hub", namespace)
    made = job()
    made["metadata"]["namespace"] = "team"
    await fleet.send("create", "hub", made)
    done = await fleet.reconcile(batchjob, "team", "pi")
    assert done.outcome is Outcome.OK, done.error
    assert len(await pods(fleet)) == 1


class Killed(BaseException):
    """The process is dead: nothing more is written."""


@pytest.mark.parametrize("crash_at", range(6))
async def test_a_crash_at_any_write_makes_no_pod_twice(fleet: LiveFleet, crash_at: int) -> None:
    await fleet.send("create", "hub", job(parallelism=3, completions=3))
    left = crash_at

    async def crash(call: ApiRequest) -> None:
        nonlocal left
        if call.writes:
            left -= 1
            if left < 0:
                raise Killed

    fleet.before = crash
    await fleet.reconcile(batchjob, "default", "pi")
    fleet.before = None
    found = await until(fleet, "Complete")
    assert found["status"]["succeeded"] == 3
    assert found["status"]["failed"] == 0
    names = [name for _, name in await pods(fleet)]
    assert sorted(names) == ["pi-0-0", "pi-1-0", "pi-2-0"]
