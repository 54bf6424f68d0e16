"""A member that is killed in one process ends as a process does: nothing of it goes on, and then its death is noticed."""

import asyncio

import pytest
from inprocess import stack, until

from raycp.protocol.control import Configure, PlanOf
from raycp.protocol.plan import Plan
from raycp.protocol.substrate import MemberDied


@pytest.mark.parametrize("role", ["worker", "shard"])
async def test_a_killed_member_does_not_go_on_with_the_plan_that_it_takes_over(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that did would start its user loop after its death."""
    begun, opened, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def configure(plan: Plan, before: Plan | None) -> None:
        begun.set()
        try:
            await opened.wait()
        except asyncio.CancelledError:
            ended.set()
            raise
        raise AssertionError("it went on")

    async with stack(["tracked"]) as fleet:
        core = fleet.worker() if role == "worker" else fleet.shard()
        monkeypatch.setattr(core, "configure", configure)
        asking = asyncio.ensure_future(fleet.substrate.ask(core.member, Configure(fleet.plan()), timeout=30.0))
        await begun.wait()
        await fleet.substrate.kill(core.member)
        opened.set()
        with pytest.raises(MemberDied):
            await asking
        assert ended.is_set()


async def test_a_workers_death_is_noticed_after_its_last_reconcile() -> None:
    """Else its successor would seem to work on the same key at the same time."""
    async with stack(["tracked"]) as fleet:
        ended: list[int | None] = []
        fleet.substrate.user_loop_ended = ended.append
        member, thread = fleet.worker().member, fleet.worker().user.thread_id
        killing = asyncio.ensure_future(fleet.substrate.kill(member))
        await until(lambda: member not in fleet.substrate.cores)
        with pytest.raises(MemberDied):
            await fleet.substrate.ask(member, PlanOf())
        assert ended == [thread]
        await killing
