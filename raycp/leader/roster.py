"""The leader's roster: which members live, what they were told, and the plan that all of them are told.

It decides nothing: the leader says what should live, ``succession`` who follows whom.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.kube import ConnectSpec
from raycp.leader.placement import placed
from raycp.leader.supervision import supervise
from raycp.protocol.control import Drain
from raycp.protocol.desired import Wanted
from raycp.protocol.members import Member, MemberState, Role, Slot
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate

log = logging.getLogger(__name__)

Died = Callable[[MemberState, MemberDied], Awaitable[None]]
Reported = Callable[[MemberState, Report], Awaitable[None]]


class Roster:
    """One per leader. ``died`` and ``reported`` are set before the first member is adopted."""

    def __init__(self, substrate: Substrate, clock: Clock, loops: Loops) -> None:
        self.substrate = substrate
        self.clock = clock
        self.loops = loops
        self.members: dict[Slot, MemberState] = {}
        self.generations: dict[Slot, int] = {}
        """The newest generation of each slot; never used again."""
        self.ending: set[Member] = set()
        self._supervision: dict[Member, asyncio.Task[None]] = {}
        self.leaving: list[MemberState] = []
        """Workers and standbys whose slot another has, or will have: told plans until they end. Workers may have keys in work and
        are waited for; standbys may still be promoted."""
        self.endpoints: dict[str, ConnectSpec] = {}
        """How embedded clusters that are up are reached."""
        self.plan: Plan | None = None
        self.plan_changed = asyncio.Condition()
        self.problems: dict[str, str] = {}
        self.wake = asyncio.Event()
        """Set when there is something for the leader to look at."""
        self.died: Died
        self.reported: Reported

    @property
    def drain_limit(self) -> float:
        """How long a member may take to drain, in seconds."""
        return self.plan.fleet.doc.spec.timeouts.drain if self.plan else 5.0

    async def announce(self) -> None:
        """The plan was replaced: tell all members."""
        async with self.plan_changed:
            self.plan_changed.notify_all()
        self.wake.set()

    async def newer_plan(self, version: int, within: float) -> Plan | None:
        """The plan, once it is newer than ``version``; None after ``within`` seconds without."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self.plan_changed:
                await self.plan_changed.wait_for(lambda: self.plan is not None and self.plan.version > version)
        return self.plan if self.plan is not None and self.plan.version > version else None

    async def change(self, **fields: Any) -> None:
        """Replace fields of the plan, under its next version."""
        assert self.plan is not None
        self.plan = msgspec.structs.replace(self.plan, version=self.plan.version + 1, **fields)
        await self.announce()

    def primary_of(self, shard: str) -> MemberState | None:
        """The shard's primary as it is supervised."""
        return self.members.get(Slot.of_shard(shard))

    def standby_of(self, shard: str, shunned: Collection[str] = ()) -> MemberState | None:
        """A standby of the shard that is warm; one on a node that is shunned only where there is no other."""
        found = [
            state
            for slot, state in [*sorted(self.members.items()), *((state.member.slot, state) for state in self.leaving)]
            if slot.role is Role.STANDBY and slot.shard == shard and state.warm and state.member not in self.ending
        ]
        return min(found, key=lambda state: state.node in shunned, default=None)

    def where(self) -> dict[Slot, str]:
        """Slot -> Ray node, of members whose node is known; of one that was just made, the node that was asked for."""
        return {slot: state.node for slot, state in self.members.items() if state.node}

    def adopt(self, member: Member) -> MemberState:
        """Supervise a member that lives."""
        state = MemberState(member, self.clock.now())
        self.members[self.plan.slot(member) if self.plan is not None else member.slot] = state
        self.generations[member.slot] = max(member.generation, self.generations.get(member.slot, -1))
        self._supervision[member] = self.loops.spawn(supervise(self, self.substrate, self.clock, state), f"supervise {member}")
        return state

    async def create(self, want: Wanted, spot: str = "") -> None:
        """Make a member under the next generation of its slot, on the node ``spot`` if that can be had."""
        slot = want.slot
        floor = self.plan.floor if self.plan is not None else 0
        member = Member(*slot, max(self.generations.get(slot, -1) + 1, floor))
        self.generations[slot] = member.generation
        try:
            await self.substrate.create(member, placed(want.options, spot))
        except Exception as error:
            self.problems[str(slot)] = f"could not be created: {error}"
            log.error("%s could not be created: %s", member, error)
            return
        self.problems.pop(str(slot), None)
        state = self.adopt(member)
        state.fingerprint, state.spot = want.fingerprint, spot

    def vacate(self, state: MemberState) -> None:
        """Free the slot of a worker or standby for its successor; it goes on until ``dismiss``."""
        self.forget(state)
        self.leaving.append(state)
        self.wake.set()

    def dismiss(self, state: MemberState) -> None:
        """Drain and end one that has a successor."""
        if state.member not in self.ending:
            self.end_soon(state.member, self.drain_limit)

    def retire(self, state: MemberState) -> None:
        """Drain and end a member that is wanted no more, or wanted otherwise."""
        if state.member.role is Role.WORKER:  # while it still has keys in work a new primary has to ask it (law 6g)
            self.vacate(state)
            self.dismiss(state)
            return
        self.forget(state)
        self.unsupervise(state)
        log.info("retiring %s", state.member)
        self.end_soon(state.member, self.drain_limit)

    def end_soon(self, member: Member, drain: float) -> None:
        """End a member beside everything else, after ``drain`` seconds at most."""
        self.ending.add(member)
        self.loops.spawn(self.end(member, drain), f"end of {member}")

    async def end(self, member: Member, timeout: float) -> None:
        """Drain a member for ``timeout`` seconds at most, and end it."""
        self.ending.add(member)
        try:
            await self.substrate.ask(member, Drain(timeout), timeout=timeout + 5.0)
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.info("%s was not drained: %s", member, error)
        finally:
            await self.substrate.kill(member)
            self.ending.discard(member)
            for state in [state for state in self.leaving if state.member == member]:
                self.forget(state)
                self.unsupervise(state)
        self.wake.set()

    def unsupervise(self, state: MemberState) -> None:
        """Stop watching and configuring a member."""
        task = self._supervision.pop(state.member, None)
        if task is not None:
            task.cancel()

    def forget(self, state: MemberState) -> Slot | None:
        """The slot that ``state`` was in."""
        if state in self.leaving:
            self.leaving.remove(state)
        for slot, known in self.members.items():
            if known is state:
                del self.members[slot]
                return slot
        return None
