"""A fleet in one process: real cores, real TCP, real embedded clusters, no Ray.

``InProcess`` is the substrate that a leader works on; ``Stack`` puts shards and workers together by hand where a test wants them
without a leader. A killed member stops at once: its loops, its listener, its connections, and nobody is told.
"""

import asyncio
import contextlib
import inspect
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import fleet_samples
import msgspec

from raycp.base.clock import SystemClock
from raycp.config import FleetDoc
from raycp.config.embedded import EmbeddedSpec
from raycp.driver.fleet_builder import build_fleet
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ConnectSpec
from raycp.leader.core import LeaderCore
from raycp.leader.placement import NODE_ID
from raycp.observer.core import ObserverCore
from raycp.protocol.control import Configure, Ping, Pong, Question
from raycp.protocol.control.codec import encode_question, respond
from raycp.protocol.members import LEADER, Member, Role, Slot
from raycp.protocol.nodes import Node
from raycp.protocol.plan import ClusterPlan, Fleet, Plan, ShardPlan, WorkerPlan
from raycp.protocol.report import Report
from raycp.protocol.substrate import MemberDied, MemberUnavailable, answer_of
from raycp.runtime.embedded import EmbeddedCore
from raycp.shard.core import ShardCore
from raycp.worker.core import WorkerCore

HERE = Path(__file__).parent
A = TypeVar("A")
HOST = "127.0.0.1"
CLOCK = SystemClock()
QUIET = {"gc": False, "namespace": False, "serviceaccount": False, "scheduler": False, "stages": False}
"""An API server without life: what most of these tests need."""

CORES: dict[Role, Any] = {
    Role.SHARD: ShardCore,
    Role.STANDBY: ShardCore,
    Role.WORKER: WorkerCore,
    Role.OBSERVER: ObserverCore,
    Role.EMBEDDED: EmbeddedCore,
}


async def until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """Wait for the condition, a function or a coroutine function; what it told then. Fails after ``seconds``."""
    deadline = CLOCK.now() + seconds
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if CLOCK.now() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        await asyncio.sleep(0.01)


async def holds(condition: Callable[[], Any], seconds: float, what: str = "") -> None:
    """The condition holds all the time: for what must *not* happen."""
    deadline = CLOCK.now() + seconds
    while CLOCK.now() < deadline:
        assert condition(), what
        await asyncio.sleep(0.01)


def fleet_doc(
    clusters: Iterable[str],
    uses: Iterable[str],
    embedded: dict[str, Any] | None = None,
    fields: dict[str, dict[str, Any]] | None = None,
    **spec: Any,
) -> FleetDoc:
    """A fleet file; the first cluster is the hub where there are several. ``fields``: more of each cluster's, by name."""
    names = list(clusters)
    shown = embedded if embedded is not None else {"controllers": QUIET}
    rows: list[dict[str, Any]] = [{"name": name, "embedded": shown, **(fields or {}).get(name, {})} for name in names]
    if len(rows) > 1:
        rows[0]["role"] = "hub"
    return FleetDoc.model_validate(
        {
            "apiVersion": "raycp.io/v1alpha1",
            "kind": "Fleet",
            "metadata": {"name": "t"},
            "spec": {"clusters": rows, "controllers": [{"use": use} for use in uses], "observer": {"port": 0}, **spec},
        }
    )


def fleet_of(doc: FleetDoc) -> Fleet:
    """The fleet with its controllers loaded."""
    return build_fleet(doc, Path("fleet.yaml"), [HERE])


async def end(core: Any) -> None:
    """End a core as the death of its process would: nothing is sent, its port refuses, its connections break."""
    await core.abort()


def plan_of(homes: dict[str, str], *uses: str) -> Plan:
    """A plan of clusters in shards, with nobody in it; the first cluster is the hub."""
    doc = fleet_doc(homes, [f"fleet_samples:{use}" for use in uses])
    clusters = tuple(ClusterPlan(n, "hub" if n == doc.hub.name else "member", {}, s, None) for n, s in homes.items())
    return Plan(fleet_of(doc), 1, 1, 1, "t", clusters, ())


