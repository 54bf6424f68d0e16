"""A fleet over nodes that a test may lose. The head holds Ray's own state only; leader, shards, standbys and workers run on the
nodes; the API server is a process of its own. Users create 20 objects a second; the wait of each is read from the records of the
API server.
"""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import invariants
import latencies
from apis import Api
from rayhouse import House, Node
from soakrun import api_servers, at_ray, bring_up, fleet_file
from users import changing

from raycp.base.problems import ProblemCode
from raycp.driver.fleet_client import FleetClient, FleetError
from raycp.protocol.control import Ping, Switches
from raycp.runtime.local_ray import connect, shut_down

LABEL = {"raycp-test/fleet": "yes"}
RATE = 20.0
BEFORE = 1.0
GRACE = 0.2
NAME = "lossy"


@dataclass
class Gap:
    """The cost of an event for users, in seconds: the ``longest`` wait of a change around it, above the median of those before
    it.
    """

    what: str
    longest: float
    changes: int
    history: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        told = [
            f"{row['what']} {row['cause']} leaderless {row['leaderless']} rampUp {row['rampUp']} backlog {row['backlog']}"
            for row in self.history
        ]
        return f"{self.what}: gap {1000 * self.longest:.0f} ms over {self.changes} changes; {'; '.join(told)}"


class Lossy:
    """The fleet. ``house`` has the nodes by name."""

    def __init__(self, house: House, api: Api, client: FleetClient) -> None:
        self.house = house
        self.api = api
        self.client = client
        self.gaps: list[Gap] = []
        self._turn = 0

    def node_of(self, identity: str) -> Node | None:
        return next((node for node in self.house.nodes.values() if node.identity == identity), None)

    async def leader_node(self) -> Node | None:
        pid = (await self.client.ask(Ping(), patience=40.0)).pid
        return next((node for node in self.house.nodes.values() if pid in node.pids()), None)

    async def whole(self, seconds: float = 60.0, placed: bool = True) -> dict[str, Any]:
        """Wait until all members are ready, and (``placed``) on the nodes where they belong; returns the status."""
        deadline = time.monotonic() + seconds
        while True:
            status: dict[str, Any] = {}
            with contextlib.suppress(FleetError):
                status = await self.client.status()
            good = status.get("ready") and not status["unsettled"] and all(row["ready"] for row in status["standbys"])
            if good and not (placed and any(row["code"] == ProblemCode.PLACEMENT for row in status["problems"])):
                return status
            if time.monotonic() > deadline:
                shown = {key: status.get(key) for key in ("reasons", "problems", "shards", "standbys", "workers")}
                raise AssertionError(f"not ready after {seconds:g} s: {json.dumps(shown)}")
            await asyncio.sleep(0.1)

    async def during(self, what: str, act: Callable[[], Awaitable[Any]], seconds: float) -> Gap:
        """Users' changes go on for ``seconds`` after ``act``; then each of them must be reconciled, once."""
        self._turn += 1
        before = len(await self.client_history())
        async with changing({"here": self.api}, RATE, f"t{self._turn}-") as users:
            await asyncio.sleep(BEFORE)
            begun = time.time()
            await act()
            await asyncio.sleep(seconds)
        made = users["here"].count
        deadline = time.monotonic() + 60.0
        while True:
            await self.api.gather()
            waits = {key: each for key, each in latencies.waits(self.api.writes).items() if key.startswith(f"t{self._turn}-")}
            lost = [key for key, (_, wait) in waits.items() if wait == float("inf")]
            if len(waits) == made and not lost:
                break
            assert time.monotonic() < deadline, f"{what}: {len(lost)} of {made} changes are not reconciled: {lost[:5]}"
            await asyncio.sleep(0.2)
        calm = [wait for at, wait in waits.values() if at < begun - GRACE]
        gap = Gap(what, max(wait for _, wait in waits.values()) - statistics.median(calm), made)
        gap.history = (await self.client_history())[before:]
        self.gaps.append(gap)
        print(gap, flush=True)
        assert not latencies.twice(self.api.writes)
        return gap

    async def client_history(self) -> list[dict[str, Any]]:
        """The leader's record of switches."""
        rows: list[dict[str, Any]] = await self.client.ask(Switches(), patience=60.0)
        return rows

    def fenced(self) -> None:
        """Law 6: no write of an old epoch or term took effect after the first of the new."""
        wrong = invariants.late_writes({"here": self.api.writes}, same_object=True)
        assert not wrong, wrong[:5]

    def reconnect(self) -> None:
        """Connect this driver again, since a restarted head does not know it."""
        shut_down()
        connect(self.house.address)
        self.client = FleetClient(f"raycp-{NAME}")


@contextlib.asynccontextmanager
async def lossy(house: House, nodes: int = 2, workers: int = 2, standby: int = 1, **spec: Any) -> AsyncIterator[Lossy]:
    """The fleet, ready, on ``house`` with ``nodes`` additional nodes."""
    for _ in range(nodes):
        add_node(house)
    with api_servers(house.home, ["here"], controllers={"scheduler": False, "stages": False}, history=100_000) as servers:
        diary = {"use": "diary:diary", "config": {"diary": str(house.home / "diary.jsonl")}}
        path = fleet_file(
            house, NAME, {"here": servers["here"].kubeconfig}, [diary],
            shards={"standby": standby, "nodeLabels": LABEL}, workers={"nodeLabels": LABEL, "cpus": 0.1},
            tiers={"standard": {"workers": {"min": workers, "max": workers}}}, **spec,
        )  # fmt: skip
        with at_ray(house.address):
            client = FleetClient(f"raycp-{NAME}")
            await bring_up(path, client)
            api = await Api.connect("here", servers["here"].kubeconfig)
            made = Lossy(house, api, client)
            try:
                await made.whole()
                yield made
            finally:
                await api.close()


def add_node(house: House) -> Node:
    """Add a node for the fleet."""
    return house.add_node(f"n{len(house.nodes)}", labels=LABEL)
