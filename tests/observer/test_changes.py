"""What changed: each kind out of two states, what repeats, what a later observer sees, and what is refused."""

import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from page_views import JOB, NAMES, WALL, PageFleet, PagePlan, failure, fleet, fleet_file, objective, one_down

from raycp.base import deflated
from raycp.base.problems import FleetProblem, ProblemCode, ProblemOwner
from raycp.leadership.switches import Switch
from raycp.observer import chronicle as chronicles
from raycp.observer.audit import ActionRecord
from raycp.observer.change_feed import KEPT, LONGEST, REPEATED_WITHIN, ChangeFeed
from raycp.observer.changes import ChangeKind, ChangeLevel, FleetChange, changes_between
from raycp.observer.chronicle import CHANGES_EVERY, RESTORED_WITHIN, Chronicle
from raycp.observer.facts import ADOPTED_WITHIN, CLEARED_AFTER, FleetFacts, facts_of
from raycp.protocol.plan import ControllerPlan
from raycp.protocol.status import FleetClusterStatus, FleetStatus, ObserverStatus, PoolStatus, RayNodeStatus

AFTER = WALL + 5.0


def facts(status: FleetStatus, before: FleetFacts | None = None, now: float = WALL, **more: Any) -> FleetFacts:
    plan: Any = more.get("plan") or PagePlan(status)
    return facts_of(status, plan, more.get("failures", []), more.get("slo", []), before, now)


def said(before: FleetFacts, after: FleetFacts) -> list[str]:
    return [f"{row.kind}, {row.level}: {row.subject} {row.what}: {row.text}" for row in changes_between(before, after, AFTER)]


def between(status: FleetStatus, later: FleetStatus, **more: Any) -> list[str]:
    before = facts(status)
    return said(before, facts(later, before, AFTER, **more))


CALM = fleet(NAMES)


def with_cluster(**fields: Any) -> FleetStatus:
    return fleet(NAMES, clusters=[*CALM.clusters[:-1], msgspec.structs.replace(CALM.clusters[-1], **fields)])


def with_worker(**fields: Any) -> FleetStatus:
    return fleet(NAMES, workers=[msgspec.structs.replace(CALM.workers[0], **fields), *CALM.workers[1:]])


def test_nothing_has_changed() -> None:
    assert between(CALM, CALM) == []


def test_of_a_first_state_only_switches_are_news() -> None:
    rows = changes_between(None, facts(one_down()), AFTER)
    assert [(row.kind, row.subject, row.at) for row in rows] == [
        (ChangeKind.SWITCH, "leader", WALL - 7200.0),
        (ChangeKind.SWITCH, "shard 0", WALL - 5400.0),
    ]


@pytest.mark.parametrize(
    ("cause", "kind", "level"),
    [("death", "switch", "bad"), ("silence", "switch", "bad"), ("handover", "hand-over", "note"), ("drain", "hand-over", "note")],
)
def test_a_switch_has_its_cause_and_the_time_that_the_leader_recorded(cause: str, kind: str, level: str) -> None:
    switch = Switch(WALL - 3.0, cause, "shard 0", 3, 5, "standby::0/0::g0", "shard::0::g0", leaderless=0.18)
    before = facts(CALM)
    (row,) = changes_between(before, facts(fleet(NAMES, switches=[*CALM.switches, switch])), AFTER)
    assert (row.kind, row.level, row.at, row.section) == (kind, level, WALL - 3.0, "leadership")
    assert row.text == f"cause {cause}; standby::0/0::g0 after shard::0::g0; leaderless for 180 ms; epoch 3, term 5"


def test_a_new_primary_is_a_switch_and_no_replaced_process() -> None:
    shard = msgspec.structs.replace(CALM.shards[0], member="raycp::standby::0/0::g0", term=5)
    assert between(CALM, fleet(NAMES, shards=[shard, CALM.shards[1]])) == []


