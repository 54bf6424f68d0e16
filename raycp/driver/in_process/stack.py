"""Shards and workers over embedded clusters, in one process and without a leader."""

import asyncio
import itertools
from collections.abc import Mapping

from raycp.base.owner_marks import MarkKeys
from raycp.config.embedded import EmbeddedSpec
from raycp.driver.fleet_client import FleetError
from raycp.driver.in_process.substrate import InProcessSubstrate
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ConnectSpec
from raycp.protocol.control import Configure
from raycp.protocol.members import Member, Role, Slot
from raycp.protocol.plan import ClusterPlan, Fleet, Plan, ShardPlan, WorkerPlan
from raycp.protocol.report import Report
from raycp.shard.core import ShardCore
from raycp.worker.core import WorkerCore

TIER = "standard"


class InProcessStack:
    """``homes``: cluster -> shard; the first cluster is the hub. The caller makes the plan's changes: ``configure`` sends them.

    ``connects``: how shards and workers reach each cluster; ``right``: how it is really reached. ``terms``: of each shard.
    ``excused``: workers whose death accuses no key. ``marks``: the keys for owner marks; there is no leader to make some.
    """

    def __init__(self, fleet: Fleet, homes: dict[str, str], substrate: InProcessSubstrate | None = None) -> None:
        self.fleet = fleet
        self.doc = fleet.doc
        self.homes = homes
        self.substrate = substrate or InProcessSubstrate()
        self.clusters: dict[str, EmbeddedCluster] = {}
        self.connects: dict[str, ConnectSpec] = {}
        self.right: dict[str, ConnectSpec] = {}
        self.members: dict[Slot, Member] = {}
        self.terms: dict[str, int] = {}
        self.excused: list[str] = []
        self.marks: MarkKeys | None = MarkKeys({"key-1": bytes(32)}, "key-1")
        self.epoch = 1
        self._versions = itertools.count(1)
        self._workers = itertools.count()
        self._quarantines: dict[str, int] = {}

    async def start(self, workers: int, connects: Mapping[str, ConnectSpec]) -> None:
        """Start the clusters, a primary per shard and so many workers. ``connects`` replace the right ways to clusters."""
        for name in self.homes:
            spec = self.doc.cluster(name).embedded or EmbeddedSpec()
            cluster = self.clusters[name] = EmbeddedCluster(name, spec, self.substrate.clock)
            endpoint = await cluster.start()
            self.right[name] = ConnectSpec(
                name=name, mode="direct", server=endpoint.server, ca_pem=endpoint.ca_pem, token=endpoint.token
            )
        self.connects = {**self.right, **connects}
        for shard in sorted(set(self.homes.values())):
            await self.new_shard(shard)
        for _ in range(workers):
            await self.new_worker()
        await self.configure()

    async def new_shard(self, shard: str) -> ShardCore:
        """A primary of the next generation and term; ``configure`` sends it the plan."""
        slot = Slot.of_shard(shard)
        before = self.members.get(slot)
        member = self.members[slot] = Member(*slot, before.generation + 1 if before else 0)
        await self.substrate.create(member, {})
        self.terms[shard] = self.terms.get(shard, 0) + 1
        core: ShardCore = self.substrate.cores[member]
        return core

    async def new_worker(self) -> WorkerCore:
        """One more worker of the standard tier; ``configure`` sends it the plan."""
        slot = Slot.of_worker(TIER, next(self._workers))
        member = self.members[slot] = Member(*slot, 0)
        await self.substrate.create(member, {})
        core: WorkerCore = self.substrate.cores[member]
        return core

    async def new_quarantine(self, shard: str = "0") -> WorkerCore:
        """A worker for the suspects of a shard, of the next generation; ``configure`` sends it the plan."""
        slot = Slot.of_quarantine(shard)
        self._quarantines[shard] = generation = self._quarantines.get(shard, -1) + 1
        member = self.members[slot] = Member(*slot, generation)
        await self.substrate.create(member, {})
        core: WorkerCore = self.substrate.cores[member]
        return core

    def plan(self) -> Plan:
        """The next version of the plan, with the members as they are."""
        reports = {member: core.report() for member, core in self.substrate.cores.items()}
        at = {member: (report.host, report.port) for member, report in reports.items()}
        hub = self.doc.hub.name
        clusters = tuple(
            ClusterPlan(name, "hub" if name == hub else "member", self.doc.cluster(name).all_labels, shard, self.connects.get(name))
            for name, shard in self.homes.items()
        )
        shards = tuple(
            ShardPlan(shard, primary.actor_name, term, *at.get(primary, ("", 0)))
            for shard, term in sorted(self.terms.items())
            for primary in (self.members[Slot.of_shard(shard)],)
        )
        workers = tuple(
            WorkerPlan(member.actor_name, *at[member])
            for slot, member in self.members.items()
            if slot.role is Role.WORKER and member in at and at[member][1]
        )
        return Plan(
            self.fleet,
            next(self._versions),
            self.epoch,
            1,
            "secret",
            clusters,
            shards,
            workers=workers,
            excused=tuple(self.excused),
            marks=self.marks,
            followers=tuple(member.actor_name for member in self.substrate.cores),  # those that have no port yet
        )

    async def configure(self, *members: Member) -> None:
        """Send the plan, to all members by default, twice: after the first time it has their addresses."""
        for _ in range(2):
            plan = self.plan()
            for member in members or list(self.substrate.cores):
                await self.substrate.ask(member, Configure(plan), timeout=30.0)

    async def synced(self, *, seconds: float = 15.0) -> None:
        """Wait until every shard's caches are filled and every worker is connected. Raises ``FleetError``."""
        clock = self.substrate.clock
        deadline = clock.now() + seconds
        while waiting := [str(member) for member in self.substrate.cores if not self.report(member).ready]:
            if clock.now() > deadline:
                raise FleetError(f"not ready after {seconds:g} s: {', '.join(waiting)}")
            await asyncio.sleep(0.01)

    def report(self, member: Member) -> Report:
        """What the member would report to a leader."""
        report: Report = self.substrate.cores[member].report()
        return report

    def shard(self, name: str = "0") -> ShardCore:
        """The primary of a shard."""
        core: ShardCore = self.substrate.cores[self.members[Slot.of_shard(name)]]
        return core

    def worker(self, number: int = 0) -> WorkerCore:
        """The worker of that number."""
        core: WorkerCore = self.substrate.cores[self.members[Slot.of_worker(TIER, number)]]
        return core

    async def kill(self, role: str, place: str) -> None:
        """Kill the member in that slot; a shard's generation and term are remembered for ``new_shard``."""
        slot = Slot(Role(role), place)
        await self.substrate.kill(self.members.pop(slot) if slot.role is Role.WORKER else self.members[slot])

    async def stop(self) -> None:
        """End everything, abruptly."""
        await self.substrate.close()
        for cluster in self.clusters.values():
            await cluster.stop()
