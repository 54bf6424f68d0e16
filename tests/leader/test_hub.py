"""What the leader does at the clusters' APIs: CRDs, epoch, fleet document, on a real embedded cluster."""

import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
import pytest_asyncio
from inprocess import CLOCK, QUIET, fleet_doc, fleet_of, holds, until

from raycp.base.clock import VirtualClock
from raycp.base.loops import Loops
from raycp.config.embedded import EmbeddedSpec, FaultSpec
from raycp.controllers.batchjob.types import crd
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ClusterClient, ConnectError, ConnectSpec
from raycp.leader.cluster_clients import ClusterClients
from raycp.leader.crd_installer import install_crd
from raycp.leader.crds import PATIENCE, Crds
from raycp.leader.hub import Hub
from raycp.leader.hub_lock import LEADERSHIP
from raycp.leader.retries import Retries
from raycp.protocol.plan import ClusterPlan, Fleet, Plan

JOBS = "batchjobs.batch.raycp.io"


class Here:
    """One cluster that is hub and member, and what a leader does there."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        assert cluster.endpoint is not None
        self.cluster = cluster
        self.connect = ConnectSpec(
            name="here", mode="direct", server=cluster.endpoint.server, ca_pem=cluster.endpoint.ca_pem, token=cluster.endpoint.token
        )
        self.loops = Loops(CLOCK)
        self.closed = False
        self.hub = Hub(CLOCK, "me", self.loops, lambda: not self.closed, lambda *_: None, _no_newer)
        self.lock = self.hub.lock

    def published(self) -> ConnectSpec | None:
        return self.hub.crds.published("here", self.connect, candidate=self.lock.waiting is not None)

    def plan(self, *uses: str, epoch: int = 0) -> Plan:
        doc = fleet_doc(["here"], uses or ["raycp.controllers.batchjob"])
        return Plan(fleet_of(doc), 1, epoch, 0, "t", (ClusterPlan("here", "hub", {}, "0", self.connect),), ())

    async def drive(self, plan: Plan, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Take steps until the condition holds."""

        def step() -> object:
            self.hub.step(plan, {"here": self.connect})
            return condition()

        await until(step, seconds, f"problems: {self.hub.problems}")


async def _no_newer(fleet: Fleet) -> None:
    raise AssertionError("no newer document is stored")


@contextlib.asynccontextmanager
async def one_cluster() -> AsyncIterator[Here]:
    """A cluster and what a leader does there."""
    cluster = EmbeddedCluster("here", EmbeddedSpec.model_validate({"controllers": QUIET}), CLOCK)
    await cluster.start()
    made = Here(cluster)
    yield made
    await made.loops.stop()
    await made.hub.close()
    await cluster.stop()


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Here]:
    async with one_cluster() as made:
        yield made


async def test_leader_installs_crds_and_stores_epoch_and_document(here: Here) -> None:
    plan = here.plan()
    assert here.published() is None, "not before its CRDs are there"
    api = here.cluster.api
    await here.drive(plan, lambda: api.get("configmaps", "raycp-system", "raycp-t-fleet") and here.published())
    assert here.published() == here.connect
    assert api.get("customresourcedefinitions", "", JOBS) is not None
    assert here.lock.leadership is not None
    assert (here.lock.leadership.epoch, here.lock.leadership.holder) == (1, "me")
    stored = api.get("configmaps", "raycp-system", "raycp-t-fleet")
    assert stored is not None
    assert stored["data"]["generation"] == plan.fleet.generation
    revision = stored["metadata"]["resourceVersion"]
    await holds(lambda: (here.hub.step(plan, {"here": here.connect}), True)[1], 0.2)
    again = api.get("configmaps", "raycp-system", "raycp-t-fleet")
    assert again is not None
    assert again["metadata"]["resourceVersion"] == revision, "nothing new, nothing written"
    other = here.plan("fleet_samples:tracked")
    await here.drive(other, lambda: _generation(here) == other.fleet.generation)


