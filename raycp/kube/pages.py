"""``each_page``: the bodies of a list, page by page, with an end whatever the server says (law 14)."""

from collections.abc import AsyncIterator, Mapping

import msgspec

from raycp.kube.answers import decode_answer
from raycp.kube.client import ClusterClient
from raycp.kube.codec import ListMeta
from raycp.kube.errors import BadAnswer
from raycp.kube.limits import too_large


class _Page(msgspec.Struct):
    metadata: ListMeta


async def each_page(client: ClusterClient, path: str, query: Mapping[str, str | int | bool]) -> AsyncIterator[bytes]:
    """The bodies of the pages; ``query`` has their ``limit``. Raises ``KubeError``: also for a page that names itself as the next
    one, and for pages that have more bytes in all than ``AnswerLimits.list``."""
    received, token = 0, ""
    while True:
        body = (await client.request("GET", path, query={**query, "continue": token} if token else dict(query))).body
        received += len(body)
        if received > client.limits.list:
            raise too_large(f"list {path}: its pages have", client.limits.list)
        found = decode_answer(body, _Page, f"GET {path}").metadata.continue_
        yield body
        if not found:
            return
        if found == token:
            raise BadAnswer(f"list {path}: a page names itself as the next one")
        token = found
