"""One living member under the leader's eye: tell it the plan, hear its reports, notice its death."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from raycp.base.clock import Clock
from raycp.protocol.control import Configure, ReportAfter
from raycp.protocol.members import WATCH_SECONDS, MemberState
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate
from raycp.protocol.transport import Life, probe

log = logging.getLogger(__name__)


HUNG_AFTER = 30.0
"""A member that answers nothing for this long, though Ray does not report its death, is ended and replaced."""


class Listener(Protocol):
    """The leader's roster, as supervision needs it."""

    plan: Plan | None
    plan_changed: asyncio.Condition

    @property
    def died(self) -> Callable[[MemberState, MemberDied], Awaitable[None]]: ...

    @property
    def reported(self) -> Callable[[MemberState, Report], Awaitable[None]]: ...


async def supervise(leader: Listener, substrate: Substrate, clock: Clock, state: MemberState) -> None:
    """Configure the member with each new plan and keep a watch open at it, until it dies or the task is cancelled."""
    configuring = asyncio.create_task(_configure_for_ever(leader, substrate, clock, state))
    try:
        await _watch_for_ever(leader, substrate, clock, state)
    except MemberDied as error:
        await leader.died(state, error)
    finally:
        configuring.cancel()


async def _watch_for_ever(leader: Listener, substrate: Substrate, clock: Clock, state: MemberState) -> None:
    heard = clock.now()
    seen, said = 0, ""
    while True:
        try:
            report = await substrate.ask(state.member, ReportAfter(seen), timeout=WATCH_SECONDS + 6.0)
        except MemberUnavailable as error:
            state.problem = str(error)
            if state.report.port and await probe(state.report.host, state.report.port) is Life.DEAD:
                # Long before Ray notices that its node is gone (law 6f).
                raise MemberDied(state.member, "its port refuses", certain=True) from error
            if state.report.pid and clock.now() - heard > HUNG_AFTER:
                log.error("%s has been silent for %.0f s; it is ended", state.member, clock.now() - heard)
                await substrate.kill(state.member)
                raise MemberDied(state.member, "silent, ended by the leader", certain=False) from error
            await clock.sleep(0.2)
            continue
        except MemberFailed as error:
            state.problem = str(error)
            if said != str(error):
                said = str(error)
                log.error("%s", error)
            await clock.sleep(1.0)
            continue
        heard = clock.now()
        seen, said = report.number, ""
        state.report, state.problem = report, ""
        await leader.reported(state, report)


async def _configure_for_ever(leader: Listener, substrate: Substrate, clock: Clock, state: MemberState) -> None:
    said = ""
    while True:
        plan = leader.plan
        if plan is None or state.configured >= plan.version:
            async with leader.plan_changed:
                if leader.plan is None or state.configured >= leader.plan.version:
                    await leader.plan_changed.wait()
            continue
        try:
            await substrate.ask(state.member, Configure(plan), timeout=30.0)
        except MemberDied:
            return
        except (MemberUnavailable, MemberFailed) as error:
            state.refusal = f"configure: {error}"
            if said != str(error):  # it is tried once a second
                said = str(error)
                log.error("%s could not be configured: %s", state.member, error)
            await clock.sleep(1.0)
        else:
            state.configured, said, state.refusal = plan.version, "", ""
