"""What the leader knows of Ray's nodes: which live, which drain (there is no notice of it: it is polled), which are doubted.

Ray notices a lost node after seconds. A member found dead is the first sign, so its node's raylet is asked at once: while its port
refuses, or where a member was silent until its permit ended, nothing new is sent to that node.
"""

import asyncio
import logging

from raycp.base.clock import Clock
from raycp.fleet.channel import Life, probe
from raycp.fleet.desired import Slot
from raycp.fleet.placing import Node, Situation
from raycp.fleet.substrate import MemberUnavailable, Substrate

log = logging.getLogger(__name__)

EVERY = 1.0
DOUBTED_FOR = 30.0
"""Longer than Ray needs to notice that a node is gone, in seconds."""

ASK_WITHIN = 0.3
PATIENCE = 2.5
"""How long Ray may take to answer; while its head is away it does not."""


class NodeWatch:
    """One per leader. ``problem``: why the nodes are not known."""

    def __init__(self, substrate: Substrate, clock: Clock, leader: str) -> None:
        self.nodes: tuple[Node, ...] = ()
        self.leader = leader
        """The node that the leader itself is on; empty outside Ray."""
        self.problem = ""
        self._substrate = substrate
        self._clock = clock
        self._doubted: dict[str, float] = {}
        self._due = float("-inf")
        self._asking: asyncio.Future[list[Node]] | None = None

    async def refresh(self) -> None:
        """Ask Ray, at most once in ``EVERY`` seconds, and never twice at the same time."""
        now = self._clock.now()
        if now < self._due:
            return
        self._due = now + EVERY
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._substrate.nodes())
        asking = self._asking
        await asyncio.wait({asking}, timeout=PATIENCE)
        if not asking.done():
            self.problem = "Ray does not tell its nodes: its head does not answer"
            return
        self._asking = None
        try:
            nodes = tuple(asking.result())
        except MemberUnavailable as error:
            self.problem = str(error)
            return
        self.problem = ""
        draining = {node.identity for node in self.nodes if node.draining}
        for node in nodes:
            if node.draining and node.identity not in draining:
                log.warning("node %s (%s) drains: the fleet leaves it", node.identity[:12], node.address)
        self.nodes = nodes

    async def doubt(self, identity: str, *, silent: bool) -> None:
        """A member of this node died or, ``silent``, was succeeded because it said nothing. Takes ``ASK_WITHIN`` at most."""
        if silent:
            self._doubt(identity)
            return
        node = next((node for node in self.nodes if node.identity == identity and node.port), None)
        if node is not None and await probe(node.address, node.port, ASK_WITHIN) is not Life.ALIVE:
            log.warning("node %s (%s) seems to be gone: its raylet does not answer", node.identity[:12], node.address)
            self._doubt(node.identity)

    def _doubt(self, identity: str) -> None:
        if identity:
            self._doubted[identity] = self._clock.now() + DOUBTED_FOR

    def situation(self, where: dict[Slot, str]) -> Situation:
        """What placement decides on."""
        now = self._clock.now()
        self._doubted = {node: until for node, until in self._doubted.items() if until > now}
        return Situation(self.nodes, where, self.leader, frozenset(self._doubted))
