"""A process that is no member takes a dead member's port, answers whatever it likes, and passes on what it hears: it learns nothing
that lets it in anywhere."""

import asyncio
import contextlib
import secrets
from collections import Counter

import fleet_samples as samples
import msgspec
from inprocess import fleet_doc, led, until

from raycp.protocol.channels.handshake import Challenge, Opening
from raycp.protocol.members import Member, Role

Where = tuple[str, int, str]
"""Host, port and actor's name of a living member."""

encode = msgspec.msgpack.encode


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


async def said_to(where: Where, data: bytes, seconds: float = 0.3) -> bytes:
    """What a member answers to these bytes."""
    found = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(*where[:2])
            writer.write(data)
            while more := await reader.read(4096):
                found += more
            writer.close()
    return found


class Impostor:
    """Its answers to a caller, in turn: nothing, a challenge of its own, the caller's own words, and what living members answer to
    them, as they are and with the target's name set right."""

    def __init__(self, living: list[Where]) -> None:
        self.living = living
        self.heard: list[bytes] = []
        self.calls = 0
        self._server: asyncio.Server | None = None

    async def take(self, host: str, port: int) -> None:
        self._server = await asyncio.start_server(self._answer, host, port)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        number, heard = self.calls, b""
        with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(1.0):
                heard = await reader.read(65536)
            if not heard:
                return
            writer.write(await self._lie(number, heard))
            async with asyncio.timeout(1.0):
                while more := await reader.read(65536):
                    heard += more
        self.heard.append(heard)
        writer.close()

    async def _lie(self, number: int, heard: bytes) -> bytes:
        where = self.living[number // 5 % len(self.living)]
        match number % 5:
            case 0:
                return b""
            case 1:
                return framed(encode(Challenge(secrets.token_bytes(32), secrets.token_bytes(32))))
            case 2:
                return heard
            case 3:
                return await said_to(where, heard)
        opening = msgspec.msgpack.decode(heard[4:], type=Opening)
        return await said_to(where, framed(encode(msgspec.structs.replace(opening, target=where[2]))))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


async def test_an_impostor_at_a_dead_member_s_port_learns_nothing() -> None:
    async with led() as fleet:
        doc = fleet_doc(["here", "there"], ["fleet_samples:tracked"], shards={"standby": 1, "clustersPerShard": 1})
        await fleet.apply(doc)
        await until(lambda: fleet.leader.plan is not None and len(fleet.leader.plan.standbys) == 2)
        plan = fleet.leader.plan
        assert plan is not None
        assert plan.certificate is not None
        dead = next(shard for shard in plan.shards if shard.shard == plan.cluster("there").shard)
        member = Member.parse(dead.member)
        assert member is not None
        others = [*plan.shards, *plan.standbys, plan.observer]
        living = [(each.host, each.port, each.member) for each in others if each.member != dead.member]
        await fleet.die()  # nobody tells the others of the death: they go on calling
        await fleet.substrate.kill(member)
        impostor = Impostor(living)
        await impostor.take(dead.host, dead.port)

        def roles() -> Counter[str]:
            return Counter(msgspec.msgpack.decode(each[4:], type=Opening).role for each in impostor.heard if each)

        await until(lambda: min(roles()[role] for role in (Role.WORKER, Role.STANDBY, Role.SHARD)) > 5, 60.0)
        # A name and a nonce: what it hears is one opening of each caller, and nothing after it, whatever it answers.
        for heard in [each for each in impostor.heard if each]:
            assert len(heard) == 4 + int.from_bytes(heard[:4], "big")
            assert msgspec.msgpack.decode(heard[4:], type=Opening).target == dead.member
            assert plan.token.encode() not in heard
        # And what it has heard lets it in nowhere: not as it is, and not for the member that it says it to.
        names = {core.member.actor_name: core for core in fleet.substrate.cores.values() if core.listener is not None}
        seats = {name: dict(core.dispatcher.seats) for name, core in names.items() if hasattr(core, "dispatcher")}
        for where in living:
            for heard in [each for each in impostor.heard if each][:6]:
                opening = msgspec.msgpack.decode(heard[4:], type=Opening)
                right = framed(encode(msgspec.structs.replace(opening, target=where[2])))
                hello = framed(encode(["hello", opening.member, "worker"]))
                for data in (heard, right, right + heard, right + right, right + hello):
                    answer = await said_to(where, data)
                    assert b"welcome" not in answer
                    assert b"progress" not in answer
        assert seats == {name: dict(names[name].dispatcher.seats) for name in seats}
        # The fleet does not need that port.
        fleet.start_leader()
        await fleet.ready(seconds=60.0)
        await fleet.put("there", "tracked", "after")
        await until(lambda: any(name == "after" for _, _, name in samples.RAN))
        impostor.close()
