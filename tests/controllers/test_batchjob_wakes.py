"""What wakes a job (law 13): time, its own deletion, and clusters that are lost, return, join or leave."""

import contextlib
import copy
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import Stack, fleet_doc, fleet_of, holds, until
from test_batchjob_plan import World, specs

from raycp.config.embedded import FaultSpec
from raycp.controllers.batchjob.job import Job, JobPlan
from raycp.controllers.batchjob.plan import plan
from raycp.controllers.batchjob.pods import TRACKING
from raycp.controllers.batchjob.types import BatchJobSpec, crd
from raycp.controllers.queues.types import queue_crd
from raycp.sdk import conditions

JOBS = "batchjobs.batch.raycp.io"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
FOREVER = 10_000_000.0


@st.composite
def timed(draw: st.DrawFn) -> BatchJobSpec:
    """Specs with deadlines, and with a time to live."""
    fields = {
        "active_deadline_seconds": draw(st.sampled_from([None, 1, 40, 5000])),
        "ttl_seconds_after_finished": draw(st.sampled_from([None, 0, 60])),
    }
    return draw(specs()).model_copy(update=fields)


def decision(of: JobPlan) -> tuple[Any, ...]:
    """What the plan does, without the order of it."""
    return (
        sorted((create.cluster, create.index, create.attempt) for create in of.creates),
        sorted(pod.name for pod in of.ends),
        sorted(pod.name for pod in of.releases),
        of.delete_job,
        of.status,
    )


@settings(max_examples=300, deadline=None)
@given(timed(), st.integers(0, 2**32), st.lists(st.integers(0, 8), max_size=25), st.floats(0.0, 1.0))
def test_no_decision_changes_by_time_alone_before_the_job_is_requeued(
    job_spec: BatchJobSpec, seed: int, steps: list[int], share: float
) -> None:
    """Whatever state a job is in: between two reconciles nothing becomes due that nobody wakes it for."""
    rng = random.Random(seed)
    world = World(job_spec)
    for step in steps:
        keys = sorted(world.pods)
        key = rng.choice(keys) if keys else None
        if step <= 2:
            world.reconcile(rng)
        elif step == 3:
            world.hidden ^= {rng.choice(world.names)}
        elif step == 4:
            world.now += rng.choice([0.1, 3, 30, 300])
        elif step == 5:
            world.spec = world.spec.model_copy(update={"suspend": not world.spec.suspend})
        elif key is not None and step == 6:
            world.delete(key)
        elif key is not None:
            world.end(key, "Succeeded" if rng.random() < 0.5 else "Failed")
    for _ in range(50):  # until the job has done all that it can do at this moment
        before = (world.status, dict(world.pods))
        world.reconcile(rng)
        if (world.status, world.pods) == before:
            break
    job = Job("uid", world.spec, world.status, 1)
    decided = plan(job, world.seen(), world.clusters(), world.now)
    wait = decided.requeue_after
    later = world.now + (FOREVER if wait is None else wait) * share * 0.999
    assert decision(plan(job, world.seen(), world.clusters(), later)) == decision(decided), f"requeued after {wait}"


# on a fleet


@contextlib.asynccontextmanager
async def fleet_with(homes: dict[str, str], runtime: str = "300ms", **schema: Any) -> AsyncIterator[Stack]:
    """``schema``: instead of the CRD's."""
    doc = fleet_doc(homes, ["raycp.controllers.batchjob"], embedded={"podRuntime": runtime})
    made = Stack(doc, dict(homes))
    installed: dict[str, Any] = copy.deepcopy(crd())
    if schema:
        installed["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    try:
        await made.start(1, {})
        for each in (installed, copy.deepcopy(queue_crd())):
            await made.clusters["hub"].api.create(CRDS, each)
        await made.synced()
        shards = sorted(set(homes.values()))
        await until(lambda: len(made.shard("0").wakes.incoming) == len(shards) - 1)
        await until(lambda: not any(len(made.shard(name).wakes.outbox("0")) for name in shards[1:]))
        yield made
    finally:
        await made.stop()


async def submit(fleet: Stack, name: str, **spec: Any) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}
    meta = {"name": name, "namespace": "default"}
    job = {"apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": meta, "spec": {"template": template, **spec}}
    await fleet.clusters["hub"].api.create(JOBS, job)


def job_of(fleet: Stack, name: str) -> dict[str, Any] | None:
    return fleet.clusters["hub"].api.get(JOBS, "default", name)


def condition(fleet: Stack, name: str, kind: str) -> dict[str, Any]:
    found = conditions.get(((job_of(fleet, name) or {}).get("status") or {}).get("conditions"), kind)
    return dict(found or {})


def pods_in(fleet: Stack, cluster: str) -> list[dict[str, Any]]:
    return fleet.clusters[cluster].api.list("pods", "default")[0]


def silence(fleet: Stack, cluster: str) -> None:
    """End its watches, and forbid watching and listing."""
    for fault in ({"kind": "error", "status": 503, "verbs": ["watch", "list"]}, {"kind": "closeWatch", "for": "100ms"}):
        fleet.clusters[cluster].faults.add(FaultSpec.model_validate(fault))


