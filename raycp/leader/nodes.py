"""Ray's nodes, as the leader knows them: which live, which drain (Ray sends no notice, so it is polled), which are suspected.

Ray notices a lost node after seconds. A member's death is the first sign, so the raylet of its node is probed at once: while its
port refuses, or where a member was silent until its permit ended, nothing new is sent to that node.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from raycp.base.clock import Clock
from raycp.base.problems import FLEET, ProblemCode, Subject
from raycp.leader.placement import Situation
from raycp.protocol.members import Member, Slot
from raycp.protocol.nodes import Node
from raycp.protocol.substrate import MemberUnavailable, Substrate
from raycp.protocol.transport import Life, probe

log = logging.getLogger(__name__)

EVERY = 1.0
DOUBTED_FOR = 30.0
"""Longer than Ray needs to notice that a node is lost, in seconds."""

PROBE_WITHIN = 0.3
PATIENCE = 2.5
"""How long Ray may take to answer, in seconds; while its head is away it does not."""

T = TypeVar("T")


class _Patient(Generic[T]):
    """A request to Ray, one at a time: while its head is away it takes a minute, and a thread. Raises ``MemberUnavailable``."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asking: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())
        asking = self._asking
        await asyncio.wait({asking}, timeout=PATIENCE)
        if not asking.done():
            raise MemberUnavailable("Ray's head does not answer: no member can be created until it does")
        self._asking = None
        return asking.result()


class NodeWatch:
    """One per leader. ``problem``: why Ray's members are not known."""

    def __init__(self, substrate: Substrate, clock: Clock, leader: str) -> None:
        self.nodes: tuple[Node, ...] = ()
        self.leader = leader
        """The leader's own node; empty outside Ray."""
        self.problem = ""
        self._clock = clock
        self._doubted: dict[str, float] = {}
        self._due = float("-inf")
        self._nodes = _Patient(lambda: substrate.nodes())
        self._members = _Patient(lambda: substrate.members())

    @property
    def problems(self) -> dict[Subject, str]:
        """What a user should know."""
        return {(ProblemCode.RAY, FLEET): self.problem} if self.problem else {}

    async def members(self) -> list[Member] | None:
        """All members alive or starting; None while Ray's head does not answer."""
        try:
            members = await self._members()
        except MemberUnavailable as error:
            if not self.problem:
                log.warning("%s", error)
            self.problem = str(error)
            return None
        if self.problem:
            log.warning("Ray's head answers again")
        self.problem = ""
        return members

    async def refresh(self) -> None:
        """Ask Ray for its nodes, at most once in ``EVERY`` seconds."""
        now = self._clock.now()
        if now < self._due:
            return
        self._due = now + EVERY
        try:
            nodes = tuple(await self._nodes())
        except MemberUnavailable as error:
            log.info("%s", error)
            return
        draining = {node.identity for node in self.nodes if node.draining}
        for node in nodes:
            if node.draining and node.identity not in draining:
                log.warning("node %s (%s) drains: the fleet leaves it", node.identity[:12], node.address)
        self.nodes = nodes

    def lost(self, identity: str) -> bool:
        """Whether Ray lists its nodes without this one."""
        return bool(identity and self.nodes) and all(node.identity != identity for node in self.nodes)

    async def doubt(self, identity: str, *, silent: bool) -> bool:
        """A member of this node died or, ``silent``, was replaced after its permit. Returns whether its raylet does not answer
        either; takes ``PROBE_WITHIN`` seconds at most."""
        if silent:
            self._doubt(identity)
            return False
        node = next((node for node in self.nodes if node.identity == identity and node.port), None)
        if node is None or await probe(node.address, node.port, PROBE_WITHIN) is Life.ALIVE:
            return False
        log.warning("node %s (%s) is suspected: its raylet does not answer", node.identity[:12], node.address)
        self._doubt(node.identity)
        return True

    def _doubt(self, identity: str) -> None:
        if identity:
            self._doubted[identity] = self._clock.now() + DOUBTED_FOR

    def situation(self, where: dict[Slot, str]) -> Situation:
        """The input of placement; ``where``: slot -> node."""
        now = self._clock.now()
        self._doubted = {node: until for node, until in self._doubted.items() if until > now}
        return Situation(self.nodes, where, self.leader, frozenset(self._doubted))
