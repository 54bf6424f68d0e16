"""One client per cluster and user, made when it is first asked for, and anew when its connection changes or could not be made."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from raycp.base.clock import Clock
from raycp.kube.client import ClusterClient
from raycp.kube.connect import ConnectSpec, UserSource
from raycp.kube.errors import NoCredentials, Unreachable

RETRY_MIN = 0.5
RETRY_MAX = 2.0
"""Seconds after which a client that could not be made is made again: the shortest, doubled with each failure, and the longest."""

ClientKey = tuple[str, UserSource | None]
"""A cluster's name, and whose credentials its client has; None: the cluster's own."""

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
        self._entries: dict[ClientKey, _Entry] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def get(self, spec: ConnectSpec) -> ClusterClient:
        """The client of the cluster ``spec.name`` and of ``spec.user`` over this connection. Raises ``ConnectError``;
        ``NoCredentials`` if it is not made within the time of a request (a plugin runs), ``Unreachable`` if it is closed meanwhile.
        """
        key = spec.name, spec.user
        known = self._entries.get(key)
        if known is None or known.spec != spec or known.due:
            wait = min(RETRY_MAX, 2 * known.wait) if known is not None and known.spec == spec else RETRY_MIN
            self._retire(key)
            making = asyncio.get_running_loop().create_task(self._connect(spec))
            known = self._entries[key] = _Entry(spec, making, wait, self._clock)
        making = known.making
        if not making.done():
            await asyncio.wait([making], timeout=spec.timeout)
        if not making.done():
            text = f"cluster {spec.name!r}: no client within {spec.timeout:g} s; it waits for credentials or an answer"
            raise NoCredentials(text)
        if making.cancelled():
            raise Unreachable(f"the client of cluster {spec.name!r} was closed", sent=False)
        return making.result()

    def peek(self, cluster: str, user: UserSource | None = None) -> ClusterClient | None:
        """The client of a cluster and a user if there is one."""
        known = self._entries.get((cluster, user))
        return known.making.result() if known is not None and _made(known.making) else None

    def keep(self, wanted: Collection[ClientKey]) -> None:
        """Close the clients of all other users than these; a cluster's own one stays."""
        for key in [key for key in self._entries if key[1] is not None and key not in wanted]:
            self._retire(key)

    async def close(self) -> None:
        """Close all clients, those included that are being made."""
        for key in list(self._entries):
            self._retire(key)
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _retire(self, key: ClientKey) -> None:
        known = self._entries.pop(key, None)
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
