"""The transport: order, tokens, broken frames, and what a refused connection proves."""

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import HOST, until

from raycp.base.keys import RequestKey
from raycp.base.tasks import Done, Outcome, Task
from raycp.protocol import transport
from raycp.protocol.frames import (
    Hello,
    Message,
    Pull,
    Refusal,
    RefusalCode,
    Tasks,
    Unsendable,
    Wake,
    Wakes,
    Welcome,
    decode_body,
    encode_body,
)
from raycp.protocol.transport import MAX_FRAME, Connection, Life, dial, listen, probe

KEY = RequestKey("c", "here", "default", "a")
HELLO = Hello("secret", "raycp::worker::standard/0::g0", "worker", HOST, 1)


def encode(message: Message) -> bytes:
    body = encode_body(message)
    return len(body).to_bytes(4, "big") + body


class Recorder:
    """A peer that keeps what it receives."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.closed = False

    def received(self, message: Message) -> None:
        self.messages.append(message)

    def lost(self) -> None:
        self.closed = True


class Wire(asyncio.Transport):
    """Where a connection's bytes go in tests without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.written = b""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True


def task(number: int) -> Task:
    return Task(number, KEY, "standard", "create", 1, 1, "0", 1, 7, 0.0, b"{}")


names = st.text(max_size=20)
keys = st.builds(RequestKey, names, names, names, names)
done = st.builds(Done, st.integers(0, 2**60), keys, st.sampled_from(Outcome), st.floats(0, 9))
messages = st.one_of(
    st.builds(Pull, st.integers(0, 1000), st.lists(done)),
    st.builds(Tasks, st.lists(st.builds(task, st.integers(0, 2**60)), max_size=3)),
    st.builds(Wakes, st.lists(st.builds(Wake, st.integers(0, 2**60), keys, names, st.booleans()), max_size=3)),
    st.builds(Refusal, names, st.sampled_from(RefusalCode)),
)


@given(st.lists(messages, max_size=8), st.lists(st.integers(1, 200), max_size=30))
def test_frames_arrive_whole_and_in_order_however_they_are_cut(sent: list[Message], cuts: list[int]) -> None:
    peer, wire = Recorder(), Wire()
    connection = Connection(peer)
    connection.connection_made(wire)
    stream = b"".join(encode(message) for message in sent)
    for cut in cuts:
        connection.data_received(stream[:cut])
        stream = stream[cut:]
    connection.data_received(stream)
    assert peer.messages == sent
    assert not wire.closed


@given(st.binary(min_size=1, max_size=300))
def test_nonsense_never_raises_and_never_gets_a_peer(data: bytes) -> None:
    wire = Wire()
    accepted: list[Hello] = []

    def accept(connection: Connection, hello: Hello) -> Recorder:
        accepted.append(hello)
        return Recorder()

    connection = Connection(accept=accept, token="secret")
    connection.connection_made(wire)
    connection.data_received(data)
    connection.data_received(encode(Pull(1)))
    assert not accepted


@given(st.text(max_size=30).filter(lambda token: token != "secret"))
@settings(max_examples=50)
def test_a_wrong_token_is_refused(token: str) -> None:
    wire, asked = Wire(), []
    connection = Connection(accept=lambda *found: asked.append(found) or Refusal(""), token="secret")  # type: ignore[func-returns-value]
    connection.connection_made(wire)
    connection.data_received(encode(Hello(token, "m", "worker", HOST, 1)))
    assert decode_body(wire.written[4:]) == Refusal("wrong token", RefusalCode.WRONG_TOKEN)
    assert wire.closed
    assert not asked


async def test_over_tcp() -> None:
    served, hellos = Recorder(), []

    def accept(connection: Connection, hello: Hello) -> Recorder:
        hellos.append(hello)
        connection.send(Welcome("0", 1, 2, []))
        return served

    server, port = await listen(HOST, "secret", accept)
    caller = Recorder()
    connection = await dial(HOST, port, HELLO, caller)
    await until(lambda: caller.messages == [Welcome("0", 1, 2, [])])
    assert hellos == [HELLO]
    big = Tasks([Task(1, KEY, "standard", "create", 1, 1, "0", 1, 7, 0.0, b"x" * 3_000_000)])
    for message in (big, Pull(1), Pull(2)):
        connection.send(message)
    await until(lambda: served.messages == [big, Pull(1), Pull(2)])
    connection.close()
    await until(lambda: served.closed and caller.closed and connection.closed)
    connection.send(Pull(3))  # nobody is there: no error
    server.close()


