"""The whole state of a kind as a list in pages."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from raycp.cache.difference import SLICE
from raycp.cache.replacement import Replacement
from raycp.kube import ApiError, BadAnswer, ClusterClient
from raycp.kube.codec import ListMeta, decode_objects, split_damaged_list, split_list
from raycp.kube.objects import Query

_BARREN = 10  # pages in a row that may bring no new object

_Page = tuple[ListMeta, list[bytes], bytes]


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

    async def read(self, begin: Callable[[], Replacement], received: Callable[[], None]) -> tuple[Replacement, int]:
        """The whole list and its version. ``begin`` makes the replacement, once more if the continue token expires between pages;
        ``received`` is called for each page. Raises ``ApiError``, ``Unreachable``. Objects that cannot be read are left out of it.
        """
        replacement, version = begin(), 0
        barren = 0
        while True:
            try:
                async for meta, items, head in self._pages():
                    version, before = meta.rv, len(replacement)
                    received()
                    for start in range(0, len(items), SLICE):
                        objs, unreadable = decode_objects(items[start : start + SLICE], head)
                        replacement.add(objs)
                        replacement.leave_out(unreadable)
                        await asyncio.sleep(0)
                    barren = barren + 1 if len(replacement) == before else 0
                    if barren > _BARREN:
                        raise BadAnswer(f"list {self._path}: {barren} pages without a new object, and no end")
                return replacement, version
            except _TokenExpired:
                self._page = 0
                replacement = begin()

    async def _pages(self) -> AsyncGenerator[_Page, None]:
        token = ""
        while True:
            query: dict[str, str | int | bool] = dict(self._selectors)
            if self._page:
                query["limit"] = self._page
            if token:
                query["continue"] = token
            try:
                answer = await self._client.request("GET", self._path, query=query, timeout=self._timeout, of_kind=True)
            except ApiError as error:
                if error.expired and token and self._page:
                    raise _TokenExpired from None
                raise
            page = await self._split(answer.body)
            yield page
            if token and page[0].continue_ == token:
                raise BadAnswer(f"list {self._path}: a page names itself as the next one")
            token = page[0].continue_
            if not token:
                return

    async def _split(self, body: bytes) -> _Page:
        request = f"list {self._path}"
        try:
            return split_list(body, request)
        except BadAnswer:
            if not body.lstrip()[:1] == b"{":
                raise
            return await asyncio.to_thread(split_damaged_list, body, request)


class _TokenExpired(Exception):
    """The continue token expired between pages: the pages so far are void."""
