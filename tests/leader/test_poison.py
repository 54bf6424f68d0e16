"""Objects that end the process of each worker they meet, in a fleet with a leader (law 11)."""

import asyncio
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import fleet_samples as samples
import pytest
from deadly import Deaths
from inprocess import CLOCK, fleet_doc, fleet_of, holds, led, problem_of, until
from revisions import house

from raycp.base.keys import RequestKey
from raycp.base.problems import ProblemCode, ProblemOwner
from raycp.config import FleetDoc
from raycp.driver.upgrade import stand_by, switch
from raycp.leader import crash_loops, quarantines
from raycp.leader.crash_loops import CrashLoops
from raycp.leader.quarantines import LINGER, MOST, Quarantines
from raycp.protocol.members import Member, Role, Slot
from raycp.protocol.nodes import Node
from raycp.shard.suspects import Level

POOL = (ProblemCode.CRASH_LOOP, ProblemOwner(member="pool standard"))
KEY = RequestKey("deadly", "here", "default", "bad")
OBJECT = "here/v1/ConfigMap/default/bad"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


def doc(*uses: str, pool: int = 3, standby: int = 0, **spec: Any) -> FleetDoc:
    tiers = {"standard": {"workers": {"min": pool, "max": pool}}}
    settings = {"tiers": tiers, "timeouts": {"drain": 2}, "shards": {"standby": standby}, **spec}
    return fleet_doc(("here",), [f"fleet_samples:{use}" for use in uses], **settings)


def ran(name: str) -> int:
    return Counter(each for _, _, each in samples.RAN)[name]


def primary(fleet: Any) -> Any:
    cores = [*fleet.substrate.living("shard"), *fleet.substrate.living("standby")]
    return next((core for core in cores if core.standby is None), None)


def level(fleet: Any) -> Level:
    core = primary(fleet)
    return core.ledger.quarantine.suspects.level(KEY) if core is not None else Level.CLEAR


def quarantine_workers(fleet: Any) -> list[Any]:
    return [core for core in fleet.substrate.living("worker") if core.member.slot.quarantine]


async def test_others_are_served_while_a_poisonous_object_is_found_alone_and_backed_off() -> None:
    async with led() as fleet:
        await fleet.apply(doc("deadly", "tracked"))
        deaths = Deaths(fleet.substrate)
        names, waits = [f"good-{number}" for number in range(150)], []

        async def users() -> None:
            for name in names:
                begun = CLOCK.now()
                await fleet.put("here", "tracked", name)
                await until(lambda: ran(name) >= 1, 20.0, name)  # noqa: B023
                waits.append(CLOCK.now() - begun)

        serving = asyncio.ensure_future(users())
        await fleet.put("here", "deadly", "bad")
        await until(lambda: level(fleet) is Level.CONVICTED, 20.0)
        assert [place.split("/")[0] for place in deaths.places] == ["standard", "standard", "quarantine"]
        await serving
        assert len(waits) == 150
        assert not samples.OVERLAPS
        (row,) = await until(lambda: fleet.status()["suspects"], what="the shard has reported it")
        assert (row["object"], row["controller"], row["convicted"], row["deaths"]) == (OBJECT, "deadly", True, 3)
        (problem,) = [row for row in fleet.status()["problems"] if row["code"] == ProblemCode.OBJECT_CONVICTED]
        assert problem["owner"] == {"object": OBJECT, "controller": "deadly"}
        assert "its reconcile ended the process of the worker in which it ran alone" in problem["message"]
        assert f"raycp why {OBJECT}" in problem["message"]
        await holds(lambda: len(deaths.places) == 3, 0.3, "it waits for its backoff")
        assert (await fleet.ready())["ready"], "one object is no reason to be unready"


