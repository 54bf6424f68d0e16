"""The contract of ``raycp.leadership.locks.Lock``, kept by all three locks, over real HTTP on an embedded cluster.

Each test ends with the arena's verdict: never two wrote at once, and the epoch of the writer never fell.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from contenders import EVERY, NAMESPACE, PERMIT, REAL, Arena, Contender, arena_of, eventually
from sabotage import first_runs_raise

from raycp.base.loop_names import LoopName
from raycp.config.embedded import FaultSpec
from raycp.kube import ClusterClient
from raycp.leadership.epoch import read_leadership
from raycp.leadership.locks import PodRef, eligibility

SILENT = 0.3
"""``KNOCK_SLACK`` and ``MISSING`` of these tests, in seconds."""
RESERVED = 0.8


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eligibility, "MISSING", SILENT + 0.2)
    monkeypatch.setattr(eligibility, "KNOCK_SLACK", SILENT)
    monkeypatch.setattr(eligibility, "RESERVED", RESERVED)


@pytest_asyncio.fixture(params=["ray", "configMap", "lease"])
async def arena(request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    async with arena_of(request.param) as made:
        yield made


async def lead(arena: Arena, name: str, **more: Any) -> Contender:
    """A contender that leads, in a Pod of its own."""
    made = await arena.contender(name, pod=await arena.pod(name), **more)
    made.start()
    await arena.writes(made)
    return made


async def die_with_pod(arena: Arena, who: Contender) -> None:
    """Its process is killed, and its Pod deleted."""
    await who.die()
    assert who.me.pod is not None
    with contextlib.suppress(Exception):
        await arena.cluster.api.delete("pods", who.me.pod.namespace, who.me.pod.name)


def epoch_of(arena: Arena) -> int:
    found = arena.object()
    if found is None:
        return 0
    if arena.kind == "lease":
        return int(found["metadata"]["annotations"]["raycp.io/epoch"])
    return int(found["data"]["epoch"])


async def test_one_of_many_candidates_leads_and_epochs_rise(arena: Arena) -> None:
    many = [await arena.contender(f"c{n}", pod=await arena.pod(f"c{n}")) for n in range(6)]
    for each in many:
        each.start()
    led: list[int] = []

    async def next_of(many: list[Contender]) -> list[Contender]:
        await eventually(lambda: any(each.writing for each in many))
        leader = next(each for each in many if each.writing)
        rest = [each for each in many if each is not leader]
        await eventually(lambda: all(leader.me.holder in each.why for each in rest), "candidates name the holder")
        led.append(leader.mine.epoch)
        await leader.release()
        return rest

    while many:
        many = await next_of(many)
    assert led == sorted(set(led)), "each higher than the one before"


async def test_acquisition_after_a_release_waits_for_no_permit(arena: Arena) -> None:
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    await eventually(lambda: second.why)
    await first.release()
    assert await arena.writes(second) < PERMIT
    assert second.mine.epoch > first.mine.epoch


async def test_handover_of_the_lock_needs_few_requests(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writes to release it, five requests one after the other to acquire it, for each of which work waits; the floor is read
    and written beside those. A candidate that need not wait opens no watch."""
    first = await lead(arena, "a")
    heir = await arena.contender("heir", home="blue")
    await heir.lock.holder()
    asked: list[str] = []
    request = ClusterClient.request

    async def counted(self: ClusterClient, verb: str, path: str, **more: Any) -> Any:
        asked.append(f"{verb} {path}")
        return await request(self, verb, path, **more)

    monkeypatch.setattr(ClusterClient, "request", counted)
    await first.release("blue")
    assert [line.split()[0] for line in asked] == ["PUT", "PUT"]
    asked.clear()
    entered = await heir.lock.acquire(heir.me, PERMIT)
    assert entered.wait == 0.0
    floor = [line for line in asked if "customresourcedefinitions" in line]
    assert [line.split()[0] for line in asked if line not in floor] == ["GET", "GET", "PUT", "PUT", "PUT"]
    assert [line.split()[0] for line in floor] == ["GET", "PATCH"]
    assert asked.index(floor[0]) <= 2, "with the record of epochs"
    assert asked.index(floor[1]) >= 5, "with the note of the leadership"


