"""How a failed attempt to connect affects the requests that wait for a connection."""

import asyncio
from typing import Any

import pytest
from scripted_api import ScriptedApi, direct, hang, once_for

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient, ConnectError
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

    def fail(self, number: int, error: Exception | None = None) -> None:
        error = error or Unreachable("cannot connect", sent=False, timed_out=True)
        self.attempts[number].set_exception(error)

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


@pytest.mark.parametrize("error", [ValueError("port"), UnicodeError("label too long"), OSError("x"), RuntimeError("bug")])
async def test_whatever_an_attempt_raises_fails_the_requests_that_wait_and_is_not_repeated_for_them(
    network: Network, error: Exception
) -> None:
    """Repeated for them, it would fail as fast as the loop turns, for as long as they wait, and nobody would see why."""
    pool = Pool(Target("far", 443), network.dial)
    waiting = [asyncio.ensure_future(pool.acquire(10.0)) for _ in range(5)]
    await settle()
    for number in range(len(network.attempts)):
        network.fail(number, error)
    await settle()
    for each in waiting:
        with pytest.raises(Unreachable, match=repr(str(error))[1:-1]) as caught:
            await each
        assert not caught.value.sent
    assert len(network.attempts) <= 3
    assert not pool.waiting


async def test_a_connection_that_is_closed_as_soon_as_it_is_open_fails_the_requests_that_wait(network: Network) -> None:
    pool = Pool(Target("far", 443), network.dial)
    waiting = asyncio.ensure_future(pool.acquire(10.0))
    await settle()
    opened = Opened()
    opened.closed = True
    network.attempts[0].set_result(opened)
    await settle()
    with pytest.raises(Unreachable, match="closed at once"):
        await waiting
    assert len(network.attempts) == 1


async def test_after_a_request_without_an_answer_idle_connections_from_before_it_are_not_used(server: ScriptedApi) -> None:
    """A middlebox that has forgotten them drops what is sent on them: each would cost one more deadline."""
    client = await ClusterClient.connect(direct(server), SystemClock())
    await asyncio.gather(*(client.version() for _ in range(10)))
    opened = client.pool.opened
    server.faults.append(once_for(lambda r: r.path == "/version", hang))
    with pytest.raises(Unreachable):
        await client.request("GET", "/version", timeout=0.2)
    await client.version()
    assert client.pool.opened == opened + 1, "a new one"
    await client.close()


# addresses that cannot be dialed

LABEL = "a" * 64


@pytest.mark.parametrize(
    "target",
    [
        Target(f"{LABEL}.example", 443),
        Target("127.0.0.1", 1, proxy="http://127.0.0.1:notaport"),
        Target("127.0.0.1", 1, proxy="http://127.0.0.1:99999999"),
        Target("127.0.0.1", 1, proxy=f"http://{LABEL}.example:80"),
        Target("127.0.0.1", 1, proxy="socks4://127.0.0.1:1080"),
        Target("127.0.0.1", 99999999),
    ],
    ids=["label", "proxy port", "proxy port range", "proxy label", "socks", "port range"],
)
async def test_an_address_that_cannot_be_dialed_is_unreachable(target: Target) -> None:
    pool = Pool(target)
    with pytest.raises(Unreachable, match="cannot connect") as caught:
        await pool.acquire(5.0)
    assert not caught.value.sent
    with pytest.raises(Unreachable):
        await pool.acquire(5.0, fresh=True)
    await pool.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"server": f"https://{LABEL}.example"},
        {"server": "https://host:notaport"},
        {"server": "https://[::1"},
        {"proxy": "http://me:secret@host:notaport"},
        {"proxy": "socks4://host:1"},
    ],
)
async def test_a_bad_address_is_found_when_it_is_read(fields: dict[str, str]) -> None:
    with pytest.raises(ConnectError, match=r"is not a URL|is not an http") as caught:
        await ClusterClient.connect(direct(ScriptedApi(), **{"server": "https://127.0.0.1:1", **fields}), SystemClock())
    assert "secret" not in str(caught.value)