def test_a_process_that_dies_and_is_replaced() -> None:
    running = with_worker(pid=4711)
    dead = with_worker(member="", pid=None, ready=False)
    member = CALM.workers[0].member.replace("g0", "g1")
    assert between(running, dead) == ["process, bad: worker critical/0 died or was stopped: was g0 pid 4711 on node-3"]
    assert between(dead, with_worker(member=member, pid=4712)) == [
        "process, good: worker critical/0 started: g1 pid 4712 on node-3"
    ]
    assert between(running, with_worker(member=member, pid=4712)) == [
        "process, warn: worker critical/0 replaced: g0 pid 4711 on node-3 → g1 pid 4712 on node-3"
    ]
    assert between(CALM, running) == [], "it has told its pid"
    assert between(CALM, fleet(NAMES, workers=CALM.workers[1:])) == [], "what nobody wants any more: the pool's size tells"


def test_an_observer_that_was_replaced() -> None:
    first, second = (ObserverStatus(member="raycp::observer", pid=pid, state="running", ready=True) for pid in (1, 2))
    assert between(fleet(NAMES, observer=first), fleet(NAMES, observer=second)) == [
        "process, warn: observer observer replaced: observer pid 1 → observer pid 2"
    ]


def test_another_instance_of_the_fleet_has_other_processes() -> None:
    plan = PagePlan(CALM)
    plan.home = "green"
    assert between(with_worker(pid=1), with_worker(member="x::g7", pid=2), plan=plan) == []


def test_a_cluster_that_comes_and_goes() -> None:
    lost = between(CALM, one_down())
    assert "cluster, bad: cluster west-2 unreachable: " in lost[0]
    assert lost[0].endswith("tried again in 8 s; breaker open")
    assert lost[1].startswith("readiness, warn: fleet degraded: ")
    assert len(lost) == 2, "the problem of the same name is not said twice"
    back = between(one_down(), CALM)
    assert back == ["cluster, good: cluster west-2 reachable: ", "readiness, good: fleet ready: "]
    unsynced = with_cluster(synced=False, reason="1 of 3 kinds listed")
    assert between(CALM, unsynced)[0] == "cluster, warn: cluster west-2 not synced: 1 of 3 kinds listed"
    assert between(unsynced, CALM)[0] == "cluster, good: cluster west-2 synced: "
    assert between(CALM, with_cluster(version="v1.37.0")) == [
        "cluster, note: cluster west-2 other version: Kubernetes v1.36.2 → v1.37.0"
    ]


def test_drains() -> None:
    drained = with_cluster(closed="drained")
    assert between(CALM, drained) == ["drain, note: cluster west-2 drained: "]
    assert between(drained, CALM) == ["drain, note: cluster west-2 open again: was drained"]
    node = RayNodeStatus(node="abc")
    assert between(fleet(NAMES, nodes=[node]), fleet(NAMES, nodes=[msgspec.structs.replace(node, draining=True)])) == [
        "drain, note: node abc draining: "
    ]


def test_what_a_new_leader_does_not_know_yet_is_no_news() -> None:
    """Its first status has its own switch alone, and neither members nor clusters that have not reported to it."""
    loop = FleetProblem(ProblemCode.CRASH_LOOP, ProblemOwner(member="pool standard"), "the last 4 died", WALL)
    calm = fleet(NAMES, problems=[loop])
    assert calm.leader
    leader = msgspec.structs.replace(calm.leader, incarnation=3)
    restart = Switch(AFTER, "restart", "leader", 3, 3, "node-4/leader")
    workers = [msgspec.structs.replace(row, member="", state="missing", ready=False) for row in calm.workers]
    clusters = [FleetClusterStatus(name=row.name, role=row.role) for row in calm.clusters]
    before = facts(calm)
    first = facts(fleet(NAMES, leader=leader, switches=[restart], workers=workers, clusters=clusters), before, AFTER)
    found = [each for each in said(before, first) if not each.startswith("readiness")]
    assert [each.partition(";")[0] for each in found] == ["switch, bad: leader switched: cause restart"]
    known = fleet(NAMES, leader=leader, problems=[loop], switches=[*calm.switches, restart])
    second = facts(known, first, AFTER + 1.0)
    assert [each for each in said(first, second) if not each.startswith("readiness")] == []
    late = facts(fleet(NAMES, leader=leader, workers=workers), first, AFTER + ADOPTED_WITHIN)
    assert len([each for each in said(second, late) if "died or was stopped" in each]) == 3, "after a while it has"


