"""Shard and worker together: laws 1, 2, 8 on real parts, without Ray."""

import asyncio
from collections import Counter

import fleet_samples as samples
import msgspec
import pytest
from inprocess import CLOCK, HOST, fleet_doc, fleet_of, holds, stack, until

from raycp.base.keys import GVK, RequestKey
from raycp.config.embedded import FaultSpec
from raycp.protocol.channels import Address, dial
from raycp.protocol.control import Configure
from raycp.protocol.frames import Hello, Message, Wake
from raycp.protocol.members import Member, Role


class SilentPeer:
    """A worker's end of a connection that ignores all frames."""

    def received(self, message: Message) -> None:
        pass

    def lost(self) -> None:
        pass


def ran(controller: str = "") -> Counter[str]:
    return Counter(name for who, _, name in samples.RAN if controller in ("", who))


async def test_a_created_object_is_reconciled_once() -> None:
    async with stack(["tracked"]) as fleet:
        for number in range(20):
            await fleet.put("here", "tracked", f"cm-{number}")
        await fleet.put("here", "other", "stranger")
        await until(lambda: len(ran()) == 20)
        await holds(lambda: len(samples.RAN) == 20, 0.2, "one reconcile each")
        assert "stranger" not in ran()


async def test_existing_objects_are_reconciled_too() -> None:
    async with stack(["tracked"]) as fleet:
        await fleet.put("here", "tracked", "old")
        await until(lambda: ran()["old"] == 1)
        await fleet.kill("shard", "0")
        await fleet.clusters["here"].api.patch_merge("configmaps", "default", "old", b'{"data":{"while":"away"}}')
        await fleet.new_shard("0")
        await fleet.configure()
        await until(lambda: ("tracked", "old", {"while": "away"}) in samples.SEEN)


async def test_changes_to_a_key_in_work_cause_exactly_one_rerun() -> None:
    async with stack(["gated"]) as fleet:
        await fleet.put("here", "gated", "a", n="0")
        await until(lambda: ran()["a"] == 1)
        for number in range(1, 6):
            await fleet.put("here", "gated", "a", n=str(number))
        shard = fleet.shard()
        await until(lambda: b'"n":"5"' in _cached(shard, "a"))
        assert ran()["a"] == 1, "one key, one worker"
        samples.OPEN["a"] = True
        await until(lambda: ran()["a"] == 2)
        await holds(lambda: ran()["a"] == 2, 0.2, "five changes, one rerun")
        assert samples.SEEN[-1] == ("gated", "a", {"n": "5"})
        assert not samples.OVERLAPS


def _cached(shard: object, name: str) -> bytes:
    obj = shard.caches.clusters["here"].informers[GVK("", "v1", "ConfigMap")].store.get("default", name)  # type: ignore[attr-defined]
    return obj.raw if obj is not None else b""


async def test_own_writes_cause_no_reconcile() -> None:
    """A reconcile that creates a child is not run again because of it, and finds it in its task the next time."""
    async with stack(["parent"]) as fleet:
        for number in range(10):
            await fleet.put("here", "parent", f"p{number}")
        await until(lambda: len(fleet.writes("here", "secrets", "create")) == 10)
        await holds(lambda: len(samples.RAN) == 10, 0.4, "the creation of its own child causes no reconcile")
        await fleet.put("here", "parent", "p3", again="1")
        await until(lambda: ran()["p3"] == 2)
        assert samples.CHILDREN["here", "p3"] == ["p3-child"]
        assert len(fleet.writes("here", "secrets", "create")) == 10


async def test_a_child_that_somebody_else_deletes_wakes_its_owner() -> None:
    async with stack(["parent"]) as fleet:
        await fleet.put("here", "parent", "p")
        await until(lambda: fleet.clusters["here"].api.get("secrets", "default", "p-child"))
        await until(lambda: not samples.RUNNING["parent", "here", "p"])
        await fleet.clusters["here"].api.delete("secrets", "default", "p-child")
        await until(lambda: fleet.clusters["here"].api.get("secrets", "default", "p-child"))
        assert ran()["p"] == 2


