"""Admitted jobs whose clusters are drained, tainted, or refuse them, over a fleet in this process: they are placed anew."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from inprocess import Led, led, until
from test_queues import JOBS, admission, doc_of, job, pods, queue, status, submit

from raycp.config import FleetDoc
from raycp.config.declared import ClusterTaint
from raycp.protocol.members import Role


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[Led]:
    async with led() as made:
        await made.apply(doc_of("east", "west"))
        yield made


def changed(doc: FleetDoc, name: str, **fields: Any) -> FleetDoc:
    rows = [row.model_copy(update=fields) if row.name == name else row for row in doc.spec.clusters]
    return doc.model_copy(update={"spec": doc.spec.model_copy(update={"clusters": rows})})


def explained(fleet: Led, name: str) -> dict[str, Any]:
    (shard,) = fleet.substrate.living(Role.SHARD)
    found: dict[str, Any] = shard.hosting.answer("explain", "default", name)
    return found


def counted(fleet: Led, name: str) -> tuple[int, int]:
    found = status(fleet, name)
    return found.get("active", 0), found.get("failed", 0)


async def test_admitted_jobs_leave_a_drained_cluster_as_far_as_another_has_room(fleet: Led) -> None:
    """West has 16 cores, of which a job that may be nowhere else has 12: four of eight Pods find room there, and the others follow
    when it ends. None counts as failed."""
    await queue(fleet, "batch", 100, namespaces=["default"])
    await submit(fleet, "bound", parallelism=12, completions=12, placement={"clusters": ["west"]})
    await until(lambda: pods(fleet, "bound") == {"west": 12})
    await submit(fleet, "moves", parallelism=8, completions=8, placement={"clusters": ["east", "west"], "strategy": "Pack"})
    await until(lambda: pods(fleet, "moves") == {"east": 8})
    await fleet.apply(changed(doc_of("east", "west"), "east", drain=True))
    await until(lambda: pods(fleet, "moves") == {"east": 4, "west": 4})
    await until(lambda: admission(fleet, "moves")["clusters"] == {"east": 4, "west": 4})
    await until(lambda: {each["name"]: each["reason"] for each in explained(fleet, "moves")["clusters"]}["east"] == "Refused")
    await fleet.cluster("hub").api.delete(JOBS, "default", "bound")
    await until(lambda: pods(fleet, "moves") == {"west": 8}, what="the others follow")
    assert admission(fleet, "moves")["clusters"] == {"west": 8}
    await until(lambda: counted(fleet, "moves") == (8, 0))
    assert "limits" not in status(fleet, "moves")


async def test_a_taint_no_execute_moves_what_runs_and_does_not_tolerate_it(fleet: Led) -> None:
    """One job has a queue, one has none; the third tolerates it."""
    toleration = {"key": "maintenance", "operator": "Exists", "effect": "NoExecute"}
    both = {"clusters": ["east", "west"], "strategy": "Pack"}
    await submit(fleet, "plain", parallelism=2, completions=2, placement=both)
    await submit(fleet, "stays", parallelism=2, completions=2, placement={**both, "tolerations": [toleration]})
    await until(lambda: (pods(fleet, "plain"), pods(fleet, "stays")) == ({"east": 2}, {"east": 2}))
    await submit(fleet, "gang", parallelism=2, completions=2, gang={}, placement=both)
    await until(lambda: pods(fleet, "gang") == {"east": 2})
    taint = ClusterTaint(key="maintenance", effect="NoExecute")
    await fleet.apply(changed(doc_of("east", "west"), "east", taints=[taint]))
    await until(lambda: pods(fleet, "plain") == {"west": 2} == pods(fleet, "gang"))
    await until(lambda: (counted(fleet, "plain"), counted(fleet, "gang")) == ((2, 0), (2, 0)))
    assert pods(fleet, "stays") == {"east": 2}
    await submit(fleet, "later", parallelism=2, completions=2, gang={}, placement=both)
    await until(lambda: pods(fleet, "later") == {"west": 2})


async def test_a_member_that_refuses_a_jobs_pods_gets_none_of_it(fleet: Led, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its quota allows no Pod: the job runs elsewhere; one that may be nowhere else gives its quota back and waits, with the
    server's words."""
    monkeypatch.setattr("raycp.controllers.batchjob.refusals.FIRST", 1.0)
    monkeypatch.setattr("raycp.scheduling.eviction.REFUSED", 1.0)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    quota["metadata"]["namespace"] = "default"  # type: ignore[index]
    await fleet.cluster("east").api.create("resourcequotas", quota)
    await queue(fleet, "batch", 4, namespaces=["default"])
    await submit(fleet, "bound", parallelism=4, completions=4, placement={"clusters": ["east"]})
    await until(lambda: admission(fleet, "bound").get("requeues"))
    await until(lambda: admission(fleet, "bound")["state"] == "Pending")
    found = explained(fleet, "bound")
    assert "exceeded quota" in found["waitsFor"]["message"]
    refused = {each["name"]: (each["reason"], each["message"]) for each in status_of(found)}
    assert refused["east"][0] == "Refused"
    assert "exceeded quota" in refused["east"][1]
    await submit(fleet, "free", parallelism=4, completions=4, placement={"clusters": ["east", "west"], "strategy": "Pack"})
    await until(lambda: pods(fleet, "free") == {"west": 4}, what="the quota that the other does not use")
    assert admission(fleet, "free")["clusters"] == {"west": 4}
    await until(lambda: counted(fleet, "free") == (4, 0))
    await fleet.cluster("hub").api.delete(JOBS, "default", "free")
    await fleet.cluster("east").api.delete("resourcequotas", "default", "none")
    await until(lambda: pods(fleet, "bound") == {"east": 4}, 40.0, "it is tried again")
    assert not job(fleet, "bound")["status"].get("failed")


def status_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = found["clusters"]
    return rows