def test_nodes_of_ray() -> None:
    one, two = RayNodeStatus(node="a"), RayNodeStatus(node="b")
    assert between(fleet(NAMES, nodes=[one, two]), fleet(NAMES, nodes=[one])) == ["process, bad: node b left Ray: "]
    assert between(fleet(NAMES, nodes=[one]), fleet(NAMES, nodes=[one, two])) == ["process, note: node b joined Ray: "]
    assert between(fleet(NAMES), fleet(NAMES, nodes=[one])) == [], "the leader has asked Ray for the first time"


def test_a_pool_that_grows() -> None:
    small, large = (fleet(NAMES, pools=[PoolStatus(tier="standard", workers=size)]) for size in (2, 3))
    assert between(small, large) == ["pool, note: pool standard resized: 2 → 3 workers"]


def planned(generation: str, *clusters: str, code: str = "aa", **spec: Any) -> Any:
    plan = PagePlan(CALM)
    controller = ControllerPlan("website", "m:website", "website", JOB, "all", ("hub",), 0, code=code)
    plan.fleet = fleet_file(generation, clusters, [controller], **spec)
    return plan


def applied(first: Any, second: Any) -> list[str]:
    before = facts(CALM, plan=first)
    return said(before, facts(CALM, before, AFTER, plan=second))


def test_an_apply_names_what_it_changed() -> None:
    assert applied(planned("a", "hub", "east"), planned("b", "hub", "west", shards={"standby": 2})) == [
        "apply, note: fleet file applied: added cluster west; removed cluster east; changed spec.shards; generation a → b"
    ]
    many = [f"c{at}" for at in range(9)]
    assert (
        "added cluster c0, cluster c1, cluster c2, cluster c3, cluster c4 and 4 more"
        in applied(planned("a", "hub", "east"), planned("b", "hub", "east", *many))[0]
    )
    assert applied(planned("a", "hub"), planned("b", "hub")) == [
        "apply, note: fleet file applied: the same fleet file; generation a → b"
    ]


def test_code_that_has_changed() -> None:
    assert applied(planned("a", "hub"), planned("b", "hub", code="bb"))[1:] == [
        "code, note: controller website other code: code aa → bb"
    ]
    assert between(fleet(NAMES, release="1.0"), fleet(NAMES, release="1.1")) == ["code, note: raycp other release: 1.0 → 1.1"]


def test_no_value_of_the_fleet_file_is_kept() -> None:
    found = facts(CALM, plan=planned("a", "hub", fields={"hub": {"labels": {"word": "hunter2"}}}))
    assert "spec.clusters[hub]" in found.parts
    assert b"hunter2" not in msgspec.json.encode(found)


def test_a_controller_fails_and_recovers() -> None:
    before = facts(CALM)
    failing = facts(CALM, before, AFTER, failures=[failure("hub", "a"), failure("east-1", "b")])
    (row,) = changes_between(before, failing, AFTER)
    assert (row.controller, row.object, row.text) == (
        "website", "east-1/v1/ConfigMap/default/b", "TypeError at website.py:40; 2 objects",
    )  # fmt: skip
    paused = facts(CALM, failing, AFTER + 1.0)
    assert changes_between(failing, paused, AFTER + 1.0) == [], "between two attempts"
    again = facts(CALM, paused, AFTER + 2.0, failures=[failure("hub", "a", attempts=1)])
    assert changes_between(paused, again, AFTER + 2.0) == []
    cleared = facts(CALM, facts(CALM, again, AFTER + 3.0), AFTER + 3.0 + CLEARED_AFTER)
    (row,) = changes_between(again, cleared, AFTER + 3.0 + CLEARED_AFTER)
    assert (row.what, row.level) == ("recovered", ChangeLevel.GOOD)


