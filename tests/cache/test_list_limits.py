"""Lists and watches without end: pages, lines and objects that go on. The cache stays as it was, and what is kept stays within the
cluster's memory."""

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from scripted_api import ScriptedApi
from watched import Watched

from raycp.base.clock import SystemClock
from raycp.cache import paged_list
from raycp.cache.memory import CacheMemory
from raycp.kube import ClusterClient, ConnectSpec
from raycp.kube.limits import AnswerLimits

Answer = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
LIMITS = AnswerLimits(line=64 << 10, page=256 << 10, list=2 << 20, memory=1 << 20)
VERSIONS = itertools.count(1_000)


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedApi]:
    """With WatchList where the test asks for it."""
    found = ScriptedApi(watchlist=getattr(request, "param", False), tls=False)
    await found.start()
    yield found
    await found.stop()


streamed = pytest.mark.parametrize("server", [True], indirect=True)


@pytest.fixture
async def filled(server: ScriptedApi) -> AsyncIterator[Watched]:
    """A reflector with ten objects, of a cluster that is probed by nothing else."""
    for number in range(10):
        server.put(f"cm-{number}")
    spec = ConnectSpec(name="c1", mode="direct", server=server.url, token=server.token, timeout=5.0)
    client = await ClusterClient.connect(spec, SystemClock())
    client.breaker = None
    found = Watched(server, client)
    found.start()
    await found.synced()
    await found.same()
    yield found
    await found.stop()
    await client.close()


def limited(watched: Watched, **change: int) -> None:
    watched.client.received.limits = msgspec.structs.replace(LIMITS, **change)


def is_list(request: web.Request) -> bool:
    return request.path.endswith("/configmaps") and "watch" not in request.query


def is_initial(request: web.Request) -> bool:
    return "sendInitialEvents" in request.query


def is_watch(request: web.Request) -> bool:
    return "watch" in request.query and not is_initial(request)


def always(server: ScriptedApi, which: Callable[[web.Request], bool], answer: Answer) -> list[dict[str, str]]:
    """Answer these requests so, from now on; their queries."""
    seen: list[dict[str, str]] = []

    async def fault(request: web.Request) -> web.StreamResponse | None:
        if not which(request):
            return None
        seen.append(dict(request.query))
        server.faults.append(fault)  # it is used up otherwise
        return await answer(request)

    server.faults.append(fault)
    return seen


def object_of(name: str, size: int = 0) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": str(next(VERSIONS))}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"x": "y" * size}}


