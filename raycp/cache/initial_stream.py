"""The whole state of a kind from a stream (WatchList, KEP-3157): ADDED lines, an annotated bookmark at their end, then live
events.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from raycp.base.objects import Obj
from raycp.cache.difference import SLICE
from raycp.cache.replacement import Replacement
from raycp.kube import ApiError, ClusterClient
from raycp.kube.codec import decode_watch_lines
from raycp.kube.connection import LineStream
from raycp.kube.objects import Query

_REJECTED = (400, 405, 422)  # answers of a server without WatchList
_END = "k8s.io/initial-events-end"


class NotStreamed(Exception):
    """The stream did not give the whole state; ``supported`` is False if the server rejected the request."""

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
    *,
    patience: float,
    stall: float,
) -> AsyncIterator[tuple[str, Sequence[bytes], LineStream]]:
    """Fill ``replacement``; gives its resourceVersion, the lines that came after it, and the stream, which goes on as a watch.

    ``received`` is called for each batch of lines. ``patience`` bounds the silence in seconds before the end of the state,
    ``stall`` the silence after it. Raises ``NotStreamed``, ``ApiError``, ``Unreachable``.
    """
    loop = asyncio.get_running_loop()
    end: tuple[str, Sequence[bytes]] | None = None
    async with contextlib.AsyncExitStack() as opened:
        try:
            async with asyncio.timeout(patience) as limit:
                stream = await opened.enter_async_context(client.stream(path, query, idle_timeout=stall))
                async for lines in stream:
                    received()
                    end = await _read(lines, replacement)
                    if end is not None:
                        break
                    limit.reschedule(loop.time() + patience)
        except TimeoutError:
            end = None
        except ApiError as error:
            if error.status not in _REJECTED:
                raise
            raise NotStreamed(supported=False) from None
        if end is None:
            raise NotStreamed(supported=True)
        yield *end, stream


async def _read(lines: Sequence[bytes], replacement: Replacement) -> tuple[str, Sequence[bytes]] | None:
    """The resourceVersion at the end mark and the lines after it, None if the mark is still to come."""
    for start in range(0, len(lines), SLICE):
        changes, failure = decode_watch_lines(lines[start : start + SLICE])
        objs: list[Obj] = []
        for number, (kind, obj) in enumerate(changes, start + 1):
            if kind != "BOOKMARK":
                objs.append(obj)
            elif (obj.meta.annotations or {}).get(_END) == "true":
                replacement.add(objs)
                return obj.meta.resource_version, lines[number:]
        if failure is not None:
            raise failure
        replacement.add(objs)
        await asyncio.sleep(0)
    return None
