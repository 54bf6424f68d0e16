"""Law 11: a kind that one member does not serve, forbids or fails concerns that kind, there, and its controllers; nothing else."""

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import fleet_samples as samples
import hostile_samples
import pytest
from aiohttp import web
from hostile import HostileProxy, behind, status
from hostile_samples import gadget_crd
from inprocess import Stack, fleet_doc, holds, until

from raycp.cache import ReflectorOptions
from raycp.config import FleetDoc
from raycp.embedded.badanswers import HTML
from raycp.protocol.report import ClusterReport

HOMES = {"hub": "0", "odd": "0", "fine": "0"}
USES = ["fleet_samples:tracked", "fleet_samples:remote", "fleet_samples:patient", "hostile_samples:gadgets"]
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
LISTS = "/apis/example.com/v1/gadgets"
GROUP = "/apis/example.com/v1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    options = functools.partial(ReflectorOptions, backoff_first=0.05, backoff_cap=0.1, list_every=0.02, watch_every=0.02)
    monkeypatch.setattr("raycp.shard.core.ReflectorOptions", options)
    monkeypatch.setattr("raycp.shard.watched_cluster.UNREACHABLE_AFTER", 0.2)
    hostile_samples.MARKED.clear()


def ran() -> Counter[tuple[str, str]]:
    return Counter((cluster, name) for _, cluster, name in samples.RAN)


def row(fleet: Stack, cluster: str) -> ClusterReport:
    return next(each for each in fleet.shard().report().clusters if each.name == cluster)


def gadget(name: str, namespace: str | None = "default", version: str = "v1") -> dict[str, Any]:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": f"example.com/{version}", "kind": "Gadget", "metadata": meta}


async def install(fleet: Stack, cluster: str, crd: dict[str, Any], resource: str = "gadgets.example.com") -> None:
    """Create the CRD and wait until its objects can be created."""
    embedded = fleet.clusters[cluster]
    await embedded.api.create(CRDS, crd)
    await until(lambda: embedded.registry.named(resource), what="it is served")


async def page(request: web.Request) -> web.StreamResponse:
    return web.Response(body=HTML, content_type="text/html")


async def silence(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


async def forbidden(request: web.Request) -> web.StreamResponse:
    return status(403, "Forbidden", "gadgets is forbidden")


async def failing(request: web.Request) -> web.StreamResponse:
    return status(503, "ServiceUnavailable", "error trying to reach service")


FAULTS: dict[str, tuple[str, Callable[[web.Request], Any] | None, str]] = {
    "not served": ("", None, "serves no example.com/v1/Gadget"),
    "discovery fails": (GROUP, failing, "503"),
    "forbidden": (LISTS, forbidden, "403"),
    "failing": (LISTS, failing, "503"),
    "html": (LISTS, page, "text/html"),
    "silent": (LISTS, silence, "no answer within"),
}
"""Which path is answered wrongly, how, and the reason that is shown."""


@pytest.fixture
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Stack, HostileProxy, str]]:
    path, act, shown = FAULTS[request.param]
    timeouts = {"syncDeadline": "500ms", "list": "1s"}
    async with behind("odd", USES, HOMES, timeouts=timeouts) as (made, proxy):

        async def rule(asked: web.Request) -> web.StreamResponse | None:
            return await act(asked) if act is not None and asked.path == path else None

        proxy.rule = rule
        for cluster in ("odd", "fine"):
            if act is not None or cluster == "fine":
                await install(made, cluster, gadget_crd())
        yield made, proxy, shown


@pytest.mark.parametrize("fleet", FAULTS, indirect=True)
async def test_a_kind_that_one_member_refuses_is_refused_alone(fleet: tuple[Stack, HostileProxy, str]) -> None:
    made, proxy, shown = fleet
    await until(lambda: shown in row(made, "odd").reason, 20.0, "the reason is shown")
    await until(lambda: "controller gadgets" in row(made, "odd").reason, what="and whom it concerns")
    await made.clusters["fine"].api.create("gadgets.example.com", gadget("there"))
    await until(lambda: hostile_samples.MARKED["fine", "there"], 20.0, "the kind is reconciled elsewhere")
    await made.put("odd", "tracked", "other")
    await until(lambda: ran()["odd", "other"], 10.0, "other kinds are reconciled there")
    await made.put("hub", "remote", "job")
    await until(lambda: made.clusters["odd"].api.get("secrets", "default", "job-child"), 10.0, "work is placed there")
    await made.put("hub", "patient", "waits-for-all")
    await until(lambda: ran()["hub", "waits-for-all"], 10.0)
    await holds(lambda: row(made, "odd").reachable and row(made, "odd").breaker == "closed", 1.0, "it counts as reachable")
    assert made.shard().report().ready
    assert ran()["hub", "waits-for-all"] == 1, "nobody waits for it"
    # and it comes back by itself
    if "serves no" in shown:
        await install(made, "odd", gadget_crd())
    proxy.rule = None
    await made.clusters["odd"].api.create("gadgets.example.com", gadget("here"))
    await until(lambda: hostile_samples.MARKED["odd", "here"], 30.0, "it is served again")
    await until(lambda: row(made, "odd").synced and not row(made, "odd").reason, 10.0)


