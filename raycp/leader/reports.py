"""What the leader does with a report of a member."""

import logging
from collections.abc import Awaitable, Callable

from raycp.leader.history import History
from raycp.leader.plan_store import PlanStore
from raycp.leader.roster import Roster
from raycp.protocol.control import EndpointOf
from raycp.protocol.members import MemberState, Role
from raycp.protocol.report import Report
from raycp.protocol.substrate import MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)


class ReportHandler:
    """One per leader. ``suspect`` receives the name of a primary whose port refuses its standby's connection."""

    def __init__(
        self,
        substrate: Substrate,
        plans: PlanStore,
        roster: Roster,
        history: History,
        suspect: Callable[[str], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self._substrate = substrate
        self._plans = plans
        self._roster = roster
        self._history = history
        self._suspect = suspect
        self._wake = wake

    async def handle(self, state: MemberState, report: Report) -> None:
        """Take over a report. Raises ``MemberDied``."""
        changed = self._roster.reported(state, report)
        self._history.reported(self._plans.plan, state.member.actor_name, report)
        if report.dead:
            await self._suspect(report.dead)
        if state.member.role is Role.EMBEDDED and report.ready and not self._roster.endpoint_known(state.member):
            try:
                endpoint = await self._substrate.ask(state.member, EndpointOf())
            except (MemberUnavailable, MemberFailed) as error:
                log.warning("%s is ready and its endpoint is not known, its next report is a new attempt: %s", state.member, error)
            else:
                if endpoint is not None:
                    self._roster.endpoint_found(state.member, endpoint)
                    changed = True
        if changed:
            self._wake()
