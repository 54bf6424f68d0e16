"""The last hour and what changed, on the page in a real browser: charts with marks, gaps, a later observer, the keyboard."""

import math
from collections.abc import Iterator

import msgspec
import pytest
from browser import browser
from page_tab import photograph, shown
from page_views import NAMES, PageFleet, failing_fleet, fleet, fleet_file, one_down

from raycp.leadership.switches import Switch
from raycp.observer.history import POINTS, STEP
from raycp.protocol.status import FleetStatus

RATE = "#hour figure:nth-of-type(1)"
HELD = "document.activeElement"


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browser(tmp_path_factory.mktemp("chromium")) as address:
        yield address


def switched(status: FleetStatus, at: float) -> list[Switch]:
    return [*status.switches, Switch(at, "death", "shard 0", 3, 5, "node-2/standby", "node-1/shard", leaderless=0.2)]


async def eventful() -> PageFleet:
    """Work, a cluster that goes, a switch, and two minutes in which nobody measured."""
    page = PageFleet(*failing_fleet())
    page.become(switches=[])
    await page.measured(12, failed=3)
    page.become(clusters=one_down().clusters, switches=switched(fleet([]), page.clock.wall())[-1:])
    await page.measured(2, 90)
    for _ in range(12):
        await page.clock.advance(STEP)
    await page.measured(3, failed=2)
    return page


async def test_charts_with_marks_and_gaps(devtools: str) -> None:
    async with shown(devtools, await eventful()) as (tab, _):
        await tab.until("document.querySelectorAll('#hour svg.curve').length === 4")
        assert "1 mark" in await tab.text("#hour .digest")
        said = await tab.eval(f"document.querySelector('{RATE} svg').getAttribute('aria-label')")
        assert said.startswith("reconciles per s over the last hour: last 18, most 54 at ")
        assert "; errors per s over the last hour: last 1.2" in said
        assert await tab.eval(f"document.querySelectorAll('{RATE} line.mark').length") == 1
        assert (await tab.eval(f"document.querySelector('{RATE} line.mark title').textContent")).endswith("shard 0 switched")
        assert await tab.eval(f"document.querySelectorAll('{RATE} rect').length") == 2, "before the first point, and between"
        assert await tab.eval(f"document.querySelectorAll('{RATE} polyline').length") == 4, "no line over a gap"


