"""The driver's side of an upgrade: bring a second colour up beside the one that leads, wait until it is warm, switch, see the old
one end.

Every step may be repeated: a driver killed half-way leaves a colour that stands by, which the next one finds; a switch that has
begun goes on without its driver. Whatever fails before the switch leaves the fleet that leads untouched.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from raycp.driver.fleet_client import FleetClient, FleetError
from raycp.protocol.control import FleetHandoverResult, Stand, StandbyState, StandbyStatus, StatusOf, YieldTo
from raycp.protocol.members import LEADER, Role
from raycp.protocol.plan import Fleet
from raycp.protocol.revisions import other_of
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable

Tell = Callable[[StandbyStatus], None]

BEYOND = 30.0
"""Beyond ``leader.handover.timeout``, how long the old leader is waited for to tell what became of the switch, in seconds."""

GONE_WITHIN = 30.0
"""How long the old colour may take to end before its actors are ended one by one, in seconds."""

_LOST = (MemberDied, MemberUnavailable, MemberFailed)


async def upgrade(client: FleetClient, fleet: Fleet, tell: Tell | None = None) -> FleetHandoverResult:
    """From the fleet that leads to ``fleet``, warm to warm.

    Raises ``FleetError`` with the reason; the fleet that led leads on then, and nothing of the other is left.
    """
    await stand_by(client, fleet, tell)
    return await switch(client)


async def stand_by(client: FleetClient, fleet: Fleet, tell: Tell | None = None) -> str:
    """Bring ``fleet`` up to stand by, or complete what an earlier driver began; its namespace, when it is warm. ``tell`` hears how
    it comes along. Raises ``FleetError``; nothing of it is left then."""
    leaders = await client.leaders()
    if not leaders:
        raise FleetError(f"no fleet {fleet.name} runs: bring it up with `raycp run`")
    namespace = other_of(leaders[0])
    if len(leaders) > 1:
        found = await client.standing(namespace)
        if found.generation and found.generation != fleet.generation:
            await client.dismiss(namespace, force=False)  # it stood by for another upgrade
    try:
        await _warm(client, fleet, leaders[0], namespace, tell)
    except BaseException:
        await asyncio.shield(client.dismiss(namespace, force=True))
        raise
    return namespace


async def _warm(client: FleetClient, fleet: Fleet, leading: str, namespace: str, tell: Tell | None) -> None:
    spec = fleet.doc.spec
    colour = client.colour(namespace)
    order = Stand(fleet, leading)
    deadline = client.clock.now() + spec.timeouts.ready
    standing = StandbyStatus()
    while True:
        try:
            if standing.generation != fleet.generation:  # the first time, or its leader has come back and knows nothing
                await client.ensure_leader(dict(spec.ray.env), dict(spec.shards.node_labels), namespace)
                await colour.ask(LEADER, order, timeout=15.0)
            standing = await colour.ask(LEADER, StandbyState(), timeout=5.0)
        except MemberFailed as error:
            raise FleetError(f"the new fleet can't stand by: {error}") from error
        except (MemberDied, MemberUnavailable) as error:
            standing = StandbyStatus(reasons=[str(error)])
        if tell is not None:
            tell(standing)
        if standing.warm:
            return
        if client.clock.now() > deadline:
            reasons = "\n  ".join(standing.reasons or ["it does not answer"])
            raise FleetError(
                f"the new fleet is not warm after {spec.timeouts.ready:g} s (timeouts.ready), and is taken away:\n  {reasons}"
            )
        await client.clock.sleep(0.1)


async def switch(client: FleetClient) -> FleetHandoverResult:
    """Hand the fleet to the colour that stands by, and see the old one end. Raises ``FleetError``: the fleet that led leads on, the
    other is taken away."""
    leaders = await client.leaders()
    if len(leaders) < 2:
        raise FleetError("no second fleet stands by: bring one up with `raycp upgrade --standby -c FLEET.yaml`")
    old, new = leaders
    plan = await client.plan()
    limit = plan.fleet.doc.spec.leader.handover.timeout if plan is not None else 30.0
    try:
        yielded = await client.colour(old).ask(LEADER, YieldTo(new), timeout=limit + BEYOND)
    except MemberFailed as error:
        yielded = FleetHandoverResult(new, problem=str(error))
    except (MemberDied, MemberUnavailable) as error:
        yielded = await _outcome(client, old, new, str(error))
    if yielded.problem:
        problem = yielded.problem
        try:
            await client.dismiss(new, force=False)
        except FleetError as error:
            problem += f"; {error}"
        raise FleetError(f"the fleet was not handed over, and goes on as it was: {problem}")
    await _see_off(client, old)
    return yielded


async def _status(client: FleetClient, namespace: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.to_builtins(await client.colour(namespace).ask(LEADER, StatusOf(), timeout=5.0))
        return found
    except _LOST:
        return {}


async def _outcome(client: FleetClient, old: str, new: str, error: str) -> FleetHandoverResult:
    """The old leader died before it could answer: who leads shows within a while."""
    deadline = client.clock.now() + 15.0
    while client.clock.now() < deadline:
        status = await _status(client, new)
        if status.get("leader"):
            return FleetHandoverResult(new, int(status["leader"]["epoch"]))
        if (await _status(client, old)).get("leader", {}).get("holder"):
            break  # it is back, and holds the lock
        await client.clock.sleep(0.2)
    return FleetHandoverResult(new, problem=error)


async def _see_off(client: FleetClient, old: str) -> None:
    """Wait until nothing of the old colour is left."""
    colour = client.colour(old)
    deadline = client.clock.now() + GONE_WITHIN
    while True:
        members = [member for member in await colour.members() if member.role is not Role.EMBEDDED]
        if not members:
            return
        if client.clock.now() > deadline:
            for member in members:
                await colour.kill(member)
        await client.clock.sleep(0.1)


async def abandon(client: FleetClient) -> bool:
    """Take the colour that stands by away; False where there is none."""
    leaders = await client.leaders()
    if len(leaders) < 2:
        return False
    await client.dismiss(leaders[1], force=True)
    return True
