"""Epoch, incarnation and records, in the hub: a real embedded cluster."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.clock import SystemClock
from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ApiError, ClusterClient, ConnectSpec
from raycp.leadership.epoch import Leadership, allocate, next_leadership, note, read_leadership
from raycp.leadership.records import MAX_BYTES, Conflict, Records

CLOCK = SystemClock()


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[EmbeddedCluster]:
    cluster = EmbeddedCluster("hub", EmbeddedSpec(controllers=EmbeddedControllers.none()), CLOCK)
    await cluster.start()
    yield cluster
    await cluster.stop()


async def connect(hub: EmbeddedCluster, token: str = "") -> ClusterClient:
    assert hub.endpoint is not None
    spec = ConnectSpec(
        name="hub", mode="direct", server=hub.endpoint.server, ca_pem=hub.endpoint.ca_pem, token=token or hub.endpoint.token
    )
    return await ClusterClient.connect(spec, CLOCK)


@pytest_asyncio.fixture
async def records(hub: EmbeddedCluster) -> AsyncIterator[Records]:
    client = await connect(hub)
    found = Records(client, "t", "raycp-system")
    await found.ensure_namespace()
    yield found
    await client.close()


known = st.none() | st.builds(Leadership, st.integers(0, 50), st.integers(0, 50), st.just("x"), st.just(0.0))


@given(known, st.lists(st.tuples(st.integers(0, 60), st.sampled_from("xy")), min_size=1, max_size=10))
def test_epoch_and_incarnation_only_rise_and_are_never_used_twice(before: Leadership | None, more: list[tuple[int, str]]) -> None:
    seen = [before.pair] if before is not None else []
    floor = before.pair if before is not None else (0, 0)
    for living, home in more:
        epoch, incarnation, since = next_leadership(before, floor, home, living, 1.0)
        assert all(epoch >= e and (epoch, incarnation) > (e, i) and incarnation > i for e, i in seen)
        assert epoch >= max(1, living)
        seen.append((epoch, incarnation))
        floor = max(floor[0], epoch), max(floor[1], incarnation)
        before = Leadership(epoch, incarnation, "x", since, home=home)


async def take(records: Records, holder: str, home: str, living: int = 0) -> Leadership:
    allotted = await allocate(records, "leader", await records.read("leader"), None, home, living, CLOCK.wall())
    mine = Leadership(allotted.epoch, allotted.incarnation, holder, allotted.since, 6.0, home=home)
    await note(records, "leader", mine)
    return mine


async def test_new_leadership_begins_the_next_epoch_and_a_restart_does_not(records: Records) -> None:
    assert await read_leadership(records) is None
    first = await take(records, "a", "A")
    assert first.pair == (1, 1)
    restarted = await take(records, "b", "A", living=1)
    assert restarted.pair == (1, 2)
    assert restarted.since == pytest.approx(first.since, abs=0.001), "the epoch goes on"
    other = await take(records, "c", "B", living=1)
    assert other.pair == (2, 3), "the epoch of another home does not go on"
    found = await read_leadership(records)
    assert found is not None
    assert (found.epoch, found.incarnation, found.holder) == (2, 3, "c")


async def test_living_fleet_keeps_its_epoch_when_the_record_is_lost(records: Records) -> None:
    assert (await take(records, "a", "A", living=7)).epoch == 7


async def test_concurrent_allocations_are_distinct(records: Records) -> None:
    found = await asyncio.gather(*(allocate(records, "leader", None, None, f"{n}", 0, 0.0) for n in range(12)))
    assert sorted((each.epoch, each.incarnation) for each in found) == [(n, n) for n in range(1, 13)]


async def test_overtaken_leader_can_not_note_its_leadership(records: Records) -> None:
    first = await take(records, "a", "A")
    await take(records, "b", "B")
    with pytest.raises(Conflict, match="b leads in epoch 2"):
        await note(records, "leader", first)


async def test_record_that_can_not_be_decoded_restarts_above_all_allocated_epochs(records: Records, hub: EmbeddedCluster) -> None:
    for _ in range(3):
        await take(records, "a", "A")
    await hub.api.patch_merge("configmaps", "raycp-system", "raycp-t-leader", b'{"data":{"epoch":"many"}}')
    assert (await take(records, "b", "B")).epoch == 4
    again = await read_leadership(records)
    assert again is not None
    assert again.holder == "b"


async def test_records_are_written_only_over_what_was_read(records: Records) -> None:
    made = await records.write("x", {"a": "1"}, None)
    with pytest.raises(Conflict):
        await records.write("x", {"a": "2"}, None)
    newer = await records.write("x", {"a": "3"}, made)
    with pytest.raises(Conflict):
        await records.write("x", {"a": "4"}, made)
    await records.delete("x")
    await records.delete("x")
    with pytest.raises(Conflict):
        await records.write("x", {"a": "5"}, newer)
    recreated = await records.write("x", {"a": "6"}, None)
    with pytest.raises(Conflict):
        await records.write("x", {"a": "7"}, newer)  # the namesake of one that was deleted
    found = await records.read("x")
    assert found == recreated
    assert found.data == {"a": "6"}


async def test_record_holds_the_promised_size(records: Records) -> None:
    kept = await records.write("big", {"a": "x" * MAX_BYTES}, None)
    assert len(kept.data["a"]) == MAX_BYTES
    with pytest.raises(ApiError) as refused:
        await records.write("bigger", {"a": "x" * (MAX_BYTES * 2)}, None)
    assert refused.value.status in (413, 422)


async def test_records_of_two_fleets_are_separate(records: Records, hub: EmbeddedCluster) -> None:
    client = await connect(hub)
    other = Records(client, "u", "raycp-system")
    await take(records, "a", "A")
    assert await read_leadership(other) is None
    await client.close()


async def test_missing_right_is_reported(hub: EmbeddedCluster) -> None:
    strict = EmbeddedCluster("strict", EmbeddedSpec(controllers=EmbeddedControllers.none(), rbac=True), CLOCK)
    await strict.start()
    client = await connect(strict, strict.add_user("nobody"))
    records = Records(client, "t", "raycp-system")
    with pytest.raises(ApiError) as refused:
        await records.ensure_namespace()
    assert refused.value.status == 403
    await client.close()
    await strict.stop()
