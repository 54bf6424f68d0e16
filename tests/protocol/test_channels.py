"""The beginning of a channel over real sockets: strangers cost little and not for long, members of the plan get in, and the port
stays open whatever happens."""

import asyncio
import contextlib
import logging
import os
import random
import resource
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import uvloop
from channels import credentials, listening
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import HOST, holds, until
from recording_peer import Recorder

from raycp.leader.certificates import new_certificate
from raycp.protocol.channels import AcceptLoop, Address, ChannelCredentials, Hold, Listener, dial, listener
from raycp.protocol.channels.handshake import MAX_FIRST, Opening
from raycp.protocol.channels.strangers import MOST, Strangers
from raycp.protocol.frames import Hello, Pull, Refusal, RefusalCode, encode_body
from raycp.protocol.transport import Connection, Life, probe

ELSEWHERE = "127.0.0.2"
"""Another node, as the kernel shows it: a connection to it has two different addresses."""

ME = "raycp::worker::standard/0::g0"
HELLO = Hello(ME, "worker", HOST, 1)
CERTIFICATE = new_certificate("t")


class Served:
    """A listener's peers."""

    def __init__(self) -> None:
        self.hellos: list[Hello] = []
        self.peers: list[Recorder] = []

    def accept(self, connection: Connection, hello: Hello) -> Recorder:
        self.hellos.append(hello)
        self.peers.append(Recorder())
        return self.peers[-1]


async def call(port: int, peer: Recorder, *, host: str = HOST, me: ChannelCredentials | None = None) -> Connection:
    connection = await dial(Address(host, port, "m"), "worker", me or credentials(ME), peer)
    connection.send(HELLO)
    return connection


async def works(port: int, served: Served, host: str = HOST, me: ChannelCredentials | None = None) -> None:
    """A member gets in, and is received."""
    before = len(served.peers)
    connection = await call(port, Recorder(), host=host, me=me)
    await until(lambda: len(served.peers) > before)
    connection.send(Pull(7))
    await until(lambda: served.peers[-1].messages == [Pull(7)])
    connection.close()


@contextlib.contextmanager
def sockets(count: int, port: int) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((HOST, port))) for _ in range(count)]


async def ended(sock: socket.socket) -> bytes:
    """What the port said until it closed the connection."""
    sock.setblocking(False)
    said, loop = b"", asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10.0):
            while data := await loop.sock_recv(sock, 4096):
                said += data
    return said


@pytest.fixture
async def served() -> AsyncIterator[tuple[Served, Listener]]:
    found = Served()
    port = await listening(found.accept, strangers=Strangers(most=20, patience=0.5))
    yield found, port
    port.abort()


async def test_a_connection_that_says_nothing_ends(served: tuple[Served, Listener]) -> None:
    peers, port = served
    with sockets(3, port.port) as silent:
        await until(lambda: len(port.strangers) == 3)
        assert [await ended(sock) for sock in silent] == [b"", b"", b""]
        assert not len(port.strangers)
    await works(port.port, peers)


async def test_a_connection_that_says_a_little_at_a_time_ends_as_soon(served: tuple[Served, Listener]) -> None:
    _, port = served
    opening = encode_body(Opening(ME, "worker", "m", b"n" * 32))  # type: ignore[arg-type]
    frame = len(opening).to_bytes(4, "big") + opening
    with sockets(1, port.port) as (slow,):
        answer = asyncio.ensure_future(ended(slow))
        for number in range(len(frame)):
            if answer.done():
                break
            with contextlib.suppress(OSError):
                slow.send(frame[number : number + 1])
            await asyncio.sleep(0.05)
        assert await answer == b""


async def test_a_stranger_that_has_the_challenge_and_no_proof_ends(served: tuple[Served, Listener]) -> None:
    _, port = served
    opening = msgspec.msgpack.encode(Opening(ME, "worker", "m", b"n" * 32))
    with sockets(1, port.port) as (stranger,):
        stranger.send(len(opening).to_bytes(4, "big") + opening)
        said = await ended(stranger)
        assert said[5:].startswith(b"\xa9challenge")
        assert not len(port.strangers)


