"""Several members die together, the leader among them: nothing is lost, and nothing runs twice at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import CLOCK, Led, led, until, users
from test_standby import doc, primary, ran, warm

from raycp.leader import fence
from raycp.leader.core import LeaderCore
from raycp.protocol import transport
from raycp.protocol.control import ControlError, ErrorCode, PermitRequest, Question
from raycp.protocol.members import Member
from raycp.protocol.substrate import MemberDied
from raycp.protocol.transport import Life


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


class SilentHolder:
    """The leader as others reach it: requests of ``holder`` for permits do not arrive."""

    def __init__(self, leader: LeaderCore, holder: str) -> None:
        self._leader = leader
        self._holder = holder

    async def ask(self, question: Question[Any]) -> Any:
        if isinstance(question, PermitRequest) and question.holder == self._holder:
            raise ControlError(ErrorCode.INTERNAL, "the holder is frozen")
        return await self._leader.ask(question)


def start_leader_without(fleet: Led, holder: Member) -> None:
    """Start a leader that one holder does not reach."""
    leader = fleet.start_leader()
    fleet.substrate.leader = SilentHolder(leader, holder.actor_name)  # type: ignore[assignment]


@contextlib.asynccontextmanager
async def busy(**spec: Any) -> AsyncIterator[tuple[Led, list[str]]]:
    """A fleet under users' changes, 50 a second; when the block has ended each of them has been reconciled, never two at once."""
    async with led() as fleet:
        await fleet.apply(doc("tracked", **{"tiers": {"standard": {"workers": {"min": 2}}}, **spec}))
        samples.DELAY = 0.02
        async with users(fleet) as names:
            await asyncio.sleep(0.3)
            yield fleet, names
        await until(lambda: all(ran()[name] for name in names), 10.0, "every change is reconciled")
        assert not samples.OVERLAPS


async def restarted(fleet: Led) -> None:
    """Ray restarts the leader."""
    fleet.start_leader()
    await fleet.ready()


def received(fleet: Led, name: str) -> dict[str, Any]:
    """The first step of a key as its primary has classified it."""
    timeline = msgspec.json.encode(primary(fleet).reporter.timeline("here", "ConfigMap", "default", name))
    found: dict[str, Any] = msgspec.json.decode(timeline)["controllers"][0]["steps"][0]
    assert found["what"] == "received"
    return found


async def test_leader_primary_and_worker_die_together() -> None:
    async with busy() as (fleet, names):
        standby = await warm(fleet)
        worker = next(member for member in fleet.substrate.cores if member.role == "worker")
        before = primary(fleet).member
        await fleet.die()
        await fleet.substrate.kill(before)
        await fleet.substrate.kill(worker)
        count = len(names)
        await asyncio.sleep(0.3)
        begun = CLOCK.now()
        await restarted(fleet)
        await until(lambda: all(ran()[name] for name in names[: count + 10]))
        assert CLOCK.now() - begun < 3.0
        assert primary(fleet) is standby, "the warm standby follows; nothing is listed again"
        assert standby.identity.term == 2
        assert [row["cause"] for row in fleet.leader.history.rows() if row["what"] == "shard 0"] == ["death"]
        assert before.actor_name not in {member.actor_name for member in fleet.substrate.cores}


