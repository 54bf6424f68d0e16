"""One client per cluster: the same for all who ask, and each that was made is closed."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base.clock import VirtualClock
from raycp.kube import ConnectError, ConnectSpec, Unreachable
from raycp.kube.client_table import RETRY_MIN, ClientTable
from raycp.kube.connect import UserSource


class FakeClient:
    def __init__(self, spec: ConnectSpec) -> None:
        self.spec = spec
        self.closed = 0

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


class Maker:
    """Makes clients when the test lets it: ``gate``; ``error`` is raised instead."""

    def __init__(self) -> None:
        self.made: list[FakeClient] = []
        self.begun = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def connect(self, spec: ConnectSpec) -> Any:
        self.begun += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.made.append(FakeClient(spec))
        return self.made[-1]


def spec(server: str = "a", timeout: float = 5.0) -> ConnectSpec:
    return ConnectSpec(name="c1", mode="direct", server=server, timeout=timeout)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_who_ask_at_the_same_time_get_the_same_client() -> None:
    maker = Maker()
    table = ClientTable(maker.connect, VirtualClock())
    found = await asyncio.gather(*(table.get(spec()) for _ in range(5)))
    assert len({id(each) for each in found}) == 1
    assert table.peek("c1") is found[0]
    assert maker.begun == 1
    await table.close()
    assert [each.closed for each in maker.made] == [1]


async def test_all_who_ask_after_the_connection_changed_get_the_same_new_client_and_none_is_left_open() -> None:
    """Closing the old one takes a while, in which others ask."""
    maker = Maker()
    table = ClientTable(maker.connect, VirtualClock())
    await table.get(spec("a"))
    found = await asyncio.gather(*(table.get(spec("b")) for _ in range(5)))
    assert {each.spec.server for each in found} == {"b"}
    assert len({id(each) for each in found}) == 1
    await settle()
    assert [each.closed for each in maker.made] == [1, 0]
    await table.close()
    assert [each.closed for each in maker.made] == [1, 1]


async def test_a_client_that_is_being_made_when_the_table_closes_is_not_left_open() -> None:
    maker = Maker()
    table = ClientTable(maker.connect, VirtualClock())
    maker.gate.clear()
    waiting = asyncio.ensure_future(table.get(spec()))
    await settle()
    await table.close()
    with pytest.raises(Unreachable, match="closed"):
        await waiting
    maker.gate.set()
    await settle()
    assert all(each.closed for each in maker.made)


async def test_a_failed_one_is_made_again_with_backoff_and_at_once_for_another_connection() -> None:
    maker, clock = Maker(), VirtualClock()
    table = ClientTable(maker.connect, clock)
    maker.error = ConnectError("c1", "no", "why")
    for _ in range(5):
        with pytest.raises(ConnectError):
            await table.get(spec())
    assert maker.begun == 1
    await clock.advance(RETRY_MIN)
    with pytest.raises(ConnectError):
        await table.get(spec())
    assert maker.begun == 2
    await clock.advance(RETRY_MIN)
    with pytest.raises(ConnectError):
        await table.get(spec())
    assert maker.begun == 2, "twice as long"
    maker.error = None
    assert (await table.get(spec("b"))).spec.server == "b"
    await table.close()


async def test_each_user_has_a_client_of_its_own_until_it_is_no_longer_wanted() -> None:
    maker = Maker()
    table = ClientTable(maker.connect, VirtualClock())
    users = (None, UserSource("/one"), UserSource("/two"))
    found = [await table.get(msgspec.structs.replace(spec(), user=user)) for user in users]
    assert len({id(each) for each in found}) == 3
    assert [table.peek("c1", user) for user in users] == found
    table.keep({("c1", users[1])})
    await settle()
    assert [each.closed for each in maker.made] == [0, 0, 1]
    assert [table.peek("c1", user) for user in users] == [found[0], found[1], None]
    await table.close()
    assert [each.closed for each in maker.made] == [1, 1, 1]


async def test_whoever_waits_for_one_waits_for_the_time_of_a_request_and_may_be_cancelled() -> None:
    maker = Maker()
    table = ClientTable(maker.connect, VirtualClock())
    maker.gate.clear()
    with pytest.raises(Unreachable, match="no client within"):
        await table.get(spec(timeout=0.01))
    waiting = asyncio.ensure_future(table.get(spec()))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await table.close()


@given(st.lists(st.sampled_from(["a", "b", "fail", "hold", "release", "close", "turn"]), max_size=30))
def test_no_client_is_left_open_whatever_the_order(steps: list[str]) -> None:
    async def play() -> None:
        maker, clock = Maker(), VirtualClock()
        table = ClientTable(maker.connect, clock)
        asking: list[asyncio.Task[Any]] = []
        for step in steps:
            if step in ("a", "b"):
                asking.append(asyncio.ensure_future(table.get(spec(step))))
            elif step == "fail":
                maker.error = None if maker.error else ConnectError("c1", "no", "why")
            elif step in ("hold", "release"):
                maker.gate.clear() if step == "hold" else maker.gate.set()
            elif step == "close":
                asking.append(asyncio.ensure_future(table.close()))  # type: ignore[arg-type]
            else:
                await clock.advance(0.3)
        maker.gate.set()
        await asyncio.gather(*asking, return_exceptions=True)
        await table.close()
        assert [each.closed for each in maker.made] == [1] * len(maker.made)

    asyncio.run(play())
