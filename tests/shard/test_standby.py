"""Warm standbys: law 6 (g) as failing sequences, on real cores, connections and clusters, without Ray."""

import asyncio
from collections import Counter
from typing import Any

import fleet_samples as samples
import pytest
from inprocess import fleet_doc, holds, led, until

from raycp.base.keys import GVK
from raycp.classify import Watermark
from raycp.config import FleetDoc

CONFIG_MAP = GVK("", "v1", "ConfigMap")


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


def doc(*uses: str, clusters: tuple[str, ...] = ("here",), **spec: Any) -> FleetDoc:
    settings = {"tiers": {"standard": {"workers": {"min": 1}}}, "timeouts": {"drain": 2}, **spec}
    return fleet_doc(clusters, [f"fleet_samples:{use}" for use in uses], **settings)


def ran() -> Counter[str]:
    return Counter(name for _, _, name in samples.RAN)


async def warm(fleet: Any) -> Any:
    """The standby, once it follows its primary and its leader knows so from its report."""

    def found() -> Any:
        for core in fleet.substrate.living("standby"):
            if core.standby is not None and core.report().ready:
                known = fleet.leader.roster.standby_of(core.identity.shard)
                return core if known is not None and known.member == core.member else None
        return None

    return await until(found)


def primary(fleet: Any) -> Any:
    return next(s for s in [*fleet.substrate.living("shard"), *fleet.substrate.living("standby")] if s.standby is None)


async def test_a_promotion_queues_nothing_twice_and_forgets_nothing() -> None:
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        for number in range(50):
            await fleet.put("here", "tracked", f"old-{number}")
        await until(lambda: len(ran()) == 50)
        standby = await warm(fleet)
        await until(lambda: len(standby.ledger.reconciled) == 50)
        assert not standby.queue.snapshot()
        samples.RAN.clear()
        before = primary(fleet)
        lists = {str(k): i.store for k, i in standby.caches.clusters["here"].informers.items()}
        await fleet.substrate.kill(before.member)
        await fleet.put("here", "tracked", "while-away")
        await until(lambda: ran()["while-away"] == 1)
        after = primary(fleet)
        assert after is standby
        assert after.identity.term == 2
        assert {str(k): i.store for k, i in after.caches.clusters["here"].informers.items()} == lists, "no relist"
        await holds(lambda: len(samples.RAN) == 1, 0.3, "no storm")
        again = await warm(fleet)
        assert again is not standby
        await fleet.put("here", "tracked", "later")
        await until(lambda: ran()["later"] == 1)


async def test_keys_that_fill_several_frames_reach_the_standby_and_then_what_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.shard.replication.CHUNK", 7)
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        standby = await warm(fleet)
        for number in range(50):
            await fleet.put("here", "tracked", f"cm-{number}")
        await until(lambda: len(ran()) == 50)
        await until(lambda: len(standby.ledger.reconciled) == 50, what="the standby has all keys")
        await until(lambda: not standby.standby.kept, what="no change is kept that the primary has judged")


async def test_a_key_in_work_on_a_living_worker_is_held_until_its_end() -> None:
    """A primary dies with a key in work: its successor must not hand the key out beside it (laws 1 and 6g)."""
    async with led() as fleet:
        await fleet.apply(doc("tracked"))
        samples.DELAY = 0.5
        standby = await warm(fleet)
        await fleet.put("here", "tracked", "slow")
        await until(lambda: ran()["slow"] == 1)
        await fleet.substrate.kill(primary(fleet).member)
        await until(lambda: standby.identity.term == 2)
        await until(lambda: ran()["slow"] == 2, what="interrupted under the old term, run again under the new")
        assert not samples.OVERLAPS


def children_made(fleet: Any) -> list[Any]:
    """What reconciles have created: the leader's own Secret is none of it."""
    return [each for each in fleet.cluster("here").recorder.select("secrets", "create") if each.term]