async def test_own_writes_in_another_shard_cause_no_reconcile_and_are_seen() -> None:
    """Hub in one shard, members in another: children are found by the next reconcile, their creation causes no reconcile."""
    async with stack(["remote"], {"hub": "0", "east": "1", "west": "1"}) as fleet:
        for number in range(5):
            await fleet.put("hub", "remote", f"r{number}")
        await until(lambda: all(len(fleet.writes(name, "secrets", "create")) == 5 for name in ("east", "west")))
        await asyncio.sleep(0)
        await until(lambda: not +samples.RUNNING)
        before = len(samples.RAN)
        await fleet.put("hub", "remote", "r0", again="1")
        await until(lambda: len(samples.RAN) > before)
        await until(lambda: samples.CHILDREN["hub", "r0"] == ["east", "west"])
        assert [len(fleet.writes(name, "secrets", "create")) for name in ("east", "west")] == [5, 5]
        # An echo may outrun the acknowledgement, so a rerun is allowed, an endless one is not.
        assert before <= 10


async def test_a_deleted_remote_child_wakes_its_owner_in_the_hub() -> None:
    async with stack(["remote"], {"hub": "0", "east": "1"}) as fleet:
        await fleet.put("hub", "remote", "r")
        api = fleet.clusters["east"].api
        await until(lambda: api.get("secrets", "default", "r-child"))
        await until(lambda: not +samples.RUNNING)
        await api.delete("secrets", "default", "r-child")
        await until(lambda: api.get("secrets", "default", "r-child"))
        assert len(fleet.writes("east", "secrets", "create")) == 2


async def test_a_deletion_is_reconciled_without_an_object() -> None:
    async with stack(["tracked"]) as fleet:
        await fleet.put("here", "tracked", "gone", x="1")
        await until(lambda: ran()["gone"] == 1)
        await fleet.clusters["here"].api.delete("configmaps", "default", "gone")
        await until(lambda: ran()["gone"] == 2)
        assert samples.SEEN[-1] == ("tracked", "gone", {})


async def test_a_dead_workers_keys_return_only_after_its_certain_death() -> None:
    async with stack(["gated"]) as fleet:
        await fleet.put("here", "gated", "a")
        await until(lambda: ran()["a"] == 1)
        first = fleet.worker(0)
        await fleet.new_worker()
        await fleet.configure()
        await fleet.synced()
        # Its connection breaks, its port answers: it may be alive, so no other worker gets its keys.
        link = first.links["0"]
        link.reset()
        await until(lambda: link.connected)
        await holds(lambda: ran()["a"] == 1, 0.3, "the key is still in work at the living worker")
        await fleet.kill("worker", "standard/0")
        await until(lambda: ran()["a"] == 2)
        samples.OPEN["a"] = True
        await until(lambda: not fleet.shard().queue.running())
        assert not samples.OVERLAPS


@pytest.mark.parametrize("kind", ["gated", "threaded"])
async def test_a_new_primary_waits_for_keys_in_work(kind: str) -> None:
    """Its predecessor's hand-outs still run: their keys are held until they end, others go on (law 6g). What can be revoked ends at
    once, what can't (a thread) when it likes."""
    async with stack([kind]) as fleet:
        await fleet.put("here", kind, "a")
        await until(lambda: ran()["a"] == 1)
        await fleet.kill("shard", "0")
        await fleet.put("here", kind, "a", changed="1")
        samples.OPEN["b"] = True
        await fleet.put("here", kind, "b")
        await fleet.new_shard("0")
        await fleet.configure()
        await until(lambda: ran()["b"] >= 1)
        if kind == "threaded":
            await holds(lambda: ran()["a"] == 1, 0.3, "a is in work at the old hand-out")
        samples.OPEN["a"] = True
        await until(lambda: (kind, "a", {"changed": "1"}) in samples.SEEN)
        await until(lambda: not +samples.RUNNING)
        assert not samples.OVERLAPS


async def test_a_new_primary_hands_nothing_out_before_the_roll_call() -> None:
    async with stack(["tracked"]) as fleet:
        await fleet.kill("shard", "0")
        await fleet.put("here", "tracked", "a")
        member = Member(Role.SHARD, "0", 1)
        shard = await fleet.new_shard("0")
        # The workers don't know of it yet: it knows of them, and waits.
        for _ in range(2):
            await fleet.configure(member)
        await until(lambda: shard.caches.clusters["here"].synced)
        assert not shard.dispatcher.open
        await holds(lambda: not samples.RAN, 0.2)
        begun = CLOCK.now()
        await fleet.configure()
        await until(lambda: ran()["a"] == 1)
        assert CLOCK.now() - begun < 4.0, "not by the roll-call's end"


