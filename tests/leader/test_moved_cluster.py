"""How a cluster is reached, and the code of a controller, are inputs of a running fleet: ``raycp apply`` that changes one."""

from collections import Counter
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import QUIET, Led, fleet_doc, fleet_of, led, until
from revisions import house

from raycp.config import FleetDoc
from raycp.driver.upgrade import upgrade
from raycp.protocol.control import Configure
from raycp.protocol.members import Role

FAST = {"timeouts": {"drain": 1}, "shards": {"standby": 0}}


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


def doc(nodes: int) -> FleetDoc:
    east = {"embedded": {"nodes": nodes, "controllers": QUIET}}
    return fleet_doc(["hub", "east"], ["fleet_samples:tracked"], fields={"east": east}, **FAST)


def ran() -> Counter[str]:
    return Counter(name for *_, name in samples.RAN)


def row(fleet: Led, cluster: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in fleet.status()["clusters"] if each["name"] == cluster)
    return found


async def test_an_embedded_cluster_that_is_made_anew_is_found_at_its_new_address() -> None:
    async with led() as fleet:
        await fleet.apply(doc(nodes=2))
        before = fleet.cluster("east")
        await fleet.put("east", "tracked", "old")
        await until(lambda: ran()["old"])
        await fleet.apply(doc(nodes=3))
        await until(lambda: fleet.substrate.living("embedded", "east") and fleet.cluster("east") is not before)
        await until(lambda: row(fleet, "east")["reachable"] and row(fleet, "east")["synced"], 15.0)
        await fleet.put("east", "tracked", "new")
        await until(lambda: ran()["new"], 15.0, "the shard watches the new cluster, and not the old address")


async def test_a_restarted_leader_does_not_trust_the_address_in_its_plan() -> None:
    """The cluster was made anew while there was no leader."""
    async with led() as fleet:
        await fleet.apply(doc(nodes=2))
        plan = fleet.leader.plan
        assert plan is not None
        await fleet.die()
        (east,) = fleet.substrate.living("embedded", "east")
        await fleet.substrate.kill(east.member)
        successor = east.member._replace(generation=east.member.generation + 1)
        await fleet.substrate.create(successor, {})
        await fleet.substrate.ask(successor, Configure(plan), timeout=30.0)
        fleet.start_leader()
        await fleet.put("east", "tracked", "new")
        await until(lambda: ran()["new"], 20.0)


async def test_a_member_that_is_not_up_is_a_reason_in_the_status_and_is_used_again_when_it_is() -> None:
    async with led() as fleet:
        await fleet.apply(doc(nodes=2))
        allowed = fleet.substrate.refuse
        fleet.substrate.refuse = lambda member: RuntimeError("no room") if member.role is Role.EMBEDDED else None
        (east,) = (core for core in fleet.substrate.living("embedded", "east"))
        await fleet.substrate.kill(east.member)
        await until(lambda: not row(fleet, "east")["reachable"], 15.0)
        await until(lambda: "its embedded server is not up yet" in row(fleet, "east")["reason"])
        fleet.substrate.refuse = allowed
        await until(lambda: row(fleet, "east")["reachable"], 15.0)
        await fleet.put("east", "tracked", "new")
        await until(lambda: ran()["new"], 15.0)


async def test_new_code_starts_without_the_backoff_of_the_old() -> None:
    """Of what failed and of what gave up; it is run by a worker that has the new code."""
    retry = {"use": "fleet_samples:reader", "retry": {"min": "300s", "max": "300s"}}
    settings = fleet_doc(["here"], [], controllers=[retry], **FAST)
    async with led() as fleet:
        await fleet.apply(settings)
        await fleet.put("here", "reader", "fails", do="fail")
        await fleet.put("here", "reader", "gave-up", do="give up")
        await fleet.put("here", "reader", "fine")
        await until(lambda: ran() == {"fails": 1, "gave-up": 1, "fine": 1})
        await until(lambda: not fleet.substrate.living("shard")[0].ledger.working, what="the shard knows how they ended")
        (old,) = fleet.substrate.living("worker")
        made = fleet_of(settings)
        (controller,) = made.controllers
        changed = msgspec.structs.replace(controller, code="new")
        await fleet.run(msgspec.structs.replace(made, controllers=(changed,), generation="new"))
        await until(lambda: ran()["fails"] == ran()["gave-up"] == 2, 15.0, "within the 300 s that the old code's failure costs")
        assert ran()["fine"] == 1
        assert old not in fleet.substrate.living("worker"), "the worker with the old code was replaced"
        assert not samples.OVERLAPS


@pytest.mark.parametrize(("code", "runs"), [("new", 2), ("", 1)])
async def test_an_upgrade_to_new_code_starts_without_the_backoff_of_the_old(code: str, runs: int) -> None:
    """A standby fleet takes over its predecessor's queue, backoffs included; with the same code they stay."""
    retry = {"use": "fleet_samples:reader", "retry": {"min": "300s", "max": "300s"}}
    settings = fleet_doc(["here"], [], controllers=[retry], timeouts={"drain": 1})
    async with house() as fleet:
        await fleet.up(settings)
        await fleet.put("here", "reader", "fails", do="fail")
        await until(lambda: ran() == {"fails": 1})
        made = fleet_of(settings)
        (controller,) = made.controllers
        changed = msgspec.structs.replace(controller, code=code or controller.code)
        await upgrade(fleet.client, msgspec.structs.replace(made, controllers=(changed,), generation="new"))
        await fleet.put("here", "reader", "later")
        await until(lambda: ran()["later"] == 1, 15.0)
        await until(lambda: ran()["fails"] == runs, 15.0)
