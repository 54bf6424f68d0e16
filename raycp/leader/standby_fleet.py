"""A whole fleet that stands by (blue/green): warm copies of another colour's shards, and workers with the code and config to come.

It asks the other's leader for its plan and goes by it: clusters keep their shards, each shard that both have gets a standby that
follows the other's primary. It grants no permit and writes nothing to the hub but CustomResourceDefinitions: missing ones while it
stands by, changed ones right before the switch.

Guarantees: it leads only after the hub's record names it, or after the one that led has been gone from Ray for ``GONE`` seconds and
all its permits have ended; a leader of it that is killed comes back as what the record says.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.kube import ConnectError, KubeError
from raycp.leader.hub import TAKE_WITHIN, HubKeeper
from raycp.leader.plans import leading_plan, standing_plan
from raycp.leader.roster import Roster
from raycp.leadership.locks import LockProblem
from raycp.leadership.records import Conflict
from raycp.protocol.control import (
    ControlError,
    DrainedPrimary,
    ErrorCode,
    FollowPrimaries,
    FollowTo,
    Forget,
    Lead,
    PlanAfter,
    Prepare,
    Question,
    TakeLead,
)
from raycp.protocol.control.codec import unknown_question
from raycp.protocol.members import LEADER, WATCH_SECONDS, Role, Slot
from raycp.protocol.plan import Fleet, Plan, ShardPlan
from raycp.protocol.revisions import GENERATIONS
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable

log = logging.getLogger(__name__)

GONE = 5.0
"""How long the other colour's leader must be gone from Ray before this one takes over by the lock, in seconds."""

SILENT = 2.0
FOLLOW_WITHIN = 3.0
HOLD = 15.0
"""After so many seconds without an order to lead, a switch that was begun is forgotten."""

CRDS_WITHIN = 5.0


class NotOurs(Exception):
    """Somebody else leads, or is to lead; the message says who."""


Begun = Callable[[Plan, Plan, Lead], Awaitable[None]]
"""The epoch has begun: the plan that was followed with, the plan to lead with, and how it came."""


