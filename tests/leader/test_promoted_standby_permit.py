"""A standby that was promoted a moment ago has not asked for its first permit yet: that is no silence."""

import asyncio
from typing import Any

import pytest
from inprocess import led, until
from test_standby import doc, primary, ran, warm


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


async def test_a_promoted_standby_has_time_for_its_first_question() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        standby = await warm(fleet)
        # As in a fleet that has been up for a while.
        fleet.leader._succession._unproven_at -= 60.0
        for state in fleet.leader._roster.members.values():
            state.since -= 60.0
        ask = standby.permits._ask
        assert ask is not None

        async def slowly(*arguments: Any) -> bytes:
            await asyncio.sleep(1.5)
            return await ask(*arguments)

        standby.permits._ask = slowly
        await fleet.substrate.kill(primary(fleet).member)
        await until(lambda: standby.identity.term == 2, 5.0)
        await fleet.put("here", "tracked", "after")
        await until(lambda: ran()["after"] >= 1, 8.0)
        assert primary(fleet) is standby, "it was succeeded before it could ask"
        assert standby.identity.term == 2
        assert standby.member not in fleet.substrate.killed