async def test_a_full_hour_is_drawn(devtools: str) -> None:
    page = PageFleet(*failing_fleet())
    page.become(switches=[])
    for turn in range(POINTS // 6 + 1):
        await page.measured(6, 30 + round(20 * math.sin(turn / 5)), failed=9 if 40 < turn < 46 else 0)
        if turn == 41:
            page.become(switches=switched(fleet([]), page.clock.wall())[-1:])
        if turn == 20:
            page.plan.fleet = fleet_file("6e1b7a90c3d4", ["hub", "east"])
    async with shown(devtools, page, width=1060, height=640) as (tab, _):
        await tab.until("document.querySelectorAll('#hour svg.curve').length === 4")
        drawn = await tab.eval(f"document.querySelector('{RATE} polyline').getAttribute('points').split(' ').length")
        assert drawn == POINTS
        assert await tab.eval(f"document.querySelectorAll('{RATE} line.mark').length") == 2
        assert await tab.eval(f"document.querySelectorAll('{RATE} rect').length") == 0, "no gap"
        await tab.eval("document.querySelector('#changes').scrollIntoView()")
        await photograph(tab, "hour")


async def test_the_keyboard_reads_the_hour(devtools: str) -> None:
    async with shown(devtools, await eventful()) as (tab, _):
        await tab.until("document.querySelectorAll('#hour svg.curve').length === 4")
        await tab.eval("document.querySelector('#hour .at').focus()")
        assert "reconciles per s 18, errors per s 1.2, p99 25 ms" in await tab.eval(f"{HELD}.getAttribute('aria-valuetext')")
        for _ in range(4):
            await tab.press("ArrowLeft")
        assert (await tab.text("#hour .reading")).endswith("UTC: nobody measured")
        await tab.eval(f"({HELD}.value = 359 - 17, {HELD}.dispatchEvent(new Event('input')))")
        assert (await tab.text("#hour .reading")).endswith("; shard 0 switched")
        before = await tab.eval("document.querySelector('#hour .at').value")
        await tab.eval("hour.recall()")
        assert await tab.eval("document.querySelector('#hour .at').value") == before


async def test_one_cluster_and_the_table(devtools: str) -> None:
    async with shown(devtools, await eventful()) as (tab, _):
        await tab.until("document.querySelectorAll('#hour svg.curve').length === 4")
        await tab.eval(
            "(e => { e.value = JSON.stringify(['clusters', 'east-1']); e.dispatchEvent(new Event('change')); })"
            "(document.querySelector('#hour .whose'))"
        )
        assert await tab.eval("document.querySelectorAll('#hour svg.curve').length") == 2
        await tab.eval("document.querySelector('#hour .asTable summary').click()")
        await tab.until("document.querySelectorAll('#hour .rows tbody tr').length === 12")
        assert "shard 0 switched" in await tab.text("#hour .rows")
        assert "no data" in await tab.text("#hour .rows tbody tr:last-child")


async def test_sparklines_say_what_they_show(devtools: str) -> None:
    async with shown(devtools, await eventful()) as (tab, _):
        await tab.until("document.querySelectorAll('#clusters svg.spark polyline').length > 4")
        assert (await tab.eval("document.querySelector('#controllers svg.spark').getAttribute('aria-label')")).startswith(
            "reconciles per s over the last hour: last "
        )


async def test_what_changed_leads_to_more(devtools: str) -> None:
    async with shown(devtools, await eventful()) as (tab, _):
        await tab.until("document.querySelectorAll('#changes tbody tr').length >= 3")
        text = await tab.text("#changes")
        assert "switch shard 0 switched cause death; node-2/standby after node-1/shard; leaderless for 200 ms" in text
        assert "cluster cluster west-2 unreachable connection refused" in text
        await tab.eval("document.querySelector('#changes button.link[data-section=leadership]').click()")
        assert await tab.eval("document.querySelector('#leadership details').open")
        assert await tab.eval(f"{HELD}.closest('section').id") == "leadership"
        await tab.eval("[...document.querySelectorAll('#changes a')].find(a => a.textContent.includes('west-2')).click()")
        assert await tab.eval("location.search") == "?find=west-2"


async def test_only_new_points_are_fetched(devtools: str) -> None:
    page = await eventful()
    async with shown(devtools, page) as (tab, _):
        await tab.until("document.querySelectorAll('#hour svg.curve').length === 4")
        asked: list[tuple[str, int, int]] = []
        answer = page.chronicle.answer

        def watched(instance: str, after: int, seq: int) -> dict[str, object]:
            asked.append((instance, after, seq))
            return answer(instance, after, seq)

        page.chronicle.answer = watched  # type: ignore[method-assign]
        await page.measured(1, 300)
        await tab.eval("hour.recall()")
        await tab.until(f"document.querySelector('{RATE} figcaption').textContent.includes('reconciles per s 180')")
        assert asked[0][0], "the same observer"
        assert await tab.eval(f"document.querySelectorAll('{RATE} line.mark').length") == 1, "nothing is shown twice"
        assert len(answer(*asked[0])["fleet"]["rate"]) == 1


async def test_a_later_observer_is_asked_for_all(devtools: str) -> None:
    page = await eventful()
    async with shown(devtools, page) as (tab, server):
        await tab.until("document.querySelectorAll('#hour svg.curve').length === 4")
        rows = await tab.eval("document.querySelectorAll('#changes tbody tr').length")
        stored = page.chronicle.checkpoint()
        _, second = page.observer()
        second.restore(stored)
        page.chronicle.answer = second.answer  # type: ignore[method-assign]
        page.become(clusters=fleet(NAMES).clusters)
        await second.look()
        await tab.eval("hour.recall()")
        await tab.until(f"document.querySelectorAll('#changes tbody tr').length > {rows}")
        assert "cluster west-2 reachable" in await tab.text("#changes")
        assert "most 54" in await tab.eval(f"document.querySelector('{RATE} svg').getAttribute('aria-label')")
        assert server.url


async def test_a_history_that_can_not_be_read_is_said(devtools: str) -> None:
    page = await eventful()

    def broken(*_: object) -> dict[str, object]:
        raise RuntimeError("no history")

    page.chronicle.answer = broken  # type: ignore[method-assign]
    async with shown(devtools, page) as (tab, _):
        await tab.until("document.querySelector('#hour .digest').textContent.includes(\"the history can't be read: \")")
        assert "RuntimeError: no history" in await tab.text("#hour .digest")
        tab.errors.clear()  # Chromium tells of the status 500


async def test_names_stay_texts(devtools: str) -> None:
    told = "<img src=x onerror='window.hit=1'>"
    status = fleet(NAMES)
    status.clusters[1] = msgspec.structs.replace(status.clusters[1], name=told, closed=told, reason=told)
    page = PageFleet(status)
    await page.measured(3)
    down = [msgspec.structs.replace(row, reachable=False) for row in status.clusters]
    page.become(clusters=down)
    await page.measured(1)
    async with shown(devtools, page) as (tab, _):
        await tab.until("document.querySelectorAll('#changes tbody tr').length > 3")
        assert told in await tab.text("#changes")
        assert await tab.eval("document.images.length") == 0
        assert await tab.eval("window.hit === undefined")
