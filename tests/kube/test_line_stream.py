"""The lines of a streaming answer, as their consumer receives them."""

import asyncio
from typing import Any

import pytest

from raycp.kube.connection import HttpChannel, LineStream
from raycp.kube.errors import Unreachable


class Transport:
    """Records what the connection asks of its transport."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def abort(self) -> None:
        self.calls.append("abort")


@pytest.fixture
async def transport() -> Transport:
    return Transport()


@pytest.fixture
async def stream(transport: Any) -> LineStream:
    loop = asyncio.get_running_loop()
    connection = HttpChannel(loop, lambda _: None)
    connection.connection_made(transport)
    return LineStream(connection, loop.time())


async def test_lines_are_joined_across_chunks_and_batched_until_they_are_taken(stream: LineStream) -> None:
    for chunk in (b"a", b"b\nc\n\nd", b"\ne"):
        stream.feed(chunk, 0.0)
    assert await anext(stream) == [b"ab", b"c", b"d"]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    stream.feed(b"f\n", 0.0)
    assert await waiting == [b"ef"]


async def test_the_last_line_may_lack_its_newline(stream: LineStream) -> None:
    stream.feed(b"a\nb", 0.0)
    stream.finish(None)
    assert [lines async for lines in stream] == [[b"a", b"b"]]


async def test_a_waiting_consumer_is_ended_with_the_answer(stream: LineStream) -> None:
    waiting = asyncio.ensure_future(collect(stream))
    await asyncio.sleep(0)
    stream.finish(None)
    assert await waiting == []


async def test_lines_before_a_broken_connection_are_received_and_the_partial_one_is_not(stream: LineStream) -> None:
    stream.feed(b"a\nb", 0.0)
    stream.finish(Unreachable("lost", sent=True))
    assert await anext(stream) == [b"a"]
    with pytest.raises(Unreachable, match="lost"):
        await anext(stream)


async def test_a_cancelled_wait_loses_no_lines(stream: LineStream) -> None:
    waiting = asyncio.ensure_future(collect(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    stream.feed(b"a\n", 0.0)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    stream.feed(b"b\n", 0.0)
    assert await anext(stream) == [b"a", b"b"]


async def test_reading_pauses_while_the_consumer_is_behind(stream: LineStream, transport: Transport) -> None:
    for _ in range(3):
        stream.feed(b"x" * (1 << 19) + b"\n", 0.0)
    assert transport.calls == ["pause"]
    assert len(await anext(stream)) == 3
    assert transport.calls == ["pause", "resume"]


async def test_silence_counts_only_while_the_consumer_waits(stream: LineStream, transport: Transport) -> None:
    stream.idle_timeout = 0.05
    stream.feed(b"a\n", asyncio.get_running_loop().time())
    await asyncio.sleep(0.1)
    assert await anext(stream) == [b"a"]
    assert not transport.calls
    task = asyncio.ensure_future(collect(stream))
    await asyncio.sleep(0.02)
    assert transport.calls == ["abort"], "no byte for longer than the timeout"
    task.cancel()


async def collect(stream: LineStream) -> list[list[bytes]]:
    return [lines async for lines in stream]