def _generation(here: Here) -> str:
    stored = here.cluster.api.get("configmaps", "raycp-system", "raycp-t-fleet")
    return str(stored["data"]["generation"]) if stored is not None else ""


async def test_failing_hub_is_reported_and_retried(here: Here) -> None:
    here.cluster.faults.set([FaultSpec(kind="error", status=500)])
    await here.drive(here.plan(), lambda: LEADERSHIP in here.hub.problems)
    assert here.lock.leadership is None
    assert here.cluster.api.get("customresourcedefinitions", "", JOBS) is None, "a candidate installs nothing"
    here.cluster.faults.clear()
    await here.drive(here.plan(), lambda: here.lock.leadership is not None and here.published(), 20.0)


async def test_epoch_of_a_living_fleet_continues(here: Here) -> None:
    here.hub.recovered(here.plan(epoch=5))
    await here.drive(here.plan(epoch=5), lambda: here.lock.leadership)
    assert here.lock.leadership is not None
    assert here.lock.leadership.epoch == 5


async def test_cluster_without_its_crds_is_published_after_a_while() -> None:
    clock = VirtualClock()
    crds = Crds(clock, ClusterClients(clock), Retries(clock, Loops(clock)))
    connect = ConnectSpec(name="here", mode="direct", server="https://127.0.0.1:9")
    assert crds.published("here", connect, candidate=False) is None
    await clock.advance(PATIENCE - 0.1)
    assert crds.published("here", connect, candidate=False) is None
    await clock.advance(0.2)
    assert crds.published("here", connect, candidate=False) == connect
    assert crds.published("here", None, candidate=False) is None
    assert crds.published("here", connect, candidate=False) is None, "another server, another wait"


async def test_missing_right_to_install_a_crd_has_a_remedy_in_its_message() -> None:
    cluster = EmbeddedCluster("strict", EmbeddedSpec.model_validate({"controllers": QUIET, "rbac": True}), CLOCK)
    endpoint = await cluster.start()
    token = cluster.add_user("nobody")
    spec = ConnectSpec(name="strict", mode="direct", server=endpoint.server, ca_pem=endpoint.ca_pem, token=token)
    client = await ClusterClient.connect(spec, CLOCK, probe=False)
    with pytest.raises(ConnectError, match=JOBS) as refused:
        await install_crd(client, crd(), CLOCK)
    assert "grant it" in str(refused.value)
    await client.close()
    await cluster.stop()


async def test_crd_is_installed_over_an_older_one(here: Here) -> None:
    client = await ClusterClient.connect(here.connect, CLOCK)
    await install_crd(client, crd(), CLOCK)
    older = msgspec.json.decode(msgspec.json.encode(crd()))
    older["spec"]["names"]["shortNames"] = ["old"]
    await install_crd(client, older, CLOCK)
    await install_crd(client, crd(), CLOCK)
    found = here.cluster.api.get("customresourcedefinitions", "", JOBS)
    assert found is not None
    assert found["spec"]["names"].get("shortNames") == crd()["spec"]["names"].get("shortNames")
    await client.close()


@pytest.mark.parametrize("successor", ["their-home", ""], ids=["given to a successor", "of a fleet that is taken down"])
async def test_released_lock_is_not_taken_by_a_step_under_way(here: Here, successor: str) -> None:
    # Seen in a bench of upgrades: the old leader's step came between its release and the successor's write. What is applied
    # meanwhile makes the leader eligible again; the lock remains the successor's.
    plan = here.plan()
    await here.drive(plan, lambda: here.lock.leadership)
    here.closed = not successor
    assert await here.lock.release(successor)
    await holds(lambda: (here.hub.step(plan, {"here": here.connect}), here.lock.leadership is None)[1], 0.3)
    record = here.cluster.api.get("configmaps", "raycp-system", "raycp-t-leader")
    assert record is not None
    assert record["data"]["released"] == "true"
    assert await here.lock.take_back(plan) is None, "no successor has begun: it is ours again"
    assert here.lock.leadership is not None
