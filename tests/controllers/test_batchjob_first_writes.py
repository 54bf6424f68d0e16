"""A new job's finalizer and first status are written at the same time, and nothing is made before both are there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from live_fleet import LiveFleet

from raycp.base.tasks import Done, Outcome
from raycp.controllers.batchjob import batchjob
from raycp.controllers.batchjob.types import FINALIZER, crd
from raycp.sdk import ApiRequest

KIND = "batch.raycp.io/v1alpha1/BatchJob"
OTHER = "example.com/other"


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[LiveFleet]:
    async with LiveFleet("hub", "east") as made:
        await made.install("hub", crd())
        template = {"spec": {"containers": [{"name": "main", "image": "busybox"}], "restartPolicy": "Never"}}
        meta = {"name": "pi", "namespace": "default", "finalizers": [OTHER]}
        spec = {"template": template, "completions": 2, "parallelism": 2}
        await made.send(
            "create", "hub", {"apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": meta, "spec": spec}
        )  # fmt: skip
        yield made


async def job(fleet: LiveFleet) -> dict[str, Any]:
    (found,) = await fleet.objects("hub", KIND, "default")
    return found


async def reconciled(fleet: LiveFleet, meanwhile: Callable[[], Awaitable[Any]]) -> Done:
    """A reconcile whose two first writes are both under way, and neither sent, when ``meanwhile`` runs."""
    both, ready = asyncio.Barrier(3), asyncio.Event()
    waiting = 2

    async def before(call: ApiRequest) -> None:
        nonlocal waiting
        if call.cluster == "hub" and call.verb == "patch" and waiting:
            waiting -= 1
            await both.wait()
            await ready.wait()

    fleet.before = before
    running = asyncio.ensure_future(fleet.reconcile(batchjob, "default", "pi"))
    async with asyncio.timeout(20):
        await both.wait()
        fleet.before = None
        fleet.calls.clear()
        await meanwhile()
        ready.set()
        return await running


async def nothing() -> None:
    """Nobody else writes."""


async def test_both_are_under_way_at_once_and_pods_come_after_them(fleet: LiveFleet) -> None:
    done = await reconciled(fleet, nothing)
    assert done.outcome is Outcome.OK, done.error
    assert [(call.verb, call.cluster) for call in fleet.calls][2:] == [("create", "east")] * 2
    assert {call.subresource for call in fleet.calls[:2]} == {"", "status"}
    found = await job(fleet)
    assert found["metadata"]["finalizers"] == [OTHER, FINALIZER]
    assert [entry["name"] for entry in found["status"]["clusters"]] == ["east"]
    versions = [write.rv for write in done.writes if write.cluster == "hub"]
    assert len(set(versions)) == 2
    assert max(versions) == int(found["metadata"]["resourceVersion"]), "nothing more was written to the job"


@pytest.mark.parametrize("change", [{"metadata": {"labels": {"a": "b"}}}, {"metadata": {"annotations": {"a": "b"}}}])
async def test_what_they_do_not_rest_on_may_change(fleet: LiveFleet, change: dict[str, Any]) -> None:
    async def meanwhile() -> None:
        await fleet.send("patch", "hub", await job(fleet), change)

    done = await reconciled(fleet, meanwhile)
    assert done.outcome is Outcome.OK, done.error
    assert len(await fleet.objects("east", "v1/Pod")) == 2


@pytest.mark.parametrize("change", ["finalizers", "spec", "status", "deleted", "replaced"])
async def test_what_they_rest_on_has_changed(fleet: LiveFleet, change: str) -> None:
    """The reconcile ends before anything is made, and the next one sees the job as it is."""

    async def meanwhile() -> None:
        now = await job(fleet)
        if change == "finalizers":
            await fleet.send("patch", "hub", now, {"metadata": {"finalizers": []}})
        elif change == "spec":
            await fleet.send("patch", "hub", now, {"spec": {"parallelism": 1}})
        elif change == "status":
            await status_of_another(fleet, now)
        else:
            await fleet.send("patch", "hub", now, {"metadata": {"finalizers": []}})
            await fleet.send("delete", "hub", now, {})
        if change == "replaced":
            meta = {"name": "pi", "namespace": "default"}
            await fleet.send("create", "hub", {**{k: now[k] for k in ("apiVersion", "kind", "spec")}, "metadata": meta})

    done = await reconciled(fleet, meanwhile)
    assert done.outcome is not Outcome.OK
    assert await fleet.objects("east", "v1/Pod") == []
    if change == "deleted":
        assert await fleet.objects("hub", KIND, "default") == [], "neither write made it anew"
        return
    found = await job(fleet)
    if change == "status":
        assert found["status"] == {"phase": "Pending"}, "not written over"
    if change == "replaced":
        assert "finalizers" not in found["metadata"]
        assert "status" not in found
    done = await fleet.reconcile(batchjob, "default", "pi")
    assert done.outcome is Outcome.OK, done.error
    assert len(await fleet.objects("east", "v1/Pod")) == (1 if change == "spec" else 2)


async def status_of_another(fleet: LiveFleet, now: dict[str, Any]) -> None:
    """Another worker, or the scheduler, has written a status."""
    resource = await fleet.clients["hub"].resource(batchjob.kind)
    await fleet.clients["hub"].request(
        "PATCH", resource.path("default", "pi", "status"), body=msgspec.json.encode({"status": {"phase": "Pending"}}),
        content_type="application/merge-patch+json",
    )  # fmt: skip
