"""A standby fleet becomes the active one: by hand-over, or after the active fleet's death.

Guarantees: it leads only after the lock names it, or after the active fleet's leader has been unknown to Ray for ``DEAD_AFTER``
seconds and all its permits have ended. A leader of it that is restarted resumes as what the lock says.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.kube import ConnectError, KubeError
from raycp.leader.active_fleet import ActiveFleet
from raycp.leader.endpoints import embedded_endpoints
from raycp.leader.hub import Hub
from raycp.leader.hub_lock import REACQUIRE_WITHIN
from raycp.leader.plan_store import PlanStore
from raycp.leader.plans import leading_plan
from raycp.leader.promotion import Promotion
from raycp.leader.roster import Roster
from raycp.leadership.locks import LockProblem
from raycp.leadership.records import Conflict
from raycp.protocol.control import ControlError, DrainedPrimary, ErrorCode, FollowTo, Lead
from raycp.protocol.substrate import Substrate

log = logging.getLogger(__name__)

DEAD_AFTER = 5.0
"""Seconds that the active fleet's leader must be unknown to Ray before the standby acquires the lock."""

FOLLOW_WITHIN = 3.0
HOLD = 15.0
"""After so many seconds without an order to lead, a hand-over that was begun is forgotten."""


class NotOurs(Exception):
    """Another fleet leads, or is to lead; the message names it."""


class Takeover:
    """One per standby fleet. ``stepping`` is held by a step of the leader's loop; ``done`` is called when this fleet leads."""

    def __init__(
        self,
        substrate: Substrate,
        clock: Clock,
        plans: PlanStore,
        roster: Roster,
        promotion: Promotion,
        hub: Hub,
        active: ActiveFleet,
        stepping: asyncio.Lock,
        done: Callable[[], None],
    ) -> None:
        self.order = Lead("", None, None)
        """How this fleet comes to lead, for the history."""
        self.problem = ""
        """Why it is not known which fleet leads, while the active fleet's leader does not answer."""
        self._substrate = substrate
        self._clock = clock
        self._plans = plans
        self._roster = roster
        self._promotion = promotion
        self._hub = hub
        self._active = active
        self._stepping = stepping
        self._done = done
        self._alone: float | None = None
        self._held_until = float("-inf")
        self._deciding = asyncio.Lock()

    @property
    def held(self) -> bool:
        """Whether a hand-over is under way: until its end the plan and the members stay as they are."""
        return self._clock.now() < self._held_until

    async def follow(self, primaries: dict[str, DrainedPrimary]) -> list[str]:
        """Wait until the standbys have received every frame of these drained primaries; the shards that have a standby.

        Raises ``ControlError``, ``MemberDied``, ``MemberUnavailable``, ``MemberFailed``.
        """
        plan, roster = self._plans.current, self._roster
        self._held_until = self._clock.now() + HOLD
        shards = {shard.shard: shard for shard in plan.shards}

        async def one(shard: str, primary: DrainedPrimary) -> str:
            target, standby = shards[shard], roster.standby_of(shard)
            if (target.member, target.term) != (primary.member, primary.term):
                raise ControlError(ErrorCode.REFUSED, f"shard {shard} has another primary than its standby follows")
            if standby is None:
                raise ControlError(ErrorCode.REFUSED, f"the standby of shard {shard} is not warm")
            await self._substrate.ask(standby.member, FollowTo(primary.seq), timeout=FOLLOW_WITHIN)
            return shard

        return list(await asyncio.gather(*(one(shard, primary) for shard, primary in primaries.items() if shard in shards)))

    def forget(self) -> None:
        """The hand-over was given up."""
        self._held_until = float("-inf")

    async def lead(self, order: Lead) -> int:
        """The lock names this fleet: begin to lead; the epoch. Raises ``NotOurs``, ``KubeError``, ``LockProblem``,
        ``TimeoutError``."""
        lock = self._hub.lock
        async with self._deciding:
            plan = self._plans.plan
            if plan is None or plan.following is None or self._active.plan is None or plan.hub.connect is None:
                if lock.leadership is None:
                    raise NotOurs("this fleet is not a standby")
                return lock.leadership.epoch
            self.order = order
            if lock.leadership is None:
                asked = self._clock.now()
                found = await lock.holder(plan)
                ours = found is not None and found.home == plan.home
                if found is None or not (ours or (found.released and found.successor in ("", plan.home))):
                    raise NotOurs(f"{found.holder if found else 'no fleet'} leads, and has not named this fleet")
                async with asyncio.timeout(REACQUIRE_WITHIN):  # if another fleet is faster, this one must not wait for its end
                    await lock.acquire(plan, plan.hub.connect, found.epoch if ours else 0, namespace_exists=True)
                order.leaderless = (order.leaderless or 0.0) + self._clock.now() - asked
            return await self._promote(order)

    async def _promote(self, order: Lead) -> int:
        """All warm standbys become primaries, and the plan that of an active fleet, while no step is under way."""
        async with self._stepping:
            before, theirs, leadership = self._plans.current, self._active.plan, self._hub.lock.leadership
            assert theirs is not None
            assert leadership is not None
            warm = {shard.shard: state for shard in before.shards if (state := self._roster.standby_of(shard.shard)) is not None}
            connect = before.hub.connect
            marks = await self._hub.marks.known_to(before, connect, leadership.epoch) if connect is not None else before.marks
            before = msgspec.structs.replace(before, marks=marks)
            plan = leading_plan(before, theirs, warm.keys(), leadership.epoch, leadership.incarnation)
            for shard, state in warm.items():
                plan = self._promotion.make_primary(plan, shard, state, order.cause, order.drain or 0.0, order.leaderless or 0.0)
            self._done()
            self._hub.crds.adopt(before)
            self._roster.endpoints_restored(embedded_endpoints(before.clusters, plan.fleet.doc))
            await self._plans.replace(plan)
            log.warning("this fleet leads, in epoch %d (%s)", plan.epoch, order.cause)
            return plan.epoch

    async def check(self) -> None:
        """While the active fleet's leader does not answer: read the lock. This fleet may lead already, be named, or be alone."""
        plan, active, lock = self._plans.plan, self._active, self._hub.lock
        now = self._clock.now()
        if plan is None or plan.following is None or plan.hub.connect is None or not active.silent:
            return
        active.assume(plan)
        if self._alone is not None and self._alone < active.last_answer:
            self._alone = None
        try:
            found = await lock.holder(plan)
            if found is not None and (found.home == plan.home or (found.released and found.successor == plan.home)):
                await self.lead(Lead(found.holder, None, None))
                return
            if await active.has_leader():
                self._alone = None
                return
            self._alone = now if self._alone is None else self._alone
            if now - self._alone < DEAD_AFTER:
                return
            log.warning("the active fleet is dead: this one takes over when its permits have ended")
            async with self._deciding:
                self.order = Lead(found.holder if found else "", None, now - self._alone, "death")
                await lock.acquire(plan, plan.hub.connect)
                await self._promote(self.order)
        except (KubeError, ConnectError, LockProblem, Conflict, NotOurs, TimeoutError) as error:
            self.problem = str(error) or type(error).__name__
        else:
            self.problem = ""
