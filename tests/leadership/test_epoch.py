"""Epoch, incarnation and records, in the hub: a real embedded cluster."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.clock import SystemClock
from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ApiError, ClusterClient, ConnectSpec
from raycp.leadership.epoch import Leadership, confirm, enter, next_leadership, read_leadership, release
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


@given(known, st.integers(0, 60), st.lists(st.integers(0, 60), max_size=10))
def test_pairs_only_rise_and_are_never_used_twice(before: Leadership | None, living: int, more: list[int]) -> None:
    seen = [(before.epoch, before.incarnation)] if before is not None else []
    for epoch in [living, *more]:
        pair = next_leadership(before, epoch, 1.0)
        assert all(pair[0] >= e and pair[:2] > (e, i) for e, i in seen)
        assert pair[0] >= max(1, epoch)
        seen.append(pair[:2])
        before = Leadership(*pair[:2], "x", pair[2])


async def test_a_new_leadership_begins_the_next_epoch_a_restart_does_not(records: Records) -> None:
    assert await read_leadership(records) is None
    first = (await enter(records, "a", CLOCK, 6.0)).mine
    assert (first.epoch, first.incarnation) == (1, 1)
    restarted = (await enter(records, "b", CLOCK, 6.0, living_epoch=1)).mine
    assert (restarted.epoch, restarted.incarnation) == (1, 2)
    assert restarted.since == pytest.approx(first.since, abs=0.001), "the epoch goes on"
    anew = (await enter(records, "c", CLOCK, 6.0)).mine
    assert (anew.epoch, anew.incarnation) == (2, 3)
    found = await read_leadership(records)
    assert found is not None
    assert (found.epoch, found.incarnation, found.holder) == (2, 3, "c")


async def test_a_living_fleet_whose_hub_forgot_it_keeps_its_epoch(records: Records) -> None:
    found = (await enter(records, "a", CLOCK, 6.0, living_epoch=7)).mine
    assert found.epoch == 7


async def test_of_many_at_once_no_two_get_the_same(records: Records) -> None:
    found = await asyncio.gather(*(enter(records, f"leader-{n}", CLOCK, 6.0) for n in range(12)))
    assert sorted((each.mine.epoch, each.mine.incarnation) for each in found) == [(n, n) for n in range(1, 13)]


async def test_a_record_that_somebody_spoilt_is_begun_anew(records: Records, hub: EmbeddedCluster) -> None:
    await enter(records, "a", CLOCK, 6.0)
    await hub.api.patch_merge("configmaps", "raycp-system", "raycp-t-leader", b'{"data":{"epoch":"many"}}')
    found = (await enter(records, "b", CLOCK, 6.0)).mine
    assert found.epoch >= 1
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


async def test_a_record_holds_what_it_promises(records: Records) -> None:
    kept = await records.write("big", {"a": "x" * MAX_BYTES}, None)
    assert len(kept.data["a"]) == MAX_BYTES
    with pytest.raises(ApiError) as refused:
        await records.write("bigger", {"a": "x" * (MAX_BYTES * 2)}, None)
    assert refused.value.status in (413, 422)


async def test_two_fleets_of_one_hub_do_not_meet(records: Records, hub: EmbeddedCluster) -> None:
    client = await connect(hub)
    other = Records(client, "u", "raycp-system")
    await enter(records, "a", CLOCK, 6.0)
    assert await read_leadership(other) is None
    await client.close()


async def test_a_missing_right_is_told(hub: EmbeddedCluster) -> None:
    strict = EmbeddedCluster("strict", EmbeddedSpec(controllers=EmbeddedControllers.none(), rbac=True), CLOCK)
    await strict.start()
    client = await connect(strict, strict.add_user("nobody"))
    records = Records(client, "t", "raycp-system")
    with pytest.raises(ApiError) as refused:
        await records.ensure_namespace()
    assert refused.value.status == 403
    await client.close()
    await strict.stop()


async def test_a_new_epoch_waits_for_the_permits_of_the_old(records: Records) -> None:
    assert (await enter(records, "a", CLOCK, 3.0)).wait == 0.0, "nobody was before"
    assert (await enter(records, "b", CLOCK, 3.0, living_epoch=1)).wait == 0.0, "the same epoch goes on"
    second = await enter(records, "c", CLOCK, 1.0)
    assert (second.mine.epoch, second.wait) == (2, 3.0), "the longer of both: the old holders count by theirs"
    await release(records, second.mine)
    assert (await enter(records, "d", CLOCK, 1.0)).wait == 0.0, "all holders are gone"


def same(found: Leadership | None, wanted: Leadership) -> bool:
    """Times are recorded in milliseconds."""
    return found is not None and msgspec.structs.replace(found, since=wanted.since) == wanted


async def test_only_the_leader_itself_releases(records: Records) -> None:
    first = await enter(records, "a", CLOCK, 3.0)
    second = await enter(records, "b", CLOCK, 3.0)
    await release(records, first.mine)
    assert same(await read_leadership(records), second.mine)


async def test_a_leader_proves_itself_and_finds_its_successor(records: Records, hub: EmbeddedCluster) -> None:
    first = (await enter(records, "a", CLOCK, 3.0)).mine
    found = await confirm(records, first, 0)
    assert found is not None
    assert (found.epoch, found.incarnation) == (1, 1)
    await records.delete("leader")
    assert await confirm(records, first, 0) == first
    again = await read_leadership(records)
    assert again is not None
    assert again.holder == "a", "a record that was deleted is written again"
    second = (await enter(records, "b", CLOCK, 3.0)).mine
    assert same(await confirm(records, first, 0), second)
