"""The active fleet, as its standby knows it: its newest plan, and how long its leader has not answered."""

import msgspec

from raycp.base.clock import Clock
from raycp.protocol.control import PlanAfter
from raycp.protocol.members import LEADER, WATCH_SECONDS
from raycp.protocol.plan import Plan
from raycp.protocol.revisions import GENERATIONS
from raycp.protocol.substrate import Substrate

SILENT = 2.0
"""Seconds without an answer after which the standby reads the lock itself."""


class ActiveFleet:
    """The fleet in Ray namespace ``namespace``."""

    def __init__(self, substrate: Substrate, clock: Clock, namespace: str) -> None:
        self.namespace = namespace
        self.substrate = substrate.beside(namespace)
        self.plan: Plan | None = None
        """Its newest plan; None before its leader's first answer."""
        self._clock = clock
        self._answered = clock.now() - SILENT
        self._failed = False

    @property
    def silent(self) -> bool:
        """Whether its leader has not answered for ``SILENT`` seconds."""
        return self._clock.now() - self._answered >= SILENT

    @property
    def last_answer(self) -> float:
        """When its leader answered last, by this process's clock."""
        return self._answered

    async def newer_plan(self) -> Plan | None:
        """Wait for its next plan, None if there is none for a while. Raises ``MemberDied``, ``MemberUnavailable``,
        ``MemberFailed``."""
        # After a failure any plan counts: a leader that was restarted may know an older one than it sent before.
        version = self.plan.version if self.plan is not None and not self._failed else 0
        try:
            plan = await self.substrate.ask(LEADER, PlanAfter(version), timeout=WATCH_SECONDS + 6.0)
        except Exception:
            self._failed = True
            raise
        self._answered = self._clock.now()
        return plan

    def known(self, plan: Plan) -> None:
        """``plan`` is its newest."""
        self.plan, self._failed = plan, False

    def assume(self, standby: Plan) -> None:
        """Its leader is away and this process never had its plan: go by what the standby's own plan says of it."""
        if self.plan is None:
            self.plan = msgspec.structs.replace(standby, following=None, floor=standby.floor - GENERATIONS)

    async def has_leader(self) -> bool:
        """Whether Ray knows its leader. Raises ``MemberUnavailable``."""
        return LEADER in await self.substrate.members()