async def test_a_first_frame_of_more_than_4_kib_is_not_waited_for(served: tuple[Served, Listener]) -> None:
    _, port = served
    assert MAX_FIRST == 4096
    with sockets(1, port.port) as (large,):
        large.send((MAX_FIRST + 1).to_bytes(4, "big"))
        assert await asyncio.wait_for(ended(large), 0.4) == b"", "at once, not after the patience"


async def test_beyond_the_most_the_oldest_stranger_is_closed_and_members_get_in() -> None:
    peers = Served()
    port = await listening(peers.accept, strangers=Strangers(most=20, patience=60.0))
    with sockets(20, port.port) as old, contextlib.ExitStack() as more:
        await until(lambda: len(port.strangers) == 20)
        for _ in range(5):
            more.enter_context(socket.create_connection((HOST, port.port)))
        for sock in old[:5]:
            assert await ended(sock) == b""
        assert len(port.strangers) == 20
        await works(port.port, peers)
    port.abort()
    assert MOST <= 256


async def test_a_flood_of_strangers_leaves_a_few_lines_in_the_log(
    served: tuple[Served, Listener], caplog: pytest.LogCaptureFixture
) -> None:
    _, port = served
    with caplog.at_level(logging.DEBUG):
        for number in range(300):
            with socket.create_connection((HOST, port.port)) as sock:
                sock.send(b"\x00\x00\x00\x05GET /" if number % 2 else os.urandom(50))
            if number % 20 == 0:
                await asyncio.sleep(0.01)
        await until(lambda: not len(port.strangers))
    lines = [record for record in caplog.records if record.name.startswith("raycp")]
    assert 1 <= len(lines) <= 2
    assert port.strangers.log.unsaid > 200


async def test_without_descriptors_the_port_stays_open_and_serves_again(served: tuple[Served, Listener]) -> None:
    """A full queue of a port is silent, and a port that is closed is a dead process (law 6f)."""
    peers, port = served
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    callers = [socket.socket() for _ in range(60)]
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(callers[-1].fileno() + 30, 128), hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex((HOST, port.port))
        for caller in callers:
            assert await ended(caller) == b"", "accepted, and closed"
    finally:
        for each in taken:
            os.close(each)
        for caller in callers:
            caller.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await probe(HOST, port.port) is Life.ALIVE
    await works(port.port, peers)


async def test_a_port_that_nobody_calls_accepts_and_closes() -> None:
    port = AcceptLoop(socket.socket.close)
    await port.open(HOST)
    with sockets(100, port.port) as callers:
        for caller in callers:
            assert await ended(caller) == b""
    assert await probe(HOST, port.port) is Life.ALIVE
    port.close()
    assert await probe(HOST, port.port) is Life.DEAD


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=6))
@settings(max_examples=40, deadline=None)
def test_nonsense_gets_no_peer_and_the_port_goes_on(said: list[bytes]) -> None:
    async def attack() -> None:
        served = Served()
        port = await listening(served.accept, strangers=Strangers(patience=0.05))
        with sockets(1, port.port) as (stranger,):
            for data in said:
                with contextlib.suppress(OSError):
                    stranger.send(data)
                await asyncio.sleep(0)
            await ended(stranger)
        assert not served.hellos
        await works(port.port, served)
        port.abort()

    asyncio.run(attack())


hellos = st.builds(
    Hello, st.text(max_size=30), st.text(max_size=10), st.text(max_size=10), st.integers(), st.text(max_size=5), st.just([])
)


@given(st.one_of(hellos.map(lambda each: ["hello", *msgspec.structs.astuple(each)]), st.lists(st.none() | st.text(), max_size=7)))
@settings(max_examples=40, deadline=None)
def test_a_member_with_another_hello_than_its_own_is_not_served(said: list[object]) -> None:
    try:
        body = msgspec.msgpack.encode(said)
    except (ValueError, OverflowError):
        return

    async def attack() -> None:
        served = Served()
        port = await listening(served.accept)
        peer = Recorder()
        connection = await dial(Address(HOST, port.port, "m"), "worker", credentials(ME), peer)
        connection.write(body)
        if said[:3] != ["hello", ME, "worker"]:
            await until(lambda: peer.closed)
            assert not served.hellos
        await works(port.port, served)
        port.abort()

    asyncio.run(attack())