def page_of(objects: list[dict[str, Any]], token: str = "", version: str = "900000") -> web.Response:
    meta = {"resourceVersion": version, "continue": token}
    return web.json_response({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": meta, "items": objects})


async def stream(request: web.Request, piece: Callable[[], bytes]) -> web.StreamResponse:
    """Pieces of a stream, for ever."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(piece())


def relist(server: ScriptedApi) -> None:
    """Its watch ends, and a list follows."""
    server.compact()

    async def expired(request: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired"}, status=410)

    server.faults.append(lambda request: expired(request) if is_watch(request) else _none())
    server.mute_watch = True  # it stalls


async def _none() -> None:
    return None


async def fails(watched: Watched, reason: str) -> None:
    """It reports this reason, again and again, and its cache stays as it is."""
    before = {obj.meta.name for obj in watched.store}
    await watched.until(lambda: reason in watched.reflector.status().last_error)
    failures = watched.reflector.status().failures
    await watched.until(lambda: watched.reflector.status().failures > failures + 2)
    assert reason in watched.reflector.status().last_error
    assert {obj.meta.name for obj in watched.store} == before


async def recovers(server: ScriptedApi, watched: Watched) -> None:
    server.faults.clear()
    server.mute_watch = False
    watched.client.received.limits = AnswerLimits()
    server.put("new")
    await watched.same()


async def test_pages_without_end(server: ScriptedApi, filled: Watched) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        number = int(request.query.get("continue", "0"))
        return page_of([object_of(f"more-{number}-{each}", 1000) for each in range(100)], str(number + 1))

    limited(filled)
    seen = always(server, is_list, endless)
    filled.client.received.limits = msgspec.structs.replace(LIMITS, memory=1 << 30)
    relist(server)
    await fails(filled, "its pages have more than 2 MiB")
    assert max(int(query.get("continue", "0")) for query in seen) < 30
    await recovers(server, filled)


async def test_objects_without_end_stay_within_the_memory(server: ScriptedApi, filled: Watched) -> None:
    """Small ones: most of what they take is not their text."""

    async def endless(request: web.Request) -> web.StreamResponse:
        number = int(request.query.get("continue", "0"))
        return page_of([object_of(f"more-{number}-{each}") for each in range(100)], str(number + 1))

    filled.reflector.memory.limit = 1 << 20
    seen = always(server, is_list, endless)
    relist(server)
    await fails(filled, "the objects of this cluster take more than 1 MiB")
    assert max(int(query.get("continue", "0")) for query in seen) < 15
    await recovers(server, filled)


async def test_a_page_that_is_too_large_is_read_in_smaller_ones(server: ScriptedApi, filled: Watched) -> None:
    for number in range(40):
        server.put(f"large-{number:02}", x="y" * 60_000)  # 7 of them are too large for a page
    limited(filled, memory=1 << 30, list=1 << 30)
    relist(server)
    await filled.until(lambda: server.count("GET", limit="1") > 0)
    server.mute_watch = False
    await filled.same()
    assert server.count("GET", limit="7") > 1


async def test_a_page_that_is_too_large_however_few_are_asked_for(server: ScriptedApi, filled: Watched) -> None:
    async def large(request: web.Request) -> web.StreamResponse:
        return page_of([object_of("x", 300_000)])

    limited(filled)
    seen = always(server, is_list, large)
    relist(server)
    await fails(filled, "the answer has more than 256 KiB")
    assert {query["limit"] for query in seen} == {"7", "1"}
    await recovers(server, filled)


async def test_a_page_of_millions_of_items_is_not_taken_apart(
    server: ScriptedApi, filled: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paged_list, "_DENSE_FROM", 64 << 10)
    split: list[int] = []
    before = paged_list.split_list

    def counted(body: bytes, request: str) -> Any:
        split.append(len(body))
        return before(body, request)

    monkeypatch.setattr(paged_list, "split_list", counted)

    async def dense(request: web.Request) -> web.StreamResponse:
        text = '{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":[' + ",".join(["{}"] * 50_000)
        return web.Response(text=text + "]}", content_type="application/json")

    limited(filled)
    always(server, is_list, dense)
    relist(server)
    await fails(filled, "items that are too small")
    assert not split
    await recovers(server, filled)


@pytest.mark.parametrize("field", ["continue", "resourceVersion"])
async def test_a_token_or_version_that_is_a_book(server: ScriptedApi, filled: Watched, field: str) -> None:
    async def book(request: web.Request) -> web.StreamResponse:
        return page_of([object_of("x")], **({"token": "t" * 100_000} if field == "continue" else {"version": "9" * 100_000}))

    limited(filled)
    seen = always(server, is_list, book)
    relist(server)
    await fails(filled, "its continue token or its version has more than 64 KiB")
    assert not any("continue" in query for query in seen)
    await recovers(server, filled)


async def test_a_watch_with_objects_without_end_ends_at_the_memory(server: ScriptedApi, filled: Watched) -> None:
    async def growing(request: web.Request) -> web.StreamResponse:
        def piece() -> bytes:
            return json.dumps({"type": "ADDED", "object": object_of(f"more-{next(VERSIONS)}", 10_000)}).encode() + b"\n"

        return await stream(request, piece)

    filled.reflector.memory.limit = 4 << 20
    server.mute_watch = True
    always(server, is_watch, growing)
    await filled.until(lambda: "the objects of this cluster take more than 4 MiB" in filled.reflector.status().last_error)
    most = 0
    failures = filled.reflector.status().failures
    while filled.reflector.status().failures < failures + 3:
        await filled.until(lambda: filled.reflector.status().failures > failures)
        most = max(most, filled.store.memory_bytes)
        break
    assert most < 8 << 20, "the limit, and what had arrived when it was found"


async def test_a_watch_with_a_line_without_end(server: ScriptedApi, filled: Watched) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        return await stream(request, lambda: b"x" * 10_000)

    limited(filled)
    server.mute_watch = True
    always(server, is_watch, endless)
    await filled.until(lambda: "a line of the stream has more than 64 KiB" in filled.reflector.status().last_error)
    await recovers(server, filled)


@streamed
async def test_a_streamed_state_with_a_line_without_end_is_listed_instead(server: ScriptedApi, filled: Watched) -> None:
    """An object that is too large for a line, but not for a page."""
    limited(filled, page=4 << 20, list=1 << 30)
    server.put("large", x="y" * 2_000_000)
    relist(server)
    await filled.until(lambda: server.count("GET", limit="7") > 0)
    server.mute_watch = False
    await filled.same()


@streamed
async def test_a_streamed_state_without_end(server: ScriptedApi, filled: Watched) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        def piece() -> bytes:
            return json.dumps({"type": "ADDED", "object": object_of("same", 10_000)}).encode() + b"\n"

        return await stream(request, piece)

    limited(filled)
    always(server, is_initial, endless)
    relist(server)
    what = "the initial state of /api/v1/configmaps has more than 2 MiB"
    await filled.until(lambda: what in filled.reflector.status().last_error)
    await recovers(server, filled)


class Sized:
    def __init__(self, size: int) -> None:
        self.memory_bytes = size


def test_a_list_counts_in_place_of_the_cache_that_it_replaces() -> None:
    memory, cache, other = CacheMemory(100), Sized(60), Sized(30)
    memory.replace(cache, None)
    memory.replace(other, None)
    assert memory.held == 90
    memory.replace(cache, Sized(50))
    assert memory.held == 90
    memory.replace(cache, Sized(70))
    memory.check()
    memory.replace(cache, Sized(71))
    with pytest.raises(Exception, match="more than 100 bytes"):
        memory.check()
    memory.drop(other)
    memory.check()
