"""Nodes that drain, come and go, in one process: which members move where, in which order, and that nothing is lost meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import fleet_samples as samples
import pytest
from inprocess import Led, holds, led, until, users
from test_standby import ran

from raycp.leader import evacuation
from raycp.protocol.nodes import Node
from raycp.shard.core import ShardCore


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))
    monkeypatch.setattr(evacuation, "SETTLED", 0.2)
    monkeypatch.setattr("raycp.leader.nodes.EVERY", 0.05)


def nodes(*names: str, draining: str = "") -> list[Node]:
    return [Node(name, draining=name == draining) for name in names]


@contextlib.asynccontextmanager
async def fleet_on(*names: str, leader: str, standby: int = 1, clusters: tuple[str, ...] = ("here",)) -> AsyncIterator[Led]:
    from test_standby import doc

    async with led() as fleet:
        fleet.substrate.ground = nodes(*names)
        fleet.node = leader
        await fleet.restart()
        await fleet.apply(doc("tracked", shards={"standby": standby}, tiers={"standard": {"workers": {"min": 2}}}))
        yield fleet


def at(fleet: Led) -> dict[str, str]:
    """Slot as text -> node."""
    return {f"{role} {place}": node for (role, place), node in fleet.leader.roster.where().items() if role != "embedded"}


async def settled(fleet: Led, standbys: int = 1) -> dict[str, str]:
    """Where everything is, once all of it is there."""

    def good() -> bool:
        status = fleet.status()
        rows = [row for row in status["standbys"] if row["ready"]]
        return (
            bool(status["ready"]) and len(rows) == standbys and not fleet.leader.roster.leaving and not fleet.leader.roster.ending
        )

    await until(good, 15.0, "the fleet is whole")
    return at(fleet)


async def test_members_are_spread_over_nodes_from_the_start() -> None:
    async with fleet_on("n1", "n2", "n3", leader="n1") as fleet:
        found = await settled(fleet)
        assert found["shard 0"] != "n1", "the primary is away from the leader"
        assert found["standby 0/0"] not in (found["shard 0"], "n1"), "and the standby from both"
        assert found["worker standard/0"] != found["worker standard/1"]
        assert {row["nodeId"] for row in fleet.status()["workers"]} == {found["worker standard/0"], found["worker standard/1"]}


async def test_replacement_of_a_standby_is_not_on_the_new_primarys_node() -> None:
    async with fleet_on("n1", "n2", leader="n1") as fleet:
        before = await settled(fleet)
        assert (before["shard 0"], before["standby 0/0"]) == ("n2", "n1")
        await fleet.substrate.kill(next(core.member for core in fleet.substrate.living("shard")))
        await until(lambda: fleet.status()["shards"][0]["term"] == 2)
        await until(lambda: at(fleet).get("standby 0/0"), what="a new standby")
        after = await settled(fleet)
        assert (after["shard 0"], after["standby 0/0"]) == ("n1", "n2")


@pytest.mark.parametrize("standby", [1, 0])
async def test_draining_node_is_evacuated_and_nothing_is_lost(standby: int) -> None:
    async with fleet_on("n1", "n2", "n3", leader="n1", standby=standby) as fleet:
        before = await settled(fleet, standby)
        samples.DELAY = 0.01
        leaving = before["shard 0"]
        async with users(fleet) as names:
            await asyncio.sleep(0.2)
            fleet.substrate.ground = nodes("n1", "n2", "n3", draining=leaving)
            await until(lambda: leaving not in at(fleet).values() and not fleet.leader.roster.leaving, 15.0, "all have left")
            after = await settled(fleet, standby)
        await until(lambda: all(ran()[name] for name in names), what="every change is reconciled")
        assert leaving not in after.values()
        assert not samples.OVERLAPS
        assert fleet.left == [], "the leader was elsewhere"
        rows = [row for row in fleet.leader.history.rows() if row["what"] == "shard 0"]
        assert [row["cause"] for row in rows] == ["drain"]
        moved = {slot for slot in before if slot in after and before[slot] == after[slot]}
        assert {slot for slot, node in before.items() if node != leaving and slot.startswith("worker")} <= moved, "others stay"


async def test_leader_leaves_a_draining_node_last() -> None:
    async with fleet_on("n1", "n2", leader="n1") as fleet:
        await settled(fleet)
        fleet.substrate.ground = nodes("n1", "n2", draining="n1")
        await until(lambda: fleet.left, 15.0, "the leader leaves")
        assert "n1" not in {node for slot, node in at(fleet).items()}
        fleet.node = "n2"
        await fleet.restart()
        await fleet.ready()
        await fleet.put("here", "tracked", "after")
        await until(lambda: ran()["after"] == 1)
        assert [leader for leader in fleet.left if leader != "n1"] == []


async def test_members_of_a_draining_node_stay_where_no_other_is_usable() -> None:
    async with fleet_on("n1", leader="n1") as fleet:
        before = await settled(fleet)
        fleet.substrate.ground = nodes("n1", draining="n1")
        await until(lambda: "no other node is usable" in fleet.status()["problems"].get("drain", ""))
        await holds(lambda: at(fleet) == before and not fleet.left, 0.5, "nothing moves")
        fleet.substrate.ground = nodes("n1", "n2", draining="n1")
        await until(lambda: set(at(fleet).values()) == {"n2"} and fleet.left, 15.0, "a node came: all go there")


async def test_worker_is_replaced_before_it_is_drained() -> None:
    async with fleet_on("n1", "n2", "n3", leader="n1", standby=0) as fleet:
        before = await settled(fleet, 0)
        samples.DELAY = 1.8
        leaving = before["worker standard/0"]
        for number in range(8):
            await fleet.put("here", "tracked", f"w{number}")
        await until(lambda: sum(ran().values()) == 8)
        fleet.substrate.ground = nodes("n1", "n2", "n3", draining=leaving)
        await until(lambda: fleet.leader.roster.leaving, what="a worker leaves")
        leaver = fleet.leader.roster.leaving[0].member
        plan = fleet.leader.plan
        assert plan is not None
        assert leaver.actor_name in {worker.member for worker in plan.workers}, "a new primary would still ask it (law 6g)"
        await until(lambda: leaver not in fleet.substrate.cores, 10.0, "it has ended")
        assert not samples.OVERLAPS
        assert all(ran()[f"w{number}"] == 1 for number in range(8)), "what it had in work came to its end"


async def test_returning_node_gets_members_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evacuation, "CALM", 0.3)
    async with fleet_on("n1", leader="n1") as fleet:
        assert set((await settled(fleet)).values()) == {"n1"}
        fleet.substrate.ground = nodes("n1", "n2")

        def right() -> bool:
            found = at(fleet)
            return (found.get("shard 0"), found.get("standby 0/0")) == ("n2", "n1")

        await until(right, 15.0, "first the standby goes there, then it becomes the primary, away from the leader")
        await until(lambda: len({node for slot, node in at(fleet).items() if slot.startswith("worker")}) == 2, what="so do workers")
        await settled(fleet)
        assert "placement" not in fleet.status()["problems"]
        causes = [row["cause"] for row in fleet.leader.history.rows() if row["what"] == "shard 0"]
        assert causes == ["placement"]
        roster = fleet.leader.roster
        await until(lambda: not roster.leaving and not roster.ending, 10.0, "replaced members have ended, and left the plan")
        members, places = set(fleet.substrate.cores), at(fleet)
        await holds(lambda: right() and at(fleet) == places, 1.0, "and then nothing moves")
        assert set(fleet.substrate.cores) == members, "and no member is created"


async def test_suspected_node_gets_no_new_member() -> None:
    async with fleet_on("n1", "n2", "n3", leader="n1") as fleet:
        before = await settled(fleet)
        leaving = before["standby 0/0"]
        refused = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = refused.sockets[0].getsockname()[1]
        refused.close()
        await refused.wait_closed()
        fleet.substrate.ground = [Node(name, "127.0.0.1", port if name == leaving else 0) for name in ("n1", "n2", "n3")]
        await until(lambda: any(node.port for node in fleet.leader.nodes.nodes))
        await fleet.substrate.kill(next(core.member for core in fleet.substrate.living("standby")))
        await until(lambda: leaving in fleet.leader.evacuation.situation().suspected, what="its raylet's port refuses")
        standby = await until(lambda: fleet.substrate.living("standby"))
        assert isinstance(standby[0], ShardCore)
        assert standby[0].node_id not in (leaving, before["shard 0"])


async def test_standby_is_promoted_and_no_member_created_while_rays_head_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.leader.nodes.PATIENCE", 0.1)
    async with fleet_on("n1", "n2", leader="n1") as fleet:
        await settled(fleet)
        back = asyncio.Event()
        members, asked = fleet.substrate.members, []

        async def away() -> Any:
            asked.append(1)
            await back.wait()
            return await members()

        fleet.substrate.members = away  # type: ignore[method-assign]
        await until(lambda: "head does not answer" in fleet.status()["problems"].get("ray", ""))
        made = list(fleet.substrate.created)
        await fleet.substrate.kill(next(core.member for core in fleet.substrate.living("shard")))
        await fleet.put("here", "tracked", "meanwhile")
        await until(lambda: ran()["meanwhile"] == 1, what="its standby follows")
        assert fleet.status()["shards"][0]["term"] == 2
        await holds(lambda: fleet.substrate.created == made, 2.5, "what can't be asked for is not made")
        assert len(asked) == 1, "one question at a time: each keeps a thread busy"
        back.set()
        await until(lambda: "standby 0/0" in at(fleet), what="then the new standby is made")
        await settled(fleet)
        assert "ray" not in fleet.status()["problems"]


async def test_leaving_standby_may_be_promoted_until_it_has_a_successor() -> None:
    async with fleet_on("n1", "n2", "n3", leader="n1") as fleet:
        before = await settled(fleet)
        old = fleet.substrate.living("standby")[0]
        fleet.substrate.refuse = lambda member: RuntimeError("no room") if member.role == "standby" else None
        fleet.substrate.ground = nodes("n1", "n2", "n3", draining=before["standby 0/0"])
        await until(lambda: [state.member for state in fleet.leader.roster.leaving] == [old.member], what="it leaves")
        await fleet.substrate.kill(next(core.member for core in fleet.substrate.living("shard")))
        await fleet.put("here", "tracked", "after")
        await until(lambda: ran()["after"] == 1)
        assert old.identity.term == 2, "warm beats cold"
        fleet.substrate.refuse = lambda _: None
        await until(
            lambda: before["standby 0/0"] not in at(fleet).values(), 10.0, "and then it is handed over, away from that node"
        )
        await settled(fleet)
        causes = [row["cause"] for row in fleet.leader.history.rows() if row["what"] == "shard 0"]
        assert causes == ["death", "drain"]