# members


async def test_a_member_that_the_plan_does_not_name_yet_is_held_until_it_does() -> None:
    served, plan = Served(), {"somebody"}
    port = await listening(served.accept, members=plan)
    peer = Recorder()
    connection = await call(port.port, peer)
    connection.send(Pull(1))
    await holds(lambda: not served.hellos and not peer.closed, 0.2)
    plan.add(ME)
    port.reconsider()
    await until(lambda: served.peers and served.peers[0].messages == [Pull(1)], what="nothing that it said meanwhile is lost")
    assert not peer.messages
    port.abort()


async def test_a_member_that_no_plan_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HOLD", 0.2)
    served = Served()
    port = await listening(served.accept, members={"somebody"})
    peer = Recorder()
    await call(port.port, peer)
    await until(lambda: peer.closed)
    (refusal,) = peer.messages
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.NOT_A_MEMBER
    assert not served.hellos
    port.abort()


async def test_a_hello_that_the_next_plan_decides_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's plan promotes a standby, whose own is on its way."""
    refusal, promoted, served = Refusal("not yet", RefusalCode.NOT_PRIMARY), False, Served()

    def accept(connection: Connection, hello: Hello) -> Recorder | Hold:
        return served.accept(connection, hello) if promoted else Hold(refusal)

    port = await listening(accept)
    first = Recorder()
    await call(port.port, first)
    await holds(lambda: not served.hellos and not first.closed, 0.2)
    promoted = True
    port.reconsider()
    await until(lambda: served.hellos == [HELLO])
    promoted = False
    monkeypatch.setattr(listener, "HOLD", 0.1)
    second = Recorder()
    await call(port.port, second)
    await until(lambda: second.closed)
    assert second.messages == [refusal]
    assert not first.closed
    port.abort()


async def test_a_connection_that_can_not_be_accepted_costs_no_other_its_decision() -> None:
    plan, served = set[str](), Served()

    def accept(connection: Connection, hello: Hello) -> Recorder:
        if hello.member == "bad":
            raise ZeroDivisionError
        return served.accept(connection, hello)

    port = await listening(accept, members=plan)
    peers = {name: Recorder() for name in ("bad", "good")}
    for name, peer in peers.items():
        connection = await dial(Address(HOST, port.port, "m"), "worker", credentials(name), peer)
        connection.send(Hello(name, "worker", HOST, 1))
    await until(lambda: not len(port.strangers))
    plan.update(peers)
    port.reconsider()
    await until(lambda: [hello.member for hello in served.hellos] == ["good"])
    await until(lambda: peers["bad"].closed)
    assert not peers["good"].closed
    port.abort()


# between nodes


def of_certificate(member: str, name: str = "t") -> ChannelCredentials:
    return credentials(member, certificate=CERTIFICATE if name == "t" else new_certificate(name))


async def test_between_nodes_a_channel_is_encrypted() -> None:
    served = Served()
    port = await listening(served.accept, host=ELSEWHERE, certificate=CERTIFICATE)
    seen = bytearray()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection(ELSEWHERE, port.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    seen.extend(data)
                    sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, there), pump(there_reader, writer))

    wire = await asyncio.start_server(relay, "127.0.0.3", 0)
    await works(wire.sockets[0].getsockname()[1], served, "127.0.0.3", of_certificate(ME))
    assert len(seen) > 1000
    assert ME.encode() not in seen
    wire.close()
    port.abort()


async def test_the_key_of_the_certificate_lies_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process would leave behind, and a backup would take along."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    served = Served()
    port = await listening(served.accept, host=ELSEWHERE, certificate=CERTIFICATE)
    await works(port.port, served, ELSEWHERE, of_certificate(ME))
    port.abort()