async def test_a_quarantine_worker_comes_with_its_suspects_and_goes_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantines, "LINGER", 0.5)
    async with led() as fleet:
        await fleet.apply(doc("deadly"))
        assert not quarantine_workers(fleet), "it costs nothing while nobody is suspected"
        deaths = Deaths(fleet.substrate)
        await fleet.put("here", "deadly", "bad")
        await until(lambda: level(fleet) is Level.CONVICTED, 20.0)
        assert len(deaths.places) == 3
        api = fleet.cluster("here").api
        await api.patch_merge("configmaps", "default", "bad", b'{"data":{"do":"live"}}')
        await until(lambda: level(fleet) is Level.CLEAR, 20.0, "the leader makes another one, and it is cleared there")
        await until(lambda: not quarantine_workers(fleet), 20.0, "nobody needs it")
        await until(lambda: not fleet.status()["suspects"], what="the shard has reported it")
        assert not problem_of(fleet.status(), ProblemCode.OBJECT_CONVICTED)
        pool = {f"standard/{number}" for number in range(3)}
        await until(lambda: {row["worker"] for row in fleet.status()["workers"]} == pool)
        await fleet.ready()


async def test_suspicion_survives_the_primary() -> None:
    async with led() as fleet:
        fleet.substrate.refuse = lambda member: RuntimeError("no room") if member.slot.quarantine else None
        await fleet.apply(doc("deadly", "tracked", standby=1))
        deaths = Deaths(fleet.substrate)
        await until(lambda: fleet.leader.roster.standby_of("0"))
        await fleet.put("here", "deadly", "bad")
        await until(lambda: level(fleet) is Level.SUSPECT, 20.0)
        await until(lambda: "no room" in problem_of(fleet.status(), ProblemCode.MEMBER_NOT_CREATED))
        await until(lambda: "1 objects may have ended workers" in problem_of(fleet.status(), ProblemCode.OBJECTS_SUSPECTED))
        await fleet.ready()  # it holds no readiness back
        before = primary(fleet)
        replica = fleet.substrate.living("standby")[0].standby
        await until(lambda: (held := replica.suspicions({"deadly"}).get(KEY)) is not None and held.deaths == 2)
        await fleet.substrate.kill(before.member)
        await until(lambda: primary(fleet) not in (None, before) and level(fleet) is Level.SUSPECT, 20.0)
        await fleet.put("here", "tracked", "good")
        await until(lambda: ran("good"), 20.0)
        await holds(lambda: len(deaths.places) == 2, 0.3, "no worker of a pool gets it from the successor")
        fleet.substrate.refuse = lambda member: None
        await until(lambda: level(fleet) is Level.CONVICTED, 20.0)
        assert deaths.places[2:] == ["quarantine/0"]


async def test_suspicion_travels_to_the_fleets_next_revision() -> None:
    async with house() as fleet:
        await fleet.up(doc("deadly", standby=1))
        deaths = Deaths(fleet.base, fleet.other)
        await fleet.put("here", "deadly", "bad")

        def found(revision: Any) -> bool:
            cores = [*revision.living("shard"), *revision.living("standby")]
            return any(
                core.standby is None and core.ledger.quarantine.suspects.level(KEY) is Level.CONVICTED for core in cores
            )

        await until(lambda: found(fleet.base), 20.0)
        assert len(deaths.places) == 3
        await stand_by(fleet.client, fleet_of(doc("deadly", standby=1, pool=2)))
        await switch(fleet.client)
        await until(lambda: found(fleet.other), 20.0, "its conviction is known there")
        await holds(lambda: len(deaths.places) == 3, 0.3, "and it still waits for its backoff")


async def test_the_loss_of_a_node_accuses_nobody() -> None:
    """The raylet's port refuses as well: whoever ran there was not the cause."""
    with socket.socket() as raylet:
        raylet.bind(("127.0.0.1", 0))
        raylet.listen()
        port = raylet.getsockname()[1]
        async with led() as fleet:
            fleet.substrate.ground = [Node("n1", "127.0.0.1", port)]
            await fleet.apply(doc("gated", pool=1))
            await fleet.put("here", "gated", "a")
            (worker,) = fleet.substrate.living("worker")
            await until(lambda: worker.runs)
            await until(lambda: worker.node_id == "n1" and fleet.leader.nodes.nodes)
            raylet.close()
            await fleet.substrate.kill(worker.member)
            shard = primary(fleet)
            key = RequestKey("gated", "here", "default", "a")
            await until(lambda: worker.member.actor_name in shard.ledger.quarantine.suspects.excused, 20.0)
            assert shard.ledger.quarantine.suspects.level(key) is Level.CLEAR
            assert not problem_of(fleet.status(), ProblemCode.CRASH_LOOP)
            samples.OPEN["a"] = True


