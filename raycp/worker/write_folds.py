"""``WriteFolds``: reports writes to the shards of the objects written, before the key is released (law 8)."""

import asyncio

from msgspec.structs import replace

from raycp.base.tasks import Done, Written
from raycp.kube import Unreachable
from raycp.protocol.frames import Fold
from raycp.worker.questions import KnowsShards, ShardQuestions

FOLD_TIMEOUT = 1.0
"""Seconds until a shard must have folded writes; after that the key waits for their versions."""


class WriteFolds:
    """One per worker. Lives on the user loop."""

    def __init__(self, clusters: KnowsShards, questions: ShardQuestions) -> None:
        self._clusters = clusters
        self._questions = questions

    async def fold(self, done: Done, shard: str) -> None:
        """Report the writes in ``done`` to other shards than ``shard``, which gets its own with the acknowledgement.

        Writes that their shard has folded are removed from ``done``; for others the key's shard waits for (uid, version).
        """
        groups: dict[str, list[Written]] = {}
        for write in done.writes:
            groups.setdefault(self._clusters.shards.get(write.cluster, ""), []).append(write)
        kept = groups.pop(shard, [])

        async def fold(writes: list[Written]) -> list[Written]:
            try:
                reply = await self._questions.ask(
                    writes[0].cluster, lambda identity: Fold(identity, writes, done.key), FOLD_TIMEOUT
                )
            except Unreachable:
                return [replace(write, raw=None) for write in writes]
            return [] if not reply.error else [replace(write, raw=None) for write in writes]

        for rest in await asyncio.gather(*(fold(writes) for writes in groups.values())):
            kept.extend(rest)
        done.writes = kept
