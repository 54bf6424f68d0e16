"""Members are created, supervised, drained and killed."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.leader.desired import Wanted
from raycp.leader.placement import actor_options
from raycp.leader.plan_store import PlanStore
from raycp.leader.replacements import HANDED_OVER, Replacements
from raycp.leader.roster import Roster
from raycp.protocol.control import Drain
from raycp.protocol.members import Member, MemberState, Role
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)

DRAIN_WITHOUT_PLAN = 5.0


class Lifecycle:
    """One per leader. ``supervise`` is what goes on for as long as a member lives; ``wake`` starts the leader's next step."""

    def __init__(
        self,
        substrate: Substrate,
        loops: Loops,
        plans: PlanStore,
        roster: Roster,
        supervise: Callable[[MemberState], Coroutine[Any, Any, None]],
        replacements: Replacements,
        wake: Callable[[], None],
    ) -> None:
        self._substrate = substrate
        self._loops = loops
        self._plans = plans
        self._roster = roster
        self._supervise = supervise
        self._replacements = replacements
        self._wake = wake
        self._supervisions: dict[Member, asyncio.Task[None]] = {}

    @property
    def drain_limit(self) -> float:
        """How long a member may take to drain, in seconds."""
        plan = self._plans.plan
        return plan.fleet.doc.spec.timeouts.drain if plan is not None else DRAIN_WITHOUT_PLAN

    def adopt(self, member: Member, fingerprint: str = "", spot: str = "") -> MemberState:
        """Supervise a member that lives; see ``Roster.adopted``."""
        plan = self._plans.plan
        slot = plan.slot(member) if plan is not None else member.slot
        before = self._roster.members.get(slot)
        if before is not None and slot.role is Role.EMBEDDED:
            self.unsupervise(before.member)  # the same cluster, under a name that was not known
        state = self._roster.adopted(member, slot, fingerprint, spot)
        owner = ProblemOwner(peer=str(member.slot))
        task = self._supervisions[member] = self._loops.supervise(partial(self._supervise, state), LoopName.SUPERVISION, owner)
        task.add_done_callback(lambda done: self._forget(member, done))
        return state

    def _forget(self, member: Member, task: asyncio.Task[None]) -> None:
        if self._supervisions.get(member) is task:
            del self._supervisions[member]

    def unsupervise(self, member: Member) -> None:
        """Send the member nothing more, and expect no report of it."""
        task = self._supervisions.pop(member, None)
        if task is not None:
            task.cancel()

    async def create(self, want: Wanted, spot: str = "") -> None:
        """Create a member under the next generation of its slot, on the node ``spot`` if that is possible."""
        slot = want.slot
        plan = self._plans.plan
        member = self._roster.next_member(slot, plan.floor if plan is not None else 0)
        try:
            await self._substrate.create(member, actor_options(want.options, spot))
        except Exception as error:
            self._roster.creation_failed(slot, f"could not be created: {error}")
            log.error("%s could not be created: %s", member, error)
            return
        self._roster.created(slot)
        self.adopt(member, want.fingerprint, spot)

    def vacate(self, state: MemberState, why: str = "") -> None:
        """Free the slot of a worker or standby; the member goes on until ``dismiss``. ``why`` it gets a successor, if it does."""
        if why:
            self._replacements.count(state.member.role, why)
        self._roster.vacated(state)
        self._wake()

    def dismiss(self, state: MemberState) -> None:
        """Drain and kill a member that has a successor."""
        if state.member not in self._roster.ending:
            self.end_soon(state.member, self.drain_limit)

    def retire(self, state: MemberState, why: str = "") -> None:
        """Drain and kill a member that is not wanted, or wanted with other options. ``why`` it gets a successor, if it does."""
        if state.member.role is Role.WORKER:  # while it has keys in flight, a new primary has to ask it (law 6g)
            self.vacate(state, why)
            self.dismiss(state)
            return
        slot = self._roster.removed(state)
        if why and slot is not None:
            self._replacements.count(slot.role, why)
        self.unsupervise(state.member)
        log.info("retiring %s", state.member)
        self.end_soon(state.member, self.drain_limit)

    def handed_over(self, primary: MemberState) -> None:
        """Kill a primary whose shard has another one."""
        self._replacements.count(Role.SHARD, HANDED_OVER)
        self.end_soon(primary.member, 0.0)

    def end_soon(self, member: Member, drain: float) -> None:
        """Drain a member for ``drain`` seconds at most and kill it, in the background."""
        self._roster.ending_started(member)
        self._loops.supervise(partial(self.end, member, drain), LoopName.MEMBER_END, ProblemOwner(peer=str(member.slot)))

    async def end(self, member: Member, timeout: float) -> None:
        """Drain a member for ``timeout`` seconds at most, and kill it."""
        self._roster.ending_started(member)
        try:
            await self._substrate.ask(member, Drain(timeout), timeout=timeout + 5.0)
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.info("%s was not drained: %s", member, error)
        finally:
            await self._substrate.kill(member)
            if self._roster.ended(member):
                self.unsupervise(member)
        self._wake()
