"""What the leader counts reaches the observer as a member's statistics do."""

import pytest
from inprocess import fleet_doc, led, until

from raycp.observer import status_feed


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
