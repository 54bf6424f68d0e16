"""One client per cluster, made when it is first asked for, and anew when its connection changes or could not be made."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from raycp.base.clock import Clock
from raycp.kube.client import ClusterClient
from raycp.kube.connect import ConnectSpec
from raycp.kube.errors import Unreachable

RETRY_MIN = 0.5
RETRY_MAX = 2.0
"""Seconds after which a client that could not be made is made again: the shortest, doubled with each failure, and the longest."""

Connect = Callable[[ConnectSpec], Coroutine[Any, Any, ClusterClient]]
"""Makes a client. Raises ``ConnectError``."""


class _Entry:
    """One attempt. ``wait`` seconds pass after its failure, which is at ``failed_at``."""

    def __init__(self, spec: ConnectSpec, making: "asyncio.Task[ClusterClient]", wait: float, clock: Clock) -> None:
        self.spec = spec
        self.making = making
        self.wait = wait
        self.failed_at: float | None = None
        self._clock = clock
        making.add_done_callback(self._ended)

    def _ended(self, making: "asyncio.Task[ClusterClient]") -> None:
        if not _made(making):
            self.failed_at = self._clock.now()

    @property
    def due(self) -> bool:
        """It failed, and its wait is over."""
        return self.failed_at is not None and self._clock.now() >= self.failed_at + self.wait


class ClientTable:
    """An entry is replaced without an await in between, so that all who ask at the same time get the same client, and each client
    that was made is closed. Lives on one loop.
    """

    def __init__(self, connect: Connect, clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def get(self, spec: ConnectSpec) -> ClusterClient:
        """The client of the cluster ``spec.name`` over this connection. Raises ``ConnectError``; ``Unreachable`` if it is not made
        within the time of a request (a credential plugin runs), or if the table is closed meanwhile.
        """
        known = self._entries.get(spec.name)
        if known is None or known.spec != spec or known.due:
            wait = min(RETRY_MAX, 2 * known.wait) if known is not None and known.spec == spec else RETRY_MIN
            self._retire(spec.name)
            making = asyncio.get_running_loop().create_task(self._connect(spec))
            known = self._entries[spec.name] = _Entry(spec, making, wait, self._clock)
        making = known.making
        if not making.done():
            await asyncio.wait([making], timeout=spec.timeout)
        if not making.done():
            text = f"cluster {spec.name!r}: no client within {spec.timeout:g} s; it waits for credentials or an answer"
            raise Unreachable(text, sent=False, timed_out=True)
        if making.cancelled():
            raise Unreachable(f"the client of cluster {spec.name!r} was closed", sent=False)
        return making.result()

    def peek(self, cluster: str) -> ClusterClient | None:
        """The client of a cluster if there is one."""
        known = self._entries.get(cluster)
        return known.making.result() if known is not None and _made(known.making) else None

    async def close(self) -> None:
        """Close all clients, those included that are being made."""
        for cluster in list(self._entries):
            self._retire(cluster)
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _retire(self, cluster: str) -> None:
        known = self._entries.pop(cluster, None)
        if known is not None:
            task = asyncio.get_running_loop().create_task(_close(known.making))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)


def _made(making: "asyncio.Task[ClusterClient]") -> bool:
    return making.done() and not making.cancelled() and making.exception() is None


async def _close(making: "asyncio.Task[ClusterClient]") -> None:
    making.cancel()
    await asyncio.wait([making])
    if _made(making):
        with contextlib.suppress(Exception):  # it is of no use to anyone any more
            await making.result().close()
