"""The status page of a fleet in a browser's tab."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from browser import Tab, tab
from page_views import PageFleet

from raycp.observer.web import WebServer, serve


@contextlib.asynccontextmanager
async def shown(devtools: str, page: PageFleet, path: str = "/", **window: Any) -> AsyncIterator[tuple[Tab, WebServer]]:
    """The page once it shows what the observer knows; fails for any message of the console."""
    server = await serve(page.view)
    try:
        async with tab(devtools) as found:
            await found.open(server.url + path, **window)
            await found.until("document.body?.dataset.live === 'yes'")
            yield found, server
            assert not found.errors
    finally:
        await server.stop()


async def photograph(page: Tab, name: str) -> None:
    """A picture of the window, if ``RAYCP_SCREENSHOTS`` names a folder."""
    if folder := os.environ.get("RAYCP_SCREENSHOTS"):
        await page.picture(Path(folder) / f"console-{name}.png")
