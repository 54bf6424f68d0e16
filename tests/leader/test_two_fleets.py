"""Two fleets of one name on one hub, each on a Ray of its own: one leads and writes, the other waits, warm, and says for whom."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
import pytest_asyncio
from inprocess import CLOCK, QUIET, InProcess, Led, fleet_of, holds, problem_of, until

from raycp.base.problems import ProblemCode
from raycp.config import FleetDoc
from raycp.config.embedded import EmbeddedSpec
from raycp.driver.fleet_client import FleetClient, StandsBy
from raycp.embedded.cluster import EmbeddedCluster
from raycp.leader.core import LeaderCore
from raycp.leadership.locks import eligibility
from raycp.protocol.control import ControlError

LOCKS: dict[str, Any] = {
    "ray": {"ray": {}},
    "configMap": {"configMap": {}},
    "lease": {"lease": {"duration": "2s", "renew": "500ms"}},
}


class Fleet(Led):
    """A fleet under a leader of this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()

    def start_leader(self) -> LeaderCore:
        self.number += 1
        self.leader = self.substrate.leader = LeaderCore(self.substrate, CLOCK, f"{self.name}-{self.number}")
        self.leader.start()
        return self.leader

    async def begin(self, doc: FleetDoc) -> "Fleet":
        await self.leader.apply(fleet_of(doc))
        return self

    async def killed(self) -> None:
        """The whole Ray cluster is lost."""
        await self.die()
        await self.substrate.close()


class Hub:
    """The cluster that both fleets are about."""

    def __init__(self, cluster: EmbeddedCluster, kubeconfig: Path) -> None:
        self.cluster = cluster
        self.kubeconfig = kubeconfig

    def doc(self, lock: str, **spec: Any) -> FleetDoc:
        leader = {"lock": LOCKS[lock], "permit": "2s", **spec.pop("leader", {})}
        return FleetDoc.model_validate(
            {
                "apiVersion": "raycp.io/v1alpha1",
                "kind": "Fleet",
                "metadata": {"name": "t"},
                "spec": {
                    "clusters": [{"name": "hub", "kubeconfig": {"path": str(self.kubeconfig)}, "requestTimeout": "1s"}],
                    "controllers": [{"use": "fleet_samples:tracked"}],
                    "observer": {"port": 0},
                    "shards": {"standby": 0},
                    "state": {"checkpoint": "500ms"},
                    "leader": leader,
                    **spec,
                },
            }
        )

    async def put(self, name: str) -> None:
        obj = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "tracked"}},
        }
        await self.cluster.api.create("configmaps", obj)

    def record(self, what: str) -> dict[str, Any]:
        found = self.cluster.api.get("configmaps", "raycp-system", f"raycp-t-{what}")
        return dict(found["data"]) if found is not None else {}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eligibility, "KNOCK_SLACK", 0.3)
    samples.reset()


@pytest_asyncio.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    cluster = EmbeddedCluster("hub", EmbeddedSpec.model_validate({"controllers": QUIET}), CLOCK)
    endpoint = await cluster.start()
    path = tmp_path / "hub.kubeconfig"
    path.write_text(endpoint.kubeconfig)
    yield Hub(cluster, path)
    await cluster.stop()


@contextlib.asynccontextmanager
async def fleet(name: str) -> AsyncIterator[Fleet]:
    made = Fleet(name)
    try:
        yield made
    finally:
        await made.stop()


async def leads(fleet: Fleet) -> float | None:
    """The gauge, as the fleet's observer serves it."""
    for line in (await fleet.substrate.living("observer")[0].view.metrics()).body.decode().splitlines():
        if line.startswith('leader_election_master_status{name="t"}'):
            return float(line.split()[-1])
    return None


def count(name: str) -> int:
    return sum(1 for _, _, ran in samples.RAN if ran == name)


@pytest.mark.parametrize("lock", LOCKS)
async def test_second_fleet_waits_warm_and_writes_nothing_until_the_first_goes_down(hub: Hub, lock: str) -> None:
    async with fleet("first") as first, fleet("second") as second:
        await (await first.begin(hub.doc(lock))).ready()
        await second.begin(hub.doc(lock))
        await until(lambda: second.status()["leader"]["waiting"], what="the second reports why it waits")
        leader = second.status()["leader"]
        assert leader["heldBy"] == "first-1"
        assert leader["heldSince"] == pytest.approx(first.status()["leader"]["since"], abs=0.01)
        assert any("waiting for the lock" in reason and "first-1" in reason for reason in second.status()["reasons"])
        await until(lambda: second.status()["clusters"][0]["synced"], what="its caches are filled")
        await hub.put("a")
        await until(lambda: count("a"))
        await holds(lambda: count("a") == 1, 1.5, "the candidate reconciles nothing")

        async def shown() -> bool:
            return await leads(first) == 1.0 and await leads(second) == 0.0

        await until(shown, what="metrics show which fleet leads")
        before = {name: hub.record(name) for name in ("fleet", "slo", "leader")}
        assert before["fleet"]["home"] == first.status()["leader"]["home"]
        await first.leader.down()
        await until(lambda: second.status()["ready"], 10.0, what="the second leads")
        assert second.status()["leader"]["epoch"] == 2
        await hub.put("b")
        await until(lambda: count("b") == 1)
        await until(lambda: hub.record("fleet").get("home") == second.status()["leader"]["home"])
        assert samples.OVERLAPS == []