class InProcess:
    """``Substrate``: members are cores in this process."""

    def __init__(self) -> None:
        self.cores: dict[Member, Any] = {}
        self.created: list[Member] = []
        self.killed: list[Member] = []
        self.refuse: Callable[[Member], Exception | None] = lambda _: None
        self.silent: set[Member] = set()
        self.ground: list[Node] = []
        """The nodes that there seem to be; a member lives where its options ask for, else on the first that takes new ones."""
        self.leader: LeaderCore | None = None

    async def _ask_leader(self, question: Question[A], timeout: float) -> A:
        """What members ask of the leader; nobody answers while there is none."""
        if self.leader is None:
            raise MemberUnavailable("no leader")
        async with asyncio.timeout(timeout):
            raw = await respond(encode_question(question), self.leader.ask)
        return answer_of(LEADER, question, raw)

    async def members(self) -> list[Member]:
        return list(self.cores)

    async def create(self, member: Member, options: dict[str, Any]) -> None:
        error = self.refuse(member)
        if error is not None:
            raise error
        if member not in self.cores:
            make = CORES[member.role]
            asks = {"ask": self._ask_leader} if self.leader is not None and "ask" in inspect.signature(make).parameters else {}
            self.cores[member] = make(member, CLOCK, HOST, "node", **asks)
            self.created.append(member)
            if isinstance(self.cores[member], WorkerCore):
                self.cores[member].user_loop_ended = fleet_samples.died
            takes = [node.identity for node in self.ground if not node.draining]
            self.cores[member].node_id = (options.get("label_selector") or {}).get(NODE_ID) or (takes or [""])[0]

    async def ask(self, member: Member, question: Question[A], timeout: float = 10.0) -> A:
        core, name = self.cores.get(member), type(question).__name__
        if core is None:
            raise MemberDied(member, "no such actor", certain=True)
        if member in self.silent:
            raise MemberUnavailable(f"{member} is not reachable")
        asking = asyncio.ensure_future(respond(encode_question(question), partial(self._route, core)))
        deadline = CLOCK.now() + timeout
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=0.05)
                if self.cores.get(member) is not core:
                    raise MemberDied(member, "its process is gone", certain=True)
                if CLOCK.now() > deadline:
                    raise MemberUnavailable(f"{member} did not answer {name} within {timeout:g} s")
            return answer_of(member, question, asking.result())
        finally:
            asking.cancel()

    async def _route(self, core: Any, question: Question[Any]) -> Any:
        return Pong(os.getpid(), 0.0) if isinstance(question, Ping) else await core.ask(question)

    async def nodes(self) -> list[Node]:
        return list(self.ground)

    async def request_nodes(self, bundles: list[dict[str, float]]) -> None:
        self.bundles = bundles

    async def kill(self, member: Member) -> None:
        core = self.cores.pop(member, None)
        if core is not None:
            self.killed.append(member)
            await end(core)

    def living(self, role: str, place: str = "") -> list[Any]:
        """The cores of a role."""
        return [core for member, core in self.cores.items() if member.role == role and place in ("", member.place)]

    async def close(self) -> None:
        for member in list(self.cores):
            await self.kill(member)