async def test_named_successor_acquires_first(arena: Arena) -> None:
    first = await lead(arena, "a")
    others = [(await arena.contender(f"o{n}")).start() for n in range(3)]
    heir = (await arena.contender("heir", home="blue")).start()
    await eventually(lambda: all(each.why for each in (*others, heir)))
    await first.release("blue")
    assert await arena.writes(heir) < PERMIT
    assert not any(each.epochs for each in others)


async def test_missing_successor_does_not_block_others_for_ever(arena: Arena) -> None:
    first = await lead(arena, "a")
    other = (await arena.contender("b")).start()
    await eventually(lambda: other.why)
    await first.release("missing")
    took = await arena.writes(other)
    assert took >= RESERVED * 0.8, "kept for the successor for its time"


async def test_released_lock_can_be_taken_back(arena: Arena) -> None:
    first = await lead(arena, "a")
    await first.release("missing")
    again = (await arena.contender("a2", home=first.me.home)).start()
    assert await arena.writes(again) < RESERVED * 0.8
    assert again.mine.epoch > first.mine.epoch


async def test_candidate_acquires_after_the_permits_of_a_killed_holder(arena: Arena) -> None:
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    await eventually(lambda: second.why)
    assert "a" in second.why
    await die_with_pod(arena, first)
    await arena.writes(second)
    assert second.mine.epoch > first.mine.epoch


async def test_frozen_holder_finds_its_successor_when_it_wakes_up(arena: Arena) -> None:
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    first.freeze()
    if arena.kind == "configMap":  # for life: not as long as its Pod exists
        await asyncio.sleep(2 * PERMIT)
        assert not second.epochs
        assert first.me.pod is not None
        await arena.cluster.api.delete("pods", first.me.pod.namespace, first.me.pod.name)
    await arena.writes(second)
    first.thaw()
    await asyncio.sleep(3 * EVERY)
    assert not first.writing
    assert second.writing
    assert epoch_of(arena) == second.mine.epoch


async def test_restarted_leader_of_a_living_fleet_continues_its_epoch(arena: Arena) -> None:
    first = await lead(arena, "a", home="home")
    await first.die()
    first.until = float("-inf")  # the fleet's members ask the next incarnation from here on
    again = (await arena.contender("a2", home="home", pod=await arena.pod("a2"))).start(living=first.mine.epoch)
    assert await arena.writes(again) < PERMIT
    assert again.mine.epoch == first.mine.epoch
    assert again.mine.incarnation > first.mine.incarnation
    assert again.mine.since == pytest.approx(first.mine.since, abs=0.001)


async def test_deleted_lock_is_created_again_by_its_holder(arena: Arena) -> None:
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    for _ in range(3):
        await arena.delete()
        await eventually(lambda: arena.object() is not None)
    await asyncio.sleep(PERMIT)
    assert first.writing
    assert not second.epochs


async def test_epoch_survives_the_lock(arena: Arena) -> None:
    first = await lead(arena, "a")
    await die_with_pod(arena, first)
    if arena.object() is not None:  # the garbage collector may have been faster
        await arena.delete()
    second = (await arena.contender("b")).start()
    await arena.writes(second)
    assert second.mine.epoch > first.mine.epoch


async def test_lock_from_an_older_backup_is_overwritten_by_its_holder(arena: Arena) -> None:
    first = await lead(arena, "a")
    backup = arena.object()
    assert backup is not None
    await die_with_pod(arena, first)
    second = await lead(arena, "b")
    third = (await arena.contender("c")).start()
    await arena.put(backup)
    await eventually(lambda: epoch_of(arena) == second.mine.epoch)
    await arena.writes(second, 5.0)
    assert not third.epochs


async def test_lock_from_an_older_backup_is_acquired_where_its_holder_is_dead(arena: Arena) -> None:
    first = await lead(arena, "a")
    backup = arena.object()
    assert backup is not None
    await first.release()
    second = await lead(arena, "b")
    await die_with_pod(arena, second)
    await arena.put(backup)
    third = (await arena.contender("c")).start()
    await arena.writes(third)
    assert third.mine.epoch > second.mine.epoch


