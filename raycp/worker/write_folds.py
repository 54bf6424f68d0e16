"""``WriteFolds``: reports writes to the shards of the objects written, before the key is released (law 8).

Writes go in pages, each answered before the next is sent. An object that fits in no frame is not sent: the key waits for its
version, which the shard's own watch brings.
"""

import asyncio
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from raycp.base.tasks import Done, Written
from raycp.kube import Unreachable
from raycp.protocol.frames import LARGEST, PAGE, Fold, Unsendable
from raycp.worker.questions import KnowsShards, ShardQuestions

FOLD_TIMEOUT = 1.0
"""Seconds until a shard must have folded writes; after that the key waits for their versions."""

INLINE = PAGE // 4
"""Bytes of objects that travel with an acknowledgement; more are folded before it."""


class WriteFolds:
    """One per worker. Lives on the user loop."""

    def __init__(self, clusters: KnowsShards, questions: ShardQuestions) -> None:
        self._clusters = clusters
        self._questions = questions

    async def fold(self, done: Done, shard: str) -> None:
        """Report the writes in ``done`` to other shards than ``shard``, which gets its own with the acknowledgement.

        Writes that their shard has folded are removed from ``done``; for others the key's shard waits for (uid, version). Its own
        writes stay in ``done``, without the objects where these are many bytes and have been folded before.
        """
        groups: dict[str, list[Written]] = {}
        for write in done.writes:
            groups.setdefault(self._clusters.shards.get(write.cluster, ""), []).append(write)
        kept = groups.pop(shard, [])
        if _size(kept) > INLINE:
            await self._fold(shard, kept, done)
            kept = [replace(write, raw=None) for write in kept]
        for rest in await asyncio.gather(*(self._fold(other, writes, done) for other, writes in groups.items())):
            kept.extend(rest)
        done.writes = kept

    async def _fold(self, shard: str, writes: Sequence[Written], done: Done) -> list[Written]:
        """Report ``writes`` to ``shard``. Returns those that it has not folded, without their objects."""
        unseen = [replace(write, raw=None) for write in writes if _bytes(write) > LARGEST]
        answers = True
        for page in _pages([write for write in writes if _bytes(write) <= LARGEST]):
            if answers:
                try:
                    reply = await self._questions.ask_shard(
                        shard, lambda identity: Fold(identity, page, done.key), FOLD_TIMEOUT  # noqa: B023
                    )
                    if not reply.error:
                        continue
                except Unreachable:
                    answers = False
                except Unsendable:
                    pass
            unseen += [replace(write, raw=None) for write in page]
        return unseen


def _pages(writes: Sequence[Written]) -> Iterator[list[Written]]:
    page: list[Written] = []
    size = 0
    for write in writes:
        if page and size + _bytes(write) > PAGE:
            yield page
            page, size = [], 0
        page.append(write)
        size += _bytes(write) + 300
    if page:
        yield page


def _size(writes: Sequence[Written]) -> int:
    return sum([_bytes(write) for write in writes])


def _bytes(write: Written) -> int:
    return 0 if write.raw is None else len(write.raw)
