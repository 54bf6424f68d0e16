"""Laws 11 and 12: whatever a cluster answers, with status 200, where raycp reads: everything goes on, the neighbours are served,
and the reason is shown.
"""

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import fleet_samples as samples
import hostile_samples
import pytest
from aiohttp import web
from hostile import HostileProxy, behind, lines, reconnect, said, status
from inprocess import Stack, until

from raycp.cache import Phase, ReflectorOptions
from raycp.embedded.badanswers import BODIES
from raycp.kube import KubeError
from raycp.leadership.records import Records

HOMES = {"hub": "0", "bad": "0", "good": "0"}
USES = ["fleet_samples:parent", "fleet_samples:tracked", "hostile_samples:reader"]
Match = Callable[[web.Request], bool]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    options = functools.partial(ReflectorOptions, backoff_first=0.05, backoff_cap=0.1, list_every=0.02, watch_every=0.02)
    monkeypatch.setattr("raycp.shard.core.ReflectorOptions", options)
    monkeypatch.setattr("raycp.shard.watched_cluster.RETRY_MIN", 0.05)
    monkeypatch.setattr("raycp.shard.watched_cluster.RETRY_MAX", 0.1)


def ran() -> Counter[tuple[str, str]]:
    return Counter((cluster, name) for _, cluster, name in samples.RAN)


def reason(fleet: Stack, cluster: str) -> str:
    return next(row.reason for row in fleet.shard().report().clusters if row.name == cluster)


def steps(fleet: Stack, cluster: str, name: str) -> str:
    """What ``raycp why`` shows of a ConfigMap."""
    return str(fleet.shard().reporter.timeline(cluster, "ConfigMap", "default", name) or "")


def path_is(path: str) -> Match:
    return lambda request: request.method == "GET" and request.path == path


def lists(request: web.Request) -> bool:
    return path_is("/api/v1/configmaps")(request) and "watch" not in request.query


def streams(request: web.Request) -> bool:
    return path_is("/api/v1/configmaps")(request) and "sendInitialEvents" in request.query


def watches(request: web.Request) -> bool:
    return path_is("/api/v1/configmaps")(request) and "watch" in request.query and "sendInitialEvents" not in request.query


async def break_off(fleet: Stack) -> None:
    """Break the shard's connections, so that each kind is watched anew, after a look at the cluster's identity."""
    watched = fleet.shard().caches.cluster("bad")
    assert watched is not None
    assert watched.client is not None
    reflectors = [informer.reflector for informer in watched.informers.values()]
    await until(lambda: all(each is not None and each.status().phase is Phase.WATCHING for each in reflectors), 20.0)
    watched.client.pool.drop()


READS: dict[str, tuple[Match, bool]] = {
    "version": (path_is("/version"), True),
    "identity": (path_is("/api/v1/namespaces/kube-system"), True),
    "discovery": (path_is("/api/v1"), True),
    "list": (lists, True),
    "list as a stream": (streams, True),
    "watch": (watches, False),
}
"""What a shard reads of a cluster: which requests that are, and whether it takes a new connection to make it read."""


@pytest.mark.parametrize("read", READS)
async def test_whatever_a_member_answers_to_its_shard(read: str) -> None:
    match, anew = READS[read]
    async with behind("bad", USES, HOMES) as (fleet, proxy):
        for number, entry in enumerate(BODIES):
            seen = await _lie(fleet, proxy, "bad", match, entry, anew, number)
            await _neighbour(fleet, f"{number}-good")
            proxy.rule = _only_lists if read == "list" else None
            await fleet.put("bad", "tracked", f"{number}-bad")
            await until(lambda number=number: ran()["bad", f"{number}-bad"], 20.0, f"{entry}: it is back")
            assert proxy.hits
            assert seen or reason(fleet, "bad") == "", f"{entry}: it is shown, or it was no lie"
        await until(lambda: not reason(fleet, "bad"), 20.0, "nothing is wrong any more")


def records(request: web.Request) -> bool:
    return "raycp-system/configmaps" in request.path


