"""Members leave draining nodes, and move to better nodes when there are some (see ``placement``).

Expected flow, of one node that drains: primaries are handed over to standbys elsewhere (where the fleet has none, one is created
for that); each standby and each worker gets a successor first, and is ended when the successor is ready; the observer is replaced;
at last the leader's process ends, and Ray restarts it on another node.

Guarantees: each step is repeated until it is done, by whichever leader there is; except for the observer, nothing is ended before
its successor is ready. A node that is lost before the end is handled like any lost node.

Assumptions: another node is usable; otherwise everything stays and ``problems`` says so. Embedded clusters can't move.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.base.problems import FLEET, ProblemCode, Subject
from raycp.leader.desired import Wanted
from raycp.leader.handover import ShardHandover
from raycp.leader.lifecycle import Lifecycle
from raycp.leader.nodes import NodeWatch
from raycp.leader.placement import Move, Situation, misplaced
from raycp.leader.promotion import Promotion
from raycp.leader.replacements import MOVED
from raycp.leader.roster import Roster
from raycp.protocol.members import Role, Slot
from raycp.protocol.plan import Plan
from raycp.protocol.status import RayNodeStatus

log = logging.getLogger(__name__)

CALM = 5.0
"""Seconds since the last time that anything was missing, moved or drained, before a member is moved to a better node."""

FULL_FOR = 600.0
"""Cool-down of a node that rejected a member, in seconds."""

SETTLED = 10.0
"""Seconds after its start before a leader leaves its node: until then it may not know all members."""

LAST_MOMENT = 5.0
"""Seconds before a drain's deadline at which the leader ends, whatever is still on its node."""


