"""Large answers: lists of 50 000 objects in pages, whole and compressed, and watches from any version that is kept.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ ("Retrieving large results sets in chunks", "Efficient
detection of changes").
"""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster

COUNT = 50_000
NAMESPACES = ("large-a", "large-b")
CMS = "/api/v1/configmaps"


def name_of(number: int) -> str:
    return f"c-{number:05}"


class Large:
    """A cluster with ``COUNT`` ConfigMaps in two namespaces, and a client of it."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        assert cluster.endpoint is not None
        self.store = cluster.store
        self.table = self.store.table("", "configmaps")
        self._server, self._token = cluster.endpoint.server, cluster.endpoint.token
        tls = ssl.create_default_context(cadata=cluster.endpoint.ca_pem)
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), auto_decompress=False)

    def put(self, ns: str, name: str, data: str) -> int:
        meta = {"name": name, "namespace": ns, "uid": f"u-{ns}-{name}", "resourceVersion": str(self.store.revision + 1)}
        body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta, "data": {"x": data}}
        return self.store.put(self.table, ns, name, meta["uid"], json.dumps(body, separators=(",", ":")).encode()).rv

    def delete(self, ns: str, name: str) -> None:
        record = self.table.get(ns, name)
        assert record is not None
        self.store.delete(self.table, record)

    async def ask(self, path: str, **headers: str) -> tuple[int, Any, bytes]:
        sent = {"Authorization": f"Bearer {self._token}", "Accept-Encoding": "identity", **headers}
        async with self.http.get(self._server + path, headers=sent) as answer:
            return answer.status, answer.headers, await answer.read()

    async def pages(self, path: str) -> AsyncIterator[dict[str, Any]]:
        token = ""
        while True:
            status, _, body = await self.ask(f"{path}&continue={token}" if token else path)
            assert status == 200, body[:300]
            page = json.loads(body)
            yield page
            token = page["metadata"].get("continue", "")
            if not token:
                return


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def large() -> AsyncIterator[Large]:
    cluster = EmbeddedCluster("t", EmbeddedSpec(controllers=EmbeddedControllers.none()))
    await cluster.start()
    made = Large(cluster)
    for number in range(COUNT):
        made.put(NAMESPACES[number % 2], name_of(number), "1")
    yield made
    await made.http.close()
    await cluster.stop()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_pages_are_one_state_whatever_is_written_meanwhile(large: Large) -> None:
    found: list[tuple[str, str, str]] = []
    left, versions = [], set()
    async for page in large.pages(CMS + "?limit=9000"):
        found += [(one["metadata"]["namespace"], one["metadata"]["name"], one["data"]["x"]) for one in page["items"]]
        left.append(page["metadata"].get("remainingItemCount", 0))
        versions.add(page["metadata"]["resourceVersion"])
        # a write before, one behind and one at the place where the list is, a removal, and a new object
        large.put("large-a", name_of(0), "2")
        large.put("large-b", name_of(COUNT - 1), "2")
        large.put(*found[-1][:2], "2")
        large.delete("large-b", name_of(COUNT - 1 - 2 * len(left)))
        large.put("large-b", f"new-{len(left)}", "2")
    assert found == [(ns, name_of(n), "1") for ns, odd in zip(NAMESPACES, (0, 1), strict=True) for n in range(odd, COUNT, 2)]
    assert left == [41_000, 32_000, 23_000, 14_000, 5_000, 0]
    assert len(versions) == 1
    assert len(large.table.records("")) == COUNT  # as many were removed as added


async def test_pages_of_a_selection_and_of_a_namespace(large: Large) -> None:
    pages = [page async for page in large.pages("/api/v1/namespaces/large-a/configmaps?limit=20000")]
    assert [len(page["items"]) for page in pages] == [20_000, 5_000]
    wanted = f"{CMS}?limit=1&fieldSelector=metadata.name%3D{name_of(2)}"
    assert [one["metadata"]["name"] async for page in large.pages(wanted) for one in page["items"]] == [name_of(2)]


async def test_a_compacted_page_continues_with_a_fresh_token(large: Large) -> None:
    first = json.loads((await large.ask(CMS + "?limit=30000"))[2])
    large.put("large-b", "zz", "2")
    large.store.compact()
    status, _, body = await large.ask(f"{CMS}?limit=30000&continue={first['metadata']['continue']}")
    told = json.loads(body)
    assert (status, told["reason"]) == (410, "Expired")
    assert "inconsistent list" in told["message"]
    rest = json.loads((await large.ask(f"{CMS}?limit=30000&continue={told['metadata']['continue']}"))[2])
    names = [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in first["items"] + rest["items"]]
    assert names == [(record.ns, record.name) for record in large.table.records("")]
    assert rest["metadata"]["resourceVersion"] == str(large.store.revision)
    large.delete("large-b", "zz")


async def test_a_list_is_compressed_for_who_accepts_it(large: Large) -> None:
    path = "/api/v1/namespaces/large-a/configmaps"
    _, plain_headers, plain = await large.ask(path)
    _, headers, packed = await large.ask(path, **{"Accept-Encoding": "gzip"})
    assert (plain_headers.get("Content-Encoding"), headers["Content-Encoding"]) == (None, "gzip")
    assert len(packed) < len(plain) // 4
    assert gzip.decompress(packed) == plain


async def test_a_watch_starts_at_any_version_that_is_kept(large: Large) -> None:
    start = large.store.revision
    written = [large.put("large-a", name_of(2 * number), str(number)) for number in range(300)]
    path = "/api/v1/namespaces/large-a/configmaps?watch=1&timeoutSeconds=1&resourceVersion="
    starts = (start, written[0], written[150], written[-2])
    for at, (status, _, body) in zip(starts, await asyncio.gather(*(large.ask(f"{path}{at}") for at in starts)), strict=True):
        assert status == 200
        seen = [int(json.loads(line)["object"]["metadata"]["resourceVersion"]) for line in body.splitlines()]
        assert seen == [rv for rv in written if rv > at]
    _, _, body = await large.ask(f"{CMS}?watch=1&timeoutSeconds=1&resourceVersion={large.table.floor - 1}")
    assert json.loads(body)["object"]["code"] == 410


async def test_others_are_served_while_a_list_is_encoded_as_protobuf(large: Large) -> None:
    """Encoding takes long: it must not be done on the loop."""
    path = "/api/v1/namespaces/large-b/configmaps?limit=10000"
    listing = asyncio.create_task(large.ask(path, Accept="application/vnd.kubernetes.protobuf"))
    await asyncio.sleep(0)
    answered = 0
    while not listing.done():
        assert (await large.ask("/livez"))[0] == 200
        answered += 1
    status, headers, body = await listing
    assert (status, headers["Content-Type"]) == (200, "application/vnd.kubernetes.protobuf")
    assert body.startswith(b"k8s\x00")
    assert body.count(b"c-") >= 10_000
    assert answered > 1
