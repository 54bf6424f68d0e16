"""``ShardQuestions``: what the user loop asks and sends to shards, whose links live on the actor's loop."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from raycp.kube import Unreachable
from raycp.protocol.frames import TOKEN_PATIENCE, Message, Reply, TokenRequest

READ_TIMEOUT = 5.0
"""Seconds until a shard must have answered a read."""

TOKEN_TIMEOUT = TOKEN_PATIENCE + 5.0


class AnswersQuestions(Protocol):
    """A link to a shard, as questions need it."""

    async def call(self, make: Callable[[int], Message], timeout: float) -> Reply: ...

    def send(self, message: Message) -> None: ...


class KnowsShards(Protocol):
    """Which shard watches which cluster."""

    @property
    def shards(self) -> Mapping[str, str]: ...


class ShardQuestions:
    """Made on the actor's loop, used on the user loop."""

    def __init__(self, clusters: KnowsShards, links: Mapping[str, AnswersQuestions]) -> None:
        self._clusters = clusters
        self._links = links
        self._actor_loop = asyncio.get_running_loop()

    async def ask(self, cluster: str, make: Callable[[int], Message], timeout: float = READ_TIMEOUT) -> Reply:
        """Ask the shard that watches ``cluster``. Raises ``Unreachable``, and ``Unsendable`` for a question that is no frame."""
        shard = self._clusters.shards.get(cluster, "")
        if shard not in self._links:
            raise Unreachable(f"no shard is up that watches cluster {cluster!r}", sent=False)
        return await self.ask_shard(shard, make, timeout)

    async def ask_shard(self, shard: str, make: Callable[[int], Message], timeout: float = READ_TIMEOUT) -> Reply:
        """Ask ``shard``. Raises as ``ask``."""
        link = self._links.get(shard)
        if link is None:
            raise Unreachable(f"shard {shard} is not connected", sent=False)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(link.call(make, timeout), self._actor_loop))

    async def tokens(self, cluster: str, n: int, priority: int) -> int:
        """Ask for ``n`` tokens of a cluster's client budget; how many were granted. Raises ``Unreachable``."""
        return (await self.ask(cluster, lambda identity: TokenRequest(identity, cluster, n, priority), TOKEN_TIMEOUT)).tokens

    def send(self, shard: str, message: Message) -> None:
        """Send a frame that may get lost."""
        self._actor_loop.call_soon_threadsafe(self._send, shard, message)

    def _send(self, shard: str, message: Message) -> None:
        link = self._links.get(shard)
        if link is not None:
            link.send(message)
