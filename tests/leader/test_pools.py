"""What the leader thinks of its pools is seen; what goes wrong again and again is said once."""

import asyncio
import logging
from typing import Any

import pytest
from inprocess import CLOCK, InProcess, fleet_doc, led, until

from raycp.base.loops import Loops
from raycp.cli.status import show
from raycp.leader.plan_store import PlanStore
from raycp.leader.roster import Roster
from raycp.leader.supervision import Supervision
from raycp.protocol.control import Configure, Question
from raycp.protocol.members import Member, MemberState, Role
from raycp.protocol.report import Report
from raycp.protocol.substrate import MemberDied, MemberFailed

TIERS = {
    "critical": {"workers": {"min": 1, "max": 1}},
    "standard": {"workers": {"min": 1, "max": 3}, "autoscale": {"target": "100ms"}},
}


async def test_status_and_metric_show_the_size_of_a_pool_and_the_reason() -> None:
    async with led() as fleet:
        await fleet.apply(fleet_doc(["hub"], ["fleet_samples:tracked"], tiers=TIERS))
        await until(lambda: all(row["reason"] != "not evaluated yet" for row in fleet.status()["pools"]))
        rows = {row["tier"]: row for row in fleet.status()["pools"]}
        assert rows["standard"]["workers"] == 1
        assert (rows["standard"]["min"], rows["standard"]["max"]) == (1, 3)
        assert rows["standard"]["reason"] in ("as it should be", "slots to spare")
        assert rows["critical"]["reason"] == "min is max"
        text = str(show(fleet.status(), "table"))
        assert "POOL" in text
        assert rows["standard"]["reason"] in text
        observer = fleet.substrate.living("observer")[0]

        async def exported() -> bool:
            page = (await observer.view.metrics()).body.decode()
            return all(
                line in page
                for line in (
                    'raycp_pool_workers{tier="standard"} 1',
                    'raycp_pool_workers{tier="background"} 0',
                    'raycp_actors{role="worker"} 2',
                )
            )

        await until(exported)


class Refusing(InProcess):
    """Every member fails to be configured."""

    async def ask(self, member: Member, question: Question[Any], timeout: float = 10.0) -> Any:
        if isinstance(question, Configure):
            self.tries += 1
            raise MemberFailed(f"{member}: Configure: no")
        await CLOCK.sleep(0.05)
        return Report(1, "n")

    tries = 0


async def test_member_that_can_not_be_configured_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with led() as fleet:
        await fleet.apply(fleet_doc(["hub"], ["fleet_samples:tracked"]))
        substrate, wake = Refusing(), asyncio.Event()
        plans, roster = PlanStore(wake.set), Roster(CLOCK)
        await plans.replace(fleet.leader.plan)

        async def reported(state: MemberState, report: Report) -> None:
            roster.reported(state, report)

        async def died(state: MemberState, error: MemberDied) -> None:
            raise error

        state = MemberState(Member(Role.WORKER, "standard/9", 0))
        caplog.set_level(logging.ERROR)
        supervision = Supervision(substrate, CLOCK, Loops(CLOCK), plans, roster, reported, died, lambda node: False)
        task = asyncio.create_task(supervision.run(state))
        await until(lambda: substrate.tries >= 3)
        assert "configure" in state.refusal
        assert sum("could not be configured" in record.message for record in caplog.records) == 1
        task.cancel()


async def test_observer_shows_a_ready_fleet_as_ready() -> None:
    """``raycp top`` right after ``raycp run``: the observer knows all members, itself among them."""
    async with led() as fleet:
        await fleet.apply(fleet_doc(["hub", "east"], ["fleet_samples:tracked"], shards={"clustersPerShard": 1}))
        observer = fleet.substrate.living("observer")[0]
        shown = await observer.view.status()
        assert not [reason for reason in shown["reasons"] if "not there yet" in reason], shown["reasons"]

        async def ready() -> bool:
            return bool((await observer.view.status())["ready"])

        await until(ready, what="and as ready, when the leader has sent its next status")
        assert {row["name"] for row in await observer.view.workers()}
        # Its successor is not ready before it has the reports of all members.
        await fleet.substrate.kill(observer.member)
        again = (await until(lambda: fleet.substrate.living("observer"), 10.0))[0]
        assert again is not observer

        def replaced() -> bool:
            row = fleet.status()["observer"]
            return bool(row["member"] == again.member.actor_name and row["ready"])

        await until(replaced)
        assert not [reason for reason in (await again.view.status())["reasons"] if "not there yet" in reason]
