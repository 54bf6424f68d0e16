"""``ctx.live``: reads that ask the API server."""

from typing import Any

from raycp.base.keys import GVK
from raycp.kube import BadAnswer
from raycp.kube.limits import too_large
from raycp.sdk.backend import ApiRequest
from raycp.sdk.definition import selector_text
from raycp.sdk.kinds import Labels, Objects, as_gvk
from raycp.sdk.session import Session, decode

PAGE = "500"
"""Objects per page of a list."""

LARGEST_LIST = 256 << 20
"""Bytes of all pages of a list: decoded, they take about ten times as many."""


class Live:
    """Exact, and one request each. Prefer the cache unless a decision can't bear a moment's lag."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(
        self, kind: str | GVK, name: str, namespace: str | None = None, *, cluster: str | None = None
    ) -> dict[str, Any] | None:
        """The object, None if there is none. Raises ``ApiError``, ``Unreachable``, ``NoSuchKind``."""
        gvk, where, space = await self._scope(kind, namespace, cluster)
        answer = await self._session.live_get(where, gvk, space, name)
        return decode(answer.body) if answer is not None else None

    async def list(
        self,
        kind: str | GVK,
        namespace: str | None = None,
        *,
        labels: Labels = None,
        fields: str = "",
        cluster: str | None = None,
    ) -> Objects:
        """All objects that match, in pages of 500, of 256 MiB at most. The caller retries an ``Expired`` continue token (410).
        Raises ``ApiError``, ``Unreachable``, ``NoSuchKind``."""
        gvk, where, space = await self._scope(kind, namespace, cluster)
        query = {"limit": PAGE}
        if labels:
            query["labelSelector"] = selector_text(labels, "list")
        if fields:
            query["fieldSelector"] = fields
        found: Objects = []
        size = 0
        while True:
            body = (await self._session.request(ApiRequest("list", where, gvk, space, query=query))).body
            size += len(body)
            if size > LARGEST_LIST:
                raise too_large(f"cluster {where!r}: the pages of a list of {gvk} have", LARGEST_LIST)
            page = decode(body)
            for item in page.get("items") or ():
                item.setdefault("apiVersion", gvk.api_version)
                item.setdefault("kind", gvk.kind)
                found.append(item)
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return found
            if more == query.get("continue"):
                raise BadAnswer(f"cluster {where!r}: a page of a list of {gvk} names itself as the next one")
            query = {**query, "continue": more}

    async def count(self, kind: str | GVK, *, cluster: str | None = None) -> int:
        """How many objects of a kind there are, in all namespaces: by one object, and what the server says of the rest. Raises as
        ``list``."""
        gvk, where = as_gvk(kind), self._session.cluster_or_own(cluster)
        page = decode((await self._session.request(ApiRequest("list", where, gvk, query={"limit": "1"}))).body)
        left = page["metadata"].get("remainingItemCount")
        return len(page.get("items") or ()) + (left if isinstance(left, int) else 0)

    async def _scope(self, kind: str | GVK, namespace: str | None, cluster: str | None) -> tuple[GVK, str, str]:
        """Kind, cluster and namespace to ask for; no namespace where the kind has none."""
        gvk, session = as_gvk(kind), self._session
        where, space = session.cluster_or_own(cluster), session.namespace_or_own(namespace)
        if space and not await session.backend.namespaced(where, gvk):
            space = ""
        return gvk, where, space
