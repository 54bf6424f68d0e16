"""A restarted leader finds its fleet again, from the living members: the newest plan that one of them has.

Guarantees: every living member is supervised again; a member that the plan names and Ray does not know keeps its place until it is
certain that it writes nothing more. No generation is used twice.
"""

import asyncio
import logging

from raycp.leader.deaths import Deaths
from raycp.leader.endpoints import embedded_endpoints
from raycp.leader.lifecycle import Lifecycle
from raycp.leader.plan_store import PlanStore
from raycp.leader.roster import Roster
from raycp.protocol.control import PlanOf
from raycp.protocol.members import LEADER, Member, Role
from raycp.protocol.plan import Plan
from raycp.protocol.substrate import Substrate

log = logging.getLogger(__name__)

RECOVERY = 5.0
"""Deadline for the members' answers, in seconds."""

STRAGGLERS = 1.0
"""Seconds to wait for the other answers after the first one."""


class Recovery:
    """One per leader, used once."""

    def __init__(self, substrate: Substrate, plans: PlanStore, roster: Roster, lifecycle: Lifecycle, deaths: Deaths) -> None:
        self._substrate = substrate
        self._plans = plans
        self._roster = roster
        self._lifecycle = lifecycle
        self._deaths = deaths

    async def recover(self) -> tuple[Plan, list[Member]] | None:
        """Fill roster and plan from a living fleet; its newest plan and its members, None if there is none.

        Raises ``MemberUnavailable``.
        """
        living = [member for member in await self._substrate.members() if member != LEADER]
        if all(member.role is Role.EMBEDDED for member in living):
            return None
        answers = await self._plans_of([member for member in living if member.role is not Role.EMBEDDED])
        plans = [answer for answer in answers if answer is not None]
        if not plans:
            log.warning("members live and none has the fleet's plan: waiting for `raycp run`")
            return None
        plan = max(plans, key=lambda known: known.version)
        log.info("recovered the fleet %s from its members: plan %d, epoch %d", plan.fleet.name, plan.version, plan.epoch)
        roster = self._roster
        roster.endpoints_restored(embedded_endpoints(plan.clusters, plan.fleet.doc))
        # The generation of a member that died together with the last leader is not used again either: its successor is another
        # primary, of a higher term.
        for name in (*(shard.member for shard in plan.shards), *(worker.member for worker in plan.workers)):
            known = Member.parse(name)
            if known is not None:
                roster.used(known)
        await self._plans.replace(plan)
        for member in living:
            if member.role is Role.EMBEDDED and plan.following is not None:
                continue  # it belongs to the active fleet
            if plan.slot(member) != member.slot or roster.generation_of(member.slot) <= member.generation:
                self._lifecycle.adopt(member)
        self._find_missed(plan, living)
        self._find_clusters(plan, living)
        return plan, living

    def _find_clusters(self, plan: Plan, living: list[Member]) -> None:
        """Embedded clusters that were up under the last leader, and that Ray does not know now: they are supervised as if they
        lived, and replaced when their API server's port refuses."""
        if plan.following is not None:
            return  # they belong to the active fleet
        there = {member.place for member in living if member.role is Role.EMBEDDED}
        for name in self._roster.endpoints:
            if name not in there:
                self._lifecycle.adopt(Member(Role.EMBEDDED, name, plan.floor))

    def _find_missed(self, plan: Plan, living: list[Member]) -> None:
        """Members that were at work under the last leader, and that Ray does not know now."""
        for name, host, port in (
            *((shard.member, shard.host, shard.port) for shard in plan.shards if shard.term),
            *((worker.member, worker.host, worker.port) for worker in plan.workers),
        ):
            known = Member.parse(name)
            if known is not None and known not in living:
                self._deaths.missed(known, host, port)

    async def _plans_of(self, members: list[Member]) -> list[Plan | None]:
        """The members' plans. Silent members are not waited for once the others have answered."""
        asking = {asyncio.ensure_future(self._substrate.ask(member, PlanOf(), timeout=RECOVERY)) for member in members}
        done, silent = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED) if asking else (set(), set())
        if silent:
            more, silent = await asyncio.wait(silent, timeout=STRAGGLERS)
            done |= more
        if not any(task.exception() is None for task in done) and silent:
            more, silent = await asyncio.wait(silent)
            done |= more
        for task in silent:
            task.cancel()
        return [task.result() for task in done if task.exception() is None]
