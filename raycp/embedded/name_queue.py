"""``NamesToSettle``: objects whose status a controller of the server has to write, one after the other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from raycp.embedded.errors import StatusError

log = logging.getLogger(__name__)

AGAIN = 0.2
"""Seconds until an object that can't be written is tried again."""


class NamesToSettle:
    """``settle`` is called with each name that was put in, in a later turn of the event loop; and again where it raises
    ``StatusError``: the object changed meanwhile (409), or can't be written."""

    def __init__(self, settle: Callable[[str], Awaitable[None]]) -> None:
        self._settle = settle
        self._pending: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def put(self, name: str) -> None:
        """Settle this one, too; once if it waits already."""
        self._pending.add(name)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """What waits is dropped."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while self._pending:
            name = self._pending.pop()
            try:
                await self._settle(name)
            except StatusError as error:
                self._pending.add(name)
                await asyncio.sleep(0 if error.code == 409 else AGAIN)
            except Exception:  # of one object; the others are settled, and this one when it changes
                log.exception("the status of %s can't be written", name)
