"""A standby that was promoted a moment ago has not asked for its first permit yet: that is no silence."""

import asyncio
from typing import Any

import pytest
from inprocess import led, until
from test_standby import doc, primary, ran, warm

from raycp.leader.core import LeaderCore
from raycp.protocol.control import PermitRequest, Question


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


class SlowPermits:
    """The leader, whose answers to one holder's requests for permits arrive late."""

    def __init__(self, leader: LeaderCore, holder: str) -> None:
        self._leader = leader
        self._holder = holder

    async def ask(self, question: Question[Any]) -> Any:
        if isinstance(question, PermitRequest) and question.holder == self._holder:
            await asyncio.sleep(1.5)
        return await self._leader.ask(question)


async def test_promoted_standby_has_time_for_its_first_permit() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        standby = await warm(fleet)
        # As in a fleet that has been up for a while.
        fleet.leader.fence.unproven_at -= 60.0
        for state in fleet.leader.roster.members.values():
            state.since -= 60.0
        fleet.substrate.leader = SlowPermits(fleet.leader, standby.member.actor_name)  # type: ignore[assignment]
        await fleet.substrate.kill(primary(fleet).member)
        await until(lambda: standby.identity.term == 2)
        await fleet.put("here", "tracked", "after")
        await until(lambda: ran()["after"] >= 1)
        assert primary(fleet) is standby, "it was replaced before it could ask"
        assert standby.identity.term == 2
        assert standby.member not in fleet.substrate.killed
