"""Law 12 for all loops at once: whichever of them raises, whenever, it goes on, the fleet works, and the failure is seen.

Two ways to make a loop raise: the first run of each raises at once, while fleets come up, lose members, and hand over; and each
loop of a fleet at rest is made to raise wherever it waits.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import fleet_samples as samples
import pytest
from deadly import Deaths
from inprocess import Led, fleet_doc, fleet_of, led, until
from revisions import house
from sabotage import Injected, first_runs_raise

from raycp.base import loops
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemCode
from raycp.config import FleetDoc
from raycp.config.embedded import FaultSpec
from raycp.driver.upgrade import upgrade
from raycp.protocol.members import LEADER, Role

STEADY = {
    Role.LEADER: {
        LoopName.CONDITION, LoopName.CONFIGURATION, LoopName.HISTORY, LoopName.LEADER_STEPS, LoopName.PROOF, LoopName.STATISTICS,
        LoopName.SUPERVISION,
    },
    Role.SHARD: {
        LoopName.CAPACITY_REPORTS, LoopName.CLUSTER_GUARD, LoopName.PERMIT, LoopName.REFLECTOR, LoopName.RESYNC,
        LoopName.STATISTICS, LoopName.SWEEP, LoopName.WAKES, LoopName.WATERMARKS,
    },
    Role.STANDBY: {
        LoopName.CLUSTER_GUARD, LoopName.REFLECTOR, LoopName.REPLICATION, LoopName.STATISTICS, LoopName.SWEEP, LoopName.WATERMARKS,
    },
    Role.WORKER: {LoopName.PERMIT, LoopName.SHARD_LINK, LoopName.STANDBY_LINK, LoopName.STATISTICS, LoopName.WATCHDOG},
    Role.OBSERVER: {
        LoopName.CHANGES, LoopName.CHECKPOINT, LoopName.DEAD_PROCESSES, LoopName.HISTORY_CHECKPOINT, LoopName.MEASUREMENT,
        LoopName.STATISTICS,
    },
}  # fmt: skip
"""The loops that each core of a fleet at rest has."""

ELSEWHERE = {
    LoopName.CAPACITY: "only where jobs have a queue: tests/driver/test_queues.py",
    LoopName.QUEUE_STATUS: "only where there are jobs: tests/driver/test_queues.py",
    LoopName.SCHEDULER: "only where there are jobs: tests/driver/test_queues.py",
    LoopName.DUE_KEYS: "only where an input other than an object changes: tests/shard/test_fanout.py",
    LoopName.ERRAND: "no loop",
    LoopName.EVENTS: "only where an object ends workers: test_an_event_tells_a_conviction_though_the_first_run_of_its_loop_raises",
    LoopName.LEADER_RETRY: "no loop: tests/leader/test_retries.py",
    LoopName.TOKENS: "only where a client budget is short: tests/shard/test_client_budget.py",
    LoopName.LOCK_POD: "only where a Pod owns the lock: tests/leadership/test_lock_contract.py",
    LoopName.RETIREMENT: "the old fleet ends while its driver watches: test_an_upgrade_in_which_the_first_run_of_each_loop_raises",
}
"""Names that no fleet here starts, and why."""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> Counter[LoopName]:
    """The first run of each loop raises; the loops that did."""
    return first_runs_raise(monkeypatch)


def doc(**spec: Any) -> FleetDoc:
    """Two shards with a standby each."""
    settings: dict[str, Any] = {
        "tiers": {"standard": {"workers": {"min": 1}}},
        "timeouts": {"drain": 2},
        "shards": {"standby": 1, "clustersPerShard": 1},
        "leader": {"permit": "3s"},
        **spec,
    }
    return fleet_doc(["hub", "east"], [f"fleet_samples:{use}" for use in ("tracked", "wild", "remote")], **settings)


def ran() -> Counter[str]:
    return Counter(name for _, _, name in samples.RAN)


async def works(fleet: Led, name: str, seconds: float = 30.0) -> None:
    """A change in each cluster is reconciled."""
    for cluster, app in (("hub", "remote"), ("east", "tracked")):
        await fleet.put(cluster, app, f"{name}-{cluster}")
        await until(lambda: ran()[f"{name}-{cluster}"], seconds, f"{name} in {cluster}")  # noqa: B023


async def warm(fleet: Led) -> None:
    await until(lambda: sum(shard["standbys"] for shard in fleet.status()["shards"]) == 2, 30.0, "both shards have a standby")


async def test_a_fleet_in_which_the_first_run_of_each_loop_raises(raised: Counter[LoopName]) -> None:
    """Up, work, the death of each kind of member, of the leader alone and with others, a cluster that fails, another document."""
    async with led() as fleet:
        await fleet.apply(doc(), 60.0)
        await works(fleet, "up")
        await warm(fleet)
        await fleet.put("east", "wild", "later", do="poll")  # a delayed key when the primary dies
        await until(lambda: ran()["later"], 30.0)
        for role, place in ((Role.SHARD, "0"), (Role.SHARD, "1"), (Role.WORKER, ""), (Role.OBSERVER, "")):
            await fleet.substrate.kill(fleet.substrate.living(role, place)[0].member)
            await works(fleet, f"without {role} {place}".replace(" ", "-").strip("-"))
        await fleet.ready(seconds=60.0)
        await fleet.die()
        await fleet.substrate.kill(fleet.substrate.living(Role.WORKER)[0].member)
        fleet.start_leader()
        await fleet.ready(seconds=60.0)
        await works(fleet, "another-leader")
        fleet.cluster("east").faults.set([FaultSpec(kind="error", status=503)])
        for number in range(10):
            await fleet.put("hub", "remote", f"refused-{number}")
        await until(lambda: raised[LoopName.CLUSTER_PROBE], 60.0, "its breaker opens")
        fleet.cluster("east").faults.clear()
        fewer = doc(shards={"standby": 0, "clustersPerShard": 1})
        await fleet.apply(fewer, 60.0)
        ended = "members that are not wanted any more end"
        await until(lambda: not any(core.standby for core in fleet.substrate.living(Role.STANDBY)), 30.0, ended)
        await works(fleet, "at-the-end")
        expected = set(LoopName) - set(ELSEWHERE) - UPGRADE
        assert expected - set(raised) == set()


UPGRADE = {
    LoopName.ACTIVE_FLEET, LoopName.TAKEOVER, LoopName.STANDBY_CRDS, LoopName.RETIREMENT, LoopName.LOCK_WATCH,
    LoopName.CHECKPOINT_RESTORE, LoopName.FOLLOWERS,
}  # fmt: skip


async def test_an_upgrade_in_which_the_first_run_of_each_loop_raises(raised: Counter[LoopName]) -> None:
    async with house() as fleet:
        first = fleet_doc(["here"], ["fleet_samples:tracked"], timeouts={"drain": 2})
        await fleet.up(first)
        await fleet.put("here", "tracked", "before")
        await until(lambda: ran()["before"] == 1, 20.0)
        result = await upgrade(fleet.client, fleet_of(fleet_doc(["here"], ["fleet_samples:tracked"], timeouts={"drain": 3})))
        assert not result.problem
        await fleet.until_stopped(fleet.base, 30.0)
        await fleet.put("here", "tracked", "after")
        await until(lambda: ran()["after"] == 1, 20.0)
        await until(lambda: UPGRADE - {LoopName.LOCK_WATCH} <= set(raised), 20.0, f"{UPGRADE - set(raised)}")


async def test_an_event_tells_a_conviction_though_the_first_run_of_its_loop_raises(raised: Counter[LoopName]) -> None:
    async with led() as fleet:
        await fleet.apply(fleet_doc(["here"], ["fleet_samples:deadly"], tiers={"standard": {"workers": {"min": 2}}}), 60.0)
        Deaths(fleet.substrate)
        await fleet.put("here", "deadly", "bad")

        def told() -> bool:
            return "WorkerDied" in [event.get("reason") for event in fleet.cluster("here").api.list("events.events.k8s.io")[0]]

        await until(told, 60.0, "its event is written")
        assert raised[LoopName.EVENTS]


def cores(fleet: Led) -> dict[str, Any]:
    """All cores that supervise loops, by the name that the status has for them."""
    found = {str(member.slot): core for member, core in fleet.substrate.cores.items() if member.role is not Role.EMBEDDED}
    return {LEADER.role: fleet.leader, **found}


async def test_each_loop_of_a_fleet_at_rest_goes_on_and_its_failure_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "RAN_WELL", 6.0)
    async with led() as fleet:
        await fleet.apply(doc())
        await warm(fleet)
        await works(fleet, "before")
        found = cores(fleet)
        for name, core in found.items():
            role = Role(name.split()[0])
            names = {loop.name for loop in core.loops.supervised}
            assert STEADY[role] <= names, f"{name} lacks {STEADY[role] - names}"
        seen: set[tuple[str, str]] = set()

        def shown() -> set[tuple[str, str]]:
            rows = [row for row in fleet.status()["problems"] if row["code"] == ProblemCode.LOOP_FAILED]
            now = {(row["owner"]["member"], row["owner"]["loop"]) for row in rows}
            seen.update(now)
            return now

        for name, core in found.items():
            for loop in core.loops.supervised:
                core.loops.inject(loop, Injected(f"{loop.name} of {name}"))
            await until(lambda: shown() is not None and _all_failed(core.loops), what=f"each loop of {name} has failed")  # noqa: B023
        owners = {(name, loop.name) for name, core in found.items() for loop in core.loops.supervised if loop.failures}
        await until(lambda: shown() and owners <= seen, what="each failure is a problem in the status")
        assert fleet.status()["readiness"] in ("degraded", "not-ready")
        await works(fleet, "after")
        await fleet.ready(seconds=30.0)
        await until(lambda: not shown(), 60.0, "loops that have run well are no problem any more")
        assert cores(fleet).keys() >= found.keys()
        merged = fleet.substrate.living(Role.OBSERVER)[0].view
        counted = (await merged.metrics()).body.decode()
        for loop in {loop for _, loop in owners}:
            assert f'raycp_loop_failures_total{{loop="{loop}"}}' in counted


def _all_failed(found: Loops) -> bool:
    return all(loop.failures for loop in found.supervised)


async def test_a_delayed_key_that_can_not_be_restored_holds_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 11: at a promotion each delayed key is restored, though one of them raises for a while."""
    async with led() as fleet:
        await fleet.apply(doc())
        await warm(fleet)
        for name in ("good", "bad", "other"):
            await fleet.put("east", "wild", name, do="poll")
        await until(lambda: all(ran()[name] for name in ("good", "bad", "other")), 20.0)
        standby = next(core for core in fleet.substrate.living(Role.STANDBY) if core.shard == "1")

        def replicated() -> bool:
            known = standby.standby.queue({"wild"})
            return len(known) == 3 and all(saved.delay > 1.0 for _, saved in known)

        await until(replicated, 10.0, "the replica has the delayed keys")
        restore, refused = standby.ledger.restore, 0

        def reluctant(replicas: Any) -> None:
            nonlocal refused
            known = list(replicas)
            if refused < 4 and any(progress.key.name == "bad" for progress, _ in known):
                refused += 1
                raise Injected("bad")
            restore(known)

        told: list[int] = []
        monkeypatch.setattr(standby.ledger, "restore", reluctant)
        monkeypatch.setattr(standby.inputs, "fleet_changed", lambda *_: told.append(refused))
        await fleet.substrate.kill(fleet.substrate.living(Role.SHARD, "1")[0].member)

        def delayed() -> set[str]:
            return {each.key.name for each in standby.queue.snapshot() if each.key.controller == "wild"}

        await until(lambda: delayed() >= {"good", "other"}, 20.0, f"{refused=}")
        await until(lambda: "bad" in delayed(), 20.0)
        assert refused == 4
        await until(lambda: 4 in told, 20.0, "what has changed meanwhile is looked at when the rest is here")
        assert 2 in told, "it is looked at after the first attempt"  # and at each plan: a slow machine may lose a permit of 3 s


async def test_nothing_that_lives_as_long_as_its_core_is_an_errand() -> None:
    """What is spawned as an errand has an end; what has none is supervised."""
    async with led() as fleet:
        await fleet.apply(doc())
        await warm(fleet)

        def errands() -> dict[str, list[str]]:
            return {name: left for name, core in cores(fleet).items() if (left := core.loops.errands)}

        seen = errands()

        def ended() -> bool:
            now = errands()
            for name in list(seen):
                seen[name] = [each for each in seen[name] if each in now.get(name, ())]
            return not any(seen.values())

        await until(ended, 15.0, f"errands that do not end: {seen}")


