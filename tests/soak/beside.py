"""Work beside a test that would go unnoticed if it ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any


@contextlib.asynccontextmanager
async def beside(*endless: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run what never ends while the body runs; at the body's end raise what one of them raised."""
    tasks = [asyncio.ensure_future(work) for work in endless]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
                raise AssertionError(f"{task.get_coro()} has ended")
    finally:
        for task in tasks:
            task.cancel()