async def test_foreign_object_is_left_alone_until_it_is_unlocked(arena: Arena) -> None:
    resource, name = arena.place
    api = "coordination.k8s.io/v1" if arena.kind == "lease" else "v1"
    stranger: dict[str, Any] = {
        "apiVersion": api,
        "kind": "Lease" if arena.kind == "lease" else "ConfigMap",
        "metadata": {"name": name, "namespace": "raycp-system"},
    }
    await arena.cluster.api.create(resource, stranger)
    before = arena.object()
    first = (await arena.contender("a")).start()
    await eventually(lambda: "raycp leader unlock" in first.why)
    assert name in first.why
    await asyncio.sleep(0.3)
    assert arena.object() == before
    found = await first.lock.unlock("me")
    assert found is not None
    assert found.foreign
    await arena.writes(first)


async def test_foreign_object_in_the_place_of_a_held_lock_ends_the_writing(arena: Arena) -> None:
    first = await lead(arena, "a")
    held = arena.object()
    assert held is not None
    del held["metadata"]["labels"]
    held["metadata"].pop("ownerReferences", None)
    await arena.put(held)
    await eventually(lambda: not first.writing)
    assert "raycp leader unlock" in first.why
    await first.lock.unlock("me")
    await arena.writes(first)


async def test_holder_survives_permanent_conflicts(arena: Arena) -> None:
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    resource, name = arena.place
    until = REAL.now() + 3 * PERMIT
    count = 0
    while REAL.now() < until:
        count += 1
        with contextlib.suppress(Exception):
            patch = f'{{"metadata":{{"annotations":{{"noise":"{count}"}}}}}}'.encode()
            await arena.cluster.api.patch_merge(resource, "raycp-system", name, patch)
        await asyncio.sleep(0.002)
    arena.cluster.faults.set([FaultSpec(kind="error", status=409, verbs=["update"], probability=0.5)])
    await asyncio.sleep(2 * PERMIT)
    assert first.writing
    assert not second.epochs
    await first.release()
    await arena.writes(second)


async def test_unreachable_hub_stops_writing_until_it_answers(arena: Arena) -> None:
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    for each in (first, second):
        await each.way.cut()
    begun = REAL.now()
    await eventually(lambda: not first.writing)
    assert REAL.now() - begun <= PERMIT + 0.05
    await asyncio.sleep(1.2)
    for each in (first, second):
        await each.way.open()
    await eventually(lambda: first.writing or second.writing)


async def test_cut_off_holder_is_replaced_and_becomes_a_candidate(arena: Arena) -> None:
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    await eventually(lambda: second.why)
    await first.way.cut()
    if arena.kind == "configMap":
        assert first.me.pod is not None
        await arena.cluster.api.delete("pods", first.me.pod.namespace, first.me.pod.name)
    await arena.writes(second)
    await first.way.open()
    await eventually(lambda: "b" in first.why)
    await second.release()
    await arena.writes(first)
    assert first.mine.epoch > second.mine.epoch


async def test_lock_does_not_depend_on_wall_clocks(arena: Arena) -> None:
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    for jump in (86_400.0, -86_400.0, 1e6):
        first.clock.wall_ahead, second.clock.wall_ahead = jump, -jump
        await asyncio.sleep(1.5 * PERMIT)
        assert first.writing
        assert not second.epochs


async def test_suspended_machine_loses_its_permits_and_a_candidate_gains_nothing(arena: Arena) -> None:
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    await eventually(lambda: second.why)
    first.clock.ahead += 3600.0
    assert not first.writing, "CLOCK_BOOTTIME went on while the machine was suspended"
    await arena.writes(first)
    epochs = list(first.epochs)
    for _ in range(3):
        await arena.suspend(second)
        await asyncio.sleep(0.3)
    await arena.writes(first)
    assert first.epochs == epochs, "the holder never lost its lock"
    assert not second.epochs


