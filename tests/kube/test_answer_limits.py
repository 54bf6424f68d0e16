"""Answers without end, byte by byte: each is cut off at its limit, nothing of it is kept, and it counts against the breaker."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable

import pytest

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient, ConnectSpec
from raycp.kube.breaker import BreakerPolicy
from raycp.kube.errors import TooLarge
from raycp.kube.limits import AnswerLimits

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LIMITS = AnswerLimits(header=8 << 10, line=64 << 10, page=256 << 10, memory=2 << 20)
SENT_AT_MOST = 8 << 20
"""Bytes that a server gets rid of beyond what is read: the kernel's buffers."""


class Endless:
    """A server that answers each request with the same bytes, and goes on until it is cut off."""

    def __init__(self, answer: Callable[[], Iterable[bytes]]) -> None:
        self.answer = answer
        self.url = ""
        self.sent = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                for piece in self.answer():
                    self.sent += len(piece)
                    writer.write(piece)
                    await writer.drain()
        writer.close()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()


@contextlib.asynccontextmanager
async def against(answer: Callable[[], Iterable[bytes]]) -> AsyncIterator[tuple[Endless, ClusterClient]]:
    """A client of a server that answers so."""
    server = Endless(answer)
    await server.start()
    breaker = BreakerPolicy(failures=3, retry_min=60.0)
    spec = ConnectSpec(name="bad", mode="direct", server=server.url, token="t", timeout=20.0, limits=LIMITS, breaker=breaker)
    client = await ClusterClient.connect(spec, SystemClock(), probe=False)
    try:
        yield server, client
    finally:
        await client.close()
        server.stop()


def again(piece: bytes, *first: bytes) -> Callable[[], Iterable[bytes]]:
    return lambda: itertools.chain(first, itertools.repeat(piece))


X = b"x" * 1000
HEADERS = {
    "a status line": again(X, b"HTTP/1.1 200 "),
    "a header": again(X, OK, b"A: "),
    "a header's name": again(X, OK),
    "headers": again(b"A: " + X + b"\r\n", OK),
    "interim answers": again(b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
    "a chunk's extension": again(X, OK, b"Transfer-Encoding: chunked\r\n\r\n", b"2;a="),
    "trailers": again(b"A: " + X + b"\r\n", OK, b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"),
}
BODIES = {
    "a body": again(X, OK, b"\r\n"),
    "a body of a terabyte": again(X, OK, b"Content-Length: 1099511627776\r\n\r\n"),
    "chunks": again(b"3e8\r\n" + X + b"\r\n", OK, b"Transfer-Encoding: chunked\r\n\r\n"),
    "an error's body": again(X, b"HTTP/1.1 500 Oops\r\n\r\n"),
}


@pytest.mark.parametrize("what", [*HEADERS, *BODIES])
async def test_an_answer_without_end_is_cut_off_and_counts_against_the_breaker(what: str) -> None:
    async with against(HEADERS.get(what) or BODIES[what]) as (server, client):
        limit = "the headers of the answer have more than 8 KiB" if what in HEADERS else "the answer has more than 256 KiB"
        for _ in range(3):
            with pytest.raises(TooLarge, match=limit):
                await client.request("GET", "/api/v1/pods", of_kind=True)
            assert client.received.held == 0, "nothing of it is kept"
        assert server.sent < 3 * SENT_AT_MOST
        assert client.breaker is not None
        assert str(client.breaker.state) == "open"
        assert limit in client.breaker.snapshot().reason


async def read_watch(client: ClusterClient) -> None:
    async with client.stream("/api/v1/pods", {"watch": True}) as stream:
        async for _lines in stream:
            pass


@pytest.mark.parametrize("what", [each for each in HEADERS if each not in ("trailers", "a chunk's extension")])
async def test_a_watch_with_headers_without_end_is_not_opened(what: str) -> None:
    async with against(HEADERS[what]) as (_, client):
        with pytest.raises(TooLarge, match="the headers of the answer"):
            await read_watch(client)


@pytest.mark.parametrize(
    ("answer", "limit"),
    [
        (again(X, OK, b"\r\n"), "a line of the stream has more than 64 KiB"),
        (again(X, OK, b'\r\n{"type":"BOOKMARK"}\n'), "a line of the stream has more than 64 KiB"),
        (again(X, OK, b"Transfer-Encoding: chunked\r\n\r\n", b"2;a="), "the headers of the answer have more than 8 KiB"),
        (again(b"A: " + X + b"\r\n", OK, b"Transfer-Encoding: chunked\r\n\r\n2\r\n{\n\r\n0\r\n"), "the headers"),
    ],
)
async def test_a_line_without_end_is_cut_off(answer: Callable[[], Iterable[bytes]], limit: str) -> None:
    async with against(answer) as (server, client):
        for _ in range(3):
            with pytest.raises(TooLarge, match=limit):
                await read_watch(client)
        assert server.sent < 3 * SENT_AT_MOST
        assert client.breaker is not None
        assert client.breaker.snapshot().reason or not client.breaker.untroubled


async def test_a_long_watch_of_small_chunks_has_no_limit() -> None:
    """What frames a body is counted between two pieces of it only."""
    line = b'{"type":"BOOKMARK"}\n'
    chunk = b"%x\r\n%b\r\n" % (len(line), line)

    def answer() -> Iterable[bytes]:
        return [OK, b"Transfer-Encoding: chunked\r\n\r\n", *([chunk] * 10_000), b"0\r\n\r\n"]

    async with against(answer) as (_, client), client.stream("/api/v1/pods", {"watch": True}) as stream:
        seen = 0
        async for lines in stream:
            seen += len(lines)
        assert seen == 10_000


async def test_answers_that_are_received_at_once_are_bounded_together() -> None:
    """Each is below its limit; together they take a quarter of the memory at most."""
    held: list[int] = []
    go_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK + b"Content-Length: 200000\r\n\r\n" + b"x" * 100_000)
            await writer.drain()
            await go_on.wait()
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    spec = ConnectSpec(name="bad", mode="direct", server=url, token="t", timeout=20.0, limits=LIMITS)
    client = await ClusterClient.connect(spec, SystemClock(), probe=False)
    requests = [asyncio.ensure_future(client.request("GET", "/api/v1/pods")) for _ in range(20)]
    async with asyncio.timeout(30):
        while not any(each.done() for each in requests):
            held.append(client.received.held)
            await asyncio.sleep(0.001)
    assert client.received.most == 512 << 10
    assert max(held) <= client.received.most
    failed = next(each for each in requests if each.done())
    with pytest.raises(TooLarge, match="answers that are being received have more than 512 KiB"):
        failed.result()
    for each in requests:
        each.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    assert client.received.held == 0
    go_on.set()
    await client.close()
    server.close()
