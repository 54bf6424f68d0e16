"""How a failed attempt to connect affects the requests that wait for a connection."""

import asyncio
from typing import Any

import pytest

from raycp.kube.errors import Unreachable
from raycp.kube.pool import Pool
from raycp.kube.target import Target


class Opened:
    """The part of a ``Connection`` that the pool uses."""

    def __init__(self) -> None:
        self.closed = False
        self.ready = True
        self.generation = 0
        self.idle_since = 0.0
        self.loop = asyncio.get_running_loop()


class Network:
    """The attempts to connect, in order; the test decides how each of them ends."""

    def __init__(self) -> None:
        self.attempts: list[asyncio.Future[Any]] = []

    async def dial(self, target: Target, timeout: float, on_close: object) -> Any:
        self.attempts.append(asyncio.get_running_loop().create_future())
        return await self.attempts[-1]

    def fail(self, number: int) -> None:
        self.attempts[number].set_exception(Unreachable("cannot connect", sent=False, timed_out=True))

    def connect(self, number: int) -> None:
        self.attempts[number].set_result(Opened())


@pytest.fixture
def network() -> Network:
    return Network()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_failed_attempt_does_not_fail_requests_that_came_after_its_start(network: Network) -> None:
    pool = Pool(Target("far", 443), network.dial)
    early = []
    for number in range(3):  # as many as are opened at a time
        early.append(asyncio.ensure_future(pool.acquire(10.0)))
        await settle()
        assert len(network.attempts) == number + 1
    await asyncio.sleep(0.01)
    probe = asyncio.ensure_future(pool.acquire(10.0))
    await settle()
    assert len(network.attempts) == 3, "it waits for one of these"
    for number in range(3):
        network.fail(number)
        await settle()
    assert all(isinstance(each.exception(), Unreachable) for each in early)
    assert not probe.done(), "the network may have recovered"
    network.connect(len(network.attempts) - 1)
    await settle()
    assert (await probe).ready


async def test_a_failed_attempt_fails_all_requests_that_waited_at_its_start(network: Network) -> None:
    pool = Pool(Target("far", 443), network.dial)
    waiting = [asyncio.ensure_future(pool.acquire(10.0)) for _ in range(20)]
    await settle()
    assert len(network.attempts) == 3
    network.fail(0)
    await settle()
    assert all(isinstance(each.exception(), Unreachable) for each in waiting)
