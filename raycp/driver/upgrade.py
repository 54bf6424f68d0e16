"""The driver's side of an upgrade: bring up a standby fleet beside the active one, wait until it is warm, switch, end the old one.

Every step may be repeated: a driver killed half-way leaves a standby fleet, which the next one finds; a switch that has
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

Notify = Callable[[StandbyStatus], None]

BEYOND = 30.0
"""Beyond ``leader.handover.timeout``, seconds to wait for the old leader to report the result of the switch."""

GONE_WITHIN = 30.0
"""Seconds that the old revision may take to end before its actors are killed one by one."""

_LOST = (MemberDied, MemberUnavailable, MemberFailed)


async def upgrade(client: FleetClient, fleet: Fleet, notify: Notify | None = None) -> FleetHandoverResult:
    """From the fleet that leads to ``fleet``, warm to warm.

    Raises ``FleetError`` with the reason; the fleet that led leads on then, and nothing of the other is left.
    """
    await stand_by(client, fleet, notify)
    return await switch(client)


async def stand_by(client: FleetClient, fleet: Fleet, notify: Notify | None = None) -> str:
    """Bring ``fleet`` up as a standby fleet, or complete what an earlier driver began; its namespace, once it is warm.

    ``notify`` receives each of its states. Raises ``FleetError``; the standby fleet is ended then.
    """
    leaders = await client.leaders()
    if not leaders:
        raise FleetError(f"no fleet {fleet.name} runs: bring it up with `raycp run`")
    namespace = other_of(leaders[0])
    if len(leaders) > 1:
        found = await client.standing(namespace)
        if found.generation and found.generation != fleet.generation:
            await client.dismiss(namespace, force=False)  # it stood by for another upgrade
    try:
        await _warm(client, fleet, leaders[0], namespace, notify)
    except BaseException:
        await asyncio.shield(client.dismiss(namespace, force=True))
        raise
    return namespace


async def _warm(client: FleetClient, fleet: Fleet, leading: str, namespace: str, notify: Notify | None) -> None:
    spec = fleet.doc.spec
    revision = client.revision(namespace)
    order = Stand(fleet, leading)
    deadline = client.clock.now() + spec.timeouts.ready
    standing = StandbyStatus()
    while True:
        try:
            if standing.generation != fleet.generation:  # the first time, or its leader has come back and knows nothing
                await client.ensure_leader(dict(spec.ray.env), dict(spec.shards.node_labels), namespace)
                await revision.ask(LEADER, order, timeout=15.0)
            standing = await revision.ask(LEADER, StandbyState(), timeout=5.0)
        except MemberFailed as error:
            raise FleetError(f"the new fleet can't stand by: {error}") from error
        except (MemberDied, MemberUnavailable) as error:
            standing = StandbyStatus(reasons=[str(error)])
        if notify is not None:
            notify(standing)
        if standing.warm:
            return
        if client.clock.now() > deadline:
            reasons = "\n  ".join(standing.reasons or ["it does not answer"])
            raise FleetError(
                f"the new fleet is not warm after {spec.timeouts.ready:g} s (timeouts.ready), and is taken away:\n  {reasons}"
            )
        await client.clock.sleep(0.1)


async def switch(client: FleetClient) -> FleetHandoverResult:
    """Hand the fleet to the standby fleet and wait for the old one to end.

    Raises ``FleetError``: the active fleet stays in charge, and the standby fleet is ended.
    """
    leaders = await client.leaders()
    if len(leaders) < 2:
        raise FleetError("no second fleet stands by: bring one up with `raycp upgrade --standby -c FLEET.yaml`")
    old, new = leaders
    plan = await client.plan()
    limit = plan.fleet.doc.spec.leader.handover.timeout if plan is not None else 30.0
    try:
        yielded = await client.revision(old).ask(LEADER, YieldTo(new), timeout=limit + BEYOND)
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
        found: dict[str, Any] = msgspec.to_builtins(await client.revision(namespace).ask(LEADER, StatusOf(), timeout=5.0))
        return found
    except _LOST:
        return {}


async def _outcome(client: FleetClient, old: str, new: str, error: str) -> FleetHandoverResult:
    """The old leader died before it could answer: the record of the leadership shows within a while which fleet leads."""
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
    """Wait until no member of the old revision is left. Raises ``FleetError`` where one outlives being killed."""
    revision = client.revision(old)
    deadline = client.clock.now() + GONE_WITHIN
    while True:
        members = [member for member in await revision.members() if member.role is not Role.EMBEDDED]
        if not members:
            return
        if client.clock.now() > deadline + GONE_WITHIN:
            names = ", ".join(str(member) for member in sorted(members))
            raise FleetError(f"the fleet was handed over, but {names} of the old one can't be killed: does their Ray node answer?")
        if client.clock.now() > deadline:
            for member in members:
                await revision.kill(member)
        await client.clock.sleep(0.1)


async def abandon(client: FleetClient) -> bool:
    """End the standby fleet; False if there is none."""
    leaders = await client.leaders()
    if len(leaders) < 2:
        return False
    await client.dismiss(leaders[1], force=True)
    return True
