"""A cluster is drained: what moves is said first, it moves some at a time, and what can't stays."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import pytest_asyncio
from inprocess import CLOCK, Led, fleet_doc, fleet_of, led, until

from raycp.cli.drain import vacate
from raycp.cli.sweep import confirm, held_in, lines
from raycp.config import FleetDoc
from raycp.controllers.batchjob.sweeper import CONFIRMED, NAME, RECORD
from raycp.driver.drains import JobPresence, drain, jobs_in
from raycp.kube import ClusterClient
from raycp.protocol.amendments import with_drain
from raycp.protocol.control import Question

A = TypeVar("A")
BATCHJOB = ["raycp.controllers.batchjob"]
JOBS = "batchjobs.batch.raycp.io"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"


class InThisProcess:
    """``FleetClient`` of a fleet in this process."""

    def __init__(self, fleet: Led) -> None:
        self.fleet = fleet
        self.changed: list[bool] = []

    async def ask(self, question: Question[A]) -> A:
        found = await self.fleet.leader.ask(question)
        self.changed.append(found.changed)
        return found  # type: ignore[no-any-return]


def doc_of(*clusters: str) -> FleetDoc:
    return fleet_doc(["hub", *clusters], BATCHJOB, embedded={"controllers": {"stages": False}})


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[Led]:
    async with led() as made:
        await made.apply(doc_of("east", "west"))
        yield made


async def submit(fleet: Led, name: str, **spec: Any) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}
    meta = {"name": name, "namespace": "default"}
    job = {"apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": meta, "spec": {"template": template, **spec}}
    await fleet.cluster("hub").api.create(JOBS, job)


def pods(fleet: Led, cluster: str) -> list[dict[str, Any]]:
    return [pod for pod in fleet.cluster(cluster).api.list("pods", "default")[0] if not pod["metadata"].get("deletionTimestamp")]


def status(fleet: Led, name: str) -> dict[str, Any]:
    return (fleet.cluster("hub").api.get(JOBS, "default", name) or {}).get("status") or {}


async def succeed(fleet: Led, name: str) -> None:
    await fleet.cluster("east").api.patch_merge("pods", "default", name, b'{"status":{"phase":"Succeeded"}}', subresource="status")


async def hub_client(fleet: Led) -> ClusterClient:
    plan = fleet.leader.plan
    assert plan is not None
    assert plan.hub.connect is not None
    return await ClusterClient.connect(plan.hub.connect, CLOCK)


async def test_the_jobs_of_a_drained_cluster_move_and_those_bound_to_it_stay(fleet: Led) -> None:
    await submit(fleet, "moves", parallelism=4, completions=4, placement={"clusters": ["east", "west"], "strategy": "Pack"})
    await submit(fleet, "bound", parallelism=1, completions=1, placement={"clusters": ["east"]})
    await until(lambda: len(pods(fleet, "east")) == 5)
    await until(lambda: status(fleet, "moves").get("active") == 4)
    hub = await hub_client(fleet)
    said: list[list[JobPresence]] = []

    def progress(left: Sequence[JobPresence]) -> None:
        said.append(list(left))
        if [each.job for each in left] == ["default/bound"]:
            (pod,) = pods(fleet, "east")
            ending.append(asyncio.ensure_future(succeed(fleet, pod["metadata"]["name"])))

    ending: list[Any] = []
    try:
        before = {(each.job, each.cluster, each.pods) for each in await jobs_in(hub, ["east"])}
        assert before == {("default/moves", "east", 4), ("default/bound", "east", 1)}
        client = InThisProcess(fleet)
        assert await drain(client, hub, ["east"], CLOCK, 30.0, progress) == []
        assert ["default/bound"] in [[each.job for each in left] for left in said], "it stays until it ends"
        assert len(pods(fleet, "west")) == 4
        assert status(fleet, "moves").get("failed", 0) == 0
        assert await drain(client, hub, ["east"], CLOCK, 0.0, progress) == []
        assert client.changed == [True, False], "a drained cluster is not drained again"
    finally:
        await hub.close()
    await submit(fleet, "later", parallelism=2, completions=2)
    await until(lambda: len(pods(fleet, "west")) == 6, what="nothing new is placed there")


async def test_before_a_cluster_leaves_it_is_said_which_jobs_have_pods_there(
    fleet: Led, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await submit(fleet, "j", parallelism=3, completions=3, placement={"clusters": ["east"]})
    await until(lambda: len(pods(fleet, "east")) == 3)
    client, plan = InThisProcess(fleet), fleet.leader.plan
    assert plan is not None
    for options, names, vacated, shown in (
        ({"dry_run": True}, ["east"], True, "to move: 3 Pods of 1 job, of each job some at a time"),
        ({"dry_run": False, "drain_timeout": 1.0}, ["west"], True, "no job has Pods in west"),
    ):
        args = argparse.Namespace(config=tmp_path / "fleet.yaml", **options)
        assert await asyncio.to_thread(vacate, args, client, plan, names) == vacated
        assert shown in capsys.readouterr().out
    assert not client.changed


def test_only_the_named_clusters_are_drained() -> None:
    made = with_drain(fleet_of(doc_of("east", "west")), ["east"], drained=True)
    assert {row.name: row.drain for row in made.doc.spec.clusters} == {"hub": False, "east": True, "west": False}
    assert not any(row.drain for row in with_drain(made, ["east"], drained=False).doc.spec.clusters)


async def test_what_the_sweeper_holds_is_shown_and_confirmed_by_the_command(fleet: Led) -> None:
    hub = fleet.cluster("hub").api
    await until(lambda: RECORD in ((hub.get(CRDS, "", NAME) or {})["metadata"].get("annotations") or {}))
    plan = fleet.leader.plan
    assert plan is not None
    spec = plan.hub.connect
    assert spec is not None
    assert lines(await held_in(spec, CLOCK)) == ["no Pods of dead jobs are held"]
    await submit(fleet, "j", parallelism=2, completions=2, placement={"clusters": ["east"]})
    await until(lambda: len(pods(fleet, "east")) == 2)
    await hub.patch_merge(JOBS, "default", "j", b'{"metadata":{"finalizers":null}}')
    await hub.delete(JOBS, "default", "j")
    await hub.patch_merge(CRDS, "", NAME, msgspec.json.encode({"metadata": {"annotations": {"look": "now"}}}))
    record = await until(lambda: _held(fleet))
    (line,) = lines(record)
    assert "cluster east: 2 of 2 Pods, of jobs default/j" in line
    assert (await confirm(spec, "0" * 12, CLOCK)).held, "that is not what was shown"
    assert len(pods(fleet, "east")) == 2
    assert not (await confirm(spec, record.digest, CLOCK)).held
    assert pods(fleet, "east") == []
    assert CONFIRMED not in hub.get(CRDS, "", NAME)["metadata"]["annotations"]  # type: ignore[index]


async def _held(fleet: Led) -> Any:
    plan = fleet.leader.plan
    assert plan is not None
    assert plan.hub.connect is not None
    record = await held_in(plan.hub.connect, CLOCK)
    return record if record.held else None