async def test_silent_primary_keeps_its_shard_until_its_permit_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray does not know it (its node seems lost), but its port still answers: it may write until its permit has ended (law 6f)."""
    async with busy(leader={"permit": "2s"}) as (fleet, _):
        standby = await warm(fleet)
        before = primary(fleet)
        members, ask = fleet.substrate.members, fleet.substrate.ask

        async def others() -> list[Any]:
            return [member for member in await members() if member != before.member]

        async def unreachable(member: Any, *args: Any, **more: Any) -> Any:
            if member == before.member:
                raise MemberDied(member, "its node died", certain=False)
            return await ask(member, *args, **more)

        await fleet.die()
        fleet.substrate.members, fleet.substrate.ask = others, unreachable  # type: ignore[method-assign]
        fleet.start_leader()
        await until(lambda: fleet.leader.hub.lock.proof.ledger is not None)
        ledger = fleet.leader.hub.lock.proof.ledger
        assert ledger is not None
        while CLOCK.now() < ledger.silent_until - 0.1:
            assert standby.identity.term == 0 or CLOCK.now() > ledger.silent_until - 0.1, "promoted while its primary may write"
            assert not [core for core in fleet.substrate.living("shard") if core is not before], "and no cold one beside it"
            await asyncio.sleep(0.02)
        await until(lambda: standby.identity.term == 2, what="then its standby follows")
        plan = fleet.leader.plan
        assert plan is not None
        assert before.member.actor_name in plan.dead
        fleet.substrate.members, fleet.substrate.ask = members, ask  # type: ignore[method-assign]
        await fleet.substrate.kill(before.member)


async def test_primary_frozen_over_the_leaders_restart_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives by Ray's account, but has never asked the new leader for a permit."""
    monkeypatch.setattr(fence, "FENCE_MARGIN", 0.5)
    async with busy(leader={"permit": "2500ms"}) as (fleet, _):
        standby = await warm(fleet)
        before = primary(fleet)
        await fleet.die()
        fleet.substrate.silent.add(before.member)
        start_leader_without(fleet, before.member)
        await until(lambda: standby.identity.term == 2, 12.0, "its standby follows")
        assert before.member in fleet.substrate.killed


async def test_keys_of_a_worker_lost_with_the_leader_return_after_its_permit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host answers nothing: what it had in work is held until its permit has ended, and no longer."""
    async with busy(leader={"permit": "2s"}) as (fleet, _):
        await warm(fleet)
        at_work: list[Any] = []

        def found() -> bool:
            at_work[:] = [core for core in fleet.substrate.living("worker") if core.report().busy]
            return bool(at_work)

        await until(found)
        lost = at_work[0]
        await fleet.die()
        members, host, port = fleet.substrate.members, lost.host, lost.report().port

        async def probe(at: str, number: int, timeout: float = 1.0) -> Life:
            return Life.UNKNOWN if (at, number) == (host, port) else await transport.probe(at, number, timeout)

        async def others() -> list[Any]:
            return [member for member in await members() if member != lost.member]

        monkeypatch.setattr("raycp.leader.deaths.probe", probe)
        fleet.substrate.members = others  # type: ignore[method-assign]
        start_leader_without(fleet, lost.member)
        await until(lambda: fleet.leader.plan is not None)
        named = {worker.member for worker in fleet.leader.plan.workers}  # type: ignore[union-attr]
        assert lost.member.actor_name in named, "a new primary would still wait for it"
        await until(lambda: fleet.leader.plan is not None and lost.member.actor_name in fleet.leader.plan.dead)
        assert lost.member.actor_name not in {worker.member for worker in fleet.leader.plan.workers}  # type: ignore[union-attr]
        fleet.substrate.members = members  # type: ignore[method-assign]
        fleet.substrate.leader = fleet.leader


async def test_primary_and_standby_that_die_together_start_cold_from_the_watermark() -> None:
    async with busy() as (fleet, names):
        standby = await warm(fleet)
        old = set(names[:10])
        for core in (primary(fleet), standby):  # which leads for a moment if the leader sees the first death before the second
            await until(lambda: old <= {key.name for key in core.ledger.reconciled})  # noqa: B023
        await primary(fleet).watermarks.flush()
        await fleet.substrate.kill(primary(fleet).member)
        await fleet.substrate.kill(standby.member)
        begun, count = CLOCK.now(), len(names)
        await until(lambda: len(names) > count + 5 and all(ran()[name] for name in names[count : count + 5]), 10.0)
        assert CLOCK.now() - begun < 5.0
        await fleet.ready()
        assert primary(fleet).identity.term in (2, 3), "3 where the leader saw the first death before the second"
        for name in old:  # reconciled long ago: looked at again at leisure, spread over a minute, and not as what has changed
            step = received(fleet, name)
            assert (step["reason"], step["tier"]) == ("existing", "background"), f"{name}: {step}"


async def test_observer_and_leader_die_together() -> None:
    async with busy() as (fleet, _):
        await warm(fleet)
        observer = fleet.substrate.living("observer")[0].member
        await fleet.die()
        await fleet.substrate.kill(observer)
        await restarted(fleet)
        assert fleet.status()["observer"]["ready"]
        assert sum(member.role == "observer" for member in fleet.substrate.created) == 2
        assert fleet.status()["leader"]["incarnation"] == 2
