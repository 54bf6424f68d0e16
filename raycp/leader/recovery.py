"""A leader that comes back finds its fleet again, from the members that live: the newest plan that one of them knows.

Guarantees: every member that lives is supervised again; one that the plan names and that lives no more keeps its place until it is
certain that it writes no more. No generation is used twice.
"""

import asyncio
import logging

from raycp.leader.endpoints import embedded_endpoints
from raycp.leader.promotion import Succession
from raycp.leader.roster import Roster
from raycp.protocol.control import PlanOf
from raycp.protocol.members import LEADER, Member, Role
from raycp.protocol.plan import Plan
from raycp.protocol.substrate import Substrate

log = logging.getLogger(__name__)

RECOVERY = 5.0
"""How long a leader that comes back asks the living for the plan, in seconds."""

STRAGGLERS = 1.0
"""After the first of them has answered."""


async def recover(roster: Roster, succession: Succession) -> tuple[Plan, list[Member]] | None:
    """Fill the roster with a fleet that lives on; its newest plan and its members, None if there is none.

    Raises ``MemberUnavailable``.
    """
    living = [member for member in await roster.substrate.members() if member != LEADER]
    if all(member.role is Role.EMBEDDED for member in living):
        return None
    answers = await _plans_of(roster.substrate, [member for member in living if member.role is not Role.EMBEDDED])
    plans = [answer for answer in answers if answer is not None]
    if not plans:
        log.warning("members live but none knows the fleet's plan; waiting for `raycp run`")
        return None
    plan = max(plans, key=lambda known: known.version)
    log.info("recovered the fleet %s from its members: plan %d, epoch %d", plan.fleet.name, plan.version, plan.epoch)
    roster.endpoints = embedded_endpoints(plan.clusters, plan.fleet.doc)
    # A generation is never used again, also not that of a member that died with the leader before: its successor is another
    # primary, of a higher term.
    for name in (*(shard.member for shard in plan.shards), *(worker.member for worker in plan.workers)):
        known = Member.parse(name)
        if known is not None:
            roster.generations[known.slot] = max(known.generation, roster.generations.get(known.slot, -1))
    roster.plan = plan
    for member in living:
        if member.role is Role.EMBEDDED and plan.following is not None:
            continue  # the fleet's that leads
        if plan.slot(member) != member.slot or roster.generations.get(member.slot, -1) <= member.generation:
            roster.adopt(member)
    _miss(plan, living, succession)
    return plan, living


def _miss(plan: Plan, living: list[Member], succession: Succession) -> None:
    """Who was at work when the leader before was gone, and lives no more, or seems not to."""
    for name, host, port in (
        *((shard.member, shard.host, shard.port) for shard in plan.shards if shard.term),
        *((worker.member, worker.host, worker.port) for worker in plan.workers),
    ):
        known = Member.parse(name)
        if known is not None and known not in living:
            succession.absent(known, host, port)


async def _plans_of(substrate: Substrate, members: list[Member]) -> list[Plan | None]:
    """What the members know; those that are silent are not waited for once the others have answered."""
    asking = {asyncio.ensure_future(substrate.ask(member, PlanOf(), timeout=RECOVERY)) for member in members}
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
