"""Law 6 (d): a leader that lost Ray's head but still reaches the API servers. Ray has made its next incarnation elsewhere; the
old one must find out from the hub, and until it does must not grant what the new one doesn't wait for."""

from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import Led, led, until
from test_standby import doc, primary, ran, warm

from raycp.leader.core import LeaderCore
from raycp.leadership.permit import Ask, Grant
from raycp.protocol.substrate import MemberUnavailable


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


class CutOff:
    """A substrate that nobody reaches any more."""

    def __getattr__(self, verb: str) -> Any:
        async def silent(*_: Any, **__: Any) -> Any:
            raise MemberUnavailable(f"cut off from Ray's head: {verb}")

        return silent


async def granted(leader: LeaderCore, holder: str) -> Grant:
    answer = await leader.ask("permit", msgspec.msgpack.encode(Ask(holder)))
    return msgspec.msgpack.decode(answer, type=Grant)


async def divided(fleet: Led) -> LeaderCore:
    """Cut the leader off and start its next incarnation; the old one, which lives on."""
    old = fleet.leader
    old._substrate = old._roster.substrate = CutOff()
    fleet._lead()
    return old


async def test_it_grants_nothing_more_once_the_hub_has_recorded_its_successor() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        standby = await warm(fleet)
        name = primary(fleet).member.actor_name
        assert (await granted(fleet.leader, name)).seconds > 4.0
        old = await divided(fleet)
        try:
            await until(lambda: fleet.status().get("leader", {}).get("incarnation") == 2, 20.0)
            recorded = fleet.leader._clock.now()
            # What the old one can still grant ends within a permit of the record: the new one's book covers it.
            grant, now = await granted(old, name), fleet.leader._clock.now()
            ledger = fleet.leader._hub.prover.ledger
            assert ledger is not None
            assert now + grant.seconds <= max(ledger.silent_until, ledger.ends(name)) + 0.05
            await until(lambda: old._hub.prover.superseded, 3.0, "it reads its record once a second")
            assert fleet.leader._clock.now() - recorded < 3.0
            refused = await granted(old, name)
            assert refused.seconds == 0.0
            assert "incarnation 2" in refused.refused
            assert "does nothing more" in str(old.status().problems)
            plan = old.plan
            assert plan is not None
            assert not old._succession.proven(plan), "it promotes nobody"
            # The fleet lives on under the new one: changes, and a death.
            await fleet.substrate.kill(primary(fleet).member)
            await until(lambda: standby.state.term == 2, 10.0)
            await fleet.put("here", "tracked", "after")
            await until(lambda: ran()["after"] == 1)
            assert plan is old.plan, "its plan is as it was: nobody was told anything by it"
            assert not samples.OVERLAPS
        finally:
            await old._loops.stop()
            await old._hub.close()


async def test_a_holder_that_hears_of_the_new_one_ignores_late_answers_of_the_old() -> None:
    """The answer of the old incarnation, held up on the way, arrives after one of the new."""
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        await warm(fleet)
        keeper = primary(fleet).permits
        old = await divided(fleet)
        try:
            await until(lambda: keeper.permit.incarnation == 2, 20.0)
            until_when = keeper.permit.until
            ask, keeper._ask = keeper._ask, lambda method, payload, _: old.ask(method, payload)
            await keeper.pull()
            keeper._ask = ask
            assert keeper.permit.incarnation == 2
            assert keeper.permit.until <= until_when + 1.5, "no later than the new one's own"
        finally:
            await old._loops.stop()
            await old._hub.close()
