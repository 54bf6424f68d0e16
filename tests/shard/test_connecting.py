"""How a shard connects to a cluster: again and again, with the reason shown, and without leaving a client open."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from raycp.base.clock import SystemClock
from raycp.base.events import Event
from raycp.base.keys import GVK
from raycp.base.loops import Loops
from raycp.cache import ReflectorOptions
from raycp.kube import ApiError, BadAnswer, ConnectError, ConnectSpec
from raycp.kube.objects import ServerVersion
from raycp.metrics import Metrics, ReflectorMetrics
from raycp.protocol.plan import ClusterPlan
from raycp.protocol.report import ClusterReport
from raycp.shard.watched_cluster import WatchedCluster


class FakeClient:
    """The part of a client that connecting uses."""

    made: list["FakeClient"]

    def __init__(self) -> None:
        self.closed = 0
        self.breaker = None
        self.credentials_problem = ""
        FakeClient.made.append(self)

    async def version(self) -> ServerVersion:
        error = ERRORS.pop(0) if ERRORS else None
        if error is not None:
            raise error
        return ServerVersion("v1")

    async def close(self) -> None:
        self.closed += 1


ERRORS: list[Exception] = []
CONNECT_ERRORS: list[Exception] = []


class Ear:
    """A ``Watcher`` that does nothing."""

    def __init__(self) -> None:
        self.changes = 0

    def events(self, cluster: str, kind: GVK, events: list[Event]) -> None: ...
    def connected(self, cluster: str) -> None: ...
    def cluster_changed(self, cluster: str) -> None:
        self.changes += 1

    def listed(self, cluster: str, kind: GVK) -> None: ...
    def accounted(self, cluster: str) -> None: ...
    def replayed(self, cluster: str, kind: GVK, complete: bool) -> None: ...
    def void(self, cluster: str, kind: GVK) -> None: ...


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeClient.made = []
    ERRORS.clear()
    CONNECT_ERRORS.clear()

    async def connect(spec: ConnectSpec, clock: Any) -> Any:
        if CONNECT_ERRORS:
            raise CONNECT_ERRORS.pop(0)
        return FakeClient()

    monkeypatch.setattr("raycp.shard.watched_cluster.ClusterClient.connect", connect)
    monkeypatch.setattr("raycp.shard.watched_cluster.RETRY_MIN", 0.01)
    monkeypatch.setattr("raycp.shard.watched_cluster.RETRY_MAX", 0.02)


def watched(ready: Callable[[str], Awaitable[None]]) -> WatchedCluster:
    clock = SystemClock()
    counts = ReflectorMetrics(Metrics())
    return WatchedCluster(plan("a"), Ear(), clock, Loops(clock), lambda cluster, kind: None, ReflectorOptions(), ready, counts)


def plan(server: str) -> ClusterPlan:
    return ClusterPlan("c1", "member", {}, "0", ConnectSpec(name="c1", mode="direct", server=server))


async def at_once(cluster: str) -> None:
    """The watermark is there."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def reason(cluster: WatchedCluster) -> str:
    report = ClusterReport("c1")
    cluster.fill(report)
    return report.reason


def lag(cluster: WatchedCluster) -> float:
    report = ClusterReport("c1")
    cluster.fill(report)
    return report.lag


async def test_a_cluster_that_was_never_reached_has_been_silent_since_it_is_watched() -> None:
    cluster = watched(at_once)
    cluster.started -= 40.0
    assert 40.0 <= lag(cluster) < 80.0
    await cluster.close()


ANY = [ConnectError("c1", "x", "y"), BadAnswer("html"), ValueError("decoder"), RecursionError(), OSError("x")]


@pytest.mark.parametrize("error", ANY)
async def test_whatever_goes_wrong_it_is_tried_again_and_shown(error: Exception) -> None:
    seen = set()
    for errors in (CONNECT_ERRORS, ERRORS):
        errors.extend([error] * 3)
    cluster = watched(at_once)
    cluster.update(plan("a"), {}, None)
    await until(lambda: bool(seen.add(reason(cluster)) or cluster.client is not None))
    told = "x. y" if isinstance(error, ConnectError) else str(error) or type(error).__name__
    assert told in seen
    assert lag(cluster) < 60.0, "counted from its start, not from the start of the clock, before its first contact"
    await until(lambda: reason(cluster) == "")
    assert [client.closed for client in FakeClient.made] == [1, 1, 1, 0]
    await cluster.close()
    assert all(client.closed == 1 for client in FakeClient.made)


async def test_a_server_whose_version_may_not_be_read_is_connected_to() -> None:
    ERRORS.append(ApiError(403, "Forbidden"))
    cluster = watched(at_once)
    cluster.update(plan("a"), {}, None)
    await until(lambda: cluster.client is not None)
    assert len(FakeClient.made) == 1
    await cluster.close()


async def test_a_watermark_that_cannot_be_read_delays_no_connection_for_ever() -> None:
    async def broken(cluster: str) -> None:
        raise RuntimeError("a bug")

    cluster = watched(broken)
    cluster.update(plan("a"), {}, None)
    await until(lambda: cluster.client is not None)
    await cluster.close()


async def test_a_connection_that_changes_while_the_last_one_is_made_leaves_no_client_open() -> None:
    gate = asyncio.Event()

    async def slow(cluster: str) -> None:
        await gate.wait()

    cluster = watched(slow)
    for server in ("a", "b", "c"):
        made = len(FakeClient.made)
        cluster.update(plan(server), {}, None)
        await until(lambda made=made: len(FakeClient.made) == made + 1)  # type: ignore[misc]
        await asyncio.sleep(0)
    gate.set()
    await until(lambda: cluster.client is not None)
    assert [client.closed for client in FakeClient.made] == [1, 1, 0]
    await cluster.close()
    assert [client.closed for client in FakeClient.made] == [1, 1, 1]
