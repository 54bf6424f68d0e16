"""What a failed attempt to connect means for those who wait for a connection."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from raycp.kube.errors import Unreachable
from raycp.kube.transport import Pool, Target


class Network:
    """Attempts in their order; each ends as it is told to."""

    def __init__(self) -> None:
        self.attempts: list[asyncio.Future[Any]] = []

    async def open(self, timeout: float) -> Any:
        self.attempts.append(asyncio.get_running_loop().create_future())
        return await self.attempts[-1]

    def fails(self, number: int) -> None:
        self.attempts[number].set_exception(Unreachable("cannot connect", sent=False, timed_out=True))

    def connects(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.attempts[number].set_result(SimpleNamespace(closed=False, ready=True, generation=0, loop=loop, idle_since=0.0))


@pytest.fixture
def network() -> Network:
    return Network()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_attempt_begun_while_the_way_was_closed_does_not_fail_who_came_after(network: Network) -> None:
    pool = Pool(Target("far", 443))
    pool._open = network.open  # type: ignore[method-assign, assignment]
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
        network.fails(number)
        await settle()
    assert all(isinstance(each.exception(), Unreachable) for each in early)
    assert not probe.done(), "the way may be free by now"
    network.connects(len(network.attempts) - 1)
    await settle()
    assert (await probe).ready


async def test_what_keeps_one_from_connecting_keeps_all_who_waited_with_it(network: Network) -> None:
    pool = Pool(Target("far", 443))
    pool._open = network.open  # type: ignore[method-assign, assignment]
    waiting = [asyncio.ensure_future(pool.acquire(10.0)) for _ in range(20)]
    await settle()
    assert len(network.attempts) == 3
    network.fails(0)
    await settle()
    assert all(isinstance(each.exception(), Unreachable) for each in waiting)
