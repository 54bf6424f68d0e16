"""Hand-over from a primary to its standby: nothing lost, nothing twice, and a clean return where a side dies in the middle."""

import asyncio
from typing import Any

import fleet_samples as samples
import pytest
from inprocess import led, until
from test_standby import doc, primary, ran, warm

from raycp.protocol.control import FollowTo, Question
from raycp.protocol.substrate import MemberUnavailable


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


async def test_handover_of_a_shard_under_load_loses_nothing() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        samples.DELAY = 0.01
        for turn in range(3):
            await warm(fleet)
            for number in range(20):
                await fleet.put("here", "tracked", f"t{turn}-{number}")
                if number == 10:
                    handed = await fleet.leader.hand_over([])
                    assert [each.problem for each in handed] == [""]
                    assert handed[0].took < 2.0
            await until(lambda turn=turn: all(ran()[f"t{turn}-{number}"] for number in range(20)))
        assert primary(fleet).identity.term == 4
        assert not samples.OVERLAPS
        rows = fleet.leader.history.rows()
        assert [(row["cause"], row["what"]) for row in rows] == [("start", "leader"), *[("handover", "shard 0")] * 3]
        await until(lambda: fleet.leader.history.rows()[-1]["rampUp"] is not None)


async def test_reconcile_beyond_the_grace_is_interrupted_not_failed() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        await warm(fleet)
        samples.DELAY = 0.6
        await fleet.put("here", "tracked", "long")
        await until(lambda: ran()["long"] == 1)
        handed = await fleet.leader.hand_over(["0"])
        assert (handed[0].problem, handed[0].revoked) == ("", 1)
        await until(lambda: ran()["long"] == 2, what="run again by the successor")
        assert not samples.OVERLAPS
        assert primary(fleet).queue.why is not None


async def test_handover_without_a_warm_standby_changes_nothing() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked", shards={"standby": 0}))
        handed = await fleet.leader.hand_over([])
        assert "no warm standby" in handed[0].problem
        with pytest.raises(KeyError, match="no shard 7"):
            await fleet.leader.hand_over(["7"])
        await fleet.put("here", "tracked", "still")
        await until(lambda: ran()["still"] == 1)


async def test_standby_that_dies_during_a_handover_leaves_the_primary_in_charge() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        standby = await warm(fleet)
        ask = fleet.substrate.ask

        async def broken(member: Any, question: Question[Any], timeout: float = 10.0) -> Any:
            if isinstance(question, FollowTo):
                await fleet.substrate.kill(standby.member)
                raise MemberUnavailable("died in the middle")
            return await ask(member, question, timeout)

        fleet.substrate.ask = broken
        handed = await fleet.leader.hand_over([])
        fleet.substrate.ask = ask
        assert "died in the middle" in handed[0].problem
        assert primary(fleet).identity.term == 1
        await fleet.put("here", "tracked", "after")
        await until(lambda: ran()["after"] == 1)


async def test_primary_resumes_by_itself_when_the_leader_dies_during_a_handover() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        await warm(fleet)
        primary(fleet).pause.begin(2.0)
        await fleet.put("here", "tracked", "waits")
        await asyncio.sleep(0.1)
        assert ran()["waits"] == 0
        await until(lambda: ran()["waits"] == 1)


async def test_primary_that_dies_during_a_handover_is_replaced() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        standby = await warm(fleet)
        samples.DELAY = 0.3
        await fleet.put("here", "tracked", "work")
        await until(lambda: ran()["work"] == 1)
        handing = asyncio.ensure_future(fleet.leader.hand_over([]))
        await asyncio.sleep(0.02)
        await fleet.substrate.kill(primary(fleet).member)
        await handing
        await until(lambda: standby.identity.term == 2)
        await until(lambda: ran()["work"] >= 2)
        assert not samples.OVERLAPS