async def test_a_removed_worker_accuses_nobody() -> None:
    async with led() as fleet:
        await fleet.apply(doc("stubborn", pool=2, timeouts={"drain": 0.2}))
        await fleet.put("here", "stubborn", "a")
        await until(lambda: ran("a") == 1)
        victim = next(core for core in fleet.substrate.living("worker") if core.runs)
        # Both go: with other options their successors are other processes.
        await fleet.leader.apply(fleet_of(doc("stubborn", pool=2, timeouts={"drain": 0.2}, workers={"slots": 16})))
        await until(lambda: victim.member in fleet.substrate.killed, 20.0)
        shard = primary(fleet)
        await until(lambda: ran("a") == 2, 20.0)
        assert shard.ledger.quarantine.suspects.level(RequestKey("stubborn", "here", "default", "a")) is Level.CLEAR
        samples.OPEN["a"] = True


async def test_a_crash_loop_is_shown_and_slows_no_replacement() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked", pool=1))
        for generation in range(4):
            await until(lambda: fleet.substrate.living("worker"), 20.0)
            (worker,) = fleet.substrate.living("worker")
            assert worker.member.generation == generation
            assert bool(problem_of(fleet.status(), ProblemCode.CRASH_LOOP)) == (generation >= crash_loops.DEATHS)
            await fleet.substrate.kill(worker.member)
            await until(lambda: not fleet.substrate.living("worker") or fleet.substrate.living("worker")[0] is not worker)  # noqa: B023
        status = await fleet.ready()
        assert "have died within 60 s" in problem_of(status, ProblemCode.CRASH_LOOP)
        await fleet.put("here", "tracked", "good")
        await until(lambda: ran("good"), 20.0)


# the leader's decisions


def test_who_needs_a_quarantine_worker_gets_one_within_the_bound() -> None:
    shards = [str(number) for number in range(MOST + 2)]
    found = Quarantines()
    assert found.step(["0"], [], 0.0) == {"0"}
    assert found.step(shards, ["0"], 1.0) == set(shards[:MOST]), "in the order of need, and of names"
    assert found.step(shards, shards[:MOST], 2.0) == set(shards[:MOST]), "who has one keeps it while it is needed"
    after = found.step(shards[1:], shards[:MOST], 3.0)
    assert after == set(shards[1 : MOST + 1]), "who needs it no more gives it up to one that waits"
    assert found.step([], after, 3.0 + LINGER) == after, "idle ones stay for a while"
    assert found.step([], after, 3.1 + LINGER) == set()
    started = Quarantines()
    assert started.step([], ["3"], 0.0) == {"3"}, "a leader that has just started finds it, and lets it be for a while"
    assert started.step([], ["3"], 0.1 + LINGER) == set()
    assert started.step([], ["3"], 0.2 + LINGER) == set()


def test_a_crash_loop_is_as_many_deaths_as_the_pool_has_workers_within_a_minute() -> None:
    loops = CrashLoops()
    worker = Member(*Slot.of_worker("standard", 0), 7)
    for second in range(3):
        assert not loops.problems({"standard": 1}, float(second))
        loops.died(worker, float(second))
    assert "worker standard/0 (generation 7)" in loops.problems({"standard": 1}, 2.0)[POOL]
    assert not loops.problems({"standard": 4}, 2.0), "one of several workers of a larger pool is alive"
    assert not loops.problems({"standard": 1}, 60.5)


def test_a_quarantine_worker_is_a_worker_of_one_shard_and_of_no_pool() -> None:
    slot = Slot.of_quarantine("3")
    member = Member.parse(Member(*slot, 2).actor_name)
    assert member is not None
    assert (member.role, member.slot.quarantine, member.tier) == (Role.WORKER, "3", "quarantine")
    assert Slot.of_worker("standard", 3).quarantine == ""
    assert Slot.of_shard("3").quarantine == ""