async def test_whatever_the_hub_answers_when_its_records_are_read_and_written() -> None:
    async with behind("bad", USES[1:2], {"bad": "0", "good": "0"}) as (fleet, proxy):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "raycp-system"}}
        await fleet.clusters["bad"].api.create("namespaces", namespace)
        watched = fleet.shard().caches.cluster("bad")
        assert watched is not None
        assert watched.client is not None
        stored = Records(watched.client, "t", "raycp-system")
        for number, entry in enumerate(BODIES):

            async def rule(request: web.Request, entry: str = entry) -> web.StreamResponse | None:
                return said(entry) if records(request) else None

            proxy.rule, proxy.hits = rule, 0
            await fleet.shard().watermarks.flush()
            assert proxy.hits
            assert fleet.shard().watermarks.problem, f"{entry}: it is shown"
            await _neighbour(fleet, f"{number}-good")
            with pytest.raises(KubeError):
                await stored.read("watermark-0")
            with pytest.raises(KubeError):
                await stored.list("watermark-")
            proxy.rule = None
            await until(lambda: _flushed(fleet), what=f"{entry}: the records are written again")


async def _flushed(fleet: Stack) -> bool:
    await fleet.shard().watermarks.flush()
    return not fleet.shard().watermarks.problem


async def _only_lists(request: web.Request) -> web.StreamResponse | None:
    """A server without WatchList."""
    return status(422, "Invalid", "sendInitialEvents is forbidden") if streams(request) else None


async def _lie(
    fleet: Stack, proxy: HostileProxy, cluster: str, match: Match, entry: str, anew: bool, number: int
) -> set[str]:
    """Answer like this until it was asked again and a reason is shown, or is content; the reasons that were shown."""

    async def rule(request: web.Request) -> web.StreamResponse | None:
        if match(request):
            return said(entry)
        return await _only_lists(request) if match is lists else None

    seen: set[str] = set()
    proxy.rule, proxy.hits = rule, 0
    await (reconnect(fleet, cluster, number) if anew else break_off(fleet))
    for _ in itertools.count():
        text = reason(fleet, cluster)
        seen |= {text} if text else set()
        if (proxy.hits > 1 and seen) or (proxy.hits and not text and _ > 30):
            return seen
        await asyncio.sleep(0.01)
        assert _ < 3000, f"{entry}: it is not asked"
    raise AssertionError


async def _neighbour(fleet: Stack, name: str) -> None:
    await fleet.put("good", "tracked", name)
    await until(lambda: ran()["good", name], what="the neighbour is served")


async def test_a_watch_goes_on_after_a_line_that_is_no_event() -> None:
    async with behind("bad", USES[1:2], HOMES) as (fleet, proxy):
        for number, (entry, (_, body)) in enumerate(BODIES.items()):

            async def rule(request: web.Request, body: bytes = body) -> web.StreamResponse | None:
                return await lines(request, body) if watches(request) else None

            proxy.rule, proxy.hits = rule, 0
            await break_off(fleet)
            await until(lambda: proxy.hits, 20.0, f"{entry}: it is sent")
            await _neighbour(fleet, f"{number}-good")
            proxy.rule = None
            await fleet.put("bad", "tracked", f"{number}-bad")
            await until(lambda number=number: ran()["bad", f"{number}-bad"], 20.0, f"{entry}: the watch goes on")


@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_whatever_a_member_answers_to_a_worker(verb: str) -> None:
    """To a read and to a write of a reconciler."""
    app = "reader" if verb == "GET" else "parent"
    async with behind("bad", USES, HOMES) as (fleet, proxy):
        there: Any = fleet.clusters["bad"].api
        for number, entry in enumerate(BODIES):
            name = f"{app}-{number}"

            async def rule(request: web.Request, entry: str = entry) -> web.StreamResponse | None:
                ours = request.method == verb and "/secrets" in request.path and "watch" not in request.query
                return said(entry) if ours and "namespaces" in request.path else None

            proxy.rule, proxy.hits = rule, 0
            await fleet.put("bad", app, name)
            await until(lambda: proxy.hits >= 2, 20.0, f"{entry}: it is tried again")
            await until(lambda name=name: "error" in steps(fleet, "bad", name), 10.0, f"{entry}: it is shown")
            await _neighbour(fleet, f"{number}-good")
            proxy.rule = None
            if verb == "GET":
                await until(lambda name=name: hostile_samples.READ["bad", name], 30.0, f"{entry}: it is read")
            else:
                await until(lambda name=name: there.get("secrets", "default", f"{name}-child"), 30.0, f"{entry}: it is written")
