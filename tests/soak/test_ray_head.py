"""Ray's own head: killed and restarted, with its state in a real Redis; and lost for good, without."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from nodeground import NAME, Lossy, add_node, lossy
from rayhouse import House, house, redis
from soakrun import bring_up

from raycp.protocol.control import Ping

AWAY = 5.0
HEAD = ("--num-cpus=0",)


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.timeout(150)
def test_the_head_is_restarted_under_load(tmp_path: Path) -> None:
    """With Redis: reconciling goes on while it is down, all members are the same afterwards, and a dead worker is replaced."""

    async def play(made: Lossy) -> None:
        before = await made.whole()

        async def restart() -> None:
            await asyncio.to_thread(made.house.kill_head)
            await asyncio.sleep(AWAY)
            await asyncio.to_thread(made.house.start)
            await asyncio.to_thread(made.reconnect)

        gap = await made.during(f"the head is away for {AWAY:g} s and its start", restart, 3.0)
        assert gap.longest < 1.5, "neither shards nor workers need the head"
        after = await made.whole()
        assert _pids(after) == _pids(before), "no member was replaced"
        assert (after["leader"]["epoch"], after["leader"]["incarnation"]) == (1, 1)
        os.kill(after["workers"][0]["pid"], signal.SIGKILL)
        await _replaced(made, after["workers"][0]["pid"])

    with redis(tmp_path) as environment, house(tmp_path, environment, HEAD) as at:
        asyncio.run(_played(at, play, workers=1, nodes=1))


@pytest.mark.wide
@pytest.mark.timeout(300)
def test_deaths_while_the_head_is_down(tmp_path: Path) -> None:
    """The primary dies: its standby is promoted at once, since that needs the leader only. The creation of members waits for the
    head, and so does the restart of the leader.
    """

    async def play(made: Lossy) -> None:
        status = await made.whole()

        async def lose_primary() -> None:
            await asyncio.to_thread(made.house.kill_head)
            await asyncio.sleep(3.0)
            os.kill(status["shards"][0]["pid"], signal.SIGKILL)

        gap = await _away(made, "a primary dies while the head is away", lose_primary)
        assert gap < 2.0
        status = await made.whole(120.0)
        pid = (await made.client.ask(Ping())).pid

        async def lose_leader() -> None:
            await asyncio.to_thread(made.house.kill_head)
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(3.0)

        gap = await _away(made, "the leader dies while the head is away", lose_leader)
        assert gap < 25.0, "permits end without a leader, and are granted again by the next one"
        assert (await made.whole(120.0))["leader"]["incarnation"] == 2
        made.fenced()

    with redis(tmp_path) as environment, house(tmp_path, environment, HEAD) as at:
        asyncio.run(_played(at, play))


async def _away(made: Lossy, what: str, act: Any) -> float:
    async def all_of() -> None:
        await act()
        await asyncio.sleep(AWAY)
        await asyncio.to_thread(made.house.start)
        await asyncio.to_thread(made.reconnect)

    return (await made.during(what, all_of, 15.0)).longest


@pytest.mark.wide
@pytest.mark.timeout(300)
def test_the_head_is_lost_for_good(tmp_path: Path) -> None:
    """Without Redis a new head knows no actors. The old ones run on until their raylets give up; then ``raycp run`` brings the
    fleet back in a new epoch, from the hub's watermarks, and nothing is lost.
    """

    async def play(made: Lossy) -> None:
        before = await made.whole()

        async def lose() -> None:
            await asyncio.to_thread(made.house.kill_head)
            await asyncio.to_thread(made.house.start)
            await asyncio.to_thread(_forsaken, made.house)
            for node in list(made.house.nodes.values()):
                await asyncio.to_thread(node.kill)
            for _ in range(2):
                await asyncio.to_thread(add_node, made.house)
            await asyncio.to_thread(made.reconnect)
            begun = time.monotonic()
            await bring_up(made.house.home / f"{NAME}.yaml", made.client)
            print(f"raycp run on the new head took {time.monotonic() - begun:.1f} s", flush=True)

        gap = await made.during("the head is lost, raylets give up, raycp run", lose, 5.0)
        assert gap.longest < 90.0
        after = await made.whole()
        assert after["leader"]["epoch"] == before["leader"]["epoch"] + 1
        assert not set(_pids(after)) & set(_pids(before))
        made.fenced()

    with house(tmp_path, {"RAY_gcs_rpc_server_reconnect_timeout_s": "15"}, HEAD) as at:
        asyncio.run(_played(at, play))


def _forsaken(house: House, seconds: float = 60.0) -> None:
    """Wait until the old raylets have given up reconnecting to their head and have ended their actors."""
    deadline = time.monotonic() + seconds
    while any(process.name() == "raylet" for node in house.nodes.values() for process in node.processes()):
        assert time.monotonic() < deadline, "raylets run on without their head"
        time.sleep(0.2)


async def _played(at: House, play: Any, **more: Any) -> None:
    async with lossy(at, **more) as made:
        await play(made)


def _pids(status: dict[str, Any]) -> list[int]:
    rows = [*status["shards"], *status["standbys"], *status["workers"], status["observer"]]
    return sorted(row["pid"] for row in rows)


async def _replaced(made: Lossy, pid: int) -> None:
    deadline = time.monotonic() + 30.0
    while True:
        status = await made.whole(30.0)
        if pid not in _pids(status):
            return
        assert time.monotonic() < deadline, "the leader creates no replacement"
        await asyncio.sleep(0.2)
