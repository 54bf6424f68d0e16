"""A whole fleet that is the standby of another one (blue/green): warm replicas of the active fleet's shards, and workers with the
next code and configuration.

It asks the active fleet's leader for its plan and follows it: clusters keep their shards, and each shard that both have gets a
standby that follows the active fleet's primary. It grants no permit and writes nothing to the clusters but
CustomResourceDefinitions: missing ones while it is the standby, changed ones right before the switch. See ``takeover`` for its end.
"""

import asyncio
import logging
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import FLEET, ProblemCode, Subject
from raycp.leader.active_fleet import ActiveFleet
from raycp.leader.crds import Crds
from raycp.leader.plan_store import PlanStore
from raycp.leader.plans import standby_plan
from raycp.leader.takeover import NotOurs, Takeover
from raycp.protocol.control import ControlError, ErrorCode, Followers, FollowPrimaries, Forget, Lead, Prepare, Question, TakeLead
from raycp.protocol.control.codec import unknown_question
from raycp.protocol.members import LEADER, Role
from raycp.protocol.plan import Fleet, Plan
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable

log = logging.getLogger(__name__)

CRDS_WITHIN = 5.0


class StandbyFleet:
    """The leader's part while its fleet is a standby."""

    def __init__(self, clock: Clock, loops: Loops, plans: PlanStore, crds: Crds, active: ActiveFleet, takeover: Takeover) -> None:
        self._clock = clock
        self._loops = loops
        self._plans = plans
        self._crds = crds
        self._active = active
        self._takeover = takeover
        self._problem = ""
        self._announced: tuple[list[str], int] = ([], 0)
        """The names that were reported, at this version of the active fleet's plan."""
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def active_plan(self) -> Plan | None:
        """The newest plan of the active fleet."""
        return self._active.plan

    @property
    def held(self) -> bool:
        """See ``Takeover.held``."""
        return self._takeover.held

    @property
    def order(self) -> Lead:
        """See ``Takeover.order``."""
        return self._takeover.order

    @property
    def problems(self) -> dict[Subject, str]:
        """What a user should know, by subject."""
        found = {ProblemCode.ACTIVE_FLEET: self._problem, ProblemCode.LEADERSHIP: self._takeover.problem}
        return {(code, FLEET): problem for code, problem in found.items() if problem}

    async def begin(self, fleet: Fleet) -> None:
        """Make the first plan. Raises ``ValueError``, ``MemberDied``, ``MemberUnavailable``, ``MemberFailed``."""
        theirs = await self._active.newer_plan()
        if theirs is None:
            raise ValueError(f"no fleet runs in {self._active.namespace}")
        plan = standby_plan(fleet, theirs, None)
        assert plan.following is not None
        self._active.known(theirs)
        following = msgspec.structs.replace(plan.following, namespace=self._active.namespace)
        await self._plans.replace(msgspec.structs.replace(plan, following=following))

    def start(self) -> None:
        """Follow until ``close``."""
        self._tasks = [
            self._loops.forever(self._follow, LoopName.ACTIVE_FLEET),
            self._loops.supervise(self._check, LoopName.TAKEOVER),
            self._loops.forever(self._announce, LoopName.FOLLOWERS, every=0.05),
            self._loops.forever(self._install_missing, LoopName.STANDBY_CRDS, every=2.0),
        ]

    def close(self) -> None:
        """Stop following."""
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self._tasks = []

    async def _check(self) -> None:
        await self._takeover.check()
        while self._tasks:  # the very check may have made the fleet the active one
            await self._clock.sleep(0.5)
            await self._takeover.check()

    async def _follow(self) -> None:
        plan, active = self._plans.plan, self._active
        if plan is None:
            return
        try:
            theirs = await active.newer_plan()
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.debug("the active fleet's leader does not answer: %s", error)
            await self._clock.sleep(0.3)
            return
        mine = self._plans.plan
        if theirs is None or self.held or mine is None or mine.following is None:
            return
        active.known(theirs)
        if theirs.following is not None:
            self._problem = f"the fleet in {active.namespace} is a standby too"
            return
        try:
            after = standby_plan(mine.fleet, theirs, mine)
        except ValueError as error:
            self._problem = str(error)
            return
        self._problem = ""
        if msgspec.structs.replace(after, version=0, fleet=plan.fleet) != msgspec.structs.replace(mine, version=0):
            await self._plans.change(fleet=after.fleet, clusters=after.clusters, shards=after.shards, following=after.following)

    async def _announce(self) -> None:
        """Report the own standbys to the active fleet, whose plan must name them before its primaries accept them."""
        plan, theirs = self._plans.plan, self._active.plan
        if plan is None or plan.following is None or theirs is None or self.held:
            return
        names = sorted(each.member for each in plan.successors)
        if names == list(theirs.followers) or (names, theirs.version) == self._announced:
            return
        try:
            await self._active.substrate.ask(LEADER, Followers(names), timeout=2.0)
            self._announced = names, theirs.version
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.debug("the active fleet's leader does not learn who follows its primaries: %s", error)
            await self._clock.sleep(0.3)

    async def _install_missing(self) -> None:
        plan = self._plans.plan
        if plan is not None and plan.following is not None:
            await self._crds.install(plan, changes=False, within=CRDS_WITHIN)

    async def prepare(self) -> None:
        """Install everything that the next code needs in the clusters: the switch comes. Raises ``ControlError``."""
        plan = self._plans.current
        problems = await self._crds.install(plan, changes=True, within=CRDS_WITHIN)
        if plan.hub.name in problems:
            raise ControlError(ErrorCode.REFUSED, f"CRDs in {plan.hub.name}: {problems[plan.hub.name]}")

    async def ask(self, question: Question[Any]) -> Any:
        """Questions of the active fleet's leader during the hand-over. Raises ``ControlError``."""
        match question:
            case Prepare():
                return await self.prepare()
            case FollowPrimaries(primaries):
                return await self._takeover.follow(primaries)
            case TakeLead(order):
                try:
                    return await self._takeover.lead(order)
                except NotOurs as error:
                    raise ControlError(ErrorCode.REFUSED, str(error)) from error
            case Forget():
                return self._takeover.forget()
        raise unknown_question(question, Role.LEADER)