class Evacuation:
    """One per leader. ``leave`` ends the leader's own process, for Ray to restart it elsewhere."""

    def __init__(
        self,
        clock: Clock,
        loops: Loops,
        roster: Roster,
        lifecycle: Lifecycle,
        promotion: Promotion,
        handover: ShardHandover,
        nodes: NodeWatch,
        leave: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._loops = loops
        self._roster = roster
        self._lifecycle = lifecycle
        self._promotion = promotion
        self._handover = handover
        self._nodes = nodes
        self._leave = leave
        self._wake = wake
        self._wanted: Mapping[Slot, Wanted] = {}
        self._immovable: list[str] = []
        self._begun = self._restless = clock.now()
        self._handing: asyncio.Task[None] | None = None
        self._full_until: dict[str, float] = {}

    @property
    def problems(self) -> dict[Subject, str]:
        """What a user should know, at this moment."""
        found: dict[Subject, str] = {}
        if self._immovable:
            found[ProblemCode.DRAIN, FLEET] = f"on a draining node, and no other node is usable: {', '.join(self._immovable)}"
        situation = self.situation()
        if not situation.draining and (move := self._move(situation)) is not None:
            found[ProblemCode.PLACEMENT, FLEET] = f"{move.slot} is moved soon: {move.why}"
        return found

    def nodes(self) -> list[RayNodeStatus]:
        """Ray's nodes, for the status."""
        situation = self.situation()
        return [
            RayNodeStatus(
                node=node.identity,
                address=node.address,
                head=node.head,
                draining=node.draining,
                doubted=node.identity in situation.suspected,
                leader=node.identity == situation.leader,
                members=[str(slot) for slot in situation.on([node.identity])],
            )
            for node in situation.nodes
        ]

    def situation(self) -> Situation:
        """See ``NodeWatch.situation``."""
        return self._nodes.situation(self._roster.where())

    def need_standby(self, plan: Plan) -> frozenset[str]:
        """Shards whose primary has to leave its node: they need a standby even if the fleet wants none."""
        situation = self.situation()
        if not situation.draining or not situation.usable(plan.fleet.doc.spec.shards.node_labels):
            return frozenset()
        return frozenset(slot.shard for slot in situation.on(situation.draining) if slot.role is Role.SHARD)

    def step(self, plan: Plan, wanted: Mapping[Slot, Wanted]) -> None:
        """Start whatever is due; returns at once."""
        situation = self.situation()
        draining = situation.draining
        if self._handing is None or self._handing.done():  # else the standby that was chosen has to remain the one
            self._promotion.avoided = draining
        self._wanted = wanted
        self._dismiss()
        immovable = []
        moving = False
        for slot in situation.on(draining):
            want = wanted.get(slot)
            elsewhere = want is not None and slot.role is not Role.EMBEDDED and situation.usable(_selector(want))
            if elsewhere:
                moving = True
                self._evacuate(plan, slot, situation)
            elif want is not None:
                immovable.append(str(slot))
        self._immovable = immovable
        if draining or moving or self._roster.leaving:
            self._restless = self._clock.now()
        if situation.leader in draining and situation.usable(plan.fleet.doc.spec.shards.node_labels):
            self._move_leader(situation, moving or bool(self._roster.leaving))
        elif not draining:
            self._improve(situation)

    def _evacuate(self, plan: Plan, slot: Slot, situation: Situation) -> None:
        """One member leaves its node."""
        state = self._roster.members.get(slot)
        if state is None:
            return
        if slot.role is Role.SHARD:
            standby = self._promotion.standby_of(slot.shard)
            if standby is not None and standby.node not in situation.draining and self._promotion.proven(plan):
                self._hand_over(slot.shard, "drain")
        elif slot.role in (Role.WORKER, Role.STANDBY) and state.report.ready:
            self._lifecycle.vacate(state, MOVED)
        else:
            self._lifecycle.retire(state, MOVED)

    def _dismiss(self) -> None:
        """End leaving members whose successors are ready, or that are not wanted any more."""
        for state in list(self._roster.leaving):
            successor = self._roster.members.get(state.member.slot)
            if (successor is not None and successor.report.ready) or state.member.slot not in self._wanted:
                self._lifecycle.dismiss(state)

    def _hand_over(self, shard: str, cause: str) -> None:
        if self._handing is not None and not self._handing.done():
            return

        async def run() -> None:
            try:
                for handed in await self._handover.hand_over([shard], cause):
                    if handed.problem:
                        log.warning("shard %s could not leave its node yet: %s", shard, handed.problem)
            except (RuntimeError, KeyError, TimeoutError) as error:
                log.warning("shard %s could not leave its node yet: %s", shard, error)
            self._wake()

        self._handing = self._loops.spawn(run(), f"shard {shard} leaves its node")

    def _move_leader(self, situation: Situation, busy: bool) -> None:
        """The leader leaves its node last."""
        now, wall = self._clock.now(), self._clock.wall()
        if now - self._begun < SETTLED:
            return
        deadline = next((node.ends_at for node in situation.nodes if node.identity == situation.leader), 0.0)
        if not busy or (deadline and wall > deadline - LAST_MOMENT):
            log.warning("the leader's own node drains: it ends, for Ray to restart it elsewhere")
            self._leave()

    def _move(self, situation: Situation) -> Move | None:
        """A member that has a better node."""
        situation = replace(situation, suspected=situation.suspected | self._full(self._clock.now()))
        selectors = {slot: _selector(want) for slot, want in self._wanted.items()}
        warm: dict[str, list[str]] = {}
        for slot, state in self._roster.members.items():
            if slot.role is Role.STANDBY and state.warm and state.node:
                warm.setdefault(slot.shard, []).append(state.node)
        return misplaced(situation, selectors, warm)

    def _improve(self, situation: Situation) -> None:
        """While nothing is missing, move one member at a time to a better node."""
        members, now = self._roster.members, self._clock.now()
        whole = all(slot in members and members[slot].report.ready for slot in self._wanted) and not self._roster.ending
        if not whole:
            self._restless = now
        move = self._move(situation)
        if move is None or now - self._restless < CALM:
            return
        self._restless = now
        log.info("%s is moved: %s", move.slot, move.why)
        if move.slot.role in (Role.STANDBY, Role.WORKER):
            self._lifecycle.vacate(members[move.slot], MOVED)
        else:
            self._promotion.avoided = frozenset({situation.leader})
            self._hand_over(move.slot.shard, "placement")

    def _full(self, now: float) -> set[str]:
        """Nodes that rejected a member lately: Ray started it on another one."""
        for state in self._roster.members.values():
            if state.spot and state.report.node_id and state.spot != state.report.node_id:
                self._full_until[state.spot] = now + FULL_FOR
                self._roster.settled(state)
        return {node for node, until in self._full_until.items() if until > now}


def _selector(want: Wanted) -> dict[str, str]:
    return dict(want.options.get("label_selector") or {})
