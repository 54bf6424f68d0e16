"""A headless Chromium over the DevTools protocol: one process for a module's tests, a tab each.

Needs Debian's chromium (``make tools``). Where it is missing tests are skipped, and fail when ``CI=true``.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pictures import small_png

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0"),
]
STARTS_WITHIN = 60.0
"""Seconds for Chromium's start."""

WITHIN = 20.0
"""Seconds for anything that a page is waited for."""


@contextlib.contextmanager
def browser(home: Path) -> Iterator[str]:
    """The address of a browser's DevTools. Its files are in ``home``."""
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing: make tools")
        pytest.skip("no chromium: make tools")
    with (home / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={home / 'profile'}"], stdout=log, stderr=log,
            env={**os.environ, "HOME": str(home)}, start_new_session=True,
        )  # fmt: skip
    try:
        yield _address(process, home)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _address(process: "subprocess.Popen[bytes]", home: Path) -> str:
    """Where DevTools listens: Chromium writes port and path into a file."""
    deadline = time.monotonic() + STARTS_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ValueError):
            port, path = (home / "profile" / "DevToolsActivePort").read_text().split()
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(0.02)
    pytest.fail(f"chromium does not start: {(home / 'chromium.log').read_text(errors='replace')}")


class Tab:
    """A page. ``errors``: exceptions of its scripts and what it wrote to the console."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self.errors: list[str] = []
        self._socket = socket
        self._session = session
        self._ids = 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol."""
        self._ids += 1
        await self._socket.send_json({"id": self._ids, "method": method, "params": params, "sessionId": self._session})
        async with asyncio.timeout(WITHIN):
            while True:
                answer = json.loads((await self._socket.receive()).data)
                if answer.get("id") == self._ids:
                    assert "error" not in answer, (method, answer["error"])
                    result: dict[str, Any] = answer["result"]
                    return result
                if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                    self.errors.append(json.dumps(answer["params"]))

    async def eval(self, script: str) -> Any:
        """The value of an expression."""
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        """The value of an expression as soon as it is true."""
        last = None
        try:
            async with asyncio.timeout(WITHIN):
                while not (last := await self.eval(script)):  # noqa: ASYNC110 - a page has no event of ours
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"never true: {script}; the page: {await self.text('body')}")
        return last

    async def open(self, url: str, *, width: int = 1300, height: int = 1100, dark: bool = False) -> None:
        """Load a page in a window of that size."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call("Page.navigate", url=url)

    async def text(self, selector: str) -> str:
        """What is to be read in an element, in one line."""
        found = await self.eval(f"document.querySelector({json.dumps(selector)})?.innerText")
        assert found is not None, f"no element {selector}"
        return " ".join(found.split())

    async def press(self, key: str) -> None:
        """Press a key: a character, ``Tab``, ``Enter``, ``ArrowLeft``."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37}
        typed = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=codes.get(key, 0), **typed)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=codes.get(key, 0))

    async def picture(self, file: Path) -> None:
        """A small PNG of the window."""
        found = await self.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)
        file.write_bytes(small_png(base64.b64decode(found["data"])))  # noqa: ASYNC240


@contextlib.asynccontextmanager
async def tab(devtools: str) -> AsyncIterator[Tab]:
    """A new tab of the browser at ``devtools``."""
    async with aiohttp.ClientSession() as client, client.ws_connect(devtools, max_msg_size=0) as socket:

        async def ask(method: str, **params: Any) -> Any:
            await socket.send_json({"id": 0, "method": method, "params": params})
            async with asyncio.timeout(WITHIN):
                while True:
                    answer = json.loads((await socket.receive()).data)
                    if answer.get("id") == 0:
                        return answer["result"]

        target = (await ask("Target.createTarget", url="about:blank"))["targetId"]
        session = (await ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = Tab(socket, session)
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        try:
            yield page
        finally:
            await ask("Target.closeTarget", targetId=target)
