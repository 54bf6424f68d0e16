"""A running reflector and the events that it has emitted."""

import asyncio
import contextlib
from collections.abc import Callable

from scripted_api import ScriptedApi

from raycp.base.clock import SystemClock
from raycp.base.events import Event
from raycp.base.keys import GVK
from raycp.cache import Handler, Reflector, ReflectorOptions, Store
from raycp.kube import ClusterClient

CM = GVK("", "v1", "ConfigMap")
QUICK = {
    "backoff_first": 0.02,
    "backoff_cap": 0.1,
    "stall": 0.5,
    "initial_patience": 0.3,
    "page": 7,
    "replay_quiet": 0.1,
}


class Watched:
    """A running reflector on a store, with all events that it has emitted."""

    def __init__(self, server: ScriptedApi | None, client: ClusterClient) -> None:
        self.server, self.client = server, client
        self.events: list[Event] = []
        self.store = Store()
        self.reflector: Reflector
        self._task: asyncio.Task[None] | None = None

    def start(
        self, handler: Handler | None = None, *, watermark: int | None = None, label_selector: str = "", **options: object
    ) -> None:
        self.reflector = Reflector(
            self.client,
            CM,
            self.store,
            handler or self.events.extend,
            SystemClock(),
            options=ReflectorOptions(**{**QUICK, **options}),  # type: ignore[arg-type]
            watermark=watermark,
            label_selector=label_selector,
        )
        self._task = asyncio.create_task(self.reflector.run())

    async def synced(self) -> None:
        await asyncio.wait_for(self.reflector.synced.wait(), 10)

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait for ``condition``; raises at once if the reflector has failed."""
        async with asyncio.timeout(seconds):
            while not condition():
                if self._task is not None and self._task.done():
                    self._task.result()
                await asyncio.sleep(0.005)

    async def same(self) -> None:
        """Wait until the store equals the objects of the server, and all its events are emitted."""

        server = self.server
        assert server is not None

        def equal() -> bool:
            there = {key: int(obj["metadata"]["resourceVersion"]) for key, obj in server.objects.items()}
            return not self.store.emitting and there == {(o.meta.namespace, o.meta.name): o.rv for o in self.store}

        await self.until(equal)

    def emitted(self) -> list[tuple[str, str]]:
        return [(event.type.value, event.obj.meta.name) for event in self.events]

    def take(self) -> list[tuple[str, str]]:
        found = self.emitted()
        self.events.clear()
        return found

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
