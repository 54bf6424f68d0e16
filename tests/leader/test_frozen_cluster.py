"""An embedded cluster that does not answer, or that Ray takes for dead, lives as long as its API server's port is its own: what it
stores may exist nowhere else, so it is never replaced by an empty one (law 6f)."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import fleet_samples as samples
import pytest
from inprocess import holds, led, until
from test_leader import doc, ran

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.driver.in_process import InProcessFleet
from raycp.embedded.cluster import EmbeddedCluster
from raycp.leader import supervision
from raycp.protocol.members import Member, Role

HUB = Member(Role.EMBEDDED, "hub", 0)
LONG = 1.5
"""Seconds: longer than all that the tests below wait for before they give a member up."""


@pytest.fixture(autouse=True)
def _hurry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(supervision, "HUNG_AFTER", 0.3)
    monkeypatch.setattr(supervision, "ASK_AGAIN", 0.1)
    samples.reset()


@contextlib.asynccontextmanager
async def up() -> AsyncIterator[InProcessFleet]:
    """A fleet of which the hub holds an object."""
    async with led() as fleet:
        await fleet.apply(doc())
        await fleet.cluster("hub").api.create("configmaps", {"metadata": {"name": "kept"}}, "default")
        yield fleet
        assert fleet.cluster("hub").api.get("configmaps", "default", "kept") is not None
        assert HUB not in fleet.substrate.killed
        assert [member for member in fleet.substrate.created if member.place == "hub"] == [HUB]


async def test_a_frozen_cluster_is_not_killed() -> None:
    async with up() as fleet:
        state = fleet.leader.roster.members[HUB.slot]
        fleet.substrate.silent.add(HUB)
        await until(lambda: "is not reachable" in state.problem, what="the reason is shown")
        await holds(lambda: HUB in fleet.substrate.cores, LONG)
        fleet.substrate.silent.clear()
        await until(lambda: not state.problem)
        await fleet.ready()


async def test_a_frozen_worker_is_killed() -> None:
    """The rule that does not hold for embedded clusters."""
    async with up() as fleet:
        worker = next(member for member in fleet.substrate.cores if member.role is Role.OBSERVER)
        fleet.substrate.silent.add(worker)
        await until(lambda: worker in fleet.substrate.killed)
        await fleet.ready()


async def test_rays_word_that_a_cluster_died_is_not_enough() -> None:
    async with up() as fleet:
        state = fleet.leader.roster.members[HUB.slot]
        fleet.substrate.presumed_dead.add(HUB)
        await until(lambda: "it is not replaced while it does" in state.problem)
        await holds(lambda: fleet.leader.roster.members[HUB.slot] is state, LONG)
        await fleet.put("east", "tracked", "a")
        await until(lambda: ran()["a"] == 1, what="the fleet works on")
        fleet.substrate.presumed_dead.clear()
        await until(lambda: not state.problem)
        await fleet.ready()


async def test_a_leader_that_restarts_meanwhile_does_not_replace_it_either() -> None:
    async with up() as fleet:
        await fleet.die()
        fleet.substrate.presumed_dead.add(HUB)
        await fleet.restart()
        await until(lambda: fleet.status().get("leader", {}).get("incarnation") == 2)
        await holds(lambda: HUB in fleet.substrate.cores and len(fleet.substrate.living("embedded", "hub")) == 1, LONG)
        fleet.substrate.presumed_dead.clear()
        await fleet.ready()


@pytest.mark.parametrize("another", [False, True], ids=["refuses", "is another's"])
async def test_a_cluster_whose_port_is_not_its_own_any_more_is_replaced(another: bool) -> None:
    async with led() as fleet:
        await fleet.apply(doc())
        east = Member(Role.EMBEDDED, "east", 0)
        fleet.substrate.presumed_dead.add(east)
        await holds(lambda: len(fleet.substrate.living("embedded", "east")) == 1, 0.5)
        cluster = fleet.cluster("east")
        assert cluster.endpoint is not None
        port = int(cluster.endpoint.server.rsplit(":", 1)[1])
        await cluster.stop()  # its process ends, and Ray has said so before
        taken = None
        if another:
            taken = EmbeddedCluster("another", EmbeddedSpec(port=port, controllers=EmbeddedControllers.none()))
            await taken.start()
        await until(lambda: any(m.place == "east" and m.generation == 1 for m in fleet.substrate.cores))
        if taken is not None:
            await taken.stop()
