"""A worker's connections to standbys: there before a switch, and used at it."""

import contextlib
from typing import Any

import msgspec
import pytest
from channels import credentials, listening
from inprocess import CLOCK, HOST, fleet_doc, led, plan_of, until

from raycp.base.loops import Loops
from raycp.protocol.channels import Address
from raycp.protocol.frames import Hello, Pull, Welcome
from raycp.protocol.members import Member, Role
from raycp.protocol.plan import Plan, ShardPlan
from raycp.protocol.transport import Connection
from raycp.worker import shard_link, standby_connections
from raycp.worker.standby_connections import StandbyConnections


class Shard:
    """Says welcome, and keeps what it receives."""

    def __init__(self) -> None:
        self.hellos: list[Hello] = []
        self.messages: list[Any] = []

    def accept(self, connection: Connection, hello: Hello) -> "Shard":
        self.hellos.append(hello)
        connection.send(Welcome("0", 1, 2, []))
        return self

    def received(self, message: Any) -> None:
        self.messages.append(message)

    def lost(self) -> None: ...


def plan_with(*standbys: ShardPlan, **change: Any) -> Plan:
    return msgspec.structs.replace(plan_of({"here": "0"}, "tracked"), standbys=standbys, **change)


async def test_a_connection_to_each_standby_is_kept_and_given_away_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby_connections, "RECONNECT_MIN", 0.01)
    shard, loops = Shard(), Loops(CLOCK)
    port = await listening(shard.accept, "s1")
    known = StandbyConnections(credentials("w"), loops)
    at = ShardPlan("0", "s1", 0, HOST, port.port)
    known.update(plan_with(at))
    await until(lambda: known.ready() == ["s1"])
    port.abort()
    await until(lambda: not known.ready(), what="it is lost")
    again = await listening(shard.accept, "s1")
    known.update(plan_with(msgspec.structs.replace(at, port=again.port)))
    await until(lambda: known.ready() == ["s1"])
    known.update(plan_with(msgspec.structs.replace(at, port=again.port)))
    assert not shard.hellos, "nothing is said before the switch"
    connection = known.take("s1")
    assert connection is not None
    assert known.take("s1") is None
    connection.attach(shard)
    connection.send(Hello("w", Role.WORKER, HOST, 1))
    connection.send(Pull(1))
    await until(lambda: Pull(1) in shard.messages)
    known.update(plan_with())
    assert not known.ready()
    connection.close()
    again.abort()
    await loops.stop()


async def test_what_is_no_standby_is_not_connected_to() -> None:
    """A primary has a link, and the standbys of a fleet on standby too."""
    shard, loops = Shard(), Loops(CLOCK)
    port = await listening(shard.accept, "s1")
    known = StandbyConnections(credentials("w"), loops)
    at = ShardPlan("0", "s1", 0, HOST, port.port)
    known.update(plan_with(at, shards=(at,)))
    assert not known.ready()
    known.update(plan_with(msgspec.structs.replace(at, port=0)))
    assert known.take("s1") is None
    port.abort()
    await loops.stop()


@pytest.mark.parametrize("cause", ["death", "hand-over"])
async def test_at_a_switch_no_connection_is_made(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dialed: list[str] = []
    dial = shard_link.dial

    async def counted(address: Address, *rest: Any) -> Connection:
        dialed.append(address.member)
        return await dial(address, *rest)

    monkeypatch.setattr(shard_link, "dial", counted)
    async with led() as fleet:
        await fleet.apply(fleet_doc(["here"], ["fleet_samples:tracked"], shards={"standby": 1}))
        worker = fleet.substrate.living(Role.WORKER)[0]
        plan = fleet.leader.plan
        assert plan is not None
        await until(lambda: fleet.leader.plan is not None and fleet.leader.plan.standbys)
        await until(worker.standbys.ready)
        (standby,) = worker.standbys.ready()
        core = next(core for core in fleet.substrate.living(Role.STANDBY) if core.member.actor_name == standby)
        await until(lambda: core.report().ready, what="it is warm")
        if cause == "death":
            primary = Member.parse(plan.shards[0].member)
            assert primary is not None
            await fleet.substrate.kill(primary)
        else:
            await until(lambda: _handed_over(fleet), what="the leader knows that it is warm")
        link = worker.links["0"]
        await until(lambda: link.target.member == standby and link.connected)
        assert standby not in dialed
        await until(lambda: "w" in core.dispatcher.seats or core.dispatcher.seats)


async def _handed_over(fleet: Any) -> bool:
    with contextlib.suppress(Exception):
        return not (await fleet.leader.hand_over(["0"]))[0].problem
    return False
