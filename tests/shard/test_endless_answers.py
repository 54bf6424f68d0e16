"""Law 5: a cluster whose answers have no end costs itself only, and its status says why."""

import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import fleet_samples as samples
import msgspec
import pytest
from aiohttp import web
from hostile import Rule, behind, status
from inprocess import Stack, until

from raycp.cache import ReflectorOptions
from raycp.kube.limits import AnswerLimits

HOMES = {"hub": "0", "bad": "0", "good": "0"}
LIMITS = AnswerLimits(header=64 << 10, line=64 << 10, page=256 << 10, list=4 << 20, memory=2 << 20)
NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    options = functools.partial(ReflectorOptions, backoff_first=0.05, backoff_cap=0.1, list_every=0.02, watch_every=0.02)
    monkeypatch.setattr("raycp.shard.core.ReflectorOptions", options)


def ran() -> Counter[tuple[str, str]]:
    return Counter((cluster, name) for _, cluster, name in samples.RAN)


def reason(fleet: Stack) -> str:
    return next(row.reason for row in fleet.shard().report().clusters if row.name == "bad")


def thing() -> dict[str, Any]:
    number = next(NUMBERS)
    meta = {"name": f"x-{number}", "namespace": "default", "uid": f"u-{number}", "resourceVersion": str(10_000_000 + number)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"x": "y" * 500}}


def is_kind(request: web.Request) -> bool:
    return request.method == "GET" and request.path == "/api/v1/configmaps"


def is_list(request: web.Request) -> bool:
    return is_kind(request) and "watch" not in request.query


async def forever(request: web.Request, piece: Callable[[], bytes], headers: dict[str, str] | None = None) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", **(headers or {})})
    await response.prepare(request)
    while True:
        await response.write(piece())


async def pages(request: web.Request) -> web.StreamResponse | None:
    if not is_list(request):
        return status(422, "Invalid") if "sendInitialEvents" in request.query else None
    meta = {"resourceVersion": "99999999", "continue": str(next(NUMBERS))}
    items = [thing() for _ in range(100)]
    return web.json_response({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": meta, "items": items})


async def bodies(request: web.Request) -> web.StreamResponse | None:
    return await forever(request, lambda: b"x" * 10_000) if is_list(request) else await pages(request)


async def lines(request: web.Request) -> web.StreamResponse | None:
    return await forever(request, lambda: b"x" * 10_000) if is_kind(request) and "watch" in request.query else None


async def objects(request: web.Request) -> web.StreamResponse | None:
    def line() -> bytes:
        return json.dumps({"type": "ADDED", "object": thing()}).encode() + b"\n"

    return await forever(request, line) if is_kind(request) and "watch" in request.query else await pages(request)


ATTACKS: dict[str, tuple[Rule, str]] = {
    "pages": (pages, "the objects of this cluster take more than 2 MiB"),
    "bodies": (bodies, "the answer has more than 256 KiB"),
    "lines": (lines, "a line of the stream has more than 64 KiB"),
    "objects": (objects, "the objects of this cluster take more than 2 MiB"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_cluster_whose_answers_have_no_end_costs_itself_only(attack: str) -> None:
    rule, text = ATTACKS[attack]
    async with behind("bad", ["fleet_samples:tracked"], HOMES) as (fleet, proxy):
        shard = fleet.shard()
        watched = shard.caches.cluster("bad")
        assert watched is not None
        fleet.connects["bad"] = msgspec.structs.replace(fleet.connects["bad"], limits=LIMITS)
        proxy.rule = rule
        await fleet.configure()  # it connects anew, and lists
        await until(lambda: text in reason(fleet), 60.0)
        for number in range(20):
            await fleet.put("good", "tracked", f"good-{attack}-{number}")
        await until(lambda: all(ran()["good", f"good-{attack}-{number}"] for number in range(20)), 60.0)
        most = sum(informer.store.memory_bytes for informer in watched.informers.values())
        assert most < 2 * LIMITS.memory, "its caches stay within its memory, but for what had arrived already"
        assert watched.client is not None
        assert watched.client.received.held <= watched.client.received.most
        breaker = shard.guard.breaker("bad")
        assert breaker is not None
        assert breaker.opened_total or not breaker.untroubled
        # It is well again.
        proxy.rule = None
        fleet.connects["bad"] = msgspec.structs.replace(fleet.connects["bad"], limits=AnswerLimits())
        await fleet.configure()
        await until(lambda: watched.usable and not reason(fleet), 90.0)
        await fleet.put("bad", "tracked", f"after-{attack}")
        await until(lambda: ran()["bad", f"after-{attack}"], 60.0)