class Stack:
    """Shards and workers over embedded clusters, by hand. ``homes``: cluster -> shard; the first cluster is the hub."""

    def __init__(self, doc: FleetDoc, homes: dict[str, str]) -> None:
        self.doc = doc
        self.homes = homes
        self.fleet = fleet_of(doc)
        self.substrate = InProcess()
        self.clusters: dict[str, EmbeddedCluster] = {}
        self.connects: dict[str, ConnectSpec] = {}
        self.right: dict[str, ConnectSpec] = {}
        self.members: dict[Slot, Member] = {}
        self.terms: dict[str, int] = {}
        self.epoch = 1
        self._versions = itertools.count(1)
        self._workers = itertools.count()

    async def start(self, workers: int, connects: dict[str, ConnectSpec]) -> None:
        for name in self.homes:
            spec = self.doc.cluster(name).embedded or EmbeddedSpec()
            cluster = self.clusters[name] = EmbeddedCluster(name, spec, CLOCK)
            endpoint = await cluster.start()
            self.connects[name] = ConnectSpec(
                name=name, mode="direct", server=endpoint.server, ca_pem=endpoint.ca_pem, token=endpoint.token
            )
        self.right = dict(self.connects)
        self.connects |= connects
        for shard in sorted(set(self.homes.values())):
            await self.new_shard(shard)
        for _ in range(workers):
            await self.new_worker()
        await self.tell()

    async def new_shard(self, shard: str) -> ShardCore:
        """A primary of the next generation and term; it is told the plan by ``tell``."""
        before = self.members.get(Slot.of_shard(shard))
        member = self.members[Slot.of_shard(shard)] = Member(Role.SHARD, shard, before.generation + 1 if before else 0)
        await self.substrate.create(member, {})
        self.terms[shard] = self.terms.get(shard, 0) + 1
        core: ShardCore = self.substrate.cores[member]
        return core

    async def new_worker(self) -> WorkerCore:
        slot = Slot.of_worker("standard", next(self._workers))
        member = self.members[slot] = Member(*slot, 0)
        await self.substrate.create(member, {})
        core: WorkerCore = self.substrate.cores[member]
        return core

    def plan(self) -> Plan:
        ports = {name: (core.host, core._port) for name, core in self.substrate.cores.items()}
        hub = self.doc.hub.name
        clusters = tuple(
            ClusterPlan(name, "hub" if name == hub else "member", self.doc.cluster(name).all_labels, shard, self.connects.get(name))
            for name, shard in self.homes.items()
        )
        shards = tuple(
            ShardPlan(shard, primary.actor_name, term, *ports.get(primary, ("", 0)))
            for shard, term in sorted(self.terms.items())
            for primary in (self.members[Slot.of_shard(shard)],)
        )
        workers = tuple(
            WorkerPlan(member.actor_name, *ports[member])
            for slot, member in self.members.items()
            if slot.role is Role.WORKER and member in ports and ports[member][1]
        )
        return Plan(self.fleet, next(self._versions), self.epoch, 1, "secret", clusters, shards, workers=workers)

    async def tell(self, *members: Member) -> None:
        """Tell everybody the plan, twice: the first time they begin to listen."""
        for _ in range(2):
            plan = self.plan()
            for member in members or list(self.substrate.cores):
                await self.substrate.ask(member, Configure(plan), timeout=30.0)

    async def synced(self, *, seconds: float = 15.0) -> None:
        """Wait until every shard has its caches filled and every worker its connections."""
        await until(
            lambda: all(self.report(member).ready for member in self.substrate.cores),
            seconds,
            "all are ready",
        )

    def report(self, member: Member) -> Report:
        report: Report = self.substrate.cores[member].report()
        return report

    def shard(self, name: str = "0") -> ShardCore:
        core: ShardCore = self.substrate.cores[self.members[Slot.of_shard(name)]]
        return core

    def worker(self, number: int = 0) -> WorkerCore:
        core: WorkerCore = self.substrate.cores[self.members[Slot.of_worker("standard", number)]]
        return core

    async def kill(self, role: str, place: str) -> None:
        slot = Slot(Role(role), place)
        await self.substrate.kill(self.members.pop(slot) if slot.role is Role.WORKER else self.members[slot])

    async def stop(self) -> None:
        await self.substrate.close()
        for cluster in self.clusters.values():
            await cluster.stop()

    # the clusters, as a user has them

    async def put(self, cluster: str, app: str, name: str, **data: str) -> None:
        """Create or change a ConfigMap."""
        api = self.clusters[cluster].api
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
               "data": data}  # fmt: skip
        if api.get("configmaps", "default", name) is None:
            await api.create("configmaps", obj)
        else:
            await api.patch_merge("configmaps", "default", name, msgspec.json.encode({"data": data}))

    def writes(self, cluster: str, resource: str, verb: str = "") -> list[Any]:
        return self.clusters[cluster].recorder.select(resource, verb)


