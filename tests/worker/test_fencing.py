"""Law 6e: the guard of a write, called immediately before it is sent; and permits that end and come back."""

import asyncio
import math
from typing import Any

import fleet_samples as samples
import pytest
from inprocess import CLOCK, led, until
from test_standby import doc, primary, ran, warm

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.base.loops import Loops
from raycp.base.tasks import Task
from raycp.kube import Fenced
from raycp.leadership.permit import Grant
from raycp.member.permits import PermitKeeper
from raycp.metrics import Metrics, ReconcileMetrics
from raycp.protocol.control import Question
from raycp.protocol.members import Member, Role
from raycp.protocol.substrate import MemberUnavailable
from raycp.worker.fence import WriteFence


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


async def unanswered(question: Question[Any], timeout: float) -> Any:
    """A frozen process's question to the leader."""
    await asyncio.Event().wait()


def task(epoch: int = 1, term: int = 1) -> Task:
    return Task(1, RequestKey("c", "here", "default", "a"), "standard", "user", 1, epoch, "0", term, 0, 0.0, None)


async def test_a_write_is_refused_without_permit_and_for_an_old_epoch_or_term() -> None:
    clock, loops, metrics = VirtualClock(), Loops(VirtualClock()), Metrics()
    grants: list[Grant] = [Grant(6.0, 2, 1, {"0": 5})]

    async def ask(question: Question[Any], timeout: float) -> Any:
        if not grants:
            raise MemberUnavailable("no leader")
        return grants[0]

    keeper = PermitKeeper(Member(Role.WORKER, "standard/0", 0), clock, loops, metrics, ask, lambda: None)
    fence = WriteFence(keeper, metrics)
    with pytest.raises(Fenced, match="permit"):
        fence.guard(task(2, 5), "here")()
    await keeper.pull()
    stamp = fence.guard(task(2, 5), "here")()
    assert stamp.headers == {"X-Raycp-Epoch": "2", "X-Raycp-Shard": "0", "X-Raycp-Term": "5"}
    assert stamp.budget == 6.0, "the request may take no longer than the permit lasts"
    with pytest.raises(Fenced, match="epoch 1 has ended"):
        fence.guard(task(1, 5), "here")()
    with pytest.raises(Fenced, match="term 4"):
        fence.guard(task(2, 4), "here")()
    grants.clear()
    guard = fence.guard(task(2, 5), "here")
    await clock.advance(6.0)  # no connection to the leader, but to the API server
    await keeper.pull()
    with pytest.raises(Fenced, match="permit"):
        guard()
    refused = ReconcileMetrics(metrics).refused_writes
    assert {reason: refused.labels("here", reason).value for reason in ("permit", "epoch", "term")} == {
        "permit": 2.0,
        "epoch": 1.0,
        "term": 1.0,
    }
    await loops.stop()


def test_a_permit_without_a_leader_is_unbounded() -> None:
    async def go() -> float:
        clock = VirtualClock()
        return PermitKeeper(Member(Role.WORKER, "w/0", 0), clock, Loops(clock), Metrics(), None, lambda: None).left()

    assert asyncio.run(go()) == math.inf


async def test_a_frozen_primary_is_succeeded_only_after_its_permit_has_ended() -> None:
    """A frozen primary answers nothing, and its port still accepts. The standby is promoted only when its permit has ended."""
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        standby = await warm(fleet)
        ledger = fleet.leader.hub.lock.proof.ledger
        assert ledger is not None
        frozen = primary(fleet)
        name = frozen.member.actor_name
        fleet.leader.fence.unproven_at -= 60.0
        fleet.substrate.silent.add(frozen.member)
        frozen.permits.ask = unanswered
        await fleet.put("here", "tracked", "meanwhile")
        end = ledger.ends(name)
        await until(lambda: standby.identity.term == 2, 12.0)
        assert not frozen.permits.held
        assert CLOCK.now() >= end, "not before its permit had ended"
        assert name in fleet.leader.plan.dead  # type: ignore[union-attr]
        assert ledger.barred(name)
        await until(lambda: ran()["meanwhile"] >= 1)
        assert not samples.OVERLAPS


@pytest.mark.parametrize("role", ["worker", "shard"])
async def test_a_permit_that_ends_and_comes_back_within_one_question_restores_all_credit(role: str) -> None:
    """The leader answers late: credit that was withdrawn in between, for a new plan, is granted again with the answer."""
    async with led() as fleet:
        await fleet.apply(doc("tracked", leader={"permit": "2s"}, workers={"slots": 1}, shards={"standby": 0}))
        core = next(core for member, core in fleet.substrate.cores.items() if member.role == role)
        keeper = core.permits
        ask, lapsed = keeper.ask, asyncio.Event()

        async def late(question: Question[Any], timeout: float) -> Any:
            await until(lambda: not keeper.held)
            keeper.ask = ask
            for number in range(3):
                await fleet.put("here", "tracked", f"lapsed-{number}")
            await core.configure(core.plan, core.plan)
            lapsed.set()
            return await ask(question, timeout)

        keeper.ask = late
        await until(lapsed.is_set)
        for number in range(3):
            await fleet.put("here", "tracked", f"after-{number}")
        await until(lambda: sum(ran().values()) == 6)
        await until(lambda: keeper.held, what="a grant that was late counts from its question: it may have ended again meanwhile")
