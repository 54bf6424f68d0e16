"""Laws 5 and 12: whatever a cluster's server answers, its own cluster suffers, its status says so, and it comes back."""

import functools
from collections import Counter
from collections.abc import AsyncIterator

import fleet_samples as samples
import pytest
import pytest_asyncio
from inprocess import Stack, fleet_doc, until

from raycp.bench.lying_server import LIES, LyingServer
from raycp.cache import ReflectorOptions
from raycp.kube import ConnectSpec
from raycp.kube.breaker import BreakerPolicy
from raycp.kube.limits import AnswerLimits

HOMES = {"hub": "0", "good": "0", "liar": "0"}
LIMITS = AnswerLimits(header=64 << 10, line=64 << 10, page=1 << 20, list=4 << 20, memory=2 << 20)
SAID = {
    "a header without end": "header",
    "headers without end": "header",
    "a body without end": "more than 1 MiB",
    "items without end": "more than 1 MiB",
    "pages without end": "more than 2 MiB",
    "a line without end": "more than 64 KiB",
    "events without end": "more than 2 MiB",
    "html": "text/html",
    "a redirect": "302",
    "unauthorized": "401",
}
"""What the status has to say of a lie, where its name does not tell."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    options = functools.partial(ReflectorOptions, backoff_first=0.05, backoff_cap=0.1, list_every=0.02, watch_every=0.02)
    monkeypatch.setattr("raycp.shard.core.ReflectorOptions", options)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[LyingServer]:
    made = LyingServer()
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def fleet(server: LyingServer) -> AsyncIterator[Stack]:
    samples.reset()
    breaker = BreakerPolicy(retry_min=0.2, retry_max=0.5)
    spec = ConnectSpec(
        name="liar", mode="direct", server=server.url, ca_pem=server.ca_pem, token="t", timeout=2.0, limits=LIMITS, breaker=breaker
    )
    made = Stack(fleet_doc(HOMES, ["fleet_samples:tracked"]), HOMES)
    try:
        await made.start(1, {"liar": spec})
        await made.synced(seconds=30.0)
        yield made
    finally:
        await made.stop()


def reason(fleet: Stack) -> str:
    return next(row.reason for row in fleet.shard().report().clusters if row.name == "liar")


def ran() -> Counter[tuple[str, str]]:
    return Counter((cluster, name) for _, cluster, name in samples.RAN)


@pytest.mark.parametrize("lie", LIES)
async def test_a_server_that_lies_costs_its_own_cluster_only_says_why_and_comes_back(
    fleet: Stack, server: LyingServer, lie: str
) -> None:
    watched = fleet.shard().caches.cluster("liar")
    assert watched is not None
    assert not reason(fleet)
    server.tell(lie)
    await until(lambda: server.told)
    for number in range(20):
        await fleet.put("good", "tracked", f"during-{number}")
    await until(lambda: all(ran()["good", f"during-{number}"] for number in range(20)))
    assert server.lie == lie
    await until(lambda: reason(fleet) and SAID.get(lie, "") in reason(fleet), what="the status says it")
    held = sum(informer.store.memory_bytes for informer in watched.informers.values())
    assert held < 2 * LIMITS.memory, "its caches stay within its memory, but for what had arrived already"
    assert watched.client is not None
    assert watched.client.received.held <= watched.client.received.most
    server.tell("")
    await until(lambda: watched.usable and not reason(fleet), 90.0, "it is well again")
