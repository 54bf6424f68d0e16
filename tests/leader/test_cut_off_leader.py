"""Law 6 (d): a leader that lost Ray's head but still reaches the API servers. Ray has made its next incarnation elsewhere; the
old one must find out from the hub, and until it does must not grant what the new one doesn't wait for."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import fleet_samples as samples
import pytest
from inprocess import CLOCK, Led, led, until
from test_standby import doc, primary, ran, warm

from raycp.leader.core import LeaderCore
from raycp.leadership.permit import Grant
from raycp.protocol.control import PermitRequest
from raycp.protocol.substrate import MemberUnavailable


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


class Cable:
    """A leader's connection to its substrate, which can be cut."""

    def __init__(self, substrate: Any) -> None:
        self.substrate = substrate
        self.cut = False

    def __getattr__(self, verb: str) -> Any:
        async def unreachable(*_: Any, **__: Any) -> Any:
            raise MemberUnavailable(f"cut off from Ray's head: {verb}")

        return unreachable if self.cut else getattr(self.substrate, verb)


@contextlib.asynccontextmanager
async def cuttable() -> AsyncIterator[tuple[Led, Cable]]:
    """A fleet whose first leader can be cut off."""
    async with led() as fleet:
        await fleet.die()
        cable = Cable(fleet.substrate)
        fleet.leader = fleet.substrate.leader = LeaderCore(cable, CLOCK, "leader-cut-off", fleet.node)
        fleet.leader.start()
        yield fleet, cable


async def granted(leader: LeaderCore, holder: str) -> Grant:
    grant: Grant = await leader.ask(PermitRequest(holder))
    return grant


def divide(fleet: Led, cable: Cable) -> LeaderCore:
    """Cut the leader off and start its next incarnation; the old one, which lives on."""
    old = fleet.leader
    cable.cut = True
    fleet.start_leader()
    return old


async def test_cut_off_leader_grants_nothing_once_the_hub_has_recorded_its_successor() -> None:
    async with cuttable() as (fleet, cable):
        await fleet.apply(doc("tracked"))
        standby = await warm(fleet)
        name = primary(fleet).member.actor_name
        assert (await granted(fleet.leader, name)).seconds > 4.0
        old = divide(fleet, cable)
        try:
            await until(lambda: fleet.status().get("leader", {}).get("incarnation") == 2, 20.0)
            recorded = CLOCK.now()
            # What the old one can still grant ends within a permit of the record: the new one's ledger covers it.
            grant, now = await granted(old, name), CLOCK.now()
            ledger = fleet.leader.hub.lock.proof.ledger
            assert ledger is not None
            assert now + grant.seconds <= max(ledger.silent_until, ledger.ends(name)) + 0.05
            await until(lambda: old.hub.lock.proof.superseded, what="it reads its record once a second")
            assert CLOCK.now() - recorded < 3.0
            refused = await granted(old, name)
            assert refused.seconds == 0.0
            assert "incarnation 2" in refused.refused
            assert "does nothing more" in str(old.status().problems)
            plan = old.plan
            assert plan is not None
            assert not old.promotion.proven(plan), "it promotes no standby"
            # The fleet lives on under the new one: changes, and a death.
            await fleet.substrate.kill(primary(fleet).member)
            await until(lambda: standby.identity.term == 2, 10.0)
            await fleet.put("here", "tracked", "after")
            await until(lambda: ran()["after"] == 1)
            assert plan is old.plan, "its plan did not change"
            assert not samples.OVERLAPS
        finally:
            await old.abort()


async def test_holder_ignores_late_grants_of_a_replaced_leader() -> None:
    """The answer of the old incarnation, held up on the way, arrives after one of the new."""
    async with cuttable() as (fleet, cable):
        await fleet.apply(doc("tracked"))
        await warm(fleet)
        permits = primary(fleet).permits
        old = divide(fleet, cable)
        try:
            await until(lambda: permits.permit.incarnation == 2, 20.0)
            until_when = permits.permit.until
            fleet.substrate.leader = old
            await permits.pull()
            fleet.substrate.leader = fleet.leader
            assert permits.permit.incarnation == 2
            assert permits.permit.until <= until_when + 1.5, "no later than the new one's own"
        finally:
            await old.abort()