@pytest.mark.parametrize("fault", ["closeWatch", "stallWatch"])
async def test_dropped_or_stalled_watch_only_delays_a_candidate(arena: Arena, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from raycp.leadership.locks import kube_lock

    monkeypatch.setattr(kube_lock, "POLL_ANYWAY", 1.0)
    first = await lead(arena, "a")
    second = (await arena.contender("b")).start()
    await eventually(lambda: second.why)
    arena.cluster.faults.set([FaultSpec(kind=fault)])
    await asyncio.sleep(0.3)
    await first.release()
    await arena.writes(second)


async def test_longer_permit_is_recorded_before_it_counts(arena: Arena) -> None:
    first = await lead(arena, "a")
    longer = await first.lock.amend(first.mine, 4 * PERMIT)
    assert longer.permit == 4 * PERMIT
    recorded = await first.lock.holder()
    assert recorded is not None
    assert recorded.leadership.permit == 4 * PERMIT
    second = (await arena.contender("b")).start()
    await first.die()
    first.until = first.clock.now() + 4 * PERMIT
    assert first.me.pod is not None
    await arena.cluster.api.delete("pods", first.me.pod.namespace, first.me.pod.name)
    assert await arena.writes(second) >= 3.5 * PERMIT


@pytest.mark.parametrize("lost", [False, True])
async def test_a_proof_that_began_before_an_amendment_takes_nothing_back(arena: Arena, lost: bool) -> None:
    """The leader's proof and an apply that changes the permit run side by side: a successor waits for the longer permits."""
    first = await lead(arena, "a")
    mine = first.mine
    await first.die()
    await first.lock.amend(mine, 4 * PERMIT)
    if lost:
        await first.lock.unlock("a test")
    confirmed = await first.lock.confirm(mine)
    assert confirmed.leadership.pair == mine.pair
    recorded = await first.lock.holder()
    assert recorded is not None
    assert recorded.leadership.permit == 4 * PERMIT
    await first.lock.amend(mine, PERMIT)
    await first.lock.confirm(mine)
    shorter = await first.lock.holder()
    assert shorter is not None
    assert shorter.leadership.permit == PERMIT


async def test_lock_can_be_watched(arena: Arena) -> None:
    looker = await arena.contender("looker")
    seen: list[tuple[str, bool]] = []

    async def look() -> None:
        async for holding in looker.lock.watch():
            if holding is not None:
                held = holding.leadership
                if not seen or seen[-1] != (held.holder, held.released):
                    seen.append((held.holder, held.released))

    watching = asyncio.create_task(look())
    first = await lead(arena, "a")
    await first.release("b")
    await eventually(lambda: ("a", True) in seen)
    watching.cancel()
    assert ("a", False) in seen


async def test_lock_of_another_kind_for_the_same_fleet_is_refused(arena: Arena) -> None:
    """Two fleet files of one name with different locks: the second waits, whichever comes first."""
    first = await lead(arena, "a")
    rivals = [await Arena(other, arena.cluster).contender(other) for other in ("ray", "configMap", "lease") if other != arena.kind]
    arena.contenders += rivals
    for rival in rivals:
        rival.start()
    await eventually(lambda: all("by lock" in rival.why and "raycp leader unlock" in rival.why for rival in rivals))
    for rival in rivals:
        await rival.die()
    await first.release()
    found = await read_leadership(arena.records)
    assert found is not None
    assert found.released


async def test_lock_for_life_is_not_stuck_in_a_pod_whose_process_was_replaced() -> None:
    """A container that restarts keeps its Pod: the holder before it is asked, and does not answer."""
    async with arena_of("configMap") as arena:
        first = await lead(arena, "a")
        second = (await arena.contender("b", pod=first.me.pod)).start()
        await eventually(lambda: "in this Pod" in second.why)
        await asyncio.sleep(2 * PERMIT)
        assert not second.epochs, "a holder that lives beside it answers"
        await first.die()
        await arena.writes(second)
        assert second.mine.epoch > first.mine.epoch


async def test_lock_is_owned_only_by_an_existing_pod() -> None:
    """An owner that does not exist would get the lock collected at once; one in another namespace as well."""
    async with arena_of("configMap") as arena:
        for name, pod in (("no-such", PodRef(NAMESPACE, "p", "u")), ("elsewhere", PodRef("default", "p", "u"))):
            made = (await arena.contender(name, pod=pod)).start()
            await arena.writes(made)
            found = arena.object()
            assert found is not None
            assert "ownerReferences" not in found["metadata"]
            await made.release()


async def test_candidates_watches_that_raise_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 12: of the lock, and of the Pod that owns it."""
    raised = first_runs_raise(monkeypatch)
    async with arena_of("configMap") as arena:
        first = await lead(arena, "a")
        second = (await arena.contender("b")).start()
        await eventually(lambda: raised.keys() >= {LoopName.LOCK_WATCH, LoopName.LOCK_POD})
        await die_with_pod(arena, first)
        await arena.writes(second)
        await second.release()
        third = (await arena.contender("c")).start()
        await arena.writes(third)
