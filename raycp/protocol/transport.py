"""The transport between shards and workers: msgpack frames over TCP.

Why not actor calls: a Ray actor call costs 0.6 ms of CPU at the callee and 1 ms round trip, a frame between the same two
processes 0.07 ms; and a refused connection to a member's port proves that its process is dead (law 6f) without a
question to Ray. Ray starts, places, names and replaces the members; only frames travel here.
"""

import asyncio
import enum
import hmac
import logging
import weakref
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from raycp.base.protocol_version import IncompatibleVersion, check_protocol
from raycp.protocol.frames import MAX_SENT, Hello, Message, Refusal, RefusalCode, decode_body, encode, encode_body

log = logging.getLogger(__name__)

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of the largest frame that is received. What is sent is smaller (``pages.MAX_SENT``)."""

MAX_FIRST = 1024 * 1024
"""Bytes of the largest first frame that is received: nobody who does not know the token fills our memory."""

MAX_BACKLOG = 256 * 1024 * 1024
"""Bytes that wait for a peer to read them. A connection with more is reset: its peer is frozen, and the memory is ours. Senders
pace themselves far below."""

SMALL = 16 * 1024
"""Bytes of a frame that is copied before it is decoded: that is faster than a view."""

HELLO_TIMEOUT = 5.0


class Peer(Protocol):
    """Receives a connection's frames, on the loop that opened it."""

    def received(self, message: Message) -> None: ...

    def lost(self) -> None: ...


class Connection(asyncio.Protocol):
    """One connection, either side. Frames are handed to ``peer`` in order; a broken frame closes the connection.

    ``sent`` and ``received`` count frames: what a peer reports to have received, in numbers, it has received or never will.
    """

    def __init__(
        self, peer: Peer | None = None, accept: "Callable[[Connection, Hello], Peer | Refusal] | None" = None, token: str = ""
    ) -> None:
        self._peer = peer
        self._accept = accept
        self._token = token
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._paused = False
        self.sent = 0
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it
        self._transport.set_write_buffer_limits(high=8 * 1024 * 1024)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= 4:
                size = int.from_bytes(buffer[start : start + 4], "big")
                if size > MAX_FRAME or (self._peer is None and size > MAX_FIRST):
                    raise ValueError(f"a frame of {size} bytes")
                if len(buffer) - start - 4 < size:
                    break
                if size < SMALL:
                    message = decode_body(bytes(buffer[start + 4 : start + 4 + size]))
                else:  # no copy but the decoder's
                    with memoryview(buffer) as view, view[start + 4 : start + 4 + size] as body:
                        message = decode_body(body)
                start += 4 + size
                self.received += 1
                self._deliver(message)
        except (ValueError, msgspec.DecodeError) as error:
            log.warning("closing a connection: the peer sent no valid frame: %s", error)
            self.close()
        finally:
            if start:
                del buffer[:start]

    def _deliver(self, message: Message) -> None:
        if self._peer is not None:
            try:
                self._peer.received(message)
            except Exception:
                log.exception("a %s frame could not be handled", type(message).__name__)
            return
        if not isinstance(message, Hello) or self._accept is None:
            raise ValueError("the first frame is not Hello")
        if not hmac.compare_digest(message.token.encode(), self._token.encode()):
            self.send(Refusal("wrong token", RefusalCode.WRONG_TOKEN))
            raise ValueError("wrong token")
        try:
            check_protocol(message.protocol, f"the connection of {message.member}")
        except IncompatibleVersion as error:
            self.send(Refusal(str(error), RefusalCode.INCOMPATIBLE_VERSION))
            raise
        accepted = self._accept(self, message)
        if isinstance(accepted, Refusal):
            self.send(accepted)
            self.close()
        else:
            self._peer = accepted

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._peer is not None:
            self._peer.lost()

    def send(self, message: Message) -> None:
        """Queue one frame; silently dropped on a closed connection (the peer gets ``lost``). Raises ``Unsendable``."""
        transport = self._transport
        if transport is not None and not self._closed:
            try:  # encode(), without its call: this is the path of every change
                body = encode_body(message)
            except Exception:
                body = encode(message)
            if len(body) > MAX_SENT:
                body = encode(message)
            self.sent += 1
            transport.write(len(body).to_bytes(4, "big") + body)
            if self._paused:
                self._check_backlog()

    def write(self, body: bytes) -> None:
        """As ``send``, for a message that is encoded already."""
        transport = self._transport
        if transport is not None and not self._closed:
            self.sent += 1
            transport.write(len(body).to_bytes(4, "big") + body)
            if self._paused:
                self._check_backlog()

    def _check_backlog(self) -> None:
        if self.backlog > MAX_BACKLOG:
            log.warning("resetting a connection: its peer has not read the last %d bytes", self.backlog)
            self.reset()

    def pause_writing(self) -> None:
        """More bytes wait than the high-water mark."""
        self._paused = True

    def resume_writing(self) -> None:
        """The peer reads."""
        self._paused = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def backlog(self) -> int:
        """Bytes not yet taken by the kernel."""
        return 0 if self._transport is None or self._closed else self._transport.get_write_buffer_size()

    def abandon(self) -> None:
        """Close without calling the peer."""
        self._peer = None
        self._accept = None
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset the connection, as the death of this process would; the own peer is not called."""
        self._peer = None
        self._accept = None
        self.reset()

    def reset(self) -> None:
        """Reset the connection, as a network failure would: both peers get ``lost``."""
        if self._transport is not None:
            self._transport.abort()


class Listener:
    """An open port. ``close`` refuses new connections and leaves accepted ones alone; ``abort`` resets those, too."""

    def __init__(self, token: str, accept: Callable[[Connection, Hello], Peer | Refusal]) -> None:
        self.port = 0
        self._token = token
        self._accept = accept
        self._accepted: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._server: asyncio.Server | None = None

    async def open(self, host: str) -> None:
        """Listen on a free port of ``host``. Raises ``OSError``."""
        self._server = await asyncio.get_running_loop().create_server(self._connection, host, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def _connection(self) -> Connection:
        made = Connection(accept=self._accept, token=self._token)
        self._accepted.add(made)
        return made

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def wait_closed(self) -> None:
        """Wait until the port refuses, after ``close``."""
        if self._server is not None:
            await self._server.wait_closed()

    def abort(self) -> None:
        self.close()
        for connection in list(self._accepted):
            connection.abort()


async def listen(host: str, token: str, accept: Callable[[Connection, Hello], Peer | Refusal]) -> tuple[Listener, int]:
    """Accept members that know the token. ``accept`` answers with the peer, or with the reason of a refusal."""
    listener = Listener(token, accept)
    await listener.open(host)
    return listener, listener.port


async def dial(host: str, port: int, hello: Hello, peer: Peer, timeout: float = HELLO_TIMEOUT) -> Connection:
    """Connect and say hello. Raises ``OSError`` or ``TimeoutError``."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout):
        _, connection = await loop.create_connection(lambda: Connection(peer), host, port)
    connection.send(hello)
    return connection


class Life(enum.Enum):
    """What a fresh connection to a member's port says about its process."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


async def probe(host: str, port: int, timeout: float = 1.0) -> Life:
    """Ask the member's host. A refusal is certain death (law 6f); silence is not."""
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return Life.DEAD
    except (OSError, TimeoutError):
        return Life.UNKNOWN
    writer.close()
    return Life.ALIVE