async def test_a_dead_worker_is_struck_off_the_roll_call_at_once() -> None:
    async with stack(["tracked"], workers=2) as fleet:
        plan_with_both = fleet.members["worker", "standard/1"]
        await fleet.kill("shard", "0")
        await fleet.substrate.kill(plan_with_both)
        dead = fleet.plan()
        assert len(dead.workers) == 1
        await fleet.put("here", "tracked", "a")
        await fleet.new_shard("0")
        begun = CLOCK.now()
        await fleet.configure()
        await until(lambda: ran()["a"] == 1)
        assert CLOCK.now() - begun < 4.0


async def test_a_reconnecting_worker_gets_tasks_again() -> None:
    async with stack(["tracked"]) as fleet:
        shard = fleet.shard()
        for number in range(5):
            seat = next(iter(shard.dispatcher.seats.values()))
            await until(lambda: not len(shard.ledger))
            # A first connection that lives on at the shard, while the worker connects for the second time.
            hello = Hello(seat.name, Role.WORKER, *seat.address, prefer=seat.prefer or "")
            link = fleet.worker(0).links["0"]
            address = Address(HOST, shard.report().port, shard.member.actor_name)
            first = await dial(address, Role.WORKER, fleet.worker(0).credentials, SilentPeer())
            first.send(hello)
            await until(lambda: link.connected and first.closed)  # noqa: B023
            await fleet.put("here", "tracked", f"cm-{number}")
            await until(lambda: ran()[f"cm-{number}"] == 1, what="the new connection is used")  # noqa: B023


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_storm_of_changes_is_all_seen_and_never_overlaps(workers: int) -> None:
    async with stack(["tracked"], workers=workers) as fleet:
        samples.DELAY = 0.003
        for round_ in range(8):
            await asyncio.gather(*(fleet.put("here", "tracked", f"cm-{n}", round=str(round_)) for n in range(30)))
        await until(lambda: {n for _, n, data in samples.SEEN if data.get("round") == "7"} == {f"cm-{n}" for n in range(30)})
        await until(lambda: not +samples.RUNNING)
        assert not samples.OVERLAPS
        assert max(ran().values()) <= 8


async def test_an_unknown_key_of_another_primary_is_released() -> None:
    async with stack(["tracked"]) as fleet:
        shard = fleet.shard()
        key = RequestKey("tracked", "here", "default", "a")
        shard.queue.hold(key, why="in work elsewhere", timeout=30.0)
        await fleet.put("here", "tracked", "a")
        await holds(lambda: not samples.RAN, 0.2)
        shard.queue.release(key)
        shard.dispatcher.dispatch_soon()
        await until(lambda: ran()["a"] == 1)


@pytest.mark.parametrize("later", ["everything", "plain"])
async def test_an_added_controller_reconciles_existing_objects(later: str) -> None:
    """Whether its reflector can be shared with one that watches already, or that one has to list again, or not at all."""
    async with stack(["tracked"]) as fleet:
        await fleet.put("here", "tracked", "a")
        await fleet.put("here", "plain", "b")
        await until(lambda: ran("tracked")["a"] == 1)
        fleet.fleet = fleet_of(fleet_doc(fleet.homes, ["fleet_samples:tracked", f"fleet_samples:{later}"]))
        await fleet.configure()
        wanted = {"a", "b"} if later == "everything" else {"b"}
        await until(lambda: wanted <= set(ran(later)))
        await fleet.put("here", "plain", "c")
        await until(lambda: ran(later)["c"] == 1)
        fleet.fleet = fleet_of(fleet_doc(fleet.homes, [f"fleet_samples:{later}"]))
        await fleet.configure()
        await fleet.put("here", "tracked", "a", more="1")
        await fleet.put("here", "plain", "d")
        await until(lambda: ran(later)["d"] == 1)
        assert ran("tracked")["a"] == 1, "a controller that has left runs no more"