def test_one_failed_attempt_is_no_news() -> None:
    assert between(CALM, CALM, failures=[failure("hub", "a", attempts=1)]) == []
    given_up = failure("hub", "a", attempts=1, next_try=None)
    assert len(between(CALM, CALM, failures=[given_up])) == 1


def test_while_a_shard_has_not_reported_nothing_recovers() -> None:
    before = facts(CALM, failures=[failure("hub", "a")])
    assert facts(CALM, before, AFTER + 100.0, failures=None).failing == before.failing


def test_alerts_fire_and_are_resolved() -> None:
    burning = objective("batchjob", "critical", 1.0, 61, -0.27)
    assert between(CALM, CALM, slo=[burning]) == ["alert, bad: objective batchjob-critical-1s fires: severity page"]
    fired = facts(CALM, slo=[burning])
    assert said(fired, facts(CALM, fired, AFTER)) == ["alert, good: objective batchjob-critical-1s resolved: severity page"]


def test_problems_begin_and_end() -> None:
    loop = FleetProblem(ProblemCode.CRASH_LOOP, ProblemOwner(member="pool standard"), "the last 4 died", WALL)
    found = between(CALM, fleet(NAMES, problems=[loop]))
    assert found[0] == "problem, warn: CrashLoop (pool standard) began: the last 4 died"
    assert between(fleet(NAMES, problems=[loop]), CALM)[0] == "problem, good: CrashLoop (pool standard) ended: "


def test_texts_are_bounded() -> None:
    loop = FleetProblem(ProblemCode.OTHER, ProblemOwner(cluster="c" * 5000), "x" * 5000, WALL)
    found = changes_between(facts(CALM), facts(fleet(NAMES, problems=[loop])), AFTER)
    seen, stored = ChangeFeed(), ChangeFeed()
    seen.add(found)
    stored.load(found)
    assert len(seen.rows()) == len(stored.rows()) == len(found) > 0
    for row in [*seen.rows(), *stored.rows()]:
        assert len(row.text) <= LONGEST
        assert len(row.subject) <= LONGEST


def test_many_that_change_alike_are_one_change() -> None:
    names = ["hub", *(f"edge-{at}" for at in range(1, 200))]
    before = fleet(names)
    after = fleet(names, clusters=[msgspec.structs.replace(row, reachable=False, reason="refused") for row in before.clusters])
    (row,) = between(before, after)
    assert row == (
        "cluster, bad: 200 clusters unreachable: cluster hub, cluster edge-1, cluster edge-2, cluster edge-3, cluster edge-4 "
        "and 195 more; refused"
    )


# the feed


def change(subject: str, at: float = WALL, kind: ChangeKind = ChangeKind.CLUSTER, what: str = "unreachable") -> FleetChange:
    return FleetChange(at=at, kind=kind, level=ChangeLevel.BAD, subject=subject, what=what)


def test_a_cluster_that_flaps_is_one_entry_that_counts() -> None:
    feed = ChangeFeed()
    feed.add([change("a", WALL), change("b", WALL + 1.0)])
    known = feed.seq
    feed.add(change("a", WALL + 60.0 * at) for at in range(1, 500))
    assert [row.subject for row in feed.since()] == ["b", "a"]
    (row,) = feed.since(known)
    assert (row.id, row.count, row.first_at, row.at) == (1, 500, WALL, WALL + 60.0 * 499)
    feed.add([change("a", row.at + REPEATED_WITHIN + 1.0)])
    assert [each.count for each in feed.since()] == [1, 500, 1]


def test_each_switch_is_an_entry() -> None:
    feed = ChangeFeed()
    feed.add([change("shard 0", kind=ChangeKind.SWITCH, what="switched")] * 3)
    assert len(feed.since()) == 3