class StandbyFleet:
    """The leader's part while its fleet stands by."""

    def __init__(self, roster: Roster, hub: HubKeeper, namespace: str, stepping: asyncio.Lock, begun: Begun) -> None:
        self.namespace = namespace
        self.other = roster.substrate.beside(namespace)
        self.theirs: Plan | None = None
        self.problems: dict[str, str] = {}
        self.order = Lead("", None, None)
        """How this fleet comes to lead, for the history."""
        self._roster = roster
        self._hub = hub
        self._clock: Clock = roster.clock
        self._stepping = stepping
        self._begun = begun
        self._heard = roster.clock.now() - SILENT
        self._alone: float | None = None
        self._missed = False
        self._held_until = float("-inf")
        self._deciding = asyncio.Lock()
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def held(self) -> bool:
        """A switch is under way: nothing is changed meanwhile."""
        return self._clock.now() < self._held_until

    async def begin(self, fleet: Fleet) -> None:
        """Make the first plan. Raises ``ControlError``, ``MemberDied``, ``MemberUnavailable``, ``MemberFailed``."""
        theirs = await self._ask(0)
        if theirs is None:
            raise ControlError(ErrorCode.REFUSED, f"no fleet runs in {self.namespace}")
        plan = standing_plan(fleet, theirs, None)
        assert plan.following is not None
        self.theirs = theirs
        following = msgspec.structs.replace(plan.following, namespace=self.namespace)
        self._roster.plan = msgspec.structs.replace(plan, following=following)
        await self._roster.announce()

    def start(self) -> None:
        """Follow until ``close``, or until this fleet leads."""
        loops = self._roster.loops
        self._tasks = [
            loops.forever(self._watch, "the other colour's plan"),
            loops.forever(self._look, "who leads", every=0.5),
            loops.forever(self._prepare, "missing CRDs", every=2.0),
        ]

    def close(self) -> None:
        """Follow nobody any more."""
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self._tasks = []

    async def _ask(self, version: int) -> Plan | None:
        plan = await self.other.ask(LEADER, PlanAfter(version), timeout=WATCH_SECONDS + 6.0)
        self._heard, self._alone = self._clock.now(), None
        return plan

    async def _watch(self) -> None:
        plan = self._roster.plan
        if plan is None:
            return
        try:
            theirs = await self._ask(self.theirs.version if self.theirs is not None and not self._missed else 0)
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.debug("the other colour's leader does not answer: %s", error)
            self._missed = True  # one that comes back may know an older plan than it told
            await self._clock.sleep(0.3)
            return
        if theirs is None or self.held or self._roster.plan is None:
            return
        self.theirs, self._missed = theirs, False
        if theirs.following is not None:
            self.problems["the other colour"] = f"{self.namespace} does not lead either"
            return
        self.problems.pop("the other colour", None)
        try:
            after = standing_plan(self._roster.plan.fleet, theirs, self._roster.plan)
        except ValueError as error:
            self.problems["the other colour"] = str(error)
            return
        if msgspec.structs.replace(after, version=0, fleet=plan.fleet) != msgspec.structs.replace(self._roster.plan, version=0):
            await self._roster.change(fleet=after.fleet, clusters=after.clusters, shards=after.shards, following=after.following)

    async def _prepare(self) -> None:
        plan = self._roster.plan
        if plan is not None and plan.following is not None:
            await self._hub.install(plan, changes=False, within=CRDS_WITHIN)

    async def prepare(self) -> None:
        """Everything that new code needs in the clusters is there: the switch comes. Raises ``ControlError``."""
        plan = self._roster.plan
        assert plan is not None
        problems = await self._hub.install(plan, changes=True, within=CRDS_WITHIN)
        if plan.hub.name in problems:
            raise ControlError(ErrorCode.REFUSED, f"CRDs in {plan.hub.name}: {problems[plan.hub.name]}")

    # the switch

    async def ask(self, question: Question[Any]) -> Any:
        """Questions of the leader that hands the fleet over. Raises ``ControlError``."""
        match question:
            case Prepare():
                return await self.prepare()
            case FollowPrimaries(primaries):
                return await self.follow(primaries)
            case TakeLead(order):
                try:
                    return await self.lead(order)
                except NotOurs as error:
                    raise ControlError(ErrorCode.REFUSED, str(error)) from error
            case Forget():
                return self.forget()
        raise unknown_question(question, Role.LEADER)

    async def follow(self, primaries: dict[str, DrainedPrimary]) -> list[str]:
        """All that these primaries have told must be here; the shards that follow. Raises ``ControlError``, ``Member*``."""
        plan, roster = self._roster.plan, self._roster
        assert plan is not None
        self._held_until = self._clock.now() + HOLD
        shards = {shard.shard: shard for shard in plan.shards}

        async def one(shard: str, primary: DrainedPrimary) -> str:
            target, standby = shards[shard], roster.standby_of(shard)
            if (target.member, target.term) != (primary.member, primary.term):
                raise ControlError(ErrorCode.REFUSED, f"shard {shard} has another primary than its standby follows")
            if standby is None:
                raise ControlError(ErrorCode.REFUSED, f"the standby of shard {shard} is not warm")
            await roster.substrate.ask(standby.member, FollowTo(primary.seq), timeout=FOLLOW_WITHIN)
            return shard

        return list(await asyncio.gather(*(one(shard, told) for shard, told in primaries.items() if shard in shards)))

    def forget(self) -> None:
        """The switch was given up."""
        self._held_until = float("-inf")

    async def lead(self, order: Lead) -> int:
        """The lock names this colour: begin; the epoch. Raises ``NotOurs``, ``KubeError``, ``LockProblem``, ``TimeoutError``."""
        async with self._deciding:
            plan, theirs = self._roster.plan, self.theirs
            if plan is None or plan.following is None or theirs is None or plan.hub.connect is None:
                leadership = self._hub.leadership
                if leadership is None:
                    raise NotOurs("this fleet does not stand by")
                return leadership.epoch
            self.order = order
            if self._hub.leadership is None:
                asked = self._clock.now()
                found = await self._hub.recorded(plan)
                ours = found is not None and found.home == plan.home
                if found is None or not (ours or (found.released and found.successor in ("", plan.home))):
                    raise NotOurs(f"{found.holder if found else 'nobody'} leads, and has not named this fleet")
                async with asyncio.timeout(TAKE_WITHIN):  # another may be faster, and it waits for that one's end then
                    await self._hub.succeed(plan, plan.hub.connect, found.epoch if ours else 0, there=True)
                order.leaderless = (order.leaderless or 0.0) + self._clock.now() - asked
            return await self._promote(order)

    async def _promote(self, order: Lead) -> int:
        async with self._stepping:
            return await self._promote_now(order)

    async def _promote_now(self, order: Lead) -> int:
        plan, theirs, leadership = self._roster.plan, self.theirs, self._hub.leadership
        assert plan is not None
        assert theirs is not None
        assert leadership is not None
        roster = self._roster
        warm = {}
        for shard in plan.shards:
            state = roster.standby_of(shard.shard)
            if state is not None:
                roster.forget(state)
                roster.members[Slot.of_shard(shard.shard)] = state
                warm[shard.shard] = ShardPlan(
                    shard.shard, state.member.actor_name, shard.term + 1, state.report.host, state.report.port,
                    order.cause, order.drain or 0.0, order.leaderless or 0.0,
                )  # fmt: skip
        self.close()
        await self._begun(plan, leading_plan(plan, theirs, warm, leadership.epoch, leadership.incarnation), order)
        return leadership.epoch

    async def _look(self) -> None:
        """Whoever can't hear from the other's leader looks at the record: it may lead already, or be named, or be alone."""
        if not self._tasks:
            raise asyncio.CancelledError  # this fleet leads: the end of this loop
        plan = self._roster.plan
        now = self._clock.now()
        if plan is None or plan.following is None or plan.hub.connect is None or now - self._heard < SILENT:
            return
        if self.theirs is None:  # this leader has come back, and the other is not there to tell its plan
            self.theirs = msgspec.structs.replace(plan, following=None, floor=plan.floor - GENERATIONS)
        try:
            found = await self._hub.recorded(plan)
            if found is not None and (found.home == plan.home or (found.released and found.successor == plan.home)):
                await self.lead(Lead(found.holder, None, None))
                return
            if LEADER in await self.other.members():
                self._alone = None
                return
            self._alone = now if self._alone is None else self._alone
            if now - self._alone < GONE:
                return
            log.warning("the colour that led is gone: this one takes over when its permits have ended")
            async with self._deciding:
                self.order = Lead(found.holder if found else "", None, now - self._alone, "death")
                leadership = await self._hub.succeed(plan, plan.hub.connect)
                await self._promote(self.order)
                log.warning("leading in epoch %d", leadership.epoch)
        except (KubeError, ConnectError, LockProblem, Conflict, NotOurs, TimeoutError) as error:
            self.problems["who leads"] = str(error) or type(error).__name__
        else:
            self.problems.pop("who leads", None)
