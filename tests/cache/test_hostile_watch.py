"""Servers that lie in lists and watches: one object, one kind or one reflector pays for it, and it goes on."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from scripted_api import ScriptedApi, is_list, once_for, reset
from watched import Watched

from raycp.cache import FaultOwner, Phase
from raycp.cache.difference import EMITTED


def deep(name: str, rv: int, levels: int = 1_100, uid: str = "deep-uid") -> bytes:
    meta = json.dumps({"name": name, "namespace": "default", "uid": uid, "resourceVersion": str(rv)}).encode()
    return b'{"kind":"ConfigMap","apiVersion":"v1","metadata":' + meta + b',"data":' + b"[" * levels + b"]" * levels + b"}"


def is_stream(request: web.Request) -> bool:
    return request.query.get("sendInitialEvents") == "true"


def is_any_watch(request: web.Request) -> bool:
    return request.query.get("watch") == "true"


async def open_watch(request: web.Request, *lines: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for line in lines:
        await response.write(line + b"\n")
    return response


def always(api: ScriptedApi, act: Callable[[web.Request], Awaitable[web.StreamResponse | None]]) -> None:
    """A fault that is not used up."""

    async def fault(request: web.Request) -> web.StreamResponse | None:
        found = await act(request)
        if found is not None:
            api.faults.append(fault)
        return found

    api.faults.append(fault)


def line(kind: str, obj: dict[str, Any] | bytes) -> bytes:
    return b'{"type":"%b","object":%b}' % (kind.encode(), obj if isinstance(obj, bytes) else json.dumps(obj).encode())


def bookmark(rv: int, *, end: bool = False) -> dict[str, Any]:
    meta: dict[str, Any] = {"resourceVersion": str(rv)}
    if end:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta}


def watching(watched: Watched) -> bool:
    return watched.reflector.status().phase is Phase.WATCHING


# one object that cannot be read


@pytest.mark.parametrize("watch_list", [True, False], ids=["stream", "pages"])
@pytest.mark.parametrize("levels", [1_100, 10_000])
async def test_an_object_that_cannot_be_read_is_left_out_alone_of_a_list(
    api: ScriptedApi, watched: Watched, watch_list: bool, levels: int
) -> None:
    for n in range(20):
        api.put(f"a{n:02}")
    poison = deep("poison", api.rv, levels)

    async def listed(request: web.Request) -> web.StreamResponse | None:
        if is_list(request):
            query = dict(request.query)
            items = [json.dumps(api.objects[key]).encode() for key in sorted(api.objects)]
            start = int(query.get("continue") or 0)
            part = [*items, poison][start : start + int(query.get("limit") or 100)]
            meta = {"resourceVersion": str(api.rv)}
            if start + len(part) < len(items) + 1:
                meta["continue"] = str(start + len(part))
            head = b'{"kind":"ConfigMapList","apiVersion":"v1","metadata":%b,"items":[' % json.dumps(meta).encode()
            return web.Response(body=head + b",".join(part) + b"]}", content_type="application/json")
        if is_stream(request) and api.watchlist:
            added = [line("ADDED", api.objects[key]) for key in sorted(api.objects)]
            return await open_watch(request, *added, line("ADDED", poison), line("BOOKMARK", bookmark(api.rv, end=True)))
        return None

    always(api, listed)
    watched.start(watch_list=watch_list, page=7)
    await watched.synced()
    assert len(watched.store) == 20
    status = watched.reflector.status()
    assert status.unreadable == 1
    assert "default/poison" in status.left_out
    assert "nested too deeply" in status.left_out
    api.faults.clear()
    await watched.until(lambda: watching(watched))
    api.put("later")
    await watched.same()


async def test_an_object_that_becomes_unreadable_keeps_its_last_state_until_it_is_readable_or_deleted(
    api: ScriptedApi, watched: Watched
) -> None:
    api.put("good")
    api.put("deep")
    uid = api.objects["default", "deep"]["metadata"]["uid"]
    watched.start()
    await watched.synced()
    await watched.until(lambda: watching(watched))
    kept = watched.store.get("default", "deep")

    async def poisoned(request: web.Request) -> web.StreamResponse:
        api.rv += 2
        sent = line("MODIFIED", deep("deep", api.rv - 1, uid=uid)), line("BOOKMARK", bookmark(api.rv))
        return await open_watch(request, *sent)

    api.faults.append(once_for(is_any_watch, poisoned))
    watched.client.pool.drop()
    await watched.until(lambda: watched.reflector.unreadable.count == 1)
    api.put("good", x=1)
    await watched.until(lambda: any(event.obj.meta.name == "good" for event in watched.events[2:]))
    assert watched.store.get("default", "deep") is kept
    assert not any(event.type == "deleted" for event in watched.events)
    api.put("deep", x=1)
    await watched.until(lambda: not watched.reflector.unreadable.count)
    assert watched.reflector.status().left_out == ""

    async def deleted(request: web.Request) -> web.StreamResponse:
        gone = api.drop("deep")
        return await open_watch(request, line("DELETED", deep("deep", int(gone["metadata"]["resourceVersion"]), uid=uid)))

    api.faults.append(once_for(is_any_watch, deleted))
    watched.client.pool.drop()
    await watched.until(lambda: watched.store.get("default", "deep") is None)
    assert watched.events[-1].obj.raw.startswith(b'{"kind"'), "with its last readable state"


async def test_an_event_that_the_handler_cannot_take_costs_no_other_object_its_event(api: ScriptedApi, watched: Watched) -> None:
    seen: list[str] = []

    def handle(events: list[Any]) -> None:
        for event in events:
            if event.obj.meta.name == "poison":
                raise RecursionError("boom")
            seen.append(event.obj.meta.name)

    for name in ("a", "poison", "z"):
        api.put(name)
    watched.start(handle)
    await watched.synced()
    assert {"a", "z"} <= set(seen)
    assert "default/poison" in watched.reflector.status().left_out
    assert "boom" in watched.reflector.status().left_out


# lists and streams without end


@pytest.mark.parametrize("api", [True], indirect=True, ids=["watchlist"])
@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "BOOKMARK", "the same"])
async def test_a_stream_without_its_end_mark_is_given_up_at_its_deadline_whatever_arrives(
    api: ScriptedApi, watched: Watched, kind: str
) -> None:
    api.put("a")

    async def endless(request: web.Request) -> web.StreamResponse:
        response = await open_watch(request)
        for number in range(100_000):
            obj = {**api.objects["default", "a"], "metadata": {**api.objects["default", "a"]["metadata"]}}
            if kind in ("ADDED", "MODIFIED"):
                obj["metadata"].update(name=f"n{number}", uid=f"n{number}")
            await response.write(line("BOOKMARK" if kind == "BOOKMARK" else "ADDED" if kind == "the same" else kind, obj) + b"\n")
            await asyncio.sleep(0.05)
        return response

    api.faults.append(once_for(is_stream, endless))
    begun = time.monotonic()
    watched.start(initial_patience=5.0, initial_deadline=0.4)
    await watched.synced()
    assert time.monotonic() - begun < 60.0
    assert api.count("GET", watch="true", sendInitialEvents="true") == 1
    await watched.same()
    assert {obj.meta.name for obj in watched.store} == {"a"}


@pytest.mark.parametrize("api", [True], indirect=True, ids=["watchlist"])
async def test_an_object_that_is_deleted_while_the_list_is_streamed_is_not_in_it(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    api.put("b")

    async def stream(request: web.Request) -> web.StreamResponse:
        sent = [line("ADDED", api.objects["default", name]) for name in ("a", "b")]
        gone = api.drop("b")
        return await open_watch(request, *sent, line("DELETED", gone), line("BOOKMARK", bookmark(api.rv, end=True)))

    api.faults.append(once_for(is_stream, stream))
    watched.start()
    await watched.synced()
    assert {obj.meta.name for obj in watched.store} == {"a"}


@pytest.mark.parametrize("token", ["0", None], ids=["itself", "another each time"])
async def test_a_list_whose_pages_never_end_is_given_up(api: ScriptedApi, watched: Watched, token: str | None) -> None:
    api.put("a")
    pages = 0

    async def page(request: web.Request) -> web.StreamResponse | None:
        nonlocal pages
        if not is_list(request) or pages > 100:
            return None
        pages += 1
        meta = {"resourceVersion": str(api.rv), "continue": token or str(pages)}
        items = [api.objects["default", "a"]]
        return web.json_response({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": meta, "items": items})

    always(api, page)
    watched.start(watch_list=False)
    await watched.until(lambda: "page" in watched.reflector.status().last_error)
    assert watched.reflector.status().fault is FaultOwner.KIND
    pages = 1000
    await watched.synced()


async def test_a_list_that_is_an_empty_object_does_not_empty_the_cache(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    watched.start(watch_list=False)
    await watched.synced()
    await watched.until(lambda: watching(watched))

    async def nothing(request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    api.compact()
    api.rv += 5
    api.compacted = api.rv
    for _ in range(3):
        api.faults.append(once_for(is_list, nothing))
    watched.client.pool.drop()
    await watched.until(lambda: "no list" in watched.reflector.status().last_error or watched.reflector.status().lists > 1)
    assert len(watched.store) == 1
    api.compacted = 0
    await watched.until(lambda: watched.reflector.status().lists > 1)
    assert not any(event.type == "deleted" for event in watched.events)


async def test_a_watch_that_the_server_does_not_end_in_time_is_ended_here(
    api: ScriptedApi, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raycp.cache.reflector._GRACE", 0.1)
    api.put("a")

    drips = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        """A byte now and then, which is no line."""
        response = await open_watch(request)
        drips.set()
        for _ in range(10_000):
            await response.write(b"\n")
            await asyncio.sleep(0.02)
        return response

    watched.start(watch_list=False, watch_timeout=(1.0, 1.0))
    await watched.synced()
    await watched.until(lambda: watching(watched))
    api.faults.append(once_for(is_any_watch, drip))
    watched.client.pool.drop()
    await drips.wait()
    api.put("b")
    await watched.same()


# how often


async def test_a_watch_that_lived_long_enough_resets_the_backoff(api: ScriptedApi, watched: Watched) -> None:
    """A load balancer that cuts every watch after a while: the gaps do not grow."""
    api.put("a")

    async def cut(request: web.Request) -> web.StreamResponse | None:
        if not is_any_watch(request) or is_stream(request):
            return None
        response = await open_watch(request)
        await asyncio.sleep(0.3)
        return await reset(request) or response

    always(api, cut)
    watched.start(watch_list=False, settled=0.2, backoff_first=0.02, backoff_cap=30.0)
    await watched.synced()
    waits: set[float] = set()

    def eight() -> bool:
        status = watched.reflector.status()
        if status.phase is Phase.BACKING_OFF and status.retry_at:
            waits.add(status.retry_at - status.since)
        return status.failures >= 8

    await watched.until(eight, 60.0)
    assert max(waits) < 0.5, "2.5 s after the seventh, if each doubled the wait"


async def test_credentials_that_are_refused_for_long_are_soon_accepted_again(api: ScriptedApi, watched: Watched) -> None:
    """Its waits have a low bound, whatever the bound after other failures: who refuses one kind only opens no breaker, which would
    wake it."""
    watched.client.breaker = None
    api.put("a")
    token = api.token
    refused: list[str] = []

    async def cut(request: web.Request) -> web.StreamResponse | None:
        if not is_any_watch(request) or is_stream(request) or refused:
            return None
        api.token = "another"
        refused.append(request.path)
        return await reset(request)

    always(api, cut)
    watched.start(watch_list=False, backoff_first=0.02, backoff_cap=30.0, refused_cap=0.1)
    await watched.synced()
    waits: list[float] = []

    def often() -> bool:
        status = watched.reflector.status()
        if status.phase is Phase.BACKING_OFF and status.retry_at:
            waits.append(status.retry_at - status.since)
        return status.failures >= 12

    await watched.until(often, 60.0)
    assert "401" in watched.reflector.status().last_error
    assert max(waits) < 0.5, "40 s after the twelfth, if each doubled the wait"
    api.token = token
    api.put("b")
    await watched.same()


@pytest.mark.parametrize("what", ["nothing", "a bookmark"])
async def test_watches_that_end_at_once_are_begun_with_backoff(api: ScriptedApi, watched: Watched, what: str) -> None:
    api.put("a")
    begun: list[float] = []

    async def short(request: web.Request) -> web.StreamResponse | None:
        if not is_any_watch(request) or is_stream(request):
            return None
        begun.append(time.monotonic())
        return await open_watch(request, *([line("BOOKMARK", bookmark(api.rv))] if what == "a bookmark" else []))

    always(api, short)
    watched.start(watch_list=False, backoff_first=0.05, backoff_cap=30.0)
    await watched.synced()
    await watched.until(lambda: len(begun) >= 6, 60.0)
    assert begun[5] - begun[4] > 4 * 0.05, "the wait has grown"
    assert "ended the watch at once" in watched.reflector.status().last_error


async def test_watches_that_end_at_once_with_a_change_begin_at_a_least_interval(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    begun: list[float] = []

    async def short(request: web.Request) -> web.StreamResponse | None:
        if not is_any_watch(request) or is_stream(request):
            return None
        begun.append(time.monotonic())
        return await open_watch(request, line("MODIFIED", api.put("a", n=len(begun))))

    always(api, short)
    watched.start(watch_list=False, watch_every=0.2)
    await watched.synced()
    await watched.until(lambda: len(begun) >= 5, 60.0)
    assert begun[4] - begun[0] > 4 * 0.15, "the server may notice one of them late"


async def test_lists_after_410s_begin_at_a_least_interval_and_with_backoff(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    begun: list[float] = []

    async def storm(request: web.Request) -> web.StreamResponse | None:
        if is_any_watch(request):
            error = {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired"}
            return await open_watch(request, line("ERROR", error))
        if is_list(request):
            begun.append(time.monotonic())
        return None

    always(api, storm)
    watched.start(watch_list=False, list_every=0.2, backoff_first=0.05, backoff_cap=30.0)
    await watched.until(lambda: len(begun) >= 6, 60.0)
    assert begun[4] - begun[0] > 4 * 0.15, "the server may notice one of them late"
    assert begun[5] - begun[4] > 0.4, "and the wait grows"


async def test_repeated_voids_wait_longer_and_longer(api: ScriptedApi, watched: Watched) -> None:
    """Versions that go back: each void announces everything again."""
    api.put("a")
    voids: list[float] = []

    async def back(request: web.Request) -> web.StreamResponse | None:
        if not is_any_watch(request) or is_stream(request):
            return None
        older = json.loads(json.dumps(api.objects["default", "a"]))
        older["metadata"]["resourceVersion"] = "3"
        return await open_watch(request, line("MODIFIED", older))

    always(api, back)
    watched.start(watch_list=False, on_void=lambda _: voids.append(time.monotonic()), backoff_first=0.05, void_cap=30.0)
    await watched.until(lambda: watched.store.voids >= 6, 60.0)
    gaps = [later - before for before, later in pairwise(voids)]
    assert gaps[-1] > 4 * 0.05, "the wait has grown"
    api.faults.clear()
    api.put("b")
    await watched.same()


# floods


async def test_a_flood_of_changes_of_one_object_is_folded_and_the_latest_state_wins(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    api.put("other")
    watched.start(budget_rate=200.0)
    await watched.synced()
    await watched.until(lambda: watching(watched))
    watched.take()
    budget = watched.budget
    for n in range(3000):
        api.put("a", n=n)
        if n % 100 == 0:
            await asyncio.sleep(0)
    api.put("other", last=1)
    await watched.same()
    assert budget.flooded
    assert budget.folded > 1000
    changes = [event for event in watched.events if event.obj.meta.name == "a"]
    assert len(changes) < 2000
    versions = [event.obj.rv for event in changes]
    assert versions == sorted(versions)
    await watched.until(lambda: not budget.review(), 20.0)


async def test_a_flood_of_new_objects_is_processed_a_few_at_a_time(api: ScriptedApi, watched: Watched) -> None:
    """Between any two parts the loop is free for the other clusters. A third of these lines counts as flood, so that they may come
    at three times the budget's rate."""
    seen: list[tuple[float, bool, int]] = []
    watched.start(lambda events: seen.append((time.monotonic(), watched.budget.flooded, len(events))), budget_rate=400.0)
    await watched.synced()
    await watched.until(lambda: watching(watched))
    for n in range(1200):
        api.put(f"a{n}")
    await watched.until(lambda: len(watched.store) == 1200)
    of_flood = [(at, size) for at, flooded, size in seen if flooded]
    assert sum(size for _, size in of_flood) > 300, "beyond twice the rate"
    assert max(size for _, size in of_flood) <= EMITTED
    gaps = [later - before for (before, size), (later, _) in pairwise(of_flood) if size == EMITTED]
    assert min(gaps) > EMITTED / (4 * 400.0)


async def test_in_a_flood_a_deleted_and_recreated_object_is_announced_as_two(api: ScriptedApi, watched: Watched) -> None:
    api.put("a")
    watched.start(budget_rate=10.0)
    await watched.synced()
    await watched.until(lambda: watching(watched))
    first = api.objects["default", "a"]["metadata"]["uid"]
    for n in range(100):
        api.put("noise", n=n)
    await watched.until(lambda: watched.budget.flooded)
    watched.events.clear()
    for n in range(20):
        api.put("a", n=n)
    api.drop("a")
    for n in range(20):
        api.put("a", again=n)
    await watched.same()
    told = [(event.type.value, event.obj.meta.uid) for event in watched.events if event.obj.meta.name == "a"]
    second = api.objects["default", "a"]["metadata"]["uid"]
    kinds = [kind for kind, _ in told]
    assert ("deleted", first) in told
    assert told[kinds.index("deleted") + 1] == ("added", second)
