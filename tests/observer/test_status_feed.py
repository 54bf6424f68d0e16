"""The status at the observer: which of the leader's words and the members' reports is shown."""

import msgspec

from raycp.base.clock import VirtualClock
from raycp.base.problems import ProblemCode
from raycp.observer.sources import MemberReport
from raycp.observer.status_feed import SILENT_AFTER, StatusFeed
from raycp.protocol.members import Member, Role
from raycp.protocol.report import ClusterReport, FailureReport, LaneReport, Report
from raycp.protocol.status import (
    FleetClusterStatus,
    FleetStatus,
    LaneStatus,
    LeaderStatus,
    ReadinessState,
    ShardStatus,
    WorkerStatus,
    with_readiness,
)

SHARD = Member(Role.SHARD, "0", 0)
WORKER = Member(Role.WORKER, "standard/0", 0)


def sent(incarnation: int = 1, plan: int = 3) -> FleetStatus:
    """What the leader sends: all is well."""
    return with_readiness(
        FleetStatus(
            fleet="t",
            plan=plan,
            leader=LeaderStatus(epoch=1, incarnation=incarnation, since=0.0),
            shards=[ShardStatus(shard="0", member=SHARD.actor_name, ready=True, clusters=["hub"])],
            workers=[WorkerStatus(worker="standard/0", tier="standard", member=WORKER.actor_name, ready=True, busy=1, slots=4)],
            clusters=[FleetClusterStatus(name="hub", role="hub", shard="0", synced=True, objects=1)],
            lanes=[LaneStatus(tier="standard", ready=1, share=0.4)],
        )
    )


def report(**fields: object) -> Report:
    return msgspec.structs.replace(Report(pid=1, node="n", plan=3, ready=True, state="running"), **fields)


async def made() -> tuple[VirtualClock, dict[str, MemberReport], StatusFeed]:
    clock, reports = VirtualClock(), dict[str, MemberReport]()
    return clock, reports, StatusFeed(clock, reports)


async def test_before_the_leader_has_sent_anything() -> None:
    _, _, feed = await made()
    status = feed.current()
    assert not status.ready
    assert status.reasons == ["the leader has not sent its status to the observer yet"]
    assert not feed.complete()


async def test_numbers_are_the_members_and_states_are_the_leaders() -> None:
    clock, reports, feed = await made()
    feed.receive(sent())
    shard = report(
        ready=False,
        reasons=["a moment"],
        clusters=[ClusterReport("hub", objects=7, lag=0.5)],
        lanes=[LaneReport("standard", ready=9)],
    )
    reports[SHARD.actor_name] = MemberReport(SHARD, shard, clock.now())
    reports[WORKER.actor_name] = MemberReport(WORKER, report(busy=3, slots=4), clock.now())
    status = feed.current()
    assert status.ready
    assert status.shards[0].ready
    assert (status.clusters[0].objects, status.clusters[0].lag_seconds, status.clusters[0].synced) == (7, 0.5, True)
    assert (status.lanes[0].ready, status.lanes[0].share) == (9, 0.4)
    assert status.workers[0].busy == 3
    assert feed.complete()


async def test_lanes_are_the_leaders_until_all_shards_have_reported() -> None:
    _, _, feed = await made()
    feed.receive(sent())
    assert feed.current().lanes[0].ready == 1


async def test_while_the_leader_is_silent_states_are_the_members() -> None:
    clock, reports, feed = await made()
    feed.receive(sent())
    reports[WORKER.actor_name] = MemberReport(WORKER, report(), clock.now())
    await clock.advance(SILENT_AFTER + 1.0)
    held_back = report(ready=False, reasons=["no permit"], clusters=[ClusterReport("hub", reason="refused")])
    reports[SHARD.actor_name] = MemberReport(SHARD, held_back, clock.now())
    status = feed.current()
    assert status.leader
    assert status.leader.silent_since == clock.wall() - SILENT_AFTER - 1.0
    assert status.reasons[:2] == ["shard 0: no permit", f"worker standard/0: silent for {SILENT_AFTER + 1:.0f} s"]
    assert status.readiness is ReadinessState.NOT_READY
    assert [problem.code for problem in status.found] == [ProblemCode.LEADER_SILENT]
    assert (status.clusters[0].synced, status.clusters[0].reason) == (False, "refused")
    feed.receive(sent(incarnation=2))
    assert feed.current().ready, "the leader is back"


async def test_a_status_of_an_earlier_leader_or_plan_is_dropped() -> None:
    _, _, feed = await made()
    feed.receive(sent(incarnation=2, plan=5))
    feed.receive(sent(incarnation=1, plan=9))
    feed.receive(sent(incarnation=2, plan=4))
    assert feed.current().plan == 5


async def test_silent_members_are_those_that_the_leader_counts_on() -> None:
    clock, reports, feed = await made()
    feed.receive(sent())
    gone = Member(Role.WORKER, "standard/9", 0)
    for member in (SHARD, WORKER, gone):
        reports[member.actor_name] = MemberReport(member, report(), clock.now())
    await clock.advance(SILENT_AFTER + 1.0)
    reports[SHARD.actor_name] = MemberReport(SHARD, report(), clock.now())
    assert [known.member for known in feed.silent()] == [WORKER]


async def test_what_fails_is_what_the_primaries_of_the_fleet_report() -> None:
    _, reports, feed = await made()
    feed.receive(sent())
    row = FailureReport("hub", "hub/v1/ConfigMap/default/a", "website", "TypeError: no", "website.py:40", 1, None, 1.8e9)
    reports[SHARD.actor_name] = MemberReport(SHARD, report(failures=[row], failing=7), 0.0)
    gone = Member(Role.SHARD, "9", 0)
    reports[gone.actor_name] = MemberReport(gone, report(failures=[row], failing=1), 0.0)
    assert feed.failures() == ([row], 7)
