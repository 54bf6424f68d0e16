"""What a client may send before it is known, and what the server keeps of it; objects at the bounds, through the whole server."""

import asyncio
import contextlib
import gc
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop
from inprocess import until
from test_limits_objects import crd, nested
from test_server_http import CMS, Api, bare_cluster, config_map, raw

from raycp.embedded import httpio, intake, watch
from raycp.embedded.pipeline import MAX_OBJECT
from raycp.embedded.strategy.depth import MAX_DEPTH

THINGS = "/apis/example.com/v1/namespaces/default/things"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with bare_cluster() as client:
        yield client


async def send_until_closed(api: Api, first: bytes, piece: bytes, at_most: int) -> tuple[bytes, int]:
    """Send ``piece`` again and again; what was answered until the connection ended, and the bytes that were sent meanwhile."""
    host, port = api.server.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=api.tls)
    answered = asyncio.ensure_future(reader.read())
    sent = 0
    try:
        writer.write(first)
        while not answered.done() and sent < at_most:
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            return await answered, sent
    except ConnectionError:
        return (answered.result() if answered.done() and not answered.exception() else b""), sent
    finally:
        answered.cancel()
        writer.close()


GET = b"GET /version HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "piece", "status"),
    [
        (GET + b"A: ", b"x" * 65_536, b"431"),
        (b"GET /", b"x" * 65_536, b"431"),
        (GET, b"a: b\r\n" * 1_000, b"431"),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"t: " + b"x" * 65_536 + b"\r\n", b"400"),
        (CHUNKED, b"1;" + b"x" * 65_536 + b"\r\ny\r\n", b"400"),
    ],
    ids=["a value", "the path", "headers", "trailers", "chunk extensions"],
)
async def test_heads_and_framing_without_end_are_refused(api: Api, first: bytes, piece: bytes, status: bytes) -> None:
    answer, sent = await send_until_closed(api, first, piece, 64 << 20)
    assert sent < 32 << 20, "the connection was not closed"
    assert answer == b"" or answer.startswith(b"HTTP/1.1 " + status)  # a client that sends on may lose the answer
    assert (await api.ask("GET", "/version"))[0] == 200
    assert api.cluster.server.heads.size == 0


async def test_heads_of_all_connections_share_one_bound(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "HEADS_LIMIT", 300_000)
    host, port = api.server.removeprefix("https://").split(":")
    open_heads = []
    for _ in range(4):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=api.tls)
        writer.write(GET + b"A: " + b"x" * 100_000)
        await writer.drain()
        open_heads.append((reader, writer))
    async with asyncio.timeout(20):
        reads = [asyncio.ensure_future(reader.read(12)) for reader, _ in open_heads]
        done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in done} == {b"HTTP/1.1 431"}
    assert (await api.ask("GET", "/version"))[0] == 200, "small heads are read"
    for read, (_, writer) in zip(reads, open_heads, strict=True):
        read.cancel()
        writer.close()


@pytest.mark.parametrize("begun", [b"", b"GET /ver", GET], ids=["nothing", "a path", "a header"])
async def test_a_head_that_does_not_come_ends_the_connection(api: Api, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(httpio, "HEAD_SECONDS", 0.3)
    host, port = api.server.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=api.tls)
    writer.write(begun)
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    get = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
    assert b"gitVersion" in await raw(api, get, b"gitVersion"), "a whole one is answered"


async def test_of_a_strangers_body_little_is_kept(api: Api) -> None:
    large = {**config_map("large"), "data": {"x": "y" * 500_000}}
    kept: list[int] = []
    handle = api.cluster.server.handle

    def spy(request: httpio.HttpRequest) -> Any:
        kept.append(len(request.body))
        return handle(request)

    api.cluster.server.handle = spy  # type: ignore[method-assign]
    assert (await api.ask("POST", CMS, large, token="wrong"))[0] == 401
    assert (await api.ask("POST", CMS, large, token=""))[0] == 413
    assert (await api.ask("POST", CMS, large))[0] == 201
    assert kept[0] == 0
    assert kept[1] <= intake.STRANGER_BODY
    assert kept[2] > 500_000