@pytest.mark.parametrize("lock", ["ray", "lease"])
async def test_second_fleet_leads_after_the_permits_of_a_lost_one(hub: Hub, lock: str) -> None:
    async with fleet("first") as first, fleet("second") as second:
        await (await first.begin(hub.doc(lock))).ready()
        await second.begin(hub.doc(lock))
        await until(lambda: second.status()["leader"]["waiting"])
        await first.killed()
        await until(lambda: second.status()["ready"], 20.0)
        await hub.put("a")
        await until(lambda: count("a") == 1)


async def test_fleet_whose_lease_was_taken_becomes_a_candidate_and_leads_again(hub: Hub) -> None:
    async with fleet("first") as first, fleet("second") as second:
        await (await first.begin(hub.doc("lease"))).ready()
        await second.begin(hub.doc("lease"))
        await until(lambda: second.status()["leader"]["waiting"])
        proof, thawed = first.leader.hub.lock.proof, asyncio.Event()
        prove = proof.prove

        async def frozen() -> bool:
            await thawed.wait()
            return await prove()

        proof.prove = frozen  # type: ignore[method-assign]  # nothing is renewed
        await until(lambda: second.status()["leader"]["epoch"] == 2, 20.0)
        thawed.set()
        await until(lambda: first.status()["leader"]["heldBy"] == "second-1", 10.0)
        await hub.put("a")
        await until(lambda: count("a"))
        await holds(lambda: count("a") == 1, 1.0)
        await second.leader.down()
        await until(lambda: first.status()["ready"] and first.status()["leader"]["epoch"] == 3, 20.0)
        await hub.put("b")
        await until(lambda: count("b"))
        assert samples.OVERLAPS == []


async def test_changed_permit_takes_effect_and_is_recorded_first(hub: Hub) -> None:
    async with fleet("first") as first:
        await (await first.begin(hub.doc("ray"))).ready()
        ledger = first.leader.hub.lock.proof.ledger
        assert ledger is not None
        assert ledger.permit == 2.0
        await first.leader.apply(fleet_of(hub.doc("ray", leader={"permit": "5s"})))

        def recorded_first() -> bool:
            assert ledger.permit == 2.0 or float(hub.record("leader")["permit"]) == 5.0
            return ledger.permit == 5.0

        await until(recorded_first)
        await first.leader.apply(fleet_of(hub.doc("ray", leader={"permit": "2s"})))
        await until(lambda: ledger.permit == 2.0)
        assert float(hub.record("leader")["permit"]) == 5.0, "permits of 5 s live on"
        await until(lambda: float(hub.record("leader")["permit"]) == 2.0, 10.0)


async def test_stored_document_is_applied_though_no_member_received_it(hub: Hub) -> None:
    async with fleet("first") as first:
        await (await first.begin(hub.doc("ray"))).ready()
        await first.die()
        # As the leader had stored it, before any member took it over.
        plan = first.leader.plan
        assert plan is not None
        newer = fleet_of(hub.doc("ray", tiers={"standard": {"workers": {"min": 2}}}))
        data = hub.record("fleet") | {
            "generation": newer.generation,
            "sequence": str(plan.fleet.sequence + 1),
            "fleet": msgspec.json.encode(msgspec.structs.replace(newer, sequence=plan.fleet.sequence + 1)).decode(),
        }
        patch = msgspec.json.encode({"data": data})
        await hub.cluster.api.patch_merge("configmaps", "raycp-system", "raycp-t-fleet", patch)
        first.start_leader()
        await first.ready(newer.generation)
        assert len(first.substrate.living("worker")) == 2


async def test_stored_document_of_another_instance_is_ignored(hub: Hub) -> None:
    async with fleet("first") as first, fleet("second") as second:
        await (await first.begin(hub.doc("ray", tiers={"standard": {"workers": {"min": 2}}}))).ready()
        await first.leader.down()
        doc = hub.doc("ray")
        await (await second.begin(doc)).ready(fleet_of(doc).generation)
        await second.restart()
        await second.ready(fleet_of(doc).generation)


async def test_wall_clock_that_is_off_is_reported_and_nothing_else(hub: Hub) -> None:
    hub.cluster.skew(3600.0)
    async with fleet("first") as first:
        await (await first.begin(hub.doc("lease"))).ready()
        problem = await until(lambda: problem_of(first.status(), ProblemCode.CLOCK), 10.0)
        assert "3600 s behind" in problem
        assert first.status()["readiness"] == "ready"


async def test_run_reports_that_the_second_fleet_stands_by(hub: Hub) -> None:
    class Client(FleetClient):
        async def status(self) -> dict[str, Any]:
            return second.status()

    doc = hub.doc("ray")
    async with fleet("first") as first, fleet("second") as second:
        await (await first.begin(doc)).ready()
        await second.begin(doc)
        with pytest.raises(StandsBy, match=r"ConfigMap raycp-system/raycp-t-leader is held by first-1.*leads since 20"):
            await Client("none").wait_ready(fleet_of(doc).generation, 30.0, held_for=1.0)
        await first.leader.down()
        status = await Client("none").wait_ready(fleet_of(doc).generation, 30.0, held_for=10.0)
        assert status["leader"]["epoch"] == 2


async def test_change_of_the_lock_of_a_running_fleet_is_refused(hub: Hub) -> None:
    async with fleet("first") as first:
        await (await first.begin(hub.doc("ray"))).ready()
        with pytest.raises(ControlError, match=r"spec\.leader\.lock"):
            await first.leader.apply(fleet_of(hub.doc("lease")))
        await asyncio.sleep(0)
        assert first.status()["leader"]["lock"] == "ray"
        assert isinstance(first.substrate, InProcess)
