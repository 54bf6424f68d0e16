"""Jobs through the loss and return of a member, on a fleet: exact counters, and no Pod that nobody owns."""

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from inprocess import Stack, fleet_doc, until
from test_batchjob_wakes import CRDS, condition, job_of, pods_in, silence, submit

from raycp.config.embedded import FaultSpec
from raycp.controllers.batchjob.types import crd
from raycp.controllers.queues.types import queue_crd
from raycp.sdk import conditions

HOMES = {"hub": "0", "west": "0", "east": "1"}


@asynccontextmanager
async def fleet_of_three(runtime: str) -> AsyncIterator[Stack]:
    """With a permit that is soon over."""
    fields: dict[str, dict[str, Any]] = {name: {"requestTimeout": "500ms"} for name in HOMES}
    doc = fleet_doc(HOMES, ["raycp.controllers.batchjob"], {"podRuntime": runtime}, fields, leader={"permit": "1s"})
    made = Stack(doc, dict(HOMES))
    try:
        await made.start(1, {})
        for each in (crd(), queue_crd()):
            await made.clusters["hub"].api.create(CRDS, copy.deepcopy(each))
        await made.synced()
        await made.lists_reported()
        yield made
    finally:
        await made.stop()


def pods_of(fleet: Stack, name: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(cluster, pod) for cluster in ("east", "west") for pod in pods_in(fleet, cluster)]
    return [(cluster, pod) for cluster, pod in found if pod["metadata"]["name"].startswith(f"{name}-")]


def status(fleet: Stack, name: str) -> dict[str, Any]:
    return (job_of(fleet, name) or {}).get("status") or {}


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.wide)])
async def test_jobs_that_replace_are_exact_through_loss_and_return(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    async with fleet_of_three("4s" if count < 10 else "15s") as fleet:
        names = [f"j{number}" for number in range(count)]
        rules = {"onUnreachable": "Replace", "unreachableTolerationSeconds": 0}
        for name in names:
            await submit(fleet, name, parallelism=2, completions=2, completionMode="Indexed", placement=rules)
        await until(lambda: len(pods_in(fleet, "east")) == count == len(pods_in(fleet, "west")), 60.0)
        silence(fleet, "east")
        await until(lambda: len(pods_in(fleet, "west")) == 2 * count, 60.0, "all run in the other one")
        assert not [name for name in names if status(fleet, name).get("failed")]
        fleet.clusters["east"].faults.clear(None)
        await until(lambda: all(conditions.is_true(status(fleet, n).get("conditions"), "Complete") for n in names), 90.0)
        await until(lambda: not pods_in(fleet, "east"), 60.0, "what was replaced is deleted")
        for name in names:
            found = status(fleet, name)
            assert (found["succeeded"], found["failed"], found["active"], found["completedIndexes"]) == (2, 0, 0, "0,1")
            ended = [(cluster, pod["metadata"]["name"], pod["status"]["phase"]) for cluster, pod in pods_of(fleet, name)]
            assert {phase for _, _, phase in ended} == {"Succeeded"}
            assert len(ended) == 2, "one for each index"
        await until(lambda: not [pod for pod in pods_in(fleet, "west") if pod["metadata"].get("finalizers")])


async def test_a_frozen_cluster_is_noticed_before_its_watches_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its connections and answers nothing: nothing else would tell a job that only waits there."""
    monkeypatch.setattr("raycp.shard.probes.SILENT", 0.5)
    monkeypatch.setattr("raycp.shard.probes.PROBE_TIMEOUT", 0.2)
    monkeypatch.setattr("raycp.controllers.batchjob.step.POLL", 3600.0)
    async with fleet_of_three("60s") as fleet:
        await submit(fleet, "j", completions=1, placement={"clusters": ["east"]})
        await until(lambda: status(fleet, "j").get("active") == 1)
        for kind in ("halfOpen", "stallWatch"):
            fleet.clusters["east"].faults.add(FaultSpec.model_validate({"kind": kind}))
        await until(lambda: condition(fleet, "j", "ClustersReachable").get("status") == "False", 30.0)
        assert status(fleet, "j")["active"] == 1, "it is assumed to be running"
        fleet.clusters["east"].faults.clear(None)
        await until(lambda: condition(fleet, "j", "ClustersReachable").get("status") == "True", 30.0)


async def test_a_job_with_one_completion_is_deleted_after_its_time_to_live() -> None:
    async with fleet_of_three("200ms") as fleet:
        await submit(fleet, "short", completions=1, ttlSecondsAfterFinished=1)
        await until(lambda: pods_of(fleet, "short"))
        await until(lambda: job_of(fleet, "short") is None, 20.0)
        assert not pods_of(fleet, "short")
