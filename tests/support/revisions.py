"""Two revisions of a fleet in one process: each a substrate of its own, with its leader as one of its members."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import fleet_samples
import msgspec
from inprocess import CLOCK, InProcess, fleet_of, until

from raycp.config import FleetDoc
from raycp.driver.fleet_client import FleetClient
from raycp.embedded.cluster import EmbeddedCluster
from raycp.leader.core import LeaderCore
from raycp.protocol.control import Question
from raycp.protocol.members import LEADER, Member, Role
from raycp.protocol.revisions import base_of, other_of
from raycp.protocol.substrate import MemberUnavailable

A = TypeVar("A")
Hook = Callable[["Revision", Member, Question[Any]], Awaitable[None]]


class Revision(InProcess):
    """One namespace. Embedded clusters live in the base's."""

    def __init__(self, house: "House", namespace: str) -> None:
        super().__init__()
        self.house = house
        self.namespace = namespace
        self.dead = False
        self.number = 0

    def beside(self, namespace: str) -> "Revision":
        return self.house.revisions[namespace]

    def _home(self, member: Member) -> "Revision":
        return self.house.revisions[base_of(self.namespace)] if member.role is Role.EMBEDDED else self

    async def members(self) -> list[Member]:
        embedded = [member for member in self.house.base.cores if member.role is Role.EMBEDDED]
        mine = [member for member in self.cores if member.role is not Role.EMBEDDED]
        return [*embedded, *mine, *([LEADER] if self.dead else [])]

    async def create(self, member: Member, options: dict[str, Any]) -> None:
        if member == LEADER:
            if self.leader is None and not self.dead:
                self.lead()
            return
        home = self._home(member)
        if home is self:
            await super().create(member, options)
        else:
            await home.create(member, options)

    def lead(self) -> None:
        """Start the leader, or restart it as Ray would."""
        self.dead = False
        self.number += 1
        self.leader = self.cores[LEADER] = LeaderCore(self, CLOCK, f"{self.namespace}-{self.number}")
        self.leader.start()

    async def ask(self, member: Member, question: Question[A], timeout: float = 10.0) -> A:
        home = self._home(member)
        if home is not self:
            return await home.ask(member, question, timeout)
        await self.house.before(self, member, question)
        if member == LEADER and self.dead:
            raise MemberUnavailable("the leader is being restarted")
        answer = await super().ask(member, question, timeout)
        await self.house.after(self, member, question)
        return answer

    async def kill(self, member: Member) -> None:
        home = self._home(member)
        if home is not self:
            await home.kill(member)
        elif member == LEADER:
            self.dead = False
            await self.lose_leader(for_good=True)
        else:
            await super().kill(member)

    async def lose_leader(self, *, for_good: bool = False) -> None:
        """The leader's process dies; unless ``for_good``, Ray is going to restart it."""
        core, self.leader = self.leader, None
        self.cores.pop(LEADER, None)
        if core is not None:
            self.dead = not for_good
            await core.abort()

    async def close(self) -> None:
        await self.lose_leader(for_good=True)
        await super().close()


async def _nothing(revision: Revision, member: Member, question: Question[Any]) -> None:
    return None


class House:
    """A fleet of two revisions, and the driver's way to it. ``before`` and ``after`` are called at each question that is asked."""

    def __init__(self, name: str = "t") -> None:
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        base = f"raycp-{name}"
        self.revisions = {namespace: Revision(self, namespace) for namespace in (base, other_of(base))}
        self.base, self.other = self.revisions[base], self.revisions[other_of(base)]
        self.client = FleetClient(base, CLOCK, lambda namespace: self.revisions[namespace])

    async def up(self, doc: FleetDoc) -> None:
        fleet = fleet_of(doc)
        await self.client.ensure_leader({})
        await self.client.apply(fleet)
        await self.client.wait_ready(fleet.generation, 20.0)

    def cluster(self, name: str) -> EmbeddedCluster:
        cluster: EmbeddedCluster = self.base.living("embedded", name)[0].cluster
        return cluster

    async def put(self, cluster: str, app: str, name: str, **data: str) -> None:
        """Create or change a ConfigMap."""
        api = self.cluster(cluster).api
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
               "data": data}  # fmt: skip
        if api.get("configmaps", "default", name) is None:
            await api.create("configmaps", obj)
        else:
            await api.patch_merge("configmaps", "default", name, msgspec.json.encode({"data": data}))

    def roles(self, revision: Revision) -> set[str]:
        return {member.role for member in revision.cores if member.role is not Role.EMBEDDED}

    async def until_stopped(self, revision: Revision, seconds: float = 10.0) -> None:
        await until(lambda: not self.roles(revision) and not revision.dead, seconds, f"nothing is left of {revision.namespace}")

    async def close(self) -> None:
        self.before = self.after = _nothing
        for revision in (self.other, self.base):
            await revision.close()


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[House]:
    fleet_samples.reset()
    made = House()
    try:
        yield made
    finally:
        await made.close()


__all__ = ["LEADER", "House", "Revision", "house"]
