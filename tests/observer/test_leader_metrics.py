"""What the leader counts: it is no member, and its metrics reach the observer with its status."""

import pytest
from inprocess import CLOCK, fleet_doc, led, until

from raycp.metrics import Label, Merger, Metrics
from raycp.observer import status_feed
from raycp.observer.sources import Sources
from raycp.slo import Objectives, SloBook


def process(value: float) -> bytes:
    metrics = Metrics()
    metrics.counter("a_total", "A.").labels().inc(value)
    metrics.gauge("g", "G.", (Label("name"),)).labels("leader").set(value)
    return metrics.snapshot()


def test_the_counts_of_a_leader_before_stay_and_its_gauges_do_not() -> None:
    merger = Merger()
    sources = Sources(CLOCK, merger, SloBook(CLOCK, Objectives()), lambda: "home", lambda: None)
    sources.feed_leader("leader a", process(2))
    sources.feed_leader("leader a", process(3))
    sources.feed_leader("leader b", process(10))
    assert (merger.total("a_total"), merger.total("g")) == (13, 10)
    sources.feed_leader("leader a", process(4))
    assert (merger.total("a_total"), sources.leader) == (13, "leader b"), "a late message of the dead"
    sources.feed_leader("leader b", b"\x00nonsense")
    sources.feed_leader("", b"")
    assert (merger.total("a_total"), sources.leader) == (13, "leader b"), "a leader of the previous release sends none"


async def test_the_gauges_of_a_silent_leader_vanish_and_its_counts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_feed, "SILENT_AFTER", 2.0)
    async with led() as fleet:
        await fleet.apply(fleet_doc(["here"], ["fleet_samples:tracked"]))
        observer = fleet.substrate.living("observer")[0]

        async def roles(family: str) -> set[str]:
            page = (await observer.view.metrics(names={family})).body.decode()
            return {line.split('role="')[1].split('"')[0] for line in page.splitlines() if line.startswith(f"{family}{{")}

        async def reports() -> bool:
            return "leader" in await roles("raycp_process_resident_memory_bytes")

        async def silent() -> bool:
            return "leader" not in await roles("raycp_process_resident_memory_bytes")

        await until(reports, 10.0)
        await fleet.die()
        await until(silent, 20.0)
        assert "leader" in await roles("raycp_process_cpu_seconds_total")
        assert "shard" in await roles("raycp_process_resident_memory_bytes")
        fleet.start_leader()
        await until(reports, 20.0)
