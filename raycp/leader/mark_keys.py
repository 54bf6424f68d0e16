"""The fleet's keys for owner marks: read from the hub, created there by the first leader, published in the plan."""

import asyncio
import logging
from functools import partial

from raycp.base.clock import Clock
from raycp.base.owner_marks import SHORTEST_KEY, MarkKeys, next_keys
from raycp.base.problems import FLEET, ProblemCode
from raycp.kube import BadAnswer, ConnectError, ConnectSpec, KubeError
from raycp.leader.cluster_clients import ClusterClients
from raycp.leader.retries import Retries
from raycp.leadership.mark_secret import MarkSecret, first_keys
from raycp.leadership.records import Records
from raycp.protocol.plan import Plan
from raycp.sdk.conditions import time_text

log = logging.getLogger(__name__)

SUBJECT = ProblemCode.MARK_KEYS, FLEET

RECHECK = 30.0
"""Seconds between two reads of the Secret: a key that was added or removed is noticed, and a Secret that was deleted is made again.
A new key signs one read after it was published: all members know it by then."""

SKEW = 60.0
"""Seconds that a member's clock may be ahead of ours: so much later than the key may a child without a mark have been created."""

WITHIN = 2.0
"""Seconds that a standby fleet waits for the keys before it leads without them."""


class MarkKeyKeeper:
    """One per leader. ``keys`` is None until they are read, or where the fleet has got them from its predecessor."""

    def __init__(self, clock: Clock, clients: ClusterClients, retries: Retries) -> None:
        self.keys: MarkKeys | None = None
        self._clock = clock
        self._clients = clients
        self._retries = retries
        self._read = float("-inf")

    def step(self, plan: Plan, hub: ConnectSpec, epoch: int) -> None:
        """Start whatever is due; returns at once. Only for a leader that is recorded: what its predecessors have created without
        a mark was created before now (law 6f)."""
        if self.keys is None or self._clock.now() - self._read >= RECHECK:
            self._retries.start(SUBJECT, partial(self.refresh, plan, hub, epoch))
        if not needs_marks(plan):
            self._retries.clear(SUBJECT)

    async def known_to(self, plan: Plan, hub: ConnectSpec, epoch: int) -> MarkKeys | None:
        """The keys for a fleet that begins to lead. Where its predecessor had none, and the hub does not give them at once, None:
        ``step`` goes on."""
        if plan.marks is None:
            try:
                async with asyncio.timeout(WITHIN):
                    await self.refresh(plan, hub, epoch)
            except (KubeError, ConnectError, TimeoutError) as error:
                log.warning("this fleet begins without keys for owner marks: %s", str(error) or "no answer")
        return self.keys or plan.marks

    async def refresh(self, plan: Plan, hub: ConnectSpec, epoch: int) -> None:
        """Read the Secret, or create it. Raises ``KubeError``, ``ConnectError``."""
        client, namespace = await self._clients.get(hub), plan.fleet.doc.spec.state.namespace
        secret, known = MarkSecret(client, plan.fleet.name, namespace), self.keys or plan.marks
        found = await secret.read()
        if found is None:
            await Records(client, plan.fleet.name, namespace).ensure_namespace()
            # Of the first epoch no predecessor has created anything.
            before = time_text(self._clock.wall() + SKEW) if epoch > 1 else ""
            found = await secret.create(first_keys(known), known.unmarked_before if known is not None else before)
            log.warning("%s is made: it had no keys for owner marks", secret.where)
        keys = next_keys(known, found.keys, found.unmarked_before)
        if keys is None:
            remedy = "put a key there, or delete the Secret, and it is made again"
            raise BadAnswer(f"{secret.where} has no key of at least {SHORTEST_KEY} bytes: {remedy}")
        self.keys, self._read = keys, self._clock.now()


def needs_marks(plan: Plan) -> bool:
    """Whether a controller of the fleet has children: without keys, it can't have them in another cluster or namespace."""
    return any(controller.owns for controller in plan.fleet.controllers)