@pytest.mark.parametrize("home", ["0", "1"])
async def test_writes_to_a_group_of_apis_that_fails_do_not_open_the_clusters_breaker(home: str) -> None:
    """The API server is asked whether it is well before they count; of a key's own shard and of another."""
    uses = ["fleet_samples:tracked", "hostile_samples:gadgets"]
    async with behind("odd", uses, {"hub": home, "odd": "0"}, timeouts={"syncDeadline": "500ms"}) as (made, proxy):
        await install(made, "odd", gadget_crd())

        async def rule(request: web.Request) -> web.StreamResponse | None:
            return await failing(request) if request.method == "PATCH" else None

        proxy.rule = rule
        for number in range(12):
            await made.clusters["odd"].api.create("gadgets.example.com", gadget(f"g{number}"))
        await until(lambda: proxy.hits >= 24, 20.0, "they are tried again and again")
        guard = made.shard().guard.breaker("odd")
        assert guard is not None
        await made.put("odd", "tracked", "other")
        await until(lambda: ran()["odd", "other"], 10.0)
        assert guard.opened_total == 0
        proxy.rule = None
        await until(lambda: len(hostile_samples.MARKED) == 12, 30.0)


def fleet_doc_of_gadgets() -> FleetDoc:
    samples.reset()
    return fleet_doc(["here"], ["hostile_samples:gadgets"], timeouts={"syncDeadline": "500ms"})


@pytest.mark.parametrize(
    ("plural", "scope"), [("gizmos", "Namespaced"), ("gadgets", "Cluster"), ("gizmos", "Cluster")], ids=["plural", "scope", "both"]
)
async def test_paths_follow_a_crd_that_is_deleted_and_made_anew(plural: str, scope: str) -> None:
    made = Stack(fleet_doc_of_gadgets(), {"here": "0"})
    try:
        await made.start(1, {})
        await install(made, "here", gadget_crd())
        await made.clusters["here"].api.create("gadgets.example.com", gadget("one"))
        await until(lambda: hostile_samples.MARKED["here", "one"], 20.0)
        await made.clusters["here"].api.delete(CRDS, "", "gadgets.example.com")
        await until(lambda: made.clusters["here"].registry.named("gadgets.example.com") is None, 10.0)
        watches = made.clusters["here"].verbs.watches
        await until(lambda: not [watch for watch in watches if watch.resource.info.plural == "gadgets"], what="closed")
        await install(made, "here", gadget_crd(plural, scope), f"{plural}.example.com")
        again = gadget("two", "default" if scope == "Namespaced" else None)
        await made.clusters["here"].api.create(f"{plural}.example.com", again)
        await until(lambda: hostile_samples.MARKED["here", "two"], 30.0, "shard and worker found the new path")
        stored = made.clusters["here"].api.get(f"{plural}.example.com", "default" if scope == "Namespaced" else "", "two")
        assert stored["metadata"]["annotations"] == {"seen": "yes"}
    finally:
        await made.stop()


async def test_a_crd_that_is_made_anew_with_another_version_is_shown_and_found_when_it_is_back() -> None:
    made = Stack(fleet_doc_of_gadgets(), {"here": "0"})
    try:
        await made.start(1, {})
        await install(made, "here", gadget_crd())
        await until(lambda: row(made, "here").synced, 20.0)
        embedded = made.clusters["here"]
        await embedded.api.delete(CRDS, "", "gadgets.example.com")
        await until(lambda: embedded.registry.named("gadgets.example.com") is None, 10.0)
        await install(made, "here", gadget_crd(version="v2"))
        await until(lambda: "serves no example.com/v1/Gadget" in row(made, "here").reason, 20.0)
        assert row(made, "here").reachable
        await embedded.api.delete(CRDS, "", "gadgets.example.com")
        await until(lambda: embedded.registry.named("gadgets.example.com") is None, 10.0)
        await install(made, "here", gadget_crd())
        await embedded.api.create("gadgets.example.com", gadget("late"))
        await until(lambda: hostile_samples.MARKED["here", "late"], 30.0)
    finally:
        await made.stop()
