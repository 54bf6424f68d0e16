"""The whole state of a kind as a list in pages."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from raycp.base.objects import Obj
from raycp.cache.difference import SLICE
from raycp.cache.replacement import Replacement
from raycp.kube import ApiError, ClusterClient
from raycp.kube.codec import ListMeta, decode_object, split_list
from raycp.kube.objects import Query


class PagedList:
    """A consistent list (resourceVersion unset: at least as new as any earlier answer), so that only a restored cluster can
    return one that is older than the cache. ``page`` is the number of objects per page, 0 for one page; ``timeout`` in seconds is
    per page.
    """

    def __init__(self, client: ClusterClient, path: str, selectors: Query, *, page: int, timeout: float) -> None:
        self._client = client
        self._path = path
        self._selectors = selectors
        self._page = page
        self._timeout = timeout

    async def read(self, begin: Callable[[], Replacement], received: Callable[[], None]) -> tuple[Replacement, str]:
        """The whole list and its resourceVersion. ``begin`` makes the replacement, once more if the continue token expires between
        pages; ``received`` is called for each page. Raises ``ApiError``, ``Unreachable``.
        """
        replacement, version = begin(), ""
        while True:
            try:
                async for meta, objs in self._pages():
                    version = meta.resource_version
                    received()
                    replacement.add(objs)
                    await asyncio.sleep(0)
                return replacement, version
            except _TokenExpired:
                self._page = 0
                replacement = begin()

    async def _pages(self) -> AsyncGenerator[tuple[ListMeta, list[Obj]], None]:
        token = ""
        while True:
            query: dict[str, str | int | bool] = dict(self._selectors)
            if self._page:
                query["limit"] = self._page
            if token:
                query["continue"] = token
            try:
                answer = await self._client.request("GET", self._path, query=query, timeout=self._timeout)
            except ApiError as error:
                if error.expired and token and self._page:
                    raise _TokenExpired from None
                raise
            meta, items, head = split_list(answer.body)
            for start in range(0, len(items), SLICE):
                yield meta, [decode_object(item, head=head) for item in items[start : start + SLICE]]
            if not items:
                yield meta, []
            token = meta.continue_
            if not token:
                return


class _TokenExpired(Exception):
    """The continue token expired between pages: the pages so far are void."""
