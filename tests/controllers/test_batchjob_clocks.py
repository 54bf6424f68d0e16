"""A member's clock ten minutes off: no end of a Pod is judged by it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from live_fleet import LiveFleet
from test_batchjob_live import current, job

from raycp.config.embedded import EmbeddedSpec
from raycp.controllers.batchjob import batchjob
from raycp.controllers.batchjob.pods import ATTEMPT, INDEX, JobPod, read_pod
from raycp.controllers.batchjob.types import crd
from raycp.sdk.conditions import time_text
from raycp.sdk.owner import Ownership

JOB = {"name": "pi", "namespace": "default"}
NOW = 1.8e9
TEN_MINUTES = 600.0


def leaving(ends_at: float) -> dict[str, Any]:
    """A Pod that is being deleted: its grace period ends then, by its server's clock."""
    labels = {INDEX: "0", ATTEMPT: "0"}
    meta = {"name": "pi-0-0", "namespace": "default", "uid": "u", "labels": labels, "deletionTimestamp": time_text(ends_at)}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": time_text(ends_at - 60.0)}
    return {"metadata": meta, "spec": {"nodeName": "n"}, "status": {"phase": "Running", "conditions": [ready]}}


def read(ends_at: float, ahead: float) -> JobPod:
    found = read_pod(JOB, "east", leaving(ends_at + ahead), Ownership.MARKED, ahead)
    assert found is not None
    return found


@pytest.mark.parametrize("ahead", [TEN_MINUTES, 0.0, -TEN_MINUTES])
def test_the_grace_period_of_a_pod_ends_by_our_clock(ahead: float) -> None:
    assert not read(NOW + 30.0, ahead).overdue(NOW), "its kubelet may still report success"
    assert read(NOW - 30.0, ahead).overdue(NOW), "nobody will report its end"
    assert read(NOW + 30.0, ahead).overdue_at == read(NOW + 30.0, 0.0).overdue_at
    assert read(NOW + 30.0, ahead).ready_changed == NOW - 30.0


@pytest_asyncio.fixture(params=[TEN_MINUTES, -TEN_MINUTES])
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[LiveFleet]:
    made = LiveFleet("hub", "east", "west", spec=EmbeddedSpec.model_validate({"nodes": 1, "podRuntime": "1h"}))
    for name in ("east", "west"):
        made.embedded[name].skew(request.param)
    async with made:
        await made.install("hub", crd())
        yield made


async def test_a_pod_is_no_failure_while_its_grace_period_lasts(fleet: LiveFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deletes a running Pod, and its kubelet has not reported yet what it ends with."""
    await fleet.send("create", "hub", job(parallelism=1, completions=1, podReplacementPolicy="Failed"))
    async with asyncio.timeout(20):
        while not (found := await running(fleet)):
            await fleet.reconcile(batchjob, "default", "pi")
            await asyncio.sleep(0.05)
    ((where, pod),) = found
    leaving = await fleet.send("delete", where, pod, {"gracePeriodSeconds": 600})
    assert leaving["metadata"]["deletionTimestamp"]
    monkeypatch.setattr(fleet, "objects", partial(unreported, fleet.objects))
    await fleet.reconcile(batchjob, "default", "pi")
    status = (await current(fleet) or {})["status"]
    assert (status.get("failed", 0), status.get("terminating")) == (0, 1), status


async def unreported(objects: Callable[..., Awaitable[list[dict[str, Any]]]], *of: Any) -> list[dict[str, Any]]:
    found = await objects(*of)
    return [pod | {"status": pod["status"] | {"phase": "Running"}} if pod["kind"] == "Pod" else pod for pod in found]


async def running(fleet: LiveFleet) -> list[tuple[str, dict[str, Any]]]:
    found = [(name, pod) for name in ("east", "west") for pod in await fleet.objects(name, "v1/Pod")]
    return [(name, pod) for name, pod in found if pod["spec"].get("nodeName") and pod.get("status", {}).get("phase") == "Running"]
