"""TimelineQueries of objects, asked of shards over the connections that they opened to the observer."""

import asyncio
import itertools

from raycp.protocol.frames import TimelineQuery, TimelineReply, Unsendable
from raycp.protocol.job_query import JobQuery
from raycp.protocol.transport import Connection

ASK_TIMEOUT = 2.0
"""Seconds to wait for an answer."""


class TimelineQueries:
    """One per observer."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._ids = itertools.count(1)

    async def ask(
        self,
        connection: Connection,
        cluster: str,
        kind: str,
        namespace: str,
        name: str,
        topic: str = "",
        jobs: JobQuery | None = None,
    ) -> bytes | None:
        """The answer as JSON, None where there is none within ``ASK_TIMEOUT``."""
        identity = next(self._ids)
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[identity] = waiting
        try:
            connection.send(TimelineQuery(identity, cluster, kind, namespace, name, topic, jobs))
            async with asyncio.timeout(ASK_TIMEOUT):
                return await waiting
        except (TimeoutError, Unsendable):  # no object has a name that can't be sent
            return None
        finally:
            del self._waiting[identity]

    def answered(self, message: TimelineReply) -> None:
        """A shard has answered; an answer that came too late is dropped."""
        waiting = self._waiting.get(message.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.body)
