"""Nodes that are drained, killed and frozen, with a shard's primary, the leader, or both on them; several deaths at once. The
cost of each for users is printed, and bounded by the promise of docs/reliability.md.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodeground import Lossy, add_node, lossy
from rayhouse import Node, house

from raycp.protocol.control import HandOver, Ping

REPETITIONS = pytest.mark.parametrize(
    "repetitions",
    [
        pytest.param(1, id="once", marks=[pytest.mark.wide, pytest.mark.timeout(400)]),
        pytest.param(
            int(os.environ.get("RAYCP_SOAK_NODES") or 3), id="repeated", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]
        ),
    ],
)
"""Once in ``make test-wide``, three times (``RAYCP_SOAK_NODES``) in ``make soak``."""

HEAD = ("--num-cpus=2",)
PERMIT = 6.0
SLACK = 1.5
"""Allowance for other work on the machine, in seconds."""


def played(tmp_path: Path, play: Callable[[Lossy], Any], nodes: int = 2, **spec: Any) -> None:
    async def run(at: Any) -> None:
        async with lossy(at, nodes, **spec) as made:
            await play(made)

    with house(tmp_path, head=HEAD) as at:
        asyncio.run(run(at))


@pytest.mark.ray
@pytest.mark.wide
@pytest.mark.timeout(150)
def test_a_node_that_drains_is_evacuated(tmp_path: Path) -> None:
    """``ray drain-node`` of the primary's node: all members leave it, and users' changes do not wait."""

    async def play(made: Lossy) -> None:
        status = await made.whole()
        primary = made.node_of(status["shards"][0]["nodeId"])
        leader = await made.leader_node()
        assert primary is not None
        assert primary is not leader
        assert made.node_of(status["standbys"][0]["nodeId"]) is not primary

        async def drain(node: Node) -> None:
            await asyncio.to_thread(made.house.drain_node, node.name)
            await _left(made, node)

        gap = await made.during("drain of the primary's node", lambda: drain(primary), 1.0)
        assert [row["cause"] for row in gap.history if row["what"] == "shard 0"] == ["drain"]
        assert gap.longest < 0.5 + SLACK
        made.fenced()

    played(tmp_path, play, workers=1)


async def _left(made: Lossy, node: Node, seconds: float = 60.0) -> None:
    """Wait until no member of the fleet is on the node."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        status = await made.whole(placed=False)
        rows = [*status["shards"], *status["standbys"], *status["workers"], status["observer"]]
        there = [row for row in rows if row["nodeId"] == node.identity]
        if not there and await made.leader_node() is not node:
            return
        assert asyncio.get_running_loop().time() < deadline, there
        await asyncio.sleep(0.2)


@REPETITIONS
def test_the_leaders_node_drains(tmp_path: Path, repetitions: int) -> None:
    """All members leave it, the leader last; a hand-over moves the primary there before, so that the node has all roles."""

    async def play(made: Lossy) -> None:
        for _ in range(repetitions):
            await _primary_beside_leader(made)
            node = await made.leader_node()
            assert node is not None

            async def drain(node: Node = node) -> None:
                await asyncio.to_thread(made.house.drain_node, node.name)
                await _left(made, node)

            gap = await made.during("drain of primary's and leader's node", drain, 2.0)
            assert gap.longest < 0.5 + SLACK
            made.fenced()
            await _renew(made, node)

    played(tmp_path, play)


async def _primary_beside_leader(made: Lossy) -> None:
    """Hand over to the standby on the leader's node; the fleet would separate them again after some seconds."""
    await made.whole()
    for _ in range(4):
        status = await made.whole(placed=False)
        if made.node_of(status["shards"][0]["nodeId"]) is await made.leader_node():
            return
        await made.client.ask(HandOver(), timeout=40.0)
    raise AssertionError("primary and leader could not be placed on one node")


async def _renew(made: Lossy, node: Node) -> None:
    """Remove the node for good, add another one, and wait until all members are where they belong."""
    await asyncio.to_thread(node.kill)
    new = await asyncio.to_thread(add_node, made.house)
    deadline = asyncio.get_running_loop().time() + 60.0
    while {row["node"] for row in (await made.whole(placed=False))["nodes"]}.isdisjoint({new.identity}):
        assert asyncio.get_running_loop().time() < deadline, "the leader does not see the new node"
        await asyncio.sleep(0.2)
    await made.whole(120.0)


async def _lose(made: Lossy, what: str, act: str, beside_leader: bool, seconds: float) -> float:
    """Kill or freeze the primary's node; a frozen one resumes after its members were replaced."""
    if beside_leader:
        await _primary_beside_leader(made)
        node = await made.leader_node()
    else:
        status = await made.whole()
        node = made.node_of(status["shards"][0]["nodeId"])
        assert node is not await made.leader_node()
    assert node is not None
    gap = await made.during(what, lambda: asyncio.to_thread(getattr(node, act)), seconds)
    if act == "freeze":
        await asyncio.to_thread(node.thaw)
        await asyncio.sleep(3.0)
        await made.api.gather()
    made.fenced()
    await _renew(made, node)
    return gap.longest


@REPETITIONS
@pytest.mark.parametrize(
    ("what", "act", "beside_leader", "seconds", "bound"),
    [
        ("the primary's node is killed", "kill", False, 6.0, 4.0),
        ("the node of primary and leader is killed", "kill", True, 12.0, 16.0),
        ("the primary's node is frozen", "freeze", False, 14.0, PERMIT + 2.0),
        ("the node of primary and leader is frozen", "freeze", True, 24.0, 16.0),
    ],
)
def test_a_node_is_lost(
    tmp_path: Path, repetitions: int, what: str, act: str, beside_leader: bool, seconds: float, bound: float
) -> None:
    gaps: list[float] = []

    async def play(made: Lossy) -> None:
        for _ in range(repetitions):
            gaps.append(await _lose(made, what, act, beside_leader, seconds))

    played(tmp_path, play)
    print(f"{what}: {[round(gap, 2) for gap in gaps]} s, bound {bound:g} s", flush=True)
    assert max(gaps) < bound + SLACK


@REPETITIONS
def test_several_processes_die_together(tmp_path: Path, repetitions: int) -> None:
    """SIGKILL at the same moment of several processes."""
    groups = {
        "leader, primary and worker": ("leader", "shards", "workers"),
        "primary and its standby": ("shards", "standbys"),
        "observer and leader": ("leader", "observer"),
        "leader, primary and standby": ("leader", "shards", "standbys"),
        "all but the workers": ("leader", "shards", "standbys", "observer"),
    }

    async def play(made: Lossy) -> None:
        for what, roles in groups.items():
            for _ in range(repetitions):
                status = await made.whole(120.0)
                pids = [(await _leader_pid(made)) if role == "leader" else _first(status[role])["pid"] for role in roles]

                async def kill(pids: list[int] = pids) -> None:
                    for pid in pids:
                        os.kill(pid, signal.SIGKILL)

                gap = await made.during(what, kill, 8.0)
                assert gap.longest < 8.0 + SLACK
                made.fenced()

    played(tmp_path, play)


async def _leader_pid(made: Lossy) -> int:
    pid = (await made.client.ask(Ping())).pid
    return int(pid)


def _first(found: Any) -> Any:
    return found[0] if isinstance(found, list) else found
