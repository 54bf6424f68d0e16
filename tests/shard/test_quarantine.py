"""Objects whose reconcile ends the process, in real shards and workers: found, alone, backed off, and others go on (law 11)."""

import asyncio
from collections import Counter
from random import Random
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from deadly import Deaths
from inprocess import Stack, holds, stack, until

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.classify import Priority, Reason
from raycp.metrics import Merger
from raycp.protocol.frames import Culprit, LivenessQuery, Tasks
from raycp.protocol.members import Role, Slot
from raycp.queueing import QueuePolicy, WorkQueue
from raycp.shard import quarantine
from raycp.shard.suspects import BACKOFF, Death, Level
from raycp.slo import Timelines
from raycp.worker import watchdog

KEY = RequestKey("deadly", "here", "default", "bad")


def ran(name: str = "") -> int:
    return Counter(each for _, _, each in samples.RAN)[name] if name else len(samples.RAN)


def level(fleet: Stack, key: RequestKey = KEY) -> Level:
    return fleet.shard().ledger.quarantine.suspects.level(key)


async def convicted(fleet: Stack, deaths: Deaths) -> None:
    """The key kills two workers of the pool, then a quarantine worker."""
    await fleet.put("here", "deadly", "bad")
    await until(lambda: len(deaths) == 2 and level(fleet) is Level.SUSPECT)
    await fleet.new_quarantine()
    await fleet.configure()
    await until(lambda: len(deaths) == 3 and level(fleet) is Level.CONVICTED)
    assert deaths.places[2:] == ["quarantine/0"]


async def row_of(fleet: Stack, name: str = "bad", controller: str = "deadly") -> dict[str, Any]:
    """What ``raycp why`` shows."""
    found: Any = fleet.shard().reporter.timeline("here", "ConfigMap", "default", name)
    return next(row for row in found["controllers"] if row["controller"] == controller)


async def test_a_key_that_ends_its_process_is_convicted_at_its_third_death_alone() -> None:
    async with stack(["deadly", "tracked"], workers=3) as fleet:
        deaths = Deaths(fleet.substrate)
        await fleet.put("here", "deadly", "bad")
        await until(lambda: len(deaths) == 2 and level(fleet) is Level.SUSPECT)
        await holds(lambda: len(deaths.places) == 2, 0.3, "no worker of the pool gets it again")
        for number in range(20):
            await fleet.put("here", "tracked", f"good-{number}")
        await until(lambda: sum(ran(f"good-{number}") for number in range(20)) == 20, what="the third worker serves the others")
        report = fleet.report(fleet.members[Slot(Role.SHARD, "0")])
        assert (report.quarantine, report.suspected) == (True, 1), "a quarantine worker is asked for"
        (why,) = [row for row in (await row_of(fleet))["steps"] if row["what"] == "suspected"]
        assert "2 workers died" in why["reason"]
        await fleet.new_quarantine()
        await fleet.configure()
        await until(lambda: level(fleet) is Level.CONVICTED)
        assert deaths.places[2] == "quarantine/0"
        await holds(lambda: len(deaths.places) == 3, 0.3, "it is backed off")
        shown = await row_of(fleet)
        assert shown["suspicion"]["level"] == "convicted"
        assert shown["suspicion"]["deaths"] == 3
        assert "ran alone" in shown["queue"]["error"]
        assert shown["queue"]["state"] == "held"
        assert BACKOFF.base * 0.5 < shown["queue"]["delay_left"] <= BACKOFF.base * (1 + BACKOFF.jitter)
        report = fleet.report(fleet.members[Slot(Role.SHARD, "0")])
        assert not report.quarantine, "until its backoff ends, nobody needs a worker for it"
        (row,) = report.suspects
        assert (row.object, row.controller, row.convicted, row.deaths) == ("here/v1/ConfigMap/default/bad", "deadly", True, 3)
        assert not samples.OVERLAPS


async def test_a_conviction_is_told_by_an_event_and_by_metrics() -> None:
    async with stack(["deadly"], workers=2) as fleet:
        await convicted(fleet, Deaths(fleet.substrate))
        client = fleet.shard().caches.clusters["here"].client
        assert client is not None

        async def events() -> list[Any]:
            listed = await client.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
            found: list[Any] = msgspec.json.decode(listed.body)["items"]
            return found

        (event,) = await until(events)
        assert (event["type"], event["reason"], event["regarding"]["name"]) == ("Warning", "WorkerDied", "bad")
        assert event["regarding"]["kind"] == "ConfigMap"
        assert "ended the process of the worker in which it ran alone" in event["note"]
        (write,) = fleet.writes("here", "events.events.k8s.io", "create")
        assert (write.epoch, write.shard, write.term) == ("1", "0", "1"), "it is stamped like any write"
        merger = Merger()
        merger.feed("shard", fleet.shard().metrics.snapshot())
        labels = {"controller": "deadly", "cluster": "here"}
        assert merger.total("raycp_poison_convictions_total", **labels) == 1
        assert merger.total("raycp_poison_convicted", **labels) == 1
        assert merger.total("raycp_poison_suspects", **labels) == 0