async def test_who_does_not_read_is_not_read(api: Api) -> None:
    """Answers that nobody takes filled the memory: requests are small, and answers are not."""
    host, port = api.server.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=api.tls, limit=1024)
    get = b"GET /openapi/v3 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n" % api.token.encode()
    stuck = False
    for _ in range(2_000):
        writer.write(get * 50)
        try:
            async with asyncio.timeout(2):
                await writer.drain()
        except TimeoutError:
            stuck = True
            break
    assert stuck, "the server takes requests without end"
    assert (await api.ask("GET", "/version"))[0] == 200
    (connection,) = [one for one in api.cluster.server.connections if one.paused]
    assert connection.transport.get_write_buffer_size() < 64 << 20
    writer.transport.abort()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_requests_that_come_at_once_are_answered_as_the_client_reads(run: Any) -> None:
    """One read of the socket brings hundreds of requests, and each answer may have a megabyte."""

    async def all_of_it() -> None:
        async with bare_cluster() as api:
            large = {**config_map("large"), "data": {"x": "y" * 900_000}}
            assert (await api.ask("POST", CMS, large))[0] == 201
            host, port = api.server.removeprefix("https://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port), ssl=api.tls, limit=1024)
            get = b"GET %b/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n" % (CMS.encode(), api.token.encode())
            writer.write(get * 100 + b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await until(lambda: any(one.paused for one in api.cluster.server.connections))
            assert (await api.ask("GET", "/version"))[0] == 200
            assert sum(one.transport.get_write_buffer_size() for one in api.cluster.server.connections) < 8 << 20
            async with asyncio.timeout(30):
                answered = await reader.read()
            assert answered.count(b'"name":"large"') == 100
            assert answered.count(b"gitVersion") == 1, "all are answered, in their order"
            writer.close()

    run(all_of_it())


async def test_a_query_of_a_stranger_is_forgotten(api: Api) -> None:
    """What is remembered of requests took 25 MB for each of a megabyte, whoever sent it."""
    query = "&".join(f"{number:x}=1" for number in range(20_000))
    kept = [len(gc.get_objects())]
    for number in range(4):
        assert (await api.ask("GET", f"/version?timeout=1s&z={number}&{query}", token=""))[0] == 200
        gc.collect()
        kept.append(len(gc.get_objects()))
    assert kept[-1] - kept[1] < 20_000


async def unread_watch(api: Api, since: str, bookmarks: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A watch whose client does not read for now."""
    host, port = api.server.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=api.tls, limit=1024)
    path = f"{CMS}?watch=1&resourceVersion={since}&timeoutSeconds=60" + ("&allowWatchBookmarks=1" if bookmarks else "")
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n\r\n".encode())
    await until(lambda: api.cluster.server.verbs.watches)
    return reader, writer


async def changed(api: Api, times: int) -> list[str]:
    """Change a map of 100 KB; its versions."""
    large = {**config_map("large"), "data": {"x": "y" * 100_000}}
    versions = []
    for number in range(times):
        method, path = ("PUT", f"{CMS}/large") if number or (await api.ask("GET", f"{CMS}/large"))[0] == 200 else ("POST", CMS)
        status, told = await api.ask(method, path, {**large, "metadata": {"name": "large", "labels": {"n": str(number)}}})
        assert status in (200, 201)
        versions.append(told["metadata"]["resourceVersion"])
    return versions


async def test_a_watch_that_nobody_reads_keeps_so_many_bytes_and_no_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It kept 10 000 events, of up to a megabyte and a half."""
    monkeypatch.setattr(watch, "MAX_BACKLOG_BYTES", 1_000_000)
    (first,) = await changed(api, 1)
    _, writer = await unread_watch(api, first)
    await changed(api, 100)
    assert not api.cluster.server.verbs.watches, "it was ended: its client begins anew"
    writer.transport.abort()


async def test_missed_changes_are_sent_as_the_client_reads_and_before_later_ones(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each watch from an old version held all that came after it a second time."""
    monkeypatch.setattr(watch, "PIECE", 150_000)
    monkeypatch.setattr(watch, "BOOKMARK_PERIOD", 0.05)
    first, *versions = await changed(api, 60)
    reader, writer = await unread_watch(api, first, bookmarks=True)
    await until(lambda: any(one.paused for one in api.cluster.server.connections))
    versions += await changed(api, 5)
    (connection,) = [one for one in api.cluster.server.connections if one.paused]
    assert connection.transport.get_write_buffer_size() < 2_000_000
    told = b""
    async with asyncio.timeout(20):
        while told.count(b'"MODIFIED"') < len(versions) or b"BOOKMARK" not in told.rpartition(b'"MODIFIED"')[2]:
            told += await reader.read(65_536)
    found = re.findall(rb'"type":"([A-Z]+)".*?"resourceVersion":"(\d+)"', told)
    assert [version.decode() for kind, version in found if kind == b"MODIFIED"] == versions
    seen = [int(version) for _, version in found]
    assert seen == sorted(seen), "no bookmark says that what is still to come was sent"
    writer.close()


# ---- objects


@pytest.fixture
async def things(api: Api) -> Api:
    """With a kind that takes anything in its spec."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    made = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", **crd(schema)}
    assert (await api.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", made))[0] == 201
    await until(lambda: api.cluster.registry.find("example.com", "v1", "things"))
    return api


def thing(name: str, given: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": given}


async def test_objects_are_as_deep_as_can_be_read_again(things: Api) -> None:
    limit = nested(MAX_DEPTH - 1)
    assert (await things.ask("POST", THINGS, thing("deep", limit)))[0] == 201
    for accept in ("application/json", "application/yaml", "application/json;as=Table;v=v1;g=meta.k8s.io"):
        assert (await things.ask("GET", THINGS + "/deep", Accept=accept))[0] == 200
    assert await things.watch(THINGS + "?watch=1&resourceVersion=0", 1)
    merge = {"metadata": {"labels": {"a": "b"}}, "more": limit}
    assert (await things.ask("PATCH", THINGS + "/deep", merge, Content_Type="application/merge-patch+json"))[0] == 200
    apply = json.dumps({**thing("deep", limit), "another": limit}).encode()
    path = THINGS + "/deep?fieldManager=me&force=true"
    assert (await things.ask("PATCH", path, apply, Content_Type="application/apply-patch+yaml"))[0] == 200
    assert (await things.ask("DELETE", THINGS + "/deep"))[0] == 200


async def test_no_verb_makes_an_object_deeper(things: Api) -> None:
    limit = nested(MAX_DEPTH - 1)
    assert (await things.ask("POST", THINGS, thing("deep", limit)))[0] == 201
    for depth in (MAX_DEPTH, 1_000, 100_000):
        body = b'{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"x"},"spec":%b}' % (b"[" * depth + b"]" * depth)
        status, told = await things.ask("POST", THINGS, body)
        assert (status, told["reason"]) == (400, "BadRequest")
        assert (await things.ask("DELETE", THINGS + "/none", body))[0] in (400, 404)
    copy = [{"op": "copy", "from": "/spec", "path": "/spec/-"}] * 2
    status, told = await things.ask("PATCH", THINGS + "/deep", copy, Content_Type="application/json-patch+json")
    assert (status, told["reason"]) == (422, "Invalid")
    assert "max depth" in told["message"]


async def test_an_object_is_as_large_as_etcd_takes(things: Api) -> None:
    status, told = await things.ask("POST", THINGS, thing("large", "y" * MAX_OBJECT))
    assert (status, told["message"]) == (500, "etcdserver: request is too large")
    assert (await things.ask("GET", THINGS + "/large"))[0] == 404
    assert (await things.ask("POST", THINGS, thing("large", "y" * (MAX_OBJECT - 1_000))))[0] == 201