@contextlib.asynccontextmanager
async def stack(
    uses: Iterable[str],
    homes: dict[str, str] | None = None,
    workers: int = 1,
    embedded: dict[str, Any] | None = None,
    connects: dict[str, ConnectSpec] | None = None,
    **spec: Any,
) -> AsyncIterator[Stack]:
    """A ``Stack`` that is up and synced, for the time of the block. ``connects`` are other ways to clusters than the right ones."""
    fleet_samples.reset()
    homes = homes or {"here": "0"}
    made = Stack(fleet_doc(homes, [f"fleet_samples:{use}" for use in uses], embedded, **spec), homes)
    try:
        await made.start(workers, connects or {})
        await made.synced()
        yield made
    finally:
        await made.stop()


class Led:
    """A fleet under a leader, in this process."""

    def __init__(self) -> None:
        self.substrate = InProcess()
        self.number = 0
        self.node = ""
        """Where the leader lives, from its next start on."""
        self.left: list[str] = []
        """The nodes that a leader has ended itself on."""
        self.leader = self.start_leader()

    def start_leader(self) -> LeaderCore:
        self.number += 1
        leader = LeaderCore(
            self.substrate, CLOCK, f"leader-{self.number}", self.node, lambda: self.left.append(leader.nodes.leader)
        )
        self.leader = self.substrate.leader = leader
        self.leader.start()
        return self.leader

    async def die(self) -> None:
        """The leader's process ends."""
        self.substrate.leader = None
        await self.leader.abort()

    async def restart(self) -> None:
        await self.die()
        self.start_leader()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self.leader.status())
        return found

    async def apply(self, doc: FleetDoc, seconds: float = 20.0) -> dict[str, Any]:
        """Apply, and wait until the fleet is ready with it."""
        fleet = fleet_of(doc)
        await self.leader.apply(fleet)
        return await self.ready(fleet.generation, seconds)

    async def ready(self, generation: str = "", seconds: float = 20.0) -> dict[str, Any]:
        status: dict[str, Any] = {}

        def good() -> bool:
            status.clear()
            status.update(self.status())
            return bool(status["ready"]) and generation in ("", status["generation"])

        try:
            await until(good, seconds)
        except AssertionError:
            raise AssertionError(f"not ready: {status.get('reasons')} {status.get('problems')}") from None
        return status

    def cluster(self, name: str) -> EmbeddedCluster:
        core: EmbeddedCore = self.substrate.living("embedded", name)[0]
        assert core._cluster is not None
        return core._cluster

    async def put(self, cluster: str, app: str, name: str, **data: str) -> None:
        """Create a ConfigMap."""
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
               "data": data}  # fmt: skip
        await self.cluster(cluster).api.create("configmaps", obj)

    async def stop(self) -> None:
        await self.die()
        await self.substrate.close()
        await self.leader.hub.close()


@contextlib.asynccontextmanager
async def led() -> AsyncIterator[Led]:
    """A leader without a fleet yet."""
    fleet_samples.reset()
    made = Led()
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def users(fleet: Led) -> AsyncIterator[list[str]]:
    """Users who create what ``tracked`` reconciles, 50 a second in the cluster ``here``, until the block ends; the names so far."""
    names: list[str] = []
    stop = asyncio.Event()

    async def create() -> None:
        while not stop.is_set():
            names.append(f"u{len(names)}")
            await fleet.put("here", "tracked", names[-1])
            await asyncio.sleep(0.02)

    creating = asyncio.ensure_future(create())
    try:
        yield names
    finally:
        stop.set()
        await creating
