"""The fleet document as stored in the hub: written after each ``apply``, read by a restarted leader."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from raycp.base.clock import Clock
from raycp.base.problems import FLEET, ProblemCode
from raycp.kube import ConnectSpec
from raycp.leader.cluster_clients import ClusterClients
from raycp.leader.retries import Retries
from raycp.leadership.records import Records
from raycp.protocol.control import ControlError
from raycp.protocol.plan import Fleet, Plan

log = logging.getLogger(__name__)

RECORD = "fleet"
DOCUMENT = ProblemCode.DOCUMENT_NOT_STORED, FLEET

RECHECK = 30.0
"""Seconds between two looks at the stored document: a record that was deleted, perhaps with its namespace, is made again."""


class FleetRecord:
    """One per leader. ``apply`` receives a stored document that is newer than the plan's."""

    def __init__(
        self, clock: Clock, clients: ClusterClients, retries: Retries, apply: Callable[[Fleet], Awaitable[None]]
    ) -> None:
        self._clock = clock
        self._clients = clients
        self._retries = retries
        self._apply = apply
        self._recovered = False
        self._stored: tuple[str, int] | None = None
        self._checked = float("-inf")

    def recovered(self) -> None:
        """The plan comes from living members: the leader before may have died right after it stored a newer document."""
        self._recovered = True

    def step(self, plan: Plan, hub: ConnectSpec, incarnation: int) -> None:
        """Store the document if this incarnation of the leader has not, or if it is not there any more; returns at once."""
        if self._stored != (plan.fleet.generation, incarnation) or self._clock.now() - self._checked >= RECHECK:
            self._retries.start(DOCUMENT, partial(self._store, plan, hub, incarnation))

    async def adopt_newer(self, plan: Plan, records: Records) -> None:
        """Apply the stored document if no living member knows it. Raises ``KubeError``."""
        if not self._recovered:
            return
        found = await records.read(RECORD)
        if found is None or found.data.get("home") != plan.home:
            return
        try:
            stored = msgspec.json.decode(found.data.get("fleet", ""), type=Fleet)
            if stored.sequence > plan.fleet.sequence and stored.doc.name == plan.fleet.name:
                what = "fleet document %d is stored in the hub, and no living member knows it: it is applied now"
                log.warning(what, stored.sequence)
                await self._apply(stored)
        except (msgspec.MsgspecError, ValueError, RecursionError, ControlError) as error:
            log.error("the stored fleet document can't be used, and the one that the members know goes on: %s", error)

    async def _store(self, plan: Plan, hub: ConnectSpec, incarnation: int) -> None:
        records = Records(await self._clients.get(hub), plan.fleet.name, plan.fleet.doc.spec.state.namespace)
        await records.ensure_namespace()
        fleet = plan.fleet
        data = {
            "generation": fleet.generation,
            "sequence": str(fleet.sequence),
            "home": plan.home,
            "fleet": msgspec.json.encode(fleet).decode(),
        }
        found = await records.read(RECORD)
        if found is None or any(found.data.get(key) != data[key] for key in ("generation", "sequence", "home")):
            await records.write(RECORD, data, found)
        self._stored, self._checked = (fleet.generation, incarnation), self._clock.now()
