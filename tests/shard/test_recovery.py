"""A cluster that did not answer and is back is in use again within ``breaker.max``, the time of a probe under way, and two
answers.
"""

import asyncio
import functools
from collections import Counter

import fleet_samples as samples
import msgspec
import pytest
from aiohttp import web
from hostile import behind
from inprocess import CLOCK, Stack, until

from raycp.base.tasks import ApiCall
from raycp.cache import ReflectorOptions
from raycp.protocol.report import ClusterReport
from raycp.shard.probes import PROBE_TIMEOUT

MAX = 1.0
SLACK = 5.0
"""For a machine under load."""

HOMES = {"hub": "0", "far": "0"}
LIMITS = {"far": {"breaker": {"failures": 3, "min": "200ms", "max": f"{MAX:g}s"}}}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reflector that is not woken stays away for half a minute."""
    monkeypatch.setattr("raycp.shard.core.ReflectorOptions", functools.partial(ReflectorOptions, backoff_first=30.0))


def ran() -> Counter[str]:
    return Counter(name for *_, name in samples.RAN)


def row(fleet: Stack) -> ClusterReport:
    return next(each for each in fleet.shard().report().clusters if each.name == "far")


@pytest.mark.parametrize("cut", [True, False], ids=["watches are cut", "watches survive"])
async def test_a_cluster_that_is_back_is_in_use_again_in_time(cut: bool) -> None:
    gate = asyncio.Event()

    async def silence(request: web.Request) -> web.StreamResponse | None:
        await gate.wait()
        return None

    async with behind("far", ["fleet_samples:parent", "fleet_samples:tracked"], HOMES, fields=LIMITS) as (fleet, proxy):
        fleet.connects["far"] = msgspec.structs.replace(fleet.connects["far"], timeout=1.0)
        await fleet.configure()
        await until(lambda: row(fleet).synced and fleet.shard().caches.clusters["far"].client is not None, 20.0)
        watched = fleet.shard().caches.clusters["far"]
        proxy.rule = silence
        for number in range(6):
            await fleet.put("far", "parent", f"p{number}")
        await until(lambda: row(fleet).breaker == "open", 30.0, "its breaker opens")
        if cut:
            assert watched.client is not None
            watched.client.pool.drop()
            await until(lambda: all(i.failing for i in watched.informers.values()), 20.0, "its watches are lost")
        await asyncio.sleep(2.0)  # a few failed probes
        assert row(fleet).breaker != "closed"
        gate.set()
        proxy.rule = None
        back = CLOCK.now()
        await until(lambda: row(fleet).breaker == "closed", MAX + PROBE_TIMEOUT + SLACK, "its breaker closes")
        await fleet.put("far", "tracked", "late")
        await until(lambda: ran()["late"], SLACK, "its watches are back")
        assert CLOCK.now() - back < MAX + PROBE_TIMEOUT + 2 * SLACK
        there = fleet.clusters["far"].api
        await until(lambda: all(there.get("secrets", "default", f"p{n}-child") for n in range(6)), 20.0, "and nothing was lost")


async def test_requests_that_hung_while_it_was_away_do_not_open_its_breaker_again() -> None:
    """They end after it is back, at their own deadlines."""
    async with behind("far", ["fleet_samples:tracked"], HOMES, fields=LIMITS) as (fleet, _):
        guard = fleet.shard().guard
        breaker = guard.breaker("far")
        assert breaker is not None
        for _ in range(3):
            breaker.failure("a test's")
        await until(lambda: row(fleet).breaker == "closed", MAX + SLACK)
        opened = breaker.opened_total
        late = samples_of_calls(10, seconds=60.0)
        guard.calls_ended(late)
        assert (breaker.opened_total, row(fleet).breaker) == (opened, "closed")
        guard.calls_ended(samples_of_calls(3, seconds=0.0))
        assert breaker.opened_total == opened + 1


def samples_of_calls(count: int, seconds: float) -> list[ApiCall]:
    """Requests without an answer that took so long."""
    return [ApiCall("create", "far", "/api/v1/namespaces/default/secrets", 0, seconds)] * count
