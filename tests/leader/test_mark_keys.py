"""The keys for owner marks: made once in the hub, the same for every leader, shown nowhere."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from inprocess import CLOCK, InProcess, fleet_doc, fleet_of, until
from test_hub import Here, one_cluster

from raycp.base.owner_marks import MarkKeys
from raycp.config.embedded import FaultSpec
from raycp.driver.in_process import InProcessFleet
from raycp.embedded.cluster import EmbeddedCluster
from raycp.leader.mark_keys import SUBJECT, MarkKeyKeeper
from raycp.leader.retries import Retries
from raycp.leadership.mark_secret import UNMARKED_BEFORE

NAME = "raycp-t-marks"


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Here]:
    async with one_cluster() as made:
        yield made


def secret(cluster: EmbeddedCluster) -> dict[str, Any] | None:
    return cluster.api.get("secrets", "raycp-system", NAME)


def keeper(here: Here) -> MarkKeyKeeper:
    """Another leader's."""
    return MarkKeyKeeper(CLOCK, here.hub.clients, Retries(CLOCK, here.loops))


async def test_a_leader_makes_the_secret_once(here: Here) -> None:
    plan = here.plan()
    await here.drive(plan, lambda: here.hub.marks.keys)
    keys, found = here.hub.marks.keys, secret(here.cluster)
    assert keys is not None
    assert found is not None
    assert {name: base64.b64decode(key) for name, key in found["data"].items()} == keys.keys
    assert [len(base64.b64decode(key)) for key in found["data"].values()] == [32]
    assert UNMARKED_BEFORE not in found["metadata"].get("annotations", {}), "nobody has created anything before the first epoch"
    later = keeper(here)
    await later.refresh(plan, here.connect, 2)
    assert later.keys == here.hub.marks.keys
    again = secret(here.cluster)
    assert again is not None
    assert again["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]


async def test_leaders_that_race_agree_on_one_key(here: Here) -> None:
    racers = [keeper(here) for _ in range(8)]
    await asyncio.gather(*(racer.refresh(here.plan(), here.connect, 2) for racer in racers))
    assert len({msgspec.json.encode(racer.keys) for racer in racers}) == 1
    found = secret(here.cluster)
    assert found is not None
    assert len(found["data"]) == 1


async def test_after_an_upgrade_what_is_older_than_the_key_needs_no_mark(here: Here) -> None:
    first = keeper(here)
    await first.refresh(here.plan(), here.connect, 7)
    assert first.keys is not None
    found = secret(here.cluster)
    assert found is not None
    assert first.keys.unmarked_before == found["metadata"]["annotations"][UNMARKED_BEFORE]
    assert found["metadata"]["creationTimestamp"] < first.keys.unmarked_before


async def test_a_secret_that_is_deleted_under_a_living_fleet_comes_back_with_the_same_keys(here: Here) -> None:
    plan = here.plan()
    first = keeper(here)
    await first.refresh(plan, here.connect, 3)
    await here.cluster.api.delete("secrets", "raycp-system", NAME)
    restarted = keeper(here)  # a leader that was restarted knows them from the members' plan
    await restarted.refresh(msgspec.structs.replace(plan, marks=first.keys), here.connect, 3)
    assert restarted.keys == first.keys
    await here.cluster.api.delete("secrets", "raycp-system", NAME)
    dead = keeper(here)
    await dead.refresh(plan, here.connect, 9)
    assert dead.keys is not None
    assert first.keys is not None
    assert dead.keys.keys != first.keys.keys
    assert dead.keys.unmarked_before, "nobody knows the keys any more: what exists is told by its age"


async def test_a_key_that_is_added_signs_one_read_later_and_one_that_is_removed_proves_nothing(here: Here) -> None:
    made = keeper(here)
    plan = here.plan()
    await made.refresh(plan, here.connect, 1)
    added = base64.b64encode(b"n" * 32).decode()
    await here.cluster.api.patch_merge("secrets", "raycp-system", NAME, msgspec.json.encode({"data": {"key-2": added}}))
    signing = []
    for _ in range(2):
        await made.refresh(plan, here.connect, 1)
        assert made.keys is not None
        signing.append(made.keys.signing)
    assert signing == ["key-1", "key-2"]
    await here.cluster.api.patch_merge("secrets", "raycp-system", NAME, b'{"data":{"key-1":null}}')
    await made.refresh(plan, here.connect, 1)
    assert list(made.keys.keys) == ["key-2"]
    await here.cluster.api.patch_merge("secrets", "raycp-system", NAME, b'{"data":{"key-2":"c2hvcnQ="}}')
    with pytest.raises(Exception, match="no key of at least 16 bytes: put a key there, or delete the Secret"):
        await made.refresh(plan, here.connect, 1)
    assert list(made.keys.keys) == ["key-2"], "those that the members have stay"


async def test_a_hub_that_forbids_the_secret_is_shown_where_it_matters(here: Here) -> None:
    here.cluster.faults.set([FaultSpec(kind="error", status=403, resources=["secrets"])])
    plan = here.plan()
    await here.drive(plan, lambda: SUBJECT in here.hub.problems)
    assert here.hub.marks.keys is None
    without = here.plan("fleet_samples:tracked")
    await here.drive(without, lambda: SUBJECT not in here.hub.problems)
    here.cluster.faults.clear()
    await here.drive(plan, lambda: here.hub.marks.keys, 30.0)


@pytest.mark.parametrize("hosts", [["here"], ["hub", "east"]])
async def test_a_fleet_has_its_keys_before_its_first_reconcile_and_shows_them_nowhere(
    hosts: list[str], caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    fleet = InProcessFleet(InProcess(tmp_path))
    try:
        doc = fleet_doc(hosts, ["fleet_samples:remote"])
        await fleet.run(fleet_of(doc))
        plan = fleet.leader.plan
        assert plan is not None
        assert plan.marks is not None
        shown = msgspec.json.encode(fleet.status()).decode() + repr(plan) + str(plan.marks) + caplog.text
        recorded = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        for key in plan.marks.keys.values():
            for form in (key, base64.b64encode(key), key.hex().encode(), repr(key).encode()):
                assert form not in recorded
                assert form.decode("latin-1") not in shown
        keys = plan.marks
        await fleet.restart()
        await until(lambda: fleet.leader.plan is not None and fleet.leader.hub.marks.keys)
        assert fleet.leader.plan is not None
        assert fleet.leader.plan.marks == keys, "the next leader goes on with them"
    finally:
        await fleet.stop()


async def test_a_fleet_that_begins_to_lead_asks_for_keys_only_where_its_predecessor_had_none(here: Here) -> None:
    keys = MarkKeys({"key-1": bytes(32)}, "key-1")
    made = keeper(here)
    plan = here.plan()
    assert await made.known_to(msgspec.structs.replace(plan, marks=keys), here.connect, 2) is keys
    assert secret(here.cluster) is None
    here.cluster.faults.set([FaultSpec(kind="error", status=503, resources=["secrets"])])
    assert await made.known_to(plan, here.connect, 2) is None, "the switch goes on without"
    here.cluster.faults.clear()
    assert await made.known_to(plan, here.connect, 2) is made.keys is not None