async def test_a_finished_job_is_deleted_after_its_time_to_live() -> None:
    """Its deletion is its controller's own write, and the finalizer of the Pods is removed by the next reconcile."""
    async with fleet_with({"hub": "0", "east": "0"}) as fleet:
        await submit(fleet, "short", parallelism=2, completions=2, ttlSecondsAfterFinished=1)
        await until(lambda: len(fleet.writes("east", "pods", "create")) == 2)
        await until(lambda: job_of(fleet, "short") is None, 20.0, "deleted, with its finalizer removed")
        await until(lambda: not pods_in(fleet, "east"))


async def test_a_job_whose_spec_has_become_invalid_is_cleaned_up_like_any_other() -> None:
    """Its Pods are deleted at once, by writes that are its own and requeue nothing."""
    lax = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    async with fleet_with({"hub": "0", "east": "0"}, "60s", **lax) as fleet:
        hub = fleet.clusters["hub"].api
        await submit(fleet, "j", parallelism=2, completions=2)
        await until(lambda: len(pods_in(fleet, "east")) == 2)
        await hub.patch_merge(JOBS, "default", "j", msgspec.json.encode({"spec": {"completionMode": "Wrong"}}))
        await until(lambda: condition(fleet, "j", "Failed").get("reason") == "InvalidSpec")
        await hub.delete(JOBS, "default", "j")
        await until(lambda: job_of(fleet, "j") is None, 20.0)
        await until(lambda: not pods_in(fleet, "east"))


@pytest.mark.parametrize("home", ["0", "1"])
async def test_a_job_is_woken_when_its_cluster_is_lost_returns_and_leaves(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before its poll, which is set to an hour here."""
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    monkeypatch.setattr("raycp.controllers.batchjob.step.POLL", 3600.0)
    async with fleet_with({"hub": "0", "west": "0", "east": home}, "60s") as fleet:
        await submit(fleet, "j", parallelism=1, completions=1, placement={"clusters": ["east"]})
        await until(lambda: pods_in(fleet, "east"))
        silence(fleet, "east")
        await until(lambda: condition(fleet, "j", "ClustersReachable").get("status") == "False", 20.0, "lost")
        fleet.clusters["east"].faults.clear(None)
        await until(lambda: condition(fleet, "j", "ClustersReachable").get("status") == "True", 20.0, "back")
        del fleet.homes["east"]
        fleet.doc = fleet_doc(fleet.homes, ["raycp.controllers.batchjob"], embedded={"podRuntime": "60s"})
        fleet.fleet = msgspec.structs.replace(fleet_of(fleet.doc), sequence=1)
        await fleet.configure()
        await until(lambda: condition(fleet, "j", "ClustersReachable").get("status") == "False", 20.0, "left")


async def test_a_job_without_a_place_is_woken_when_a_cluster_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.controllers.batchjob.step.POLL", 3600.0)
    homes = {"hub": "0", "west": "0", "east": "1"}
    async with fleet_with(homes, "60s") as fleet:
        east = fleet.connects.pop("east")  # known by name, and not reached yet
        await fleet.configure()
        await submit(fleet, "j", parallelism=1, completions=1, placement={"clusterSelector": {"region": "new"}})
        await until(lambda: condition(fleet, "j", "Scheduled").get("status") == "False")
        await holds(lambda: not pods_in(fleet, "east"), 0.3)
        labels = {"east": {"labels": {"region": "new"}}}
        fleet.doc = fleet_doc(homes, ["raycp.controllers.batchjob"], embedded={"podRuntime": "60s"}, fields=labels)
        fleet.fleet = msgspec.structs.replace(fleet_of(fleet.doc), sequence=1)
        fleet.connects["east"] = east
        await fleet.configure()
        await until(lambda: pods_in(fleet, "east"), 20.0, "its labels fit now, and it is reachable")


async def test_a_pod_is_released_when_the_cluster_that_could_not_be_written_to_answers_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job is complete, and nothing of it polls: its breaker was open when the Pod's finalizer was to be removed."""
    monkeypatch.setattr("raycp.controllers.batchjob.step.POLL", 3600.0)
    async with fleet_with({"hub": "0", "east": "1"}, "1s") as fleet:
        guard = fleet.shard("1").guard
        await submit(fleet, "j", parallelism=1, completions=1)
        await until(lambda: pods_in(fleet, "east"))
        refusal = {"kind": "error", "status": 503, "verbs": ["patch", "get"], "resources": ["pods", "version"]}
        fleet.clusters["east"].faults.add(FaultSpec.model_validate(refusal))
        breaker = guard.breaker("east")
        assert breaker is not None
        await until(lambda: condition(fleet, "j", "Complete").get("status") == "True", 20.0)
        for _ in range(8):
            breaker.failure("a test's")
        await until(lambda: not fleet.worker().links["1"].states["east"].reachable)
        (pod,) = pods_in(fleet, "east")
        assert TRACKING in pod["metadata"]["finalizers"]
        await until(lambda: not fleet.shard("0").queue.snapshot(), 20.0, "who can't see the cluster has nothing to do")
        fleet.clusters["east"].faults.clear(None)
        await until(lambda: TRACKING not in (pods_in(fleet, "east")[0]["metadata"].get("finalizers") or ()), 30.0)