async def test_no_write_of_an_old_term_after_the_first_of_the_new() -> None:
    """Children are made before and after the primary's death: the recorder shows the terms of the writes, in order."""
    async with led() as fleet:
        await fleet.apply(doc("parent"))
        await warm(fleet)
        for number in range(30):
            await fleet.put("here", "parent", f"p-{number}")
            if number == 15:
                await until(lambda: len(children_made(fleet)) >= 5)
                await fleet.substrate.kill(primary(fleet).member)
        await until(lambda: len(children_made(fleet)) >= 30, 10.0)
        writes = children_made(fleet)
        terms = [int(write.term) for write in writes]
        assert terms == sorted(terms)
        assert set(terms) == {1, 2}
        assert len({write.name for write in writes}) == len(writes) == 30, "no child twice"


async def test_a_reconcile_that_was_cut_off_after_its_first_write_runs_again_though_nobody_told_the_successor_of_it() -> None:
    """The primary hands a key out and dies before its standby has heard of the key's change, from it or from its own watch. What
    the standby hears of first is the reconcile's own write: that is silent, and hides the change."""
    async with led() as fleet:
        await fleet.apply(doc("stepper"))
        standby, before = await warm(fleet), primary(fleet)
        informer = standby.caches.informer("here", CONFIG_MAP)
        hears, take_in = asyncio.Event(), informer.reflector._take_in

        async def late(lines: Any) -> bool:
            await hears.wait()
            return bool(await take_in(lines))

        informer.reflector._take_in = late
        before.replication.flush = lambda everything=False: None
        await fleet.put("here", "stepper", "s")
        api = fleet.cluster("here").api
        await until(lambda: api.get("configmaps", "default", "s")["metadata"].get("annotations"), what="its first write")
        await fleet.substrate.kill(before.member)
        await until(lambda: standby.identity.term == 2)
        await until(lambda: informer.store.get("default", "s"), what="the worker's report, with the write")
        hears.set()
        samples.OPEN["s"] = True
        await until(lambda: api.get("secrets", "default", "s-child"), what="what it had planned")


async def test_a_failing_key_keeps_its_attempts_and_a_delayed_one_its_time() -> None:
    async with led() as fleet:
        await fleet.apply(doc("wild"))
        standby = await warm(fleet)
        await fleet.put("here", "wild", "bad", do="raise")
        await until(lambda: ran()["bad"] >= 4)
        await fleet.substrate.kill(primary(fleet).member)
        await until(lambda: standby.identity.term == 2)
        found = await until(lambda: [s for s in standby.queue.snapshot() if s.key.name == "bad"])
        assert found[0].attempts >= 3


async def test_wakes_for_other_shards_survive_their_sender() -> None:
    """Law 10: a child changes, the shard that saw it dies before the owner's shard has reconciled."""
    async with led() as fleet:
        await fleet.apply(doc("remote", clusters=("hub", "east"), shards={"clustersPerShard": 1}))
        await until(lambda: sum(s.standby is not None and s.report().ready for s in fleet.substrate.living("standby")) == 2)
        await fleet.put("hub", "remote", "job")
        await until(lambda: fleet.cluster("east").api.get("secrets", "default", "job-child"))
        await until(lambda: not any(s.wakes.pending() for s in fleet.substrate.living("shard")))
        east = next(s for s in fleet.substrate.living("shard") if "east" in s.caches.clusters)
        await fleet.cluster("east").api.delete("secrets", "default", "job-child")
        await fleet.substrate.kill(east.member)
        await until(lambda: fleet.cluster("east").api.get("secrets", "default", "job-child"), what="made again")


