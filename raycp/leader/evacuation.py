"""The fleet leaves nodes that drain, and goes back to where it should be when nodes have come (see ``placing``).

Expected flow, of one node that drains: primaries are handed over to standbys elsewhere (where the fleet has none, one is made for
it); each standby and each worker gets a successor first and is ended when that is ready; the observer is made anew; at last the
leader's process ends, and Ray restarts it on another node.

Guarantees: each step is taken again until it is true, by whichever leader there is; nothing is given up before its successor is
there, except the observer. A node that is gone before all of this is done is a node lost.

Assumptions: there is another node that will do; otherwise everything stays and ``problems`` says so. Embedded clusters can't move.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from raycp.base.clock import Clock
from raycp.leader.nodes import NodeWatch
from raycp.leader.placement import Move, Situation, misplaced
from raycp.leader.promotion import Succession
from raycp.leader.roster import Roster
from raycp.protocol.desired import Wanted
from raycp.protocol.members import Role, Slot
from raycp.protocol.plan import Plan

log = logging.getLogger(__name__)

CALM = 5.0
"""Nothing is moved without need sooner than this after the last time that anything was missing, moved or drained, in seconds."""

FULL_FOR = 600.0
"""How long nothing is moved to a node that could not take what was meant for it, in seconds."""

SETTLED = 10.0
"""A leader younger than this does not leave its node: it has hardly found out what there is."""

LAST_MOMENT = 5.0
"""Before a drain's deadline: the leader leaves whatever else is still there."""


class Evacuation:
    """One per leader. ``leave`` ends the leader's own process, for Ray to restart it elsewhere."""

    def __init__(self, roster: Roster, succession: Succession, watch: NodeWatch, leave: Callable[[], None]) -> None:
        self._stranded: list[str] = []
        self._wanted: Mapping[Slot, Wanted] = {}
        self._roster = roster
        self._succession = succession
        self._watch = watch
        self._leave = leave
        self._clock: Clock = roster.clock
        self._begun = self._restless = roster.clock.now()
        self._handing: asyncio.Task[None] | None = None
        self._refused: dict[str, float] = {}

    @property
    def problems(self) -> dict[str, str]:
        """What a user should know, at this moment."""
        found = {}
        if self._stranded:
            found["drain"] = f"on a node that drains, and no other node will do: {', '.join(self._stranded)}"
        if not self.situation().draining and (move := self._move(self.situation())) is not None:
            found["placement"] = f"{move.slot} is moved soon: {move.why}"
        return found

    def nodes(self) -> list[dict[str, Any]]:
        """Ray's nodes, for the status."""
        situation = self.situation()
        return [
            {
                "node": node.identity,
                "address": node.address,
                "head": node.head,
                "draining": node.draining,
                "doubted": node.identity in situation.suspected,
                "leader": node.identity == situation.leader,
                "members": [str(slot) for slot in situation.on([node.identity])],
            }
            for node in situation.nodes
        ]

    def situation(self) -> Situation:
        """See ``NodeWatch.situation``."""
        return self._watch.situation(self._roster.where())

    def need_standby(self, plan: Plan) -> frozenset[str]:
        """Shards whose primary has to leave its node: they need a standby even if the fleet wants none."""
        situation = self.situation()
        if not situation.draining or not situation.usable(plan.fleet.doc.spec.shards.node_labels):
            return frozenset()
        return frozenset(slot.shard for slot in situation.on(situation.draining) if slot.role is Role.SHARD)

    def step(self, plan: Plan, wanted: Mapping[Slot, Wanted]) -> None:
        """Begin whatever is due; returns at once."""
        situation = self.situation()
        draining = situation.draining
        if self._handing is None or self._handing.done():  # else the standby that was chosen has to remain the one
            self._succession.shunned = draining
        self._wanted = wanted
        self._dismiss()
        stranded = []
        moving = False
        for slot in situation.on(draining):
            want = wanted.get(slot)
            elsewhere = want is not None and slot.role is not Role.EMBEDDED and situation.usable(_selector(want))
            if elsewhere:
                moving = True
                self._evacuate(plan, slot, situation)
            elif want is not None:
                stranded.append(str(slot))
        self._stranded = stranded
        if draining or moving or self._roster.leaving:
            self._restless = self._clock.now()
        if situation.leader in draining and situation.usable(plan.fleet.doc.spec.shards.node_labels):
            self._lead_elsewhere(situation, moving or bool(self._roster.leaving))
        elif not draining:
            self._improve(situation)

    def _evacuate(self, plan: Plan, slot: Slot, situation: Situation) -> None:
        """One member leaves its node."""
        state = self._roster.members.get(slot)
        if state is None:
            return
        if slot.role is Role.SHARD:
            standby = self._succession.standby_of(slot.shard)
            if standby is not None and standby.node not in situation.draining and self._succession.proven(plan):
                self._hand_over(slot.shard, "drain")
        elif slot.role in (Role.WORKER, Role.STANDBY) and state.report.ready:
            self._roster.vacate(state)
        else:
            self._roster.retire(state)

    def _dismiss(self) -> None:
        """Those that were succeeded end when their successors are ready."""
        for state in list(self._roster.leaving):
            successor = self._roster.members.get(state.member.slot)
            if (successor is not None and successor.report.ready) or state.member.slot not in self._wanted:
                self._roster.dismiss(state)

    def _hand_over(self, shard: str, cause: str) -> None:
        if self._handing is not None and not self._handing.done():
            return

        async def run() -> None:
            try:
                for handed in await self._succession.hand_over([shard], cause):
                    if handed.problem:
                        log.warning("shard %s could not leave its node yet: %s", shard, handed.problem)
            except (RuntimeError, KeyError, TimeoutError) as error:
                log.warning("shard %s could not leave its node yet: %s", shard, error)
            self._roster.wake.set()

        self._handing = self._roster.loops.spawn(run(), f"shard {shard} leaves its node")

    def _lead_elsewhere(self, situation: Situation, busy: bool) -> None:
        """The leader goes last."""
        now, wall = self._clock.now(), self._clock.wall()
        if now - self._begun < SETTLED:
            return
        deadline = next((node.ends_at for node in situation.nodes if node.identity == situation.leader), 0.0)
        if not busy or (deadline and wall > deadline - LAST_MOMENT):
            log.warning("the leader's own node drains: it ends, for Ray to restart it elsewhere")
            self._leave()

    def _move(self, situation: Situation) -> Move | None:
        """What is in the wrong place."""
        situation = replace(situation, suspected=situation.suspected | self._full(self._clock.now()))
        selectors = {slot: _selector(want) for slot, want in self._wanted.items()}
        warm: dict[str, list[str]] = {}
        for slot, state in self._roster.members.items():
            if slot.role is Role.STANDBY and state.warm and state.node:
                warm.setdefault(slot.shard, []).append(state.node)
        return misplaced(situation, selectors, warm)

    def _improve(self, situation: Situation) -> None:
        """While all is calm, one member at a time goes to where it should be."""
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
            self._roster.vacate(members[move.slot])
        else:
            self._succession.shunned = frozenset({situation.leader})
            self._hand_over(move.slot.shard, "placement")

    def _full(self, now: float) -> set[str]:
        """Nodes that could lately not take a member that was meant for them."""
        for state in self._roster.members.values():
            if state.spot and state.report.node_id and state.spot != state.report.node_id:
                self._refused[state.spot] = now + FULL_FOR
                state.spot = state.report.node_id
        return {node for node, until in self._refused.items() if until > now}


def _selector(want: Wanted) -> dict[str, str]:
    return dict(want.options.get("label_selector") or {})
