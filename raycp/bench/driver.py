"""The load process seen from the scenario: ``async with load_process(ground) as load: await load.post(...)``."""

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from raycp.bench.child import end_child
from raycp.bench.ground import Ground

NAMESPACES = [f"bench-{i}" for i in range(4)]


class LoadError(Exception):
    """The load process could not execute an order."""


class Driver:
    """Sends orders, several at once, and matches responses. Rows are (name, sent, latency) in seconds."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    async def order(self, do: str, **what: Any) -> dict[str, Any]:
        """Send one order and return its response. Raises ``LoadError``."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"id": number, "do": do, **what}).encode() + b"\n")
        response = await answer
        if "error" in response:
            raise LoadError(f"{do}: {response['error']}")
        return response

    async def post(self, cluster: str, prefix: str, count: int, **what: Any) -> dict[str, Any]:
        """See ``Load.post``. Raises ``LoadError`` if a change was refused."""
        answer = await self.order("post", cluster=cluster, prefix=prefix, count=count, **{"namespaces": NAMESPACES, **what})
        if answer["errors"]:
            raise LoadError(f"changes were refused: {answer['errors']}")
        return answer

    async def wait(self, prefix: str, count: int, timeout: float = 60.0) -> dict[str, Any]:
        return await self.order("wait", prefix=prefix, count=count, timeout=timeout)

    async def clean(self, cluster: str, *, selector: str = "bench", resources: list[str] | None = None) -> None:
        """Delete what the benchmark created."""
        resources = resources or ["configmaps", "pods"]
        await self.order("clean", cluster=cluster, namespaces=NAMESPACES, resources=resources, selector=selector)

    async def stop(self) -> None:
        await end_child(self._process)
        self._reading.cancel()

    async def _read(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            waiting = self._waiting.pop(answer.pop("id"), None)
            if waiting and not waiting.done():
                waiting.set_result(answer)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result({"error": "the load process ended"})


@contextlib.asynccontextmanager
async def load_process(ground: Ground, selector: str = "bench") -> AsyncIterator[Driver]:
    """A load process connected to all clusters of the ground, watching Pods that carry ``selector``."""
    log = ground.directory / "load.log"
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "raycp.bench.load",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr, limit=256 * 1024 * 1024,
        )  # fmt: skip
    driver = Driver(process)
    try:
        clusters = {name: str(path) for name, path in ground.kubeconfigs.items()}
        await driver.order("open", clusters=clusters, namespaces=NAMESPACES, selector=selector)
        yield driver
    finally:
        await driver.stop()
