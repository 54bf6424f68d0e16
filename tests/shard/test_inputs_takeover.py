"""Law 13 over the death of a primary: what its keys depend on, and what it had not mapped yet, is known to its standby."""

from collections import Counter
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from inprocess import Led, fleet_doc, holds, led, until

from raycp.base.keys import GVK
from raycp.base.selections import selection_of
from raycp.config.embedded import FaultSpec


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


def ran() -> Counter[str]:
    return Counter(name for *_, name in samples.RAN)


async def started(fleet: Led, use: str, *clusters: str) -> tuple[Any, Any]:
    """The primary and its warm standby."""
    await fleet.apply(fleet_doc(clusters, [f"fleet_samples:{use}"], timeouts={"drain": 1}))

    def warm() -> Any:
        for core in fleet.substrate.living("standby"):
            if core.standby is not None and core.report().ready and fleet.leader.roster.standby_of("0") is not None:
                return core
        return None

    standby = await until(warm)
    (primary,) = fleet.substrate.living("shard")
    return primary, standby


async def test_a_key_that_waits_for_a_cluster_is_requeued_by_the_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    async with led() as fleet:
        primary, standby = await started(fleet, "patient", "hub", "away")
        faults = fleet.cluster("away").faults
        for fault in ({"kind": "error", "status": 503, "verbs": ["watch", "list"]}, {"kind": "closeWatch", "for": "100ms"}):
            faults.add(FaultSpec.model_validate(fault))
        (worker,) = fleet.substrate.living("worker")
        await until(lambda: not worker.links["0"].states["away"].reachable)
        await fleet.put("hub", "patient", "a")
        await until(lambda: ran()["a"] == 1)
        await until(lambda: [note.waiting for note in standby.standby.notes.values()] == ["cluster"])
        seen = standby.reporter.states
        await until(lambda: [state.name for state in seen() if not state.reachable] == ["away"], what="it sees so, too")
        await fleet.substrate.kill(primary.member)
        await until(lambda: standby.standby is None)
        await holds(lambda: ran()["a"] == 1, 0.3, "its poll is in an hour")
        faults.clear(None)
        await until(lambda: ran()["a"] == 2, 20.0)


async def test_a_change_that_was_not_mapped_yet_requeues_every_key_that_may_read_it() -> None:
    """The states of the object before were the dead primary's."""
    async with led() as fleet:
        primary, standby = await started(fleet, "member_reader", "here")
        api = fleet.cluster("here").api
        meta = {"name": "policy", "namespace": "default", "labels": {"app": "policy", "for": "nobody"}}
        await api.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        for name in ("a", "b"):
            await fleet.put("here", "member-reader", name)
        await until(lambda: ran() == {"a": 1, "b": 1} and "nobody" in samples.MAPPED)
        await until(lambda: not primary.queue.snapshot())
        primary.dispatcher.paused = True
        change = msgspec.json.encode({"metadata": {"labels": {"for": "a"}}})
        await api.patch_merge("configmaps", "default", "policy", change)
        await until(lambda: any(selection_of(saved.key) for _, saved in standby.standby.queue({"member-reader"})))
        store = standby.caches.informer("here", GVK("", "v1", "ConfigMap")).store
        await until(lambda: store.get("default", "policy").meta.labels["for"] == "a")
        await until(lambda: not standby.standby.kept, what="the primary has judged the change")
        await fleet.substrate.kill(primary.member)
        await until(lambda: ran()["a"] >= 2 and ran()["b"] >= 2, 20.0, "b may have been meant before")
