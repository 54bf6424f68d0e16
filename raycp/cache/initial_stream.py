"""The whole state of a kind from a stream (WatchList, KEP-3157): ADDED lines, an annotated bookmark at their end, then live
events.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from raycp.base.objects import Obj
from raycp.cache.difference import SLICE
from raycp.cache.memory import CacheMemory
from raycp.cache.replacement import Replacement
from raycp.kube import ApiError, ClusterClient
from raycp.kube.codec import decode_watch_lines
from raycp.kube.connection import LineStream
from raycp.kube.limits import too_large
from raycp.kube.objects import Query

_REJECTED = (400, 405, 422)  # answers of a server without WatchList
_END = "k8s.io/initial-events-end"


_SECONDS_PER_OBJECT = 0.01
"""By which the deadline of the whole state moves with each of its objects."""


class NotStreamed(Exception):
    """The stream did not give the whole state; ``supported`` is False if the server rejected the request, or sent other things
    until the deadline."""

    def __init__(self, *, supported: bool) -> None:
        super().__init__("no initial state")
        self.supported = supported


@contextlib.asynccontextmanager
async def initial_stream(
    client: ClusterClient,
    path: str,
    query: Query,
    replacement: Replacement,
    received: Callable[[], None],
    memory: CacheMemory,
    *,
    patience: float,
    deadline: float,
    stall: float,
) -> AsyncIterator[tuple[str, Sequence[bytes], LineStream]]:
    """Fill ``replacement``; gives its resourceVersion, the lines that came after it, and the stream, which goes on as a watch.

    ``received`` is called for each batch of lines. ``patience`` bounds the silence in seconds before the end of the state,
    ``deadline`` all of it, whatever arrives, up to 100 objects a second apart; ``stall`` the silence after it. Raises
    ``NotStreamed``, ``ApiError``, ``Unreachable`` (``TooLarge``), ``BadLine``.
    """
    loop = asyncio.get_running_loop()
    end: tuple[str, Sequence[bytes]] | None = None
    supported, latest, total = True, loop.time() + deadline, 0
    async with contextlib.AsyncExitStack() as opened:
        try:
            async with asyncio.timeout(patience) as limit:
                stream = await opened.enter_async_context(client.stream(path, query, idle_timeout=stall))
                async for lines in stream:
                    received()
                    total += sum(map(len, lines))
                    if total > client.limits.list:
                        raise too_large(f"the initial state of {path} has", client.limits.list)
                    end = await _read(lines, replacement, memory)
                    if end is not None:
                        break
                    limit.reschedule(min(loop.time() + patience, latest + len(replacement) * _SECONDS_PER_OBJECT))
        except TimeoutError:
            end = None
            supported = loop.time() < latest
        except ApiError as error:
            if error.status not in _REJECTED:
                raise
            raise NotStreamed(supported=False) from None
        if end is None:
            raise NotStreamed(supported=supported)
        yield *end, stream


async def _read(lines: Sequence[bytes], replacement: Replacement, memory: CacheMemory) -> tuple[str, Sequence[bytes]] | None:
    """The resourceVersion at the end mark and the lines after it, None if the mark is still to come."""
    for start in range(0, len(lines), SLICE):
        objs: list[Obj] = []
        for number, line in enumerate(lines[start : start + SLICE], start + 1):
            changes, unreadable, failure = decode_watch_lines((line,))
            if failure is not None:
                raise failure
            replacement.leave_out(unreadable)
            for kind, obj in changes:
                if kind == "DELETED":
                    replacement.add(objs)
                    objs.clear()
                    replacement.remove(obj)
                elif kind != "BOOKMARK":
                    objs.append(obj)
                elif (obj.meta.annotations or {}).get(_END) == "true":
                    replacement.add(objs)
                    return obj.meta.resource_version, lines[number:]
        replacement.add(objs)
        memory.check()
        await asyncio.sleep(0)
    return None
