"""One living member under supervision: it receives each plan, sends its reports, and its death is noticed."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.base.release import UPGRADE
from raycp.leader.api_port import api_server_life
from raycp.leader.plan_store import PlanStore
from raycp.leader.roster import Roster
from raycp.protocol.control import Configure, ErrorCode, ReportAfter
from raycp.protocol.members import WATCH_SECONDS, MemberState, Role
from raycp.protocol.report import Report
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate
from raycp.protocol.transport import Life, probe

log = logging.getLogger(__name__)

HUNG_AFTER = 30.0
"""A member that answers nothing for so many seconds, though Ray does not report its death, is killed and replaced. An embedded
cluster is not: what it stores may exist nowhere else, and a process that was frozen goes on."""

ASK_AGAIN = 1.0
"""Seconds between two questions to an embedded cluster that Ray takes for dead."""

Died = Callable[[MemberState, MemberDied], Awaitable[None]]
Reported = Callable[[MemberState, Report], Awaitable[None]]


class Supervision:
    """Of all members of one leader. ``reported`` receives each report, ``died`` each death; ``lost`` says whether Ray has lost a
    node."""

    def __init__(
        self,
        substrate: Substrate,
        clock: Clock,
        loops: Loops,
        plans: PlanStore,
        roster: Roster,
        reported: Reported,
        died: Died,
        lost: Callable[[str], bool],
    ) -> None:
        self._substrate = substrate
        self._clock = clock
        self._loops = loops
        self._plans = plans
        self._roster = roster
        self._reported = reported
        self._died = died
        self._lost = lost

    async def run(self, state: MemberState) -> None:
        """Configure the member with each new plan and keep a watch open at it, until it dies or the task is cancelled."""
        owner = ProblemOwner(peer=str(state.member.slot))
        configuring = self._loops.supervise(partial(self._configure_forever, state), LoopName.CONFIGURATION, owner)
        try:
            await self._watch_forever(state)
        except MemberDied as error:
            await self._died(state, error)
        finally:
            configuring.cancel()

    async def _watch_forever(self, state: MemberState) -> None:
        clock, substrate, roster = self._clock, self._substrate, self._roster
        answered = clock.now()
        seen, logged = 0, ""
        while True:
            try:
                report = await substrate.ask(state.member, ReportAfter(seen), timeout=WATCH_SECONDS + 6.0)
            except MemberUnavailable as error:
                roster.failed(state, str(error))
                if state.report.port and await probe(state.report.host, state.report.port) is Life.DEAD:
                    # Long before Ray notices that its node is lost (law 6f).
                    raise MemberDied(state.member, "its port refuses connections", certain=True) from error
                hung = clock.now() - answered > HUNG_AFTER and state.member.role is not Role.EMBEDDED
                if state.report.pid and hung:
                    log.error("%s has not answered for %.0f s and is killed", state.member, clock.now() - answered)
                    await substrate.kill(state.member)
                    raise MemberDied(state.member, "did not answer, killed by the leader", certain=False) from error
                await clock.sleep(0.2)
                continue
            except MemberDied as error:
                if error.certain or not await self._stores(state):
                    raise
                problem = f"{error}, but its API server may live: it is not replaced while it does"
                if state.problem != problem:
                    log.warning("%s", problem)
                roster.failed(state, problem)
                await clock.sleep(ASK_AGAIN)
                continue
            except MemberFailed as error:
                roster.failed(state, explained(error))
                if logged != str(error):
                    logged = str(error)
                    log.error("%s", error)
                await clock.sleep(1.0)
                continue
            answered = clock.now()
            seen, logged = report.number, ""
            await self._reported(state, report)

    async def _stores(self, state: MemberState) -> bool:
        """Whether this is an embedded cluster that may live: its API server answers, or says nothing and its node is there.

        Ray's word alone is no certainty (law 6f), and its successor would be empty.
        """
        endpoint = self._roster.endpoints.get(state.member.place)
        if state.member.role is not Role.EMBEDDED or endpoint is None:
            return False
        life = await api_server_life(endpoint)
        return life is Life.ALIVE or (life is Life.UNKNOWN and not self._lost(state.node))

    async def _configure_forever(self, state: MemberState) -> None:
        logged = ""
        while True:
            plan = await self._plans.newer(state.configured)
            if plan is None:
                continue
            try:
                await self._substrate.ask(state.member, Configure(plan), timeout=30.0)
            except MemberDied:
                if state.member.role is not Role.EMBEDDED:
                    return
                await self._clock.sleep(ASK_AGAIN)  # ``run`` knows whether it is dead
            except (MemberUnavailable, MemberFailed) as error:
                self._roster.configure_failed(state, explained(error))
                if logged != str(error):  # it is retried once a second
                    logged = str(error)
                    log.error("%s could not be configured: %s", state.member, error)
                await self._clock.sleep(1.0)
            else:
                self._roster.configured(state, plan.version)
                logged = ""


def explained(error: MemberUnavailable | MemberFailed) -> str:
    """Why a member did not do as asked, with the remedy where its release of raycp is another one."""
    other = isinstance(error, MemberFailed) and error.code is ErrorCode.OTHER_RELEASE
    return f"{error}: {UPGRADE}" if other else str(error)