async def test_a_convicted_key_that_is_mended_runs_at_once_alone_and_is_cleared() -> None:
    async with stack(["deadly"], workers=3) as fleet:
        deaths = Deaths(fleet.substrate)
        await convicted(fleet, deaths)
        await fleet.put("here", "deadly", "bad", do="still")
        await fleet.new_quarantine()
        await fleet.configure()
        await until(lambda: len(deaths) == 4, BACKOFF.base * 0.75, "a change does not wait for the backoff")
        assert deaths.places[3:] == ["quarantine/0"]
        assert len(fleet.substrate.living("worker")) == 1, "it ran alone again, and cost nobody else"
        await fleet.put("here", "deadly", "bad", do="live")
        core = await fleet.new_quarantine()
        await fleet.configure()
        await until(lambda: level(fleet) is Level.CLEAR, what="a success clears it")
        assert ("deadly", "bad", {"do": "live"}) in samples.SEEN
        assert not core.runs
        assert [step["what"] for step in (await row_of(fleet))["steps"]][-1] == "cleared"
        await until(lambda: fleet.shard().queue.why(KEY) is None)
        await fleet.put("here", "deadly", "bad", do="live", again="1")
        await until(lambda: ("deadly", "bad", {"do": "live", "again": "1"}) in samples.SEEN, what="in any worker")


async def test_an_innocent_suspect_runs_alone_is_cleared_and_served() -> None:
    """Two long reconciles are in flight at two deaths of their workers by somebody's hand."""
    async with stack(["gated"], workers=1) as fleet:
        for name in ("a", "b"):
            await fleet.put("here", "gated", name)
        for number in range(2):
            await until(lambda: len(fleet.worker(number).runs) == 2)  # noqa: B023
            await fleet.new_worker()
            await fleet.kill("worker", f"standard/{number}")
            await fleet.configure()
        await until(lambda: len(fleet.shard().ledger.quarantine.suspects) == 2)
        count = ran()
        core = await fleet.new_quarantine()
        await fleet.configure()
        await until(lambda: ran() == count + 1)
        await holds(lambda: len(core.runs) == 1 and ran() == count + 1, 0.3, "one at a time")
        assert not fleet.worker(2).runs
        samples.OPEN.update(a=True, b=True)
        await until(lambda: not fleet.shard().ledger.quarantine.active and not fleet.shard().ledger.working)
        assert ran() == count + 2
        assert not samples.OVERLAPS


async def test_deaths_by_node_loss_drain_and_scale_down_accuse_nobody() -> None:
    async with stack(["gated"], workers=1) as fleet:
        key = RequestKey("gated", "here", "default", "a")
        await fleet.put("here", "gated", "a")
        for number, before in ((0, True), (1, False), (2, True)):
            await until(lambda: len(fleet.worker(number).runs) == 1)  # noqa: B023
            name = fleet.members[Slot.of_worker("standard", number)].actor_name
            await fleet.new_worker()
            if before:
                fleet.excused.append(name)
                await fleet.configure()
            await fleet.kill("worker", f"standard/{number}")
            if not before:
                await until(lambda: level(fleet, key) is Level.EXPOSED)
                fleet.excused.append(name)
            await fleet.configure()
        await until(lambda: len(fleet.worker(3).runs) == 1, what="it runs like any other")
        assert level(fleet, key) is Level.CLEAR
        samples.OPEN["a"] = True
        await until(lambda: not fleet.shard().ledger.working)


async def test_a_dead_workers_keys_return_one_after_the_other_within_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "APART", 1.0)
    monkeypatch.setattr(quarantine, "WITHIN", 3.0)
    async with stack(["gated"], workers=1) as fleet:
        for name in "abc":
            await fleet.put("here", "gated", name)
        await until(lambda: len(fleet.worker(0).runs) == 3)
        handed = [key.name for _, key, _ in fleet.shard().queue.running()]
        await fleet.new_worker()
        await fleet.configure()
        await fleet.kill("worker", "standard/0")
        await until(lambda: ran() == 4)
        assert ran() == 4, "the others wait for their turn"
        await until(lambda: ran() == 6)
        assert [name for _, _, name in samples.RAN[3:]] == handed
        samples.OPEN.update(a=True, b=True, c=True)
        await until(lambda: not fleet.shard().ledger.working)


async def test_a_worker_that_does_not_answer_gets_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """``time.sleep`` in an ``async def``: what comes after goes to the other worker."""
    monkeypatch.setattr(watchdog, "SILENT", 60.0)
    monkeypatch.setattr(watchdog, "STUCK_AFTER", 60.0)
    async with stack(["wild", "tracked"], workers=2) as fleet:
        await fleet.put("here", "wild", "bad", do="block")
        await until(lambda: ran("bad") == 1)
        blocked = next(core for core in fleet.substrate.living("worker") if core.runs)
        await asyncio.sleep(0.1)
        for number in range(40):
            await fleet.put("here", "tracked", f"good-{number}")
        await until(lambda: sum(ran(f"good-{number}") for number in range(40)) == 40, 9.0, "none of them waits for it")
        assert len(blocked.runs) == 1
        seat = fleet.shard().dispatcher.seats[blocked.member.actor_name]
        assert seat.silence.unanswered(fleet.substrate.clock.now()) > 0


