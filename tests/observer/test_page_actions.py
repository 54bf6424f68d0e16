"""The console's actions in a real browser: shown to those alone who may act, told before they are done, usable by keyboard."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from browser import Tab, browser, tab
from page_views import JOB, NAMES, PageFleet, fleet
from test_actions import READ, WRITE, Leader

from raycp.config.observer import ObserverSpec
from raycp.observer.web import serve
from raycp.protocol.control import HandOver, HandoverResult, ReconcileNow, RequestedKey, SetDrain, SetPause
from raycp.protocol.control.errors import ErrorCode
from raycp.protocol.substrate import MemberFailed

HELLO = f"hub/{JOB}/default/hello"
BY = "write token from 127.0.0.1"


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browser(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@contextlib.asynccontextmanager
async def shown(devtools: str, spec: ObserverSpec, path: str = "/") -> AsyncIterator[tuple[Tab, Leader]]:
    """The page of a fleet whose leader answers as told; fails for any message of the console."""
    leader = Leader()
    server = await serve(PageFleet(fleet(NAMES)).view, spec, ask=leader)
    try:
        async with tab(devtools) as found:
            if spec.tokens is not None:  # as who has typed the token into the browser's dialog before
                await found.open(server.url.replace("//", f"//ann:{READ}@"))
                await found.until("document.querySelector('#banner') !== null")
                found.errors.clear()
            await found.open(server.url + path)
            await found.until("document.body?.dataset.live === 'yes'")
            yield found, leader
            assert not found.errors
    finally:
        await server.stop()


@pytest.fixture
def guarded(tmp_path: Path) -> ObserverSpec:
    for name, token in (("read", READ), ("write", WRITE)):
        (tmp_path / name).write_text(token)
    tokens = {"read": str(tmp_path / "read"), "write": str(tmp_path / "write")}
    return ObserverSpec.model_validate({"port": 0, "tokens": tokens})


async def visible(page: Tab, selector: str) -> bool:
    return bool(await page.eval(f"document.querySelector('{selector}').checkVisibility()"))


async def unlock(page: Tab, token: str) -> None:
    await page.until("!document.querySelector('#actions').hidden")
    if not await page.eval("document.querySelector('#actions details').open"):
        await page.eval("document.querySelector('#actions summary').click()")
    await page.eval(f"document.querySelector('#token').value = '{token}'; document.querySelector('#unlock').requestSubmit()")


async def press(page: Tab, control: str, action: str, value: str) -> None:
    """Choose, and press the action's button with the keyboard."""
    await page.eval(f"document.querySelector('#act-{control}').value = '{value}'")
    await page.eval(f"document.querySelector('#act-{control}').parentNode.querySelector('[data-act={action}]').focus()")
    await page.press("Enter")
    await page.until("document.querySelector('#confirm').open")


async def agree(page: Tab) -> str:
    """Press the button that has the focus, and read what came of it."""
    await page.press("Enter")
    await page.until("!document.querySelector('#confirm').open && !may.busy && document.querySelector('#acted').className")
    return await page.text("#acted")


async def test_who_may_not_act_sees_no_action(devtools: str) -> None:
    async with shown(devtools, ObserverSpec(port=0), f"/#{HELLO}") as (page, leader):
        await page.until("may.by === '' && document.querySelector('#actions') !== null")
        assert not await visible(page, "#actions")
        assert not await visible(page, "#now")
        assert not leader.asked


async def test_actions_are_unlocked_confirmed_done_and_told(devtools: str, guarded: ObserverSpec) -> None:
    async with shown(devtools, guarded, f"/#{HELLO}") as (page, leader):
        await unlock(page, READ)
        await page.until("document.querySelector('#acted').textContent === 'this token may read, and not act'")
        assert not await visible(page, "#acts")
        assert not await visible(page, "#now")
        await unlock(page, WRITE)
        await page.until("may.write")
        assert "as write token" in await page.text("#actions summary")
        await page.until("document.querySelector('#act-cluster').options.length === 5")

        await press(page, "cluster", "pause", "east-1")
        assert (await page.text("#confirm")).startswith(
            "Pause: cluster east-1? No reconcile of an object of cluster east-1 is begun any more: what runs ends, what is due"
        )
        await page.press("Tab")
        await page.press("Enter")
        await page.until("!document.querySelector('#confirm').open")
        assert not leader.asked, "cancelled"

        await press(page, "cluster", "pause", "east-1")
        assert await agree(page) == "cluster east-1: paused"
        await press(page, "cluster", "drain", "west-2")
        assert await agree(page) == "cluster west-2: the Pods of jobs leave it now"
        leader.answer = [RequestedKey("batchjob", "ready", "its turn")]
        await page.eval("document.querySelector('#now').focus()")
        await page.press("Enter")
        await page.until("document.querySelector('#confirm').open")
        assert await agree(page) == f"{HELLO}, controller batchjob: ready, waits for its turn"
        leader.answer = [HandoverResult("0", "standby", 0.01, 0.045)]
        await press(page, "shard", "handover", "")
        assert await agree(page) == "shard 0: handed over in 45 ms"
        assert [question for question, _ in leader.asked] == [
            SetPause(True, ["east-1"], [], BY), SetDrain(True, ["west-2"], BY),
            ReconcileNow("hub", JOB, "default", "hello", "", BY), HandOver([], BY),
        ]  # fmt: skip
        await page.until("document.querySelectorAll('#acts-done tbody tr').length === 4")
        assert f"handover {{\"shards\":[]}} {BY} done" in await page.text("#acts-done tbody tr:first-child")
        assert not page.errors

        leader.answer = MemberFailed("<img src=x> has no warm standby", ErrorCode.REFUSED)
        await press(page, "shard", "handover", "")
        assert await agree(page) == "Hand over, all shards: <img src=x> has no warm standby"
        assert all("409" in each for each in page.errors), "Chromium itself tells of it"
        page.errors.clear()
        for width in (320, 390, 1300):
            await page.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600)
            assert await page.eval("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width


async def test_a_paused_cluster_and_a_paused_controller_are_shown_as_such(devtools: str) -> None:
    status = fleet(NAMES)
    status.clusters[1].paused = status.controllers[0].paused = True
    server = await serve(PageFleet(status).view)
    async with tab(devtools) as page:
        await page.open(server.url)
        await page.until("document.body?.dataset.live === 'yes'")
        for section in ("clusters", "controllers"):
            found = await page.eval(f"[...document.querySelectorAll('#{section} .pill.warn')].map(e => e.textContent)")
            assert found == ["paused"]
    await server.stop()
