"""Deaths of members: reported by Ray, found at a closed port, or missed while there was no leader (law 6f).

A member that is dead for certain is replaced at once. One whose death is likely keeps its place until it is certain, or until its
permit has ended.
"""

import logging
from collections.abc import Callable
from functools import partial

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.leader.crash_loops import CrashLoops
from raycp.leader.leadership_proof import LeadershipProof
from raycp.leader.nodes import NodeWatch
from raycp.leader.plan_store import PlanStore
from raycp.leader.promotion import Promotion
from raycp.leader.replacements import DEATH, SILENCE, Replacements
from raycp.leader.roster import Roster
from raycp.protocol.members import Member, MemberState, Role
from raycp.protocol.substrate import MemberDied
from raycp.protocol.transport import Life, probe

log = logging.getLogger(__name__)

HOLDERS = (Role.SHARD, Role.STANDBY, Role.WORKER)
"""Roles that hold permits."""

KEPT_DEAD = 32
"""How many of the last deaths the plan names."""


class Deaths:
    """One per leader. ``wake`` starts the leader's next step."""

    def __init__(
        self,
        clock: Clock,
        loops: Loops,
        crash_loops: CrashLoops,
        plans: PlanStore,
        roster: Roster,
        promotion: Promotion,
        proof: LeadershipProof,
        nodes: NodeWatch,
        replacements: Replacements,
        wake: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._loops = loops
        self._crash_loops = crash_loops
        self._plans = plans
        self._roster = roster
        self._promotion = promotion
        self._proof = proof
        self._nodes = nodes
        self._replacements = replacements
        self._wake = wake

    async def reported(self, state: MemberState, error: MemberDied) -> None:
        """Ray reports that the member's process ended, or that it can't reach it."""
        log.warning("%s", error)
        if state.member.role in HOLDERS and not error.certain:
            self._await_certainty(state)
            return
        await self.remove(state, DEATH, self._clock.now())

    async def suspect(self, name: str) -> None:
        """A standby found its primary's port closed. If it refuses the leader too, the process is dead for certain (law 6f)."""
        noticed = self._clock.now()
        members = self._roster.members
        for slot, state in list(members.items()):
            if slot.role is Role.SHARD and state.member.actor_name == name and state.report.port:
                if await probe(state.report.host, state.report.port) is Life.DEAD and members.get(slot) is state:
                    log.warning("%s is dead: its port refuses connections", state.member)
                    await self.remove(state, DEATH, noticed)
                return

    def missed(self, member: Member, host: str, port: int) -> None:
        """A holder that the plan names and Ray does not know: it ended, or seemed to, while there was no leader."""
        plan = self._plans.plan
        state = self._roster.absent(member, plan.slot(member) if plan is not None else member.slot, host, port)
        self._await_certainty(state)

    def _await_certainty(self, state: MemberState) -> None:
        owner = ProblemOwner(peer=str(state.member.slot))
        self._loops.supervise(partial(self._outlive, state, self._clock.now()), LoopName.DEATH, owner)

    async def _outlive(self, state: MemberState, noticed: float) -> None:
        """Wait until a holder is dead for certain, or its permit has ended. A leader that is not recorded in the hub yet does not
        know when that is. ``noticed``: when it was found dead or silent."""
        name = state.member.actor_name
        while not (state.report.port and await probe(state.report.host, state.report.port) is Life.DEAD):
            ledger = self._proof.ledger
            if ledger is not None:
                ledger.bar(name, "Ray reports this member's death")
                if self._clock.now() >= ledger.ends(name) and self._plans.plan is not None:
                    await self.announce(name)
                    break
            await self._clock.sleep(0.1)
        await self.remove(state, DEATH, noticed)

    async def announce(self, name: str) -> None:
        """Notify all members that this one may not write any more, though its process may live."""
        await self._plans.change(dead=(*self._plans.current.dead[-KEPT_DEAD:], name))

    async def remove(self, state: MemberState, cause: str, noticed: float) -> None:
        """A member writes nothing more: remove it, and promote its standby. ``noticed``: when it was first found dead or silent."""
        # A promotion waits for nothing; a new member must not be sent to a node that is lost.
        warm = bool(state.member.shard) and self._promotion.standby_of(state.member.shard) is not None
        if not warm:
            await self._doubt_node(state, cause)
        slot = self._roster.removed(state)
        if slot is not None:
            self._replacements.count(slot.role, cause)
        if self._proof.ledger is not None:
            self._proof.ledger.forget(state.member.actor_name)
        if slot is not None and slot.role is Role.SHARD:
            await self._promotion.promote_standby(slot.shard, cause, since=noticed)
        if warm:
            await self._doubt_node(state, cause)
        self._wake()

    async def _doubt_node(self, state: MemberState, cause: str) -> None:
        """Whether its node died, and with it all that ran there; else a worker's death may be that of its work (law 11)."""
        if await self._nodes.doubt(state.node, silent=cause == SILENCE):
            for other in {state.member, *(each.member for each in self._roster.all if each.node == state.node)}:
                self._roster.excuse(other)
        member = state.member
        if member.role is Role.WORKER and not member.slot.quarantine and member.actor_name not in self._roster.excused:
            self._crash_loops.died(member, self._clock.now())
