"""The leader over a substrate in this process: bring-up, death, replacement, apply, recovery, down. Real cores and clusters."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import fleet_samples as samples
import pytest
from inprocess import CLOCK, QUIET, InProcess, fleet_doc, fleet_of, holds, led, until

from raycp.config import FleetDoc
from raycp.leader.core import LeaderCore
from raycp.protocol.control import ControlError, Down, ErrorCode, KubeconfigOf, Rest
from raycp.protocol.members import Member, Role


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


def doc(*clusters: str, uses: tuple[str, ...] = ("tracked",), **spec: Any) -> FleetDoc:
    settings = {"tiers": {"standard": {"workers": {"min": 1}}}, "timeouts": {"drain": 2}, "shards": {"standby": 0}, **spec}
    return fleet_doc(clusters or ("hub", "east"), [f"fleet_samples:{use}" for use in uses], **settings)


def ran(controller: str = "") -> Counter[str]:
    return Counter(name for who, _, name in samples.RAN if controller in ("", who))


async def test_apply_brings_all_members_up() -> None:
    async with led() as fleet:
        assert fleet.status()["ready"] is False
        status = await fleet.apply(doc("hub", "east"))
        assert status["leader"]["epoch"] == 1
        assert status["leader"]["incarnation"] == 1
        assert status["fleet"] == "t"
        assert [(c["name"], c["role"], c["reachable"], c["synced"]) for c in status["clusters"]] == [
            ("hub", "hub", True, True),
            ("east", "member", True, True),
        ]
        assert [(s["shard"], s["term"], s["state"]) for s in status["shards"]] == [("0", 1, "running")]
        assert all(worker["pid"] and worker["ready"] for worker in status["workers"])
        assert status["observer"]["url"].startswith("http://127.0.0.1:")
        assert Path(status["clusters"][0]["kubeconfig"]).stat().st_mode & 0o077 == 0  # noqa: ASYNC240
        await fleet.put("east", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        stored = fleet.cluster("hub").api.get("configmaps", "raycp-system", "raycp-t-fleet")
        assert stored is not None
        assert stored["data"]["generation"] == status["generation"]
        assert "secret" not in str(stored["data"]).lower()


@pytest.mark.parametrize("role", ["shard", "worker", "observer"])
async def test_dead_member_is_replaced(role: str) -> None:
    async with led() as fleet:
        await fleet.apply(doc())
        first = next(member for member in fleet.substrate.cores if member.role == role)
        await fleet.substrate.kill(first)
        # It may take a step until its absence is seen at all.
        await until(lambda: any(m.slot == first.slot and m.generation == 1 for m in fleet.substrate.cores))
        status = await fleet.ready()
        assert status["shards"][0]["term"] == (2 if role == "shard" else 1)
        assert [member for member in fleet.substrate.created if member.generation] == [Member(*first.slot, 1)], "only that one"
        await fleet.put("east", "tracked", "a")
        await until(lambda: ran()["a"] == 1)


async def test_dead_embedded_cluster_comes_back_empty() -> None:
    async with led() as fleet:
        await fleet.apply(doc())
        await fleet.put("east", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        await fleet.substrate.kill(Member(Role.EMBEDDED, "east", 0))
        await until(lambda: fleet.substrate.living("embedded", "east"))
        await fleet.ready()
        await fleet.put("east", "tracked", "b")
        await until(lambda: ran()["b"] == 1)


async def test_restarted_leader_keeps_the_living_members() -> None:
    async with led() as fleet:
        before = await fleet.apply(doc())
        created = list(fleet.substrate.created)
        await fleet.die()
        await fleet.put("east", "tracked", "a")
        await until(lambda: ran()["a"] == 1, what="reconciling goes on without a leader")
        await fleet.restart()
        await until(lambda: fleet.status().get("leader", {}).get("incarnation") == 2)
        after = await fleet.ready()
        assert after["leader"]["epoch"] == 1
        assert after["shards"][0]["term"] == before["shards"][0]["term"]
        assert after["generation"] == before["generation"]
        assert fleet.substrate.created == created, "no member was replaced"
        assert not fleet.substrate.killed


async def test_restarted_leader_replaces_what_died_with_it() -> None:
    async with led() as fleet:
        await fleet.apply(doc())
        await fleet.die()
        await fleet.substrate.kill(Member(Role.SHARD, "0", 0))
        await fleet.put("east", "tracked", "a")
        await fleet.restart()
        status = await fleet.ready()
        assert status["shards"][0]["term"] == 2
        assert status["leader"]["epoch"] == 1
        await until(lambda: ran()["a"] >= 1)


async def test_older_of_two_generations_in_one_slot_is_killed() -> None:
    """A leader that died between making a successor and ending what was before it."""
    async with led() as fleet:
        await fleet.apply(doc())
        await fleet.die()
        await fleet.substrate.create(Member(Role.WORKER, "standard/0", 1), {})
        await fleet.restart()
        await until(lambda: Member(Role.WORKER, "standard/0", 0) not in fleet.substrate.cores)
        await fleet.ready()
        assert Member(Role.WORKER, "standard/0", 1) in fleet.substrate.cores


async def test_apply_of_the_same_document_changes_nothing() -> None:
    async with led() as fleet:
        first = await fleet.apply(doc())
        again = await fleet.apply(doc())
        assert (again["plan"], again["sequence"]) == (first["plan"], first["sequence"])


async def test_apply_changes_a_running_fleet_in_place() -> None:
    async with led() as fleet:
        await fleet.apply(doc("hub", "east"))
        await fleet.put("east", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        pool = {"standard": {"workers": {"min": 2, "max": 3}}}
        status = await fleet.apply(doc("hub", "east", "west", uses=("tracked", "plain"), tiers=pool))
        assert {c["name"] for c in status["clusters"]} == {"hub", "east", "west"}
        assert {c["name"] for c in status["controllers"]} == {"tracked", "plain"}
        assert sum(worker["worker"].startswith("standard/") for worker in status["workers"]) == 2
        await fleet.put("west", "plain", "p")
        await until(lambda: ran("plain")["p"] == 1)
        assert status["shards"][0]["term"] == 1, "the shard got a new plan and was not replaced"
        assert ran()["a"] == 1, "nor was anything looked at again"
        fewer = await fleet.apply(doc("hub", "west", uses=("plain",), tiers={"standard": {"workers": {"min": 1}}}))
        assert {c["name"] for c in fewer["clusters"]} == {"hub", "west"}
        assert sum(worker["worker"].startswith("standard/") for worker in fewer["workers"]) == 1
        await until(lambda: not fleet.substrate.living("embedded", "east") and len(fleet.substrate.living("worker")) == 1)
        await fleet.put("west", "plain", "q")
        await until(lambda: ran("plain")["q"] == 1)


async def test_replaced_worker_may_finish_its_keys_in_flight() -> None:
    async with led() as fleet:
        await fleet.apply(doc(uses=("gated",), timeouts={"drain": 10}))
        await fleet.put("east", "gated", "a")
        await until(lambda: ran()["a"] == 1)
        old = fleet.substrate.living("worker")[0]
        changed = fleet_of(doc(uses=("gated",), timeouts={"drain": 10}, workers={"slots": 7}))
        await fleet.leader.apply(changed)
        await until(lambda: len(fleet.substrate.living("worker")) == 2)
        await holds(lambda: old in fleet.substrate.cores.values(), 2.5, "it drains")
        samples.OPEN["a"] = True
        await until(lambda: old not in fleet.substrate.cores.values(), 10.0, "it has drained")
        await fleet.ready(changed.generation)
        assert ran()["a"] == 1, "the work was not cut off and done again"
        await fleet.put("east", "gated", "b")
        samples.OPEN["b"] = True
        await until(lambda: ran()["b"] == 1)


async def test_member_that_can_not_be_created_is_reported_and_retried() -> None:
    async with led() as fleet:
        broken = True

        def refuse(member: Member) -> Exception | None:
            return ValueError("no such node label") if broken and member.role == "worker" else None

        fleet.substrate.refuse = refuse
        await fleet.leader.apply(fleet_of(doc()))
        await until(lambda: any("no such node label" in text for text in fleet.status().get("problems", {}).values()))
        assert not fleet.status()["ready"]
        broken = False
        status = await fleet.ready()
        await until(lambda: not fleet.status()["problems"], what=f"the problem is over: {status['problems']}")


async def test_down_leaves_no_member() -> None:
    async with led() as fleet:
        await fleet.apply(doc())
        listening = [port for core in fleet.substrate.cores.values() if (port := core.report().port)]
        await fleet.leader.ask(Down())
        assert await fleet.substrate.members() == []
        await asyncio.sleep(1.2)  # more than a step of supervision: nothing is made again
        assert await fleet.substrate.members() == []
        for port in listening:
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)
        assert fleet.status()["ready"] is False


async def test_down_during_bring_up_leaves_no_member() -> None:
    async with led() as fleet:
        await fleet.leader.apply(fleet_of(doc()))
        await until(lambda: fleet.substrate.created)
        await fleet.leader.ask(Down())
        for _ in range(20):
            for member in await fleet.substrate.members():
                await fleet.substrate.kill(member)
            await asyncio.sleep(0.05)
        assert await fleet.substrate.members() == []


async def test_broken_cluster_delays_no_other() -> None:
    """An API server that answers nothing good, one of three: the others work, and the fleet says what is wrong."""
    rows = {"controllers": QUIET}
    base = doc("hub", "east", "west", timeouts={"syncDeadline": 1, "drain": 1}).model_dump(mode="json", by_alias=True)
    base["spec"]["clusters"][1]["embedded"] = {**rows, "faults": [{"kind": "error", "status": 503}]}
    async with led() as fleet:
        await fleet.apply(FleetDoc.model_validate(base))

        def found(name: str) -> dict[str, Any]:
            return next(row for row in fleet.status()["clusters"] if row["name"] == name)

        await until(lambda: found("west")["synced"], 20.0, "the fleet is ready after the deadline, west when it has answered")
        assert not found("east")["synced"]
        assert "503" in found("east")["reason"] or "error" in found("east")["reason"].lower()
        await fleet.put("west", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        fleet.cluster("east").faults.clear()
        await until(lambda: found("east")["synced"], 20.0, "it recovers by itself")


async def test_unknown_question_is_refused() -> None:
    async with led() as fleet:
        with pytest.raises(ControlError) as unknown:
            await fleet.leader.ask(Rest())
        assert unknown.value.code is ErrorCode.UNKNOWN_QUESTION
        await fleet.apply(doc())
        with pytest.raises(ControlError) as nowhere:
            await fleet.leader.ask(KubeconfigOf("nowhere"))
        assert nowhere.value.code is ErrorCode.NOT_FOUND
        assert "current-context" in await fleet.leader.ask(KubeconfigOf("east"))


def test_constructor_of_a_leader_starts_nothing() -> None:
    """The constructor does no work that could fail."""

    async def make() -> None:
        LeaderCore(InProcess(), CLOCK, "x")

    asyncio.run(make())
