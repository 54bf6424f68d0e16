"""Pools by queue delay: what the leader decides from reports (pure), and what it asks Ray for."""

from inprocess import fleet_doc

from raycp.leader.scaler import Scaler, living_pools, worker_bundles
from raycp.member.limits import pool_policy
from raycp.protocol.members import Member, MemberState, Role, Slot
from raycp.protocol.report import LaneReport, Report

TIERS = {"standard": {"workers": {"min": 1, "max": 4}, "autoscale": {"target": "100ms", "upAfter": "2s", "downAfter": "10s"}}}


def members(delay: float, ready: int, busy: int, workers: int) -> dict[Slot, MemberState]:
    shard = MemberState(Member(Role.SHARD, "0", 0))
    shard.report = Report(1, "n", lanes=[LaneReport("standard", ready=ready, oldest=delay)])
    found = {Slot.of_shard("0"): shard}
    for number in range(workers):
        worker = MemberState(Member(Role.WORKER, f"standard/{number}", 0))
        worker.report = Report(1, "n", ready=True, slots=32, busy=busy)
        found[Slot.of_worker("standard", number)] = worker
    return found


def test_pool_grows_after_a_while_and_shrinks_after_a_longer_one() -> None:
    doc = fleet_doc(["here"], ["fleet_samples:tracked"], tiers=TIERS)
    scaler = Scaler()
    pools = {"standard": 1}
    sizes = []
    for second in range(8):
        pools = scaler.step(doc, members(1.0, 500, 32, pools["standard"]), pools, float(second))
        sizes.append(pools["standard"])
    assert sizes[0] == sizes[1] == 1, "not at the first sign"
    assert sizes[-1] == 4, "not beyond max"
    for second in range(8, 17):
        pools = scaler.step(doc, members(0.0, 0, 0, pools["standard"]), pools, float(second))
    assert pools["standard"] == 4, "a short quiet shrinks nothing"
    for second in range(17, 80):
        pools = scaler.step(doc, members(0.0, 0, 0, pools["standard"]), pools, float(second))
    assert pools["standard"] == 1
    assert scaler.reasons["standard"]


def test_fixed_pools_are_not_scaled() -> None:
    doc = fleet_doc(["here"], ["fleet_samples:tracked"], tiers={"standard": {"workers": {"min": 2, "max": 2}}})
    assert Scaler().step(doc, members(9.0, 900, 32, 2), {"standard": 2}, 0.0) == {"standard": 2}
    assert worker_bundles(doc, {"standard": 2}) == []


def test_target_delay_is_half_of_the_tightest_objective() -> None:
    slo = [
        {"controller": "*", "objective": "99%", "within": "4s"},
        {"controller": "*", "tier": "critical", "objective": "99%", "within": "1s"},
    ]
    doc = fleet_doc(["here"], ["fleet_samples:tracked"], slo=slo)
    assert pool_policy(doc, "critical").target == 0.5
    assert pool_policy(doc, "standard").target == 2.0
    assert pool_policy(fleet_doc(["here"], ["fleet_samples:tracked"]), "background").target == 30.0


def test_restarted_leader_keeps_the_pools_that_it_finds() -> None:
    doc = fleet_doc(["here"], ["fleet_samples:tracked"], tiers=TIERS)
    living = [Member(Role.WORKER, f"standard/{number}", 0) for number in range(3)] + [Member(Role.SHARD, "0", 0)]
    assert living_pools(living, doc) == {"standard": 3}
    assert worker_bundles(doc, {"standard": 3}) == [{"CPU": 0.25}] * 3