async def test_a_promoted_standby_takes_over_the_watermarks() -> None:
    """What is written to the hub after a promotion is what the dead primary would have written: what fails, waits or has woken an
    owner elsewhere is an exception, what polls or was queued by the system is none."""
    async with led() as fleet:
        await fleet.apply(
            doc("tracked", "wild", "remote", clusters=("hub", "east"), shards={"clustersPerShard": 1}, state={"watermark": "50ms"})
        )
        await until(lambda: sum(s.standby is not None and s.report().ready for s in fleet.substrate.living("standby")) == 2)
        for name, do in (("fails", "raise"), ("waits", "wait"), ("polls", "poll"), ("fine", "")):
            await fleet.put("east", "wild", name, do=do)
        for number in range(20):
            await fleet.put("east", "tracked", f"t-{number}")
        await fleet.put("hub", "remote", "job")
        await until(lambda: fleet.cluster("east").api.get("secrets", "default", "job-child"))
        await until(lambda: len(ran()) == 25 and ran()["fails"] >= 3)
        before = next(s for s in fleet.substrate.living("shard") if "east" in s.caches.clusters)
        hub = next(s for s in fleet.substrate.living("shard") if "hub" in s.caches.clusters)
        await until(lambda: not before.wakes.pending())
        hub.dispatcher.paused = True  # owners in the hub are woken and never reconciled
        await fleet.cluster("east").api.delete("secrets", "default", "job-child")
        await until(lambda: before.wakes.pending())
        after = next(s for s in fleet.substrate.living("standby") if "east" in s.caches.clusters)

        def named(core: Any) -> dict[str, Any]:
            found = core.ledger.marks.export("east", 5000)
            marks = {kind: Watermark.decode(text) for kind, text in found.kinds.items()}
            return {
                "due": {kind: sorted(key.name for key in mark.exceptions()) for kind, mark in marks.items()},
                "starts": found.starts,
                "spans": {key: sorted(map(str, core.ledger.marks.due_of(key))) for key in core.ledger.marks.due_keys()},
            }

        await until(lambda: "job" in str(named(before)["due"]) and not before.ledger)
        # Nothing changes now: the failing key waits for longer than this takes.
        before.dispatcher.paused = True
        wanted = named(before)
        assert wanted["due"]["v1/ConfigMap"] == ["fails", "waits"]
        assert wanted["due"]["v1/Secret"] == ["job"]
        seq = after.standby.seq
        await until(lambda: after.standby.seq > seq + 1)
        rvs = {kind: before.ledger.marks.rv("east", kind) for kind in before.caches.clusters["east"].informers}
        await fleet.substrate.kill(before.member)
        await until(lambda: after.identity.term == 2)
        after.dispatcher.paused = True
        await until(lambda: named(after) == wanted, what=f"{wanted}\nis not\n{named(after)}")
        assert all((after.ledger.marks.rv("east", kind) or 0) >= (rv or 0) for kind, rv in rvs.items())
        stored = after.watermarks
        await until(lambda: stored.stored)


async def test_a_standby_keeps_the_index_by_owner_so_that_no_promotion_waits_for_it() -> None:
    async with led() as fleet:
        await fleet.apply(doc("parent"))
        await fleet.put("here", "parent", "a")
        await until(lambda: ran()["a"] == 1)
        standby = await warm(fleet)
        store = next(i.store for k, i in standby.caches.clusters["here"].informers.items() if k.kind == "Secret")
        await until(lambda: len(store) > 0)
        assert "owner" in store.built_indexes


async def test_a_promoted_standbys_counts_are_shown_beside_its_own_standbys() -> None:
    """Both are of one place, and the new standby is the younger: the older one leads and counts nevertheless."""
    async with led() as fleet:
        await fleet.apply(doc("tracked", slo=[{"controller": "tracked", "objective": 0.99, "within": "1s"}]))
        await fleet.put("here", "tracked", "before")
        await until(lambda: ran()["before"] == 1)
        first = await warm(fleet)
        await fleet.substrate.kill(primary(fleet).member)
        await until(lambda: first.identity.term == 2)
        second = await warm(fleet)
        assert second is not first
        observer = fleet.substrate.living("observer")[0]
        both = {first.member, second.member}
        await until(lambda: both <= {known.member for known in observer.sources.reports.values()}, what="both have reported")
        shown = (await observer.view.slo())[0]["total"]

        async def more() -> bool:
            return bool((await observer.view.slo())[0]["total"] == shown + 5)

        for number in range(5):
            await fleet.put("here", "tracked", f"after-{number}")
        await until(more, what="five more changes")
        assert (await observer.view.shards())[0]["memory_bytes"] > 1e6, "shown as what it is now"
