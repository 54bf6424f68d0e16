"""Whatever the hub answers (law 12): no reader of its records raises anything but this room's errors, concludes anything from an
answer that no API server gives, or takes it for a success."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from lying_proxy import LIES, LyingProxy

from raycp.base.clock import SystemClock
from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.config.runtime import LeaderSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import BadAnswer, ClusterClient, ConnectSpec, KubeError
from raycp.leadership.epoch import Leadership, allocate, decode, read_leadership
from raycp.leadership.locks import Identity, LockProblem, PodRef, make_lock
from raycp.leadership.locks.floor import CrdFloor
from raycp.leadership.locks.pods import KubePods
from raycp.leadership.locks.stores import ConfigMapStore, LeaseStore
from raycp.leadership.locks.types import EpochFloor
from raycp.leadership.records import Conflict, Records

CLOCK = SystemClock()
NAMESPACE = "raycp-system"
OURS = (KubeError, LockProblem, Conflict, TimeoutError)
MINE = Leadership(1, 1, "me", 0.0, 6.0, home="h")


class Reader:
    """All that reads the hub's records, through a proxy; the hub has a record, a lock of each kind, a floor and a Pod."""

    def __init__(self, cluster: EmbeddedCluster, proxy: LyingProxy, client: ClusterClient) -> None:
        self.cluster = cluster
        self.proxy = proxy
        self.client = client
        self.records = Records(client, "t", NAMESPACE)
        self.lock = make_lock(LeaderSpec(), client, "t", NAMESPACE, CLOCK)
        self.lease = LeaseStore(client, "t", NAMESPACE, "raycp-t", CLOCK, 15.0)
        self.store = ConfigMapStore(client, "t", NAMESPACE, "raycp-t-leader", CLOCK)
        self.floor = CrdFloor(client, "t", NAMESPACE)
        self.pods = KubePods(client, NAMESPACE)
        self.numbers = itertools.count()

    async def prepare(self) -> None:
        await self.records.ensure_namespace()
        await self.lock.acquire(Identity("me", "h"), 6.0)
        found = await self.store.read()
        assert found is not None
        self.over = found
        self.record = await self.records.write("x", {"a": "1"}, None)
        await self.lease.write(found, None)

    def calls(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """None of them may return when the hub lies."""
        return {
            "record": lambda: self.records.read("x"),
            "records": lambda: self.records.list("x"),
            "write over a record": lambda: self.records.write("x", {"a": "2"}, self.record),
            "create a record": lambda: self.records.write(f"new-{next(self.numbers)}", {"a": "2"}, None),
            "namespace": self.records.ensure_namespace,
            "leadership": lambda: read_leadership(self.records),
            "allocation": lambda: allocate(self.records, "epoch", None, None, "h", 0, 0.0),
            "lock": self.store.read,
            "write over the lock": lambda: self.store.write(self.over, self.over),
            "lease": self.lease.read,
            "watch of the lock": self._followed,
            "holder": self.lock.holder,
            "proof": lambda: self.lock.confirm(MINE),
            "floor": self.floor.read,
            "raise the floor": lambda: CrdFloor(self.client, "t", NAMESPACE).raise_to(EpochFloor(9, 9)),
            "keep the floor": lambda: self.lock.keep_floor(MINE),
            "pod": lambda: self.pods.mine(PodRef(NAMESPACE, "p", "u")),
            "end of the pod": lambda: self.pods.until_ended(PodRef(NAMESPACE, "p", "u")),
        }

    async def _followed(self) -> Any:
        async for state in self.store.follow():
            return state
        return None


async def refused(call: Awaitable[Any]) -> Any:
    """What it raised, or else returned."""
    (answer,) = await asyncio.gather(call, return_exceptions=True)
    return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader() -> AsyncIterator[Reader]:
    cluster = EmbeddedCluster("hub", EmbeddedSpec(controllers=EmbeddedControllers.none()), CLOCK)
    endpoint = await cluster.start()
    proxy = LyingProxy(endpoint)
    await proxy.open()
    client = await ClusterClient.connect(ConnectSpec(name="hub", mode="direct", server=proxy.url, token=endpoint.token), CLOCK)
    client.breaker = None
    made = Reader(cluster, proxy, client)
    await made.prepare()
    yield made
    await client.close()
    await proxy.close()
    await cluster.stop()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_this_rooms_error_and_never_an_answer(reader: Reader, lie: str) -> None:
    calls = reader.calls()
    reader.proxy.lie = LIES[lie]
    try:
        for name, call in calls.items():
            told = reader.proxy.told
            answer = await refused(call())
            assert isinstance(answer, OURS), f"{name} returned or raised {answer!r} when the hub answered {lie}"
            assert reader.proxy.told > told, f"{name} asked nothing"
    finally:
        reader.proxy.lie = None
    for name in ("record", "records", "leadership", "lock", "lease", "watch of the lock", "holder", "proof", "floor", "namespace"):
        await calls[name]()


@pytest.mark.asyncio(loop_scope="module")
async def test_an_error_of_the_client_that_nobody_foresaw_is_this_rooms_error(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(reader.client, "request", broken)
    with pytest.raises(BadAnswer, match="UnicodeDecodeError"):
        await reader.records.read("x")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_the_hub_says_does_not_exist_does_not_exist(reader: Reader) -> None:
    assert await reader.records.read("nothing") is None
    assert await ConfigMapStore(reader.client, "t", NAMESPACE, "nothing", CLOCK).read() is None
    assert await reader.pods.mine(PodRef(NAMESPACE, "nobody", "u")) is None
    with pytest.raises(Conflict):
        await ConfigMapStore(reader.client, "t", NAMESPACE, "nothing", CLOCK).write(reader.over, reader.over)


@pytest.mark.parametrize(
    "data",
    [
        {"epoch": "nan", "incarnation": "1"},
        {"epoch": "-1", "incarnation": "1"},
        {"epoch": str(2**70), "incarnation": "1"},
        {"epoch": "9" * 5000, "incarnation": "1"},
        {"epoch": "1", "incarnation": "1", "permit": "nan"},
        {"epoch": "1", "incarnation": "1", "permit": "inf"},
        {"epoch": "1", "incarnation": "1", "permit": "1e300"},
        {"epoch": "1", "incarnation": "1", "since": "-inf"},
        {"epoch": "1", "incarnation": "1", "since": "253402300800"},
        {"epoch": "²", "incarnation": "1"},
        {"epoch": "1"},
    ],
)
def test_numbers_that_no_leader_writes_are_no_leadership(data: dict[str, str]) -> None:
    """A permit without end would make each successor wait for ever; an epoch beyond 64 bits fits into no message."""
    assert decode(data) == Leadership(0, 0, "", 0.0)