async def test_a_slow_reconcile_costs_its_worker_no_credit() -> None:
    """It answers: what comes after a silence goes to it all the same."""
    async with stack(["gated", "tracked"], workers=1) as fleet:
        await fleet.put("here", "gated", "slow")
        await until(lambda: ran("slow") == 1)
        for number in range(5):
            await asyncio.sleep(0.1)
            await fleet.put("here", "tracked", f"good-{number}")
            await until(lambda: ran(f"good-{number}") == 1)  # noqa: B023
        samples.OPEN["slow"] = True


async def test_a_worker_of_an_older_release_is_not_asked() -> None:
    async with stack(["gated", "tracked"], workers=1) as fleet:
        (seat,) = fleet.shard().dispatcher.seats.values()
        sent: list[Any] = []
        assert seat.connection is not None
        connection, send = seat.connection, seat.connection.send
        seat.silence.answers = False
        connection.send = lambda message: (sent.append(message), send(message))  # type: ignore[method-assign, assignment]
        await fleet.put("here", "gated", "slow")
        await until(lambda: ran("slow") == 1)
        await asyncio.sleep(0.1)
        await fleet.put("here", "tracked", "good")
        await until(lambda: ran("good") == 1)
        assert [each for each in sent if isinstance(each, Tasks)]
        assert not [each for each in sent if isinstance(each, LivenessQuery)]
        samples.OPEN["slow"] = True


@pytest.mark.parametrize(("names", "expected"), [(["a"], Level.CONVICTED), (["a", "b"], Level.SUSPECT)])
async def test_a_worker_that_ended_itself_without_an_answer(names: list[str], expected: Level) -> None:
    """As one whose interpreter is held by a reconciler: nobody can say which, the open hand-outs do."""
    async with stack(["gated"], workers=1) as fleet:
        for name in names:
            await fleet.put("here", "gated", name)
        await until(lambda: ran() == len(names))
        (seat,) = fleet.shard().dispatcher.seats.values()
        core = fleet.worker(0)
        core.links["0"].received = lambda message: None  # type: ignore[method-assign]
        clock = fleet.substrate.clock
        await until(lambda: seat.silence.unanswered(clock.now()) > 3.1, 30.0, "the sweep asks it")
        await fleet.new_worker()
        await fleet.kill("worker", "standard/0")
        for name in names:
            key = RequestKey("gated", "here", "default", name)
            await until(lambda: level(fleet, key) is expected, what=f"{name} is {expected.name}")  # noqa: B023
        samples.OPEN.update(dict.fromkeys(names, True))


async def test_a_worker_that_can_not_say_which_makes_all_of_its_keys_suspects() -> None:
    async with stack(["gated"], workers=1) as fleet:
        for name in "ab":
            await fleet.put("here", "gated", name)
        await until(lambda: ran() == 2)
        core = fleet.worker(0)
        for run in core.runs.all():
            run.link.report_culprit([run.task.id], "the loop was blocked", False)
        (seat,) = fleet.shard().dispatcher.seats.values()
        await until(lambda: len(seat.culprits) == 2)
        assert seat.culprits[0] == Culprit(seat.culprits[0].ids, "the loop was blocked", False)
        await fleet.kill("worker", "standard/0")
        keys = [RequestKey("gated", "here", "default", name) for name in "ab"]
        await until(lambda: [level(fleet, key) for key in keys] == [Level.SUSPECT] * 2)
        samples.OPEN.update(a=True, b=True)
        await fleet.new_quarantine()
        await fleet.configure()
        await until(lambda: not fleet.shard().ledger.quarantine.active)


@pytest.mark.parametrize(("happens", "runs"), [("change", True), ("resync", False), ("code", True), ("other code", False)])
def test_a_convicted_key_of_an_earlier_primary_waits_for_a_change_or_new_code_only(happens: str, runs: bool) -> None:
    """The backoff of a key that was in work for an earlier primary is a hold: the queue here has counted no failure of it."""
    clock = VirtualClock()
    queue = WorkQueue(QueuePolicy(), clock, None, Random(1))
    held = quarantine.Quarantine(clock, Random(1), queue, Timelines(clock))
    held.died(Death("w1", blamed={KEY: "it held the interpreter"}), [], [KEY])
    queue.add(KEY, tier="standard", priority=Priority.SYSTEM, reason=Reason.WORKER_LOST)
    assert held.pull("alone") is None
    if happens in ("change", "resync"):
        held.made_due(KEY, real=happens == "change")
    else:
        assert held.forgive("deadly" if happens == "code" else "other") == ([KEY] if runs else [])
    assert (held.pull("alone") is not None) is runs
