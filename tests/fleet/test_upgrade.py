"""From one fleet to another, warm to warm: nothing lost, nothing twice, and a clean return wherever a side dies. Without Ray."""

import asyncio
from typing import Any

import fleet_samples as samples
import pytest
from colours import House, house
from inprocess import fleet_of, until
from test_standby import doc, ran

from raycp.fleet.upgrading import upgrade


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))


async def writer(fleet: House, names: list[str], stop: asyncio.Event, every: float = 0.05) -> None:
    number = 0
    while not stop.is_set():
        name = f"w{number}"
        await fleet.put("here", "tracked", name)
        names.append(name)
        number += 1
        await asyncio.sleep(every)


async def test_an_upgrade_under_load_loses_nothing() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked"))
        samples.DELAY = 0.01
        names: list[str] = []
        stop = asyncio.Event()
        writing = asyncio.ensure_future(writer(fleet, names, stop))
        await until(lambda: len(names) > 10)
        begun = asyncio.get_running_loop().time()
        yielded = await upgrade(fleet.client, fleet_of(doc("tracked", workers={"slots": 16})))
        print(yielded, asyncio.get_running_loop().time() - begun)
        count = len(names)
        await until(lambda: len(names) > count + 10)
        stop.set()
        await writing
        await until(lambda: all(ran()[name] >= 1 for name in names))
        assert yielded.epoch == 2
        assert not samples.OVERLAPS
        await fleet.gone(fleet.base)
        status = await fleet.client.status()
        assert status["leader"]["epoch"] == 2
        rows = fleet.other.leader._history.rows()
        print(rows)
