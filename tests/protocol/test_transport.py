"""The transport: order, broken frames, and what a refused connection proves."""

import asyncio
import socket

import pytest
from channels import called, listening
from hypothesis import given
from hypothesis import strategies as st
from inprocess import HOST, until
from recording_peer import Recorder

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
    encode_body,
)
from raycp.protocol.transport import Connection, Life, probe

KEY = RequestKey("c", "here", "default", "a")
HELLO = Hello("raycp::worker::standard/0::g0", "worker", HOST, 1)


def encode(message: Message) -> bytes:
    body = encode_body(message)
    return len(body).to_bytes(4, "big") + body


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


class Attached:
    """A beginning that is over at once."""

    largest = 0

    def __init__(self, peer: Recorder) -> None:
        self.peer = peer

    def begun(self, connection: Connection) -> None:
        connection.attach(self.peer)

    def frame(self, connection: Connection, body: bytes) -> None: ...

    def failed(self, connection: Connection, error: Exception) -> None: ...

    def ended(self, connection: Connection) -> None: ...


@given(st.lists(messages, max_size=8), st.lists(st.integers(1, 200), max_size=30))
def test_frames_arrive_whole_and_in_order_however_they_are_cut(sent: list[Message], cuts: list[int]) -> None:
    peer, wire = Recorder(), Wire()
    connection = Connection(Attached(peer))
    connection.connection_made(wire)
    stream = b"".join(encode(message) for message in sent)
    for cut in cuts:
        connection.data_received(stream[:cut])
        stream = stream[cut:]
    connection.data_received(stream)
    assert peer.messages == sent
    assert not wire.closed


@given(st.lists(messages, max_size=3), st.binary(min_size=1, max_size=400), st.lists(st.integers(1, 50), max_size=10))
def test_nonsense_from_a_member_never_raises_and_disturbs_nothing_before_it(
    sent: list[Message], nonsense: bytes, cuts: list[int]
) -> None:
    peer, wire = Recorder(), Wire()
    connection = Connection(Attached(peer))
    connection.connection_made(wire)
    stream = b"".join(encode(message) for message in sent) + nonsense
    for cut in cuts:
        connection.data_received(stream[:cut])
        stream = stream[cut:]
    connection.data_received(stream)
    assert peer.messages[: len(sent)] == sent


async def test_over_tcp() -> None:
    served, hellos = Recorder(), []

    def accept(connection: Connection, hello: Hello) -> Recorder:
        hellos.append(hello)
        connection.send(Welcome("0", 1, 2, []))
        return served

    server = await listening(accept)
    caller = Recorder()
    connection = await called(server, HELLO, caller)
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


async def test_over_tcp_a_wrong_role_is_refused() -> None:
    refusal = Refusal("no worker here", RefusalCode.WRONG_ROLE)
    server = await listening(lambda *_: refusal)
    caller = Recorder()
    await called(server, HELLO, caller)
    await until(lambda: caller.closed)
    assert caller.messages == [refusal]
    server.close()


async def test_a_broken_frame_closes_that_connection_only() -> None:
    peers: list[Recorder] = []

    def accept(connection: Connection, hello: Hello) -> Recorder:
        peers.append(Recorder())
        return peers[-1]

    server = await listening(accept)
    for broken in (b"\xc1\xc1\xc1\xc1\xc1", encode_body(Pull(1))[:-1] + b"\xff", b"x" * 70_000_000):
        good, bad = Recorder(), Recorder()
        first, second = await called(server, HELLO, bad), await called(server, HELLO, good)
        await until(lambda: len(peers) == 2)
        first.write(broken)
        await until(lambda: bad.closed)  # noqa: B023
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
    server = await listening(lambda *_: served)
    connection = await called(server, HELLO, Recorder())
    connection.send(Pull(1))
    connection.send(Pull(2))
    await until(lambda: served.messages == [Pull(1), Pull(2)])
    connection.close()
    server.close()


async def test_a_message_that_is_no_frame_sends_nothing_and_the_connection_goes_on() -> None:
    served = Recorder()
    server = await listening(lambda *_: served)
    connection = await called(server, HELLO, Recorder())
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
    caller, loop = Recorder(), asyncio.get_running_loop()
    port = server.sockets[0].getsockname()[1]
    _, connection = await loop.create_connection(lambda: Connection(Attached(caller)), HOST, port)
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
    server = await listening(lambda *_: Recorder())
    assert await probe(HOST, server.port) is Life.ALIVE
    server.close()
    assert await probe(HOST, server.port) is Life.DEAD


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