async def test_an_action_that_was_refused_stays_beside_the_one_that_was_done() -> None:
    page = PageFleet(CALM)
    for at, status in enumerate((409, 200)):
        page.chronicle.acted(ActionRecord(WALL + at, "drain", "{}", "write token", "10.0.0.7", status, f"answer {status}", 0.1))
    assert [(row["level"], row["text"], row["count"]) for row in page.chronicle.changes()] == [
        ("warn", "answer 409", 1), ("note", "answer 200", 1)
    ]  # fmt: skip


def test_many_of_one_kind_do_not_push_out_the_others() -> None:
    feed = ChangeFeed()
    feed.add([change("shard 0", kind=ChangeKind.SWITCH, what="switched")])
    feed.add(change(f"cluster {at}", WALL + at) for at in range(3 * KEPT))
    rows = feed.since()
    assert len(rows) == KEPT
    assert [row.subject for row in rows][:2] == ["shard 0", f"cluster {2 * KEPT + 1}"]


def test_the_newest_are_kept() -> None:
    feed = ChangeFeed()
    feed.add(change(f"cluster {at}", WALL + at) for at in range(KEPT + 7))
    assert [row.subject for row in feed.since()][:1] == ["cluster 7"]
    assert len(feed.since()) == KEPT
    feed.load([change("older", WALL - 1.0)])
    assert len(feed.since()) == KEPT, "own entries are newer"


# over the end of an observer


async def restarted(page: PageFleet, chronicle: Chronicle, alive: Callable[[], bool] = lambda: True) -> Chronicle:
    """Another observer, which has read what the first one stored last."""
    _, second = page.observer(alive)
    second.restore(chronicle.checkpoint())
    return second


def words(chronicle: Chronicle) -> list[str]:
    return [f"{row['subject']} {row['what']}" for row in chronicle.changes()]


async def test_a_later_observer_goes_on_with_history_and_changes() -> None:
    page = PageFleet(CALM)
    await page.measured(3)
    page.become(clusters=one_down().clusters)
    await page.chronicle.look()
    before = page.chronicle.answer("", -1, -1)
    await page.clock.advance(60.0)
    page.become(release="2.0", clusters=CALM.clusters)
    second = await restarted(page, page.chronicle)
    await second.look()
    after = second.answer(before["instance"], before["last"], before["seq"])
    assert after["instance"] != before["instance"], "the page begins anew"
    rate = [value for value in after["fleet"]["rate"] if value is not None]
    assert rate == [value for value in before["fleet"]["rate"] if value is not None] != []
    assert after["fleet"]["rate"][-5:] == [None] * 5, "nobody measured"
    assert words(second)[2:] == [
        "cluster west-2 unreachable",
        "fleet degraded",
        "observer continued",
        "cluster west-2 reachable",
        "fleet ready",
    ]
    assert "nobody measured for 60 s" in second.changes()[4]["text"]


async def test_changes_are_seen_against_what_was_stored() -> None:
    page = PageFleet(CALM)
    await page.measured(2)
    stored = page.chronicle.checkpoint()
    read = False
    _, second = page.observer(lambda: read)
    page.become(clusters=one_down().clusters)
    await second.look()
    assert second.changes() == [], "it waits for the hub's answer"
    read = True
    second.restore(stored)
    await second.look()
    assert "cluster west-2 unreachable" in words(second)


async def test_a_hub_that_does_not_answer_holds_nothing_up_for_long() -> None:
    page = PageFleet(CALM)
    _, second = page.observer(lambda: False)
    for _ in range(int(RESTORED_WITHIN / CHANGES_EVERY) + 2):
        await second.look()
        await page.clock.advance(CHANGES_EVERY)
        page.become()
    page.become(clusters=one_down().clusters)
    await second.look()
    assert "cluster west-2 unreachable" in words(second)