async def test_over_tcp_a_wrong_token_and_a_wrong_role_are_refused() -> None:
    server, port = await listen(HOST, "secret", lambda _, hello: Refusal(f"no {hello.role} here", RefusalCode.WRONG_ROLE))
    wrong_role = Refusal("no worker here", RefusalCode.WRONG_ROLE)
    wrong_token = Refusal("wrong token", RefusalCode.WRONG_TOKEN)
    for hello, refusal in ((HELLO, wrong_role), (Hello("guess", "m", "worker", HOST, 1), wrong_token)):
        caller = Recorder()
        await dial(HOST, port, hello, caller)
        await until(lambda: caller.closed)  # noqa: B023
        assert caller.messages == [refusal]
    server.close()


async def test_a_broken_frame_closes_that_connection_only() -> None:
    peers: list[Recorder] = []

    def accept(connection: Connection, hello: Hello) -> Recorder:
        peers.append(Recorder())
        return peers[-1]

    server, port = await listen(HOST, "secret", accept)
    for broken in (
        (MAX_FRAME + 1).to_bytes(4, "big"),
        (5).to_bytes(4, "big") + b"\xc1\xc1\xc1\xc1\xc1",
        encode(Pull(1))[:-1] + b"\xff",
    ):
        good = Recorder()
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(encode(HELLO))
        second = await dial(HOST, port, HELLO, good)
        await until(lambda: len(peers) == 2)
        writer.write(broken)
        async with asyncio.timeout(5):
            assert await reader.read() == b"", "it is closed"
        writer.close()
        second.send(Pull(7))
        await until(lambda: [Pull(7)] in [peer.messages for peer in peers])
        assert not good.closed
        second.close()
        peers.clear()
    server.close()


async def test_a_peer_that_fails_on_a_frame_keeps_its_connection() -> None:
    class Fails(Recorder):
        def received(self, message: Message) -> None:
            super().received(message)
            if message == Pull(1):
                raise ZeroDivisionError

    served = Fails()
    server, port = await listen(HOST, "secret", lambda *_: served)
    connection = await dial(HOST, port, HELLO, Recorder())
    connection.send(Pull(1))
    connection.send(Pull(2))
    await until(lambda: served.messages == [Pull(1), Pull(2)])
    connection.close()
    server.close()


async def test_a_large_first_frame_is_not_waited_for() -> None:
    """Before the token is known, nobody may fill our memory."""
    server, port = await listen(HOST, "secret", lambda *_: Recorder())
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write((2 * 1024 * 1024).to_bytes(4, "big"))
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    server.close()


async def test_a_message_that_is_no_frame_sends_nothing_and_the_connection_goes_on() -> None:
    served = Recorder()
    server, port = await listen(HOST, "secret", lambda *_: served)
    connection = await dial(HOST, port, HELLO, Recorder())
    for message in (Pull(1, [Done(2**70, KEY, Outcome.OK, 0.0)]), Refusal("\ud800"), Tasks([task(1)] * 300_000)):
        with pytest.raises(Unsendable):
            connection.send(message)
    connection.send(Pull(1))
    await until(lambda: served.messages == [Pull(1)])
    assert connection.sent == 2, "Hello, and the one that is a frame"
    connection.close()
    server.close()


async def test_a_peer_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen process's kernel accepts some; the rest would be our memory for as long as it is frozen."""
    monkeypatch.setattr(transport, "MAX_BACKLOG", 16 * 1024 * 1024)
    stop = asyncio.Event()

    async def frozen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    server = await asyncio.start_server(frozen, HOST, 0, limit=1024)
    caller = Recorder()
    connection = await dial(HOST, server.sockets[0].getsockname()[1], HELLO, caller)
    big = Tasks([Task(1, KEY, "standard", "create", 1, 1, "0", 1, 7, 0.0, b"x" * 1_000_000)])
    for _ in range(1_000):
        connection.send(big)
        await asyncio.sleep(0)
        if connection.closed:
            break
        assert connection.backlog < transport.MAX_BACKLOG + 2_000_000
    await until(lambda: caller.closed)
    stop.set()
    server.close()


async def test_probe() -> None:
    server, port = await listen(HOST, "secret", lambda *_: Recorder())
    assert await probe(HOST, port) is Life.ALIVE
    server.close()
    await server.wait_closed()
    assert await probe(HOST, port) is Life.DEAD


async def test_silence_is_not_death() -> None:
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        port = full.getsockname()[1]
        callers = []
        for _ in range(4):  # the queue of connections nobody accepts fills up, then SYNs are dropped
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex((HOST, port))
            callers.append(caller)
        assert await probe(HOST, port, timeout=0.3) is Life.UNKNOWN
        for caller in callers:
            caller.close()
