"""The causes of a switch: for each, how it is triggered and how it is measured.

Processes are killed by the pids in the fleet's status: bench and fleet share a machine.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from raycp.base.problems import ProblemCode
from raycp.bench.driver import LoadError
from raycp.bench.nodes import NodeHouse, RayNode
from raycp.driver.fleet_client import FleetHandle
from raycp.driver.upgrade import stand_by, switch
from raycp.protocol.control import HandOver, Ping

HELD = 40.0
"""Deadline of a hand-over, in seconds."""


@dataclass
class Site:
    """Where a cause acts. ``house``: the Ray nodes, if the cause loses one; ``lost``: the lost node."""

    fleet: FleetHandle
    house: NodeHouse | None = None
    lost: RayNode | None = None
    upgrades: int = field(default=0)

    async def leader(self) -> int:
        """The leader's pid."""
        return (await self.fleet.client.ask(Ping())).pid


async def _nothing(site: Site) -> None:
    """Do nothing: no preparation or repair is needed."""


@dataclass(frozen=True)
class Cause:
    """``act`` triggers the switch and returns the seconds until the fleet reports its end (0 if it does not report one).

    ``prepare`` runs before each repetition, ``mend`` after its effects were measured. ``after``: for how many seconds users'
    changes go on. ``settle``: deadline for the fleet to have all members again, in seconds. ``killed``: a process dies without
    notice, so the time until its death is noticed counts as leaderless. ``leader``: where the leader runs, ``head`` or
    ``node``, on a Ray of several nodes (empty: on any Ray).
    """

    name: str
    about: str
    act: Callable[[Site], Awaitable[float]]
    prepare: Callable[[Site], Awaitable[None]] = _nothing
    mend: Callable[[Site], Awaitable[None]] = _nothing
    repetitions: int = 30
    after: float = 2.0
    settle: float = 20.0
    killed: bool = True
    leader: str = ""


async def _handover(site: Site) -> float:
    begun = _now()
    answers = await site.fleet.client.ask(HandOver(), timeout=HELD)
    if problems := [row.problem for row in answers if row.problem]:
        raise LoadError(f"not handed over: {problems}")
    return _now() - begun


async def _beside(site: Site) -> None:
    """Bring up a warm standby fleet from the same file, as ``raycp upgrade`` does."""
    site.upgrades += 1
    before = site.fleet.fleet
    after = msgspec.structs.replace(
        before, generation=f"{before.generation}-{site.upgrades}", sequence=before.sequence + site.upgrades
    )
    await stand_by(site.fleet.client, after)


async def _upgrade(site: Site) -> float:
    begun = _now()
    await switch(site.fleet.client)
    return _now() - begun


async def _kill_leader(site: Site) -> float:
    begun, pid = _now(), await site.leader()
    os.kill(pid, signal.SIGKILL)
    return await _next_leader(site, pid, begun)


async def _next_leader(site: Site, pid: int, begun: float) -> float:
    while True:
        if (await site.fleet.client.ask(Ping(), timeout=2.0, patience=30.0)).pid != pid:
            return _now() - begun
        await asyncio.sleep(0.02)


def _kill(rows: Callable[[Mapping[str, Any]], Any]) -> Callable[[Site], Awaitable[float]]:
    async def act(site: Site) -> float:
        pid = rows(await site.fleet.status())["pid"]
        os.kill(pid, signal.SIGKILL)
        return 0.0

    return act


# a node


def _choose(leader: str) -> Callable[[Site], Awaitable[None]]:
    """Place a primary on the node that will be lost, and its standby elsewhere. ``leader``: ``node`` places the leader on that
    node, too, ``head`` elsewhere."""

    async def prepare(site: Site) -> None:
        assert site.house is not None
        for _ in range(5):
            status = await site.fleet.status()
            there = site.house.where(status["shards"][0]["pid"])
            standby = site.house.where(status["standbys"][0]["pid"])
            with_leader = site.house.where(await site.leader())
            if there is not None and there is not standby and (with_leader is there) == (leader == "node"):
                site.lost = there
                return
            await _handover(site)  # moves the primary to the standby's node
            # The fleet would soon move the primary away from the leader again.
            await whole(site, 60.0, placed=leader != "node")
        raise LoadError("primary, standby and leader could not be placed as this cause needs")

    return prepare


async def _kill_node(site: Site) -> float:
    assert site.lost is not None
    await asyncio.to_thread(site.lost.kill)
    return 0.0


async def _freeze_node(site: Site) -> float:
    assert site.lost is not None
    await asyncio.to_thread(site.lost.freeze)
    return 0.0


async def _replace_node(site: Site) -> None:
    assert site.house is not None
    assert site.lost is not None
    await site.house.replace(site.lost)
    site.lost = None


async def _thaw_node(site: Site) -> None:
    """Resume the frozen processes and give them time to attempt a write, although their successors run."""
    assert site.lost is not None
    site.lost.thaw()
    await asyncio.sleep(THAWED)
    await _replace_node(site)


THAWED = 3.0
"""Seconds that a resumed node keeps running: longer than a worker needs to send its pending writes."""


def _now() -> float:
    return asyncio.get_running_loop().time()


async def whole(site: Site, settle: float, placed: bool = True) -> dict[str, Any]:
    """Wait until all members are ready, and (``placed``) on the nodes where they belong. Raises ``LoadError`` with
    what is missing."""
    deadline = _now() + settle
    while True:
        status = await site.fleet.status()
        there = not placed or not any(row["code"] == ProblemCode.PLACEMENT for row in status["problems"])
        if not status["unsettled"] and there and all(row["ready"] for row in status["standbys"]):
            return status
        if _now() > deadline:
            raise LoadError(f"the fleet is not ready again after {settle:g} s: {status['unsettled']} {status['standbys']}")
        await asyncio.sleep(0.05)


_ALL = (
    Cause("graceful", "`raycp handover`: each shard to its standby", _handover, killed=False),
    Cause(
        "upgrade", "`raycp upgrade`: to a warm standby fleet", _upgrade, _beside,
        settle=60.0, killed=False,
    ),
    Cause("leader-kill", "SIGKILL of the leader", _kill_leader),
    Cause("shard-kill", "SIGKILL of a primary", _kill(lambda status: status["shards"][0])),
    Cause("standby-kill", "SIGKILL of a standby", _kill(lambda status: status["standbys"][0])),
    Cause("worker-kill", "SIGKILL of a worker", _kill(lambda status: status["workers"][0])),
    Cause("observer-kill", "SIGKILL of the observer", _kill(lambda status: status["observer"])),
    Cause(
        "node-kill", "SIGKILL of a raylet and its actors, a primary among them", _kill_node, _choose("head"), _replace_node,
        repetitions=6, after=6.0, settle=60.0, leader="head",
    ),
    Cause(
        "node-kill-leader", "the same with the leader on that node", _kill_node, _choose("node"), _replace_node,
        repetitions=4, after=10.0, settle=60.0, leader="node",
    ),
    Cause(
        "node-freeze", "SIGSTOP of a raylet and its actors, SIGCONT after the promotion", _freeze_node, _choose("head"),
        _thaw_node, repetitions=4, after=12.0, settle=60.0, leader="head",
    ),
    Cause(
        "node-freeze-leader", "the same with the leader on that node", _freeze_node, _choose("node"), _thaw_node,
        repetitions=3, after=20.0, settle=60.0, leader="node",
    ),
)  # fmt: skip
CAUSES: Mapping[str, Cause] = {cause.name: cause for cause in _ALL}
