"""The abrupt end of a core: as the death of its process, without a process."""

import asyncio

import pytest
from inprocess import CLOCK, HOST, stack, until

from raycp.base.loops import Loops
from raycp.protocol.transport import Life, probe


async def test_a_closed_set_of_loops_cancels_what_runs_and_starts_nothing() -> None:
    loops, ran = Loops(CLOCK), []

    async def work(name: str) -> None:
        ran.append(name)
        await asyncio.sleep(60.0)
        ran.append("ended")

    task = loops.spawn(work("before"), "before")
    await until(lambda: ran == ["before"])
    loops.close()
    await loops.spawn(work("after"), "after")
    await loops.stop()
    assert task.cancelled()
    assert ran == ["before"]


@pytest.mark.parametrize(("role", "place"), [("shard", "0"), ("worker", "standard/0")])
async def test_an_aborted_member_refuses_at_its_port_and_breaks_its_connections(role: str, place: str) -> None:
    async with stack(["tracked"]) as fleet:
        core = fleet.shard() if role == "shard" else fleet.worker()
        other = fleet.worker() if role == "shard" else fleet.shard()
        port = core.report().port
        assert await probe(HOST, port) is Life.ALIVE
        before = other.report()
        await fleet.kill(role, place)
        assert await probe(HOST, port) is Life.DEAD
        if role == "shard":
            assert before.ready
            await until(lambda: other.report().reasons == ["not connected to shard 0"])