async def test_two_samples_close_together_are_no_rate() -> None:
    page = PageFleet(CALM)
    await page.measured(2, 30)
    await page.work(30, seconds=1.0)
    await page.chronicle.sample()
    await page.work(30, seconds=9.0)
    await page.chronicle.sample()
    rates = [value for value in page.chronicle.answer("", -1, -1)["fleet"]["rate"] if value is not None]
    assert rates == [pytest.approx(18.0, rel=0.002), pytest.approx(36.0, rel=0.002)]


async def test_a_standby_fleet_remembers_nothing_of_its_own() -> None:
    page = PageFleet(CALM)
    page.plan.following = "blue"
    await page.measured(3)
    assert page.chronicle.changes() == []
    assert page.chronicle.answer("", -1, -1)["fleet"] == {}


async def test_what_nobody_measures_is_a_gap_at_once() -> None:
    page = PageFleet(CALM)
    await page.measured(3)
    before = page.chronicle.answer("", -1, -1)
    assert before["fleet"]["rate"][-1] is not None
    await page.clock.advance(60.0)
    after = page.chronicle.answer(before["instance"], before["last"], before["seq"])
    assert after["fleet"]["rate"] == [None] * (after["last"] - before["last"])
    assert after["last"] - before["last"] == after["points"] >= 5


def stored_at(at: float) -> bytes:
    row = change("x", at)
    state = {"format": 1, "history": {"ends": WALL, "series": []}, "changes": [row], "facts": None}
    return zlib.compress(msgspec.msgpack.encode(state))


STORED = PageFleet(CALM).chronicle.checkpoint()
NEWER = zlib.compress(msgspec.msgpack.encode({"format": 2, "history": 1}))


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (b"{}", "this is no history"),
        (STORED[:-9], "cut off"),
        (STORED[:20] + b"!" + STORED[21:], "this is no history|cut off"),
        (zlib.compress(msgspec.msgpack.encode([1])), "this is no history"),
        (zlib.compress(msgspec.msgpack.encode({"format": 1, "history": 3})), "this is no history"),
        (NEWER, "it has format 2, and this release reads format 1"),
        (stored_at(float("nan")), "no time"),
        (stored_at(1e300), "no time"),
        (zlib.compress(bytes(deflated.MOST + 9)), "too large"),
    ],
)
async def test_what_is_damaged_or_foreign_is_refused_and_the_history_begins_anew(stored: bytes, why: str) -> None:
    page = PageFleet(CALM)
    await page.measured(2)
    before = page.chronicle.answer("", -1, -1)["fleet"]
    with pytest.raises(ValueError, match=why):
        page.chronicle.restore(stored)
    assert page.chronicle.answer("", -1, -1)["fleet"] == before
    assert page.chronicle.changes()[-1]["what"] == "began anew"


async def test_what_it_could_have_stored_is_not_refused() -> None:
    page = PageFleet(CALM)
    page.chronicle.restore(stored_at(WALL))
    assert page.chronicle.changes()[0]["subject"] == "x"


async def test_more_changes_than_it_can_have_stored_cost_nobody_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    numbered = []
    monkeypatch.setattr(ChangeFeed, "_drop", lambda feed: numbered.append(len(feed.rows())))
    row = change("x", WALL)
    state = {"format": 1, "history": {"ends": WALL, "series": []}, "changes": [row] * 20_000, "facts": None}
    page = PageFleet(CALM)
    page.chronicle.restore(zlib.compress(msgspec.msgpack.encode(state)))
    assert numbered[0] == KEPT


async def test_a_large_fleet_fits_into_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    page = PageFleet(fleet(["hub", *(f"edge-{at}" for at in range(1, 20))]))
    await page.measured(12)
    whole = page.chronicle.checkpoint()
    monkeypatch.setattr(chronicles, "MOST_BYTES", len(whole) - 1)
    assert len(page.chronicle.checkpoint()) < len(whole), "with fewer points of its clusters"
    monkeypatch.setattr(chronicles, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="more than the 10 that fit"):
        page.chronicle.checkpoint()