async def test_a_cluster_that_leaves_and_comes_back() -> None:
    async with stack(["tracked"], {"hub": "0", "east": "0"}) as fleet:
        await fleet.put("east", "tracked", "a")
        await until(lambda: ran()["a"] == 1)
        whole, homes = fleet.fleet, fleet.homes
        fleet.homes = {"hub": "0"}
        fleet.fleet = fleet_of(fleet_doc(["hub"], ["fleet_samples:tracked"]))
        await fleet.configure()
        await fleet.put("east", "tracked", "b")
        await holds(lambda: not ran()["b"], 0.2)
        fleet.fleet, fleet.homes = whole, homes
        await fleet.configure()
        await until(lambda: ran()["b"] == 1, 10.0, "the cluster is back")


async def test_children_deleted_while_no_shard_watched_are_recreated() -> None:
    """The shard of the members dies, its children go meanwhile: the hub's owners look again (docs/head-of-line.md)."""
    async with stack(["remote"], {"hub": "0", "east": "1"}) as fleet:
        await fleet.put("hub", "remote", "r")
        api = fleet.clusters["east"].api
        await until(lambda: api.get("secrets", "default", "r-child"))
        await until(lambda: not +samples.RUNNING)
        await fleet.kill("shard", "1")
        await api.delete("secrets", "default", "r-child")
        await fleet.new_shard("1")
        await fleet.configure()
        await until(lambda: api.get("secrets", "default", "r-child"), 10.0, "its owner was not woken")


async def test_a_wake_before_the_list_does_not_pass_for_a_deletion() -> None:
    """A key whose informer has not listed yet is not known to be deleted."""
    async with stack(["tracked"]) as fleet:
        await fleet.put("here", "tracked", "a", x="1")
        await until(lambda: ran()["a"] == 1)
        await fleet.kill("shard", "0")
        samples.SEEN.clear()
        fleet.clusters["here"].faults.set([FaultSpec(kind="latency", latency=0.5, verbs=["list", "watch"])])
        shard = await fleet.new_shard("0")
        await fleet.configure()
        key = RequestKey("tracked", "here", "default", "a")
        await until(lambda: shard.dispatcher.open)
        assert not shard.caches.clusters["here"].synced
        due: list[RequestKey] = []
        shard.inputs.woken(Wake(1, key, "owned"), due.extend)
        assert due == [key]
        await until(lambda: samples.SEEN)
        assert samples.SEEN[0] == ("tracked", "a", {"x": "1"})


async def test_a_draining_worker_takes_no_task_and_finishes_its_own() -> None:
    async with stack(["gated", "tracked"]) as fleet:
        await fleet.put("here", "gated", "a")
        await until(lambda: ran()["a"] == 1)
        old = fleet.worker(0)
        await fleet.new_worker()
        await fleet.configure()
        await fleet.synced()
        draining = asyncio.ensure_future(old.drain(60.0))
        for number in range(80):  # more than its credit
            await fleet.put("here", "tracked", f"cm-{number}")
        await until(lambda: len(ran()) == 81)
        assert [run.task.key.name for run in old.runs.all()] == ["a"]
        assert not draining.done()
        samples.OPEN["a"] = True
        await asyncio.wait_for(draining, 30.0)
        await until(lambda: not fleet.shard().queue.running())
        assert max(ran().values()) == 1, "what it would not take was not begun there"


async def test_a_worker_that_connects_before_the_primary_knows_its_term_is_in_the_roll_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Plans reach members in any order: it has reported its keys in work already, so the roll-call does not wait for it."""
    monkeypatch.setattr("raycp.shard.rollcall.ROLL_CALL_MARGIN", 300.0)
    async with stack(["gated", "tracked"]) as fleet:
        await fleet.put("here", "gated", "a")
        await until(lambda: ran()["a"] == 1)
        await fleet.kill("shard", "0")
        shard = await fleet.new_shard("0")
        plan = fleet.plan()
        stranger = msgspec.structs.replace(plan.shards[0], member="raycp::shard::0::g0", term=1)
        early = msgspec.structs.replace(plan, shards=(stranger,))
        await shard.ask(Configure(early))  # it listens, and is not in the plan yet
        worker = fleet.members["worker", "standard/0"]
        await fleet.configure(worker)
        await until(lambda: worker.actor_name in shard.dispatcher.seats)
        await fleet.configure()
        await fleet.put("here", "tracked", "b")
        await until(lambda: ran()["b"] == 1, what="handed out, and not by the roll-call's end")
        samples.OPEN["a"] = True
        await until(lambda: not +samples.RUNNING)
        assert not samples.OVERLAPS