async def test_between_nodes_a_large_frame_arrives_and_the_end_is_seen() -> None:
    served, peer = Served(), Recorder()
    port = await listening(served.accept, host=ELSEWHERE, certificate=CERTIFICATE)
    connection = await call(port.port, peer, host=ELSEWHERE, me=of_certificate(ME))
    big = Refusal("x" * 3_000_000)
    connection.send(big)
    await until(lambda: served.peers and served.peers[0].messages == [big])
    port.abort()
    await until(lambda: peer.closed)


async def test_between_nodes_nobody_without_the_certificate_gets_as_far_as_a_challenge(served: tuple[Served, Listener]) -> None:
    peers = Served()
    port = await listening(peers.accept, host=ELSEWHERE, certificate=CERTIFICATE, strangers=Strangers(patience=1.0))
    for me in (of_certificate(ME, "other"), credentials(ME)):
        with pytest.raises(OSError):
            await call(port.port, Recorder(), host=ELSEWHERE, me=me)
    with socket.create_connection((ELSEWHERE, port.port)) as plain:
        opening = msgspec.msgpack.encode(Opening(ME, "worker", "m", b"n" * 32))
        plain.send(len(opening).to_bytes(4, "big") + opening)
        assert b"challenge" not in await ended(plain)
    assert not peers.hellos
    await works(port.port, peers, ELSEWHERE, of_certificate(ME))
    port.abort()


async def test_between_nodes_a_caller_trusts_no_other_certificate() -> None:
    peers = Served()
    port = await listening(peers.accept, host=ELSEWHERE, certificate=new_certificate("other"))
    with pytest.raises(OSError, match="certificate"):
        await call(port.port, Recorder(), host=ELSEWHERE, me=of_certificate(ME))
    port.abort()


def test_on_the_loop_of_ray_s_actors() -> None:
    """They run on uvloop."""

    async def all_of_it() -> None:
        for host, certificate in ((HOST, None), (ELSEWHERE, CERTIFICATE)):
            peers = Served()
            port = await listening(peers.accept, host=host, certificate=certificate, strangers=Strangers(most=5, patience=0.5))
            with contextlib.ExitStack() as silent:
                for _ in range(10):
                    silent.enter_context(socket.create_connection((host, port.port)))
                await until(lambda: len(port.strangers) == 5)  # noqa: B023
                await until(lambda: not len(port.strangers))  # noqa: B023
            me, peer = credentials(ME, certificate=certificate), Recorder()
            await works(port.port, peers, host, me)
            with pytest.raises(OSError):
                await call(port.port, Recorder(), host=host, me=credentials(ME, secret="other", certificate=certificate))
            await call(port.port, peer, host=host, me=me)
            await until(lambda: len(peers.hellos) == 2)  # noqa: B023
            port.abort()
            await until(lambda: peer.closed)  # noqa: B023
            assert await probe(host, port.port) is Life.DEAD

    uvloop.run(all_of_it())


# ports


async def four_free_ports() -> int:
    """The first of four that are free, below those that the kernel gives to others."""
    while True:
        first = random.randrange(20_000, 32_000)
        probe = [AcceptLoop(socket.socket.close) for _ in range(4)]
        try:
            for each in probe:
                await each.open(HOST, range(first, first + 4))
            return first
        except OSError:
            continue
        finally:
            for each in probe:
                each.close()


async def test_a_port_of_the_range_that_is_free() -> None:
    first = await four_free_ports()
    with socket.create_server((HOST, first)):
        opened: list[AcceptLoop] = []
        for _ in range(3):
            opened.append(AcceptLoop(socket.socket.close))
            await opened[-1].open(HOST, range(first, first + 4))
        ports = {each.port for each in opened}
        assert len(ports) == 3
        assert ports <= set(range(first, first + 4)) - {first}
        with pytest.raises(OSError, match=f"spec.channels.ports: none of {first}-{first + 3} is free"):
            await AcceptLoop(socket.socket.close).open(HOST, range(first, first + 4))
        for each in opened:
            each.close()
