"""The whole state of a kind as a list in pages."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from raycp.cache.difference import SLICE
from raycp.cache.memory import CacheMemory
from raycp.cache.replacement import Replacement
from raycp.kube import ApiError, BadAnswer, ClusterClient
from raycp.kube.codec import ListMeta, decode_objects, split_damaged_list, split_list
from raycp.kube.errors import TooLarge
from raycp.kube.limits import too_large
from raycp.kube.objects import Query

_BARREN = 10  # pages in a row that may bring no new object
_SMALLER = 8  # a page that is too large is requested again with so many times fewer objects
_DENSE = 8
_DENSE_FROM = 8 << 20
"""A page of more bytes than this, with a comma in fewer than ``_DENSE`` of them, is too large: as millions of tiny items, it would
take a hundred times its size to take apart."""

_Page = tuple[ListMeta, list[bytes], bytes]


class PagedList:
    """A consistent list (resourceVersion unset: at least as new as any earlier answer), so that only a restored cluster can
    return one that is older than the cache. ``page`` is the number of objects per page, 0 for one page; ``timeout`` in seconds is
    per page. Its size is bounded by the client's limits, and that of what is kept by ``memory``; where a page is too large, fewer
    objects are requested at a time.
    """

    def __init__(
        self, client: ClusterClient, path: str, selectors: Query, memory: CacheMemory, *, page: int, timeout: float
    ) -> None:
        self._client = client
        self._path = path
        self._selectors = selectors
        self._memory = memory
        self._page = page
        self._received = 0
        self._timeout = timeout

    async def read(self, begin: Callable[[], Replacement], received: Callable[[], None]) -> tuple[Replacement, str]:
        """The whole list and its resourceVersion. ``begin`` makes the replacement, once more if the continue token expires between
        pages; ``received`` is called for each page. Raises ``ApiError``, ``Unreachable`` (``TooLarge``). Objects that cannot be
        read are left out of it.
        """
        replacement, version = begin(), ""
        barren = 0
        while True:
            try:
                async for meta, items, head in self._pages():
                    version, before = meta.resource_version, len(replacement)
                    received()
                    for start in range(0, len(items), SLICE):
                        objs, unreadable = decode_objects(items[start : start + SLICE], head)
                        replacement.add(objs)
                        replacement.leave_out(unreadable)
                        self._check_memory()
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
                page = await self._read_page(query)
            except ApiError as error:
                if error.expired and token and self._page:
                    raise _TokenExpired from None
                raise
            except TooLarge:
                if self._page <= 1:
                    raise
                self._page = max(1, self._page // _SMALLER)
                continue
            yield page
            if token and page[0].continue_ == token:
                raise BadAnswer(f"list {self._path}: a page names itself as the next one")
            token = page[0].continue_
            if not token:
                return

    async def _read_page(self, query: Query) -> _Page:
        """Raises ``TooLarge`` for one of too many bytes, and where the list has too many."""
        limits, request = self._client.limits, f"list {self._path}"
        largest = limits.page if self._page else limits.list
        answer = await self._client.request("GET", self._path, query=query, timeout=self._timeout, of_kind=True, largest=largest)
        body = answer.body
        self._received += len(body)
        if self._received > limits.list:
            self._page = 0  # smaller pages would make no smaller list
            raise self._client.refused(too_large(f"{request}: its pages have", limits.list))
        if len(body) > _DENSE_FROM and body.count(b",") > len(body) // _DENSE:
            raise self._client.refused(too_large(f"{request}: {len(body)} bytes of items that are too small for", _DENSE_FROM))
        page = await self._split(body)
        if max(len(page[0].continue_), len(page[0].resource_version)) > limits.header:
            self._page = 0
            raise self._client.refused(too_large(f"{request}: its continue token or its version has", limits.header))
        return page

    def _check_memory(self) -> None:
        try:
            self._memory.check()
        except TooLarge as error:
            raise self._client.refused(error) from None

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
