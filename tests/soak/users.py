"""Users who create objects at a steady rate, in an open loop: a slow response delays no later change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from apis import Api
from soakrun import CONFIG_MAPS


class Users:
    """Creates ConfigMaps for the controller ``diary`` in one cluster; ``count`` of them so far."""

    def __init__(self, api: Api, rate: float, prefix: str = "u") -> None:
        self.api = api
        self.count = 0
        self.problems: list[str] = []
        self._rate = rate
        self._prefix = prefix
        self._pending: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Stop sending, and wait until all sent changes are accepted."""
        if self._running is not None:
            self._running.cancel()
        await asyncio.gather(*self._pending)

    async def _run(self) -> None:
        begun, sent = asyncio.get_running_loop().time(), 0
        while True:
            self.send()
            sent += 1
            await asyncio.sleep(max(0.0, begun + sent / self._rate - asyncio.get_running_loop().time()))

    def send(self) -> None:
        """One change, at once."""
        task = asyncio.ensure_future(self._one(f"{self._prefix}{self.count}"))
        self.count += 1
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _one(self, name: str) -> None:
        body = {"metadata": {"name": name, "labels": {"app": "diary"}}, "data": {"n": "1"}}
        await self.api.sure("POST", CONFIG_MAPS, body, done=(409,))


@contextlib.asynccontextmanager
async def changing(apis: Mapping[str, Api], rate: float, prefix: str = "u") -> AsyncIterator[dict[str, Users]]:
    """Users of all these clusters, ``rate`` changes per second in each, for the duration of the block."""
    made = {name: Users(api, rate, prefix) for name, api in apis.items()}
    for users in made.values():
        users.start()
    try:
        yield made
    finally:
        await asyncio.gather(*(users.stop() for users in made.values()))
