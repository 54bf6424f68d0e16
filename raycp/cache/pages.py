"""A list in pages."""

from collections.abc import AsyncGenerator, Mapping

from raycp.base.objects import Obj
from raycp.cache.options import ReflectorOptions
from raycp.cache.store import SLICE
from raycp.kube import ApiError, ClusterClient
from raycp.kube.codec import decode_object, split_list


class ListRestarted(Exception):
    """The continue token expired between pages: what came so far is void, ``pages`` can be called again and asks for
    all at once.
    """


class Listing:
    """A consistent list (resourceVersion unset: at least as new as all that was ever answered), so that it can't go
    back behind the cache but on a restored cluster.
    """

    def __init__(
        self, client: ClusterClient, path: str, selectors: Mapping[str, str | int | bool], options: ReflectorOptions
    ) -> None:
        self._client = client
        self._path = path
        self._selectors = selectors
        self._options = options
        self._limit = options.page

    async def pages(self) -> AsyncGenerator[tuple[int, list[Obj]], None]:
        """The list's version and some objects, again and again. Raises ``ListRestarted`` once, ``ApiError``,
        ``Unreachable``.
        """
        token = ""
        while True:
            query: dict[str, str | int | bool] = dict(self._selectors)
            if self._limit:
                query["limit"] = self._limit
            if token:
                query["continue"] = token
            try:
                answer = await self._client.request("GET", self._path, query=query, timeout=self._options.list_timeout)
            except ApiError as error:
                if error.expired and token and self._limit:
                    self._limit = 0
                    raise ListRestarted from None
                raise
            meta, items, head = split_list(answer.body)
            for start in range(0, len(items), SLICE):
                yield meta.rv, [decode_object(item, head=head) for item in items[start : start + SLICE]]
            if not items:
                yield meta.rv, []
            token = meta.continue_
            if not token:
                return
