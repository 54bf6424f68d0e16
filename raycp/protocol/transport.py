"""The transport between shards and workers: msgpack frames over TCP.

Why not actor calls: a Ray actor call costs 0.6 ms of CPU at the callee and 1 ms round trip, a frame between the same two
processes 0.07 ms; and a refused connection to a member's port proves that its process is dead (law 6f) without a
question to Ray. Ray starts, places, names and replaces the members; only frames travel here.

How a connection begins, and who may have one: ``raycp.protocol.channels``.
"""

import asyncio
import enum
import logging
from typing import Protocol, cast

import msgspec

from raycp.base.text import message_of
from raycp.protocol.frames import MAX_SENT, Message, decode_body, encode, encode_body

log = logging.getLogger(__name__)

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of the largest frame that is received. What is sent is smaller (``pages.MAX_SENT``)."""

MAX_BACKLOG = 256 * 1024 * 1024
"""Bytes that wait for a peer to read them. A connection with more is reset: its peer is frozen, and the memory is ours. Senders
pace themselves far below."""

SMALL = 16 * 1024
"""Bytes of a frame that is copied before it is decoded: that is faster than a view."""


class Peer(Protocol):
    """Receives a connection's frames, on the loop that opened it."""

    def received(self, message: Message) -> None: ...

    def lost(self) -> None: ...


class Beginning(Protocol):
    """Receives a connection's frames until it has a peer. ``largest``: bytes of the largest frame that it takes at present."""

    @property
    def largest(self) -> int: ...

    def begun(self, connection: "Connection") -> None:
        """The connection is open."""
        ...

    def frame(self, connection: "Connection", body: bytes) -> None:
        """A frame. Raises ``ValueError`` or ``msgspec.DecodeError`` to close the connection."""
        ...

    def failed(self, connection: "Connection", error: Exception) -> None:
        """The other end sent what ends the connection; it is closed next."""
        ...

    def ended(self, connection: "Connection") -> None:
        """The connection was lost before it had a peer."""
        ...


class Connection(asyncio.Protocol):
    """One connection, either side. Frames are handed to its peer in order; a broken frame closes the connection.

    ``sent`` and ``received`` count frames from ``attach`` on: what a peer reports to have received, in numbers, it has received or
    never will. ``member``: the actor's name of the other end, which has proven it.
    """

    def __init__(self, beginning: Beginning) -> None:
        self._beginning = beginning
        self._peer: Peer | None = None
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._paused = False
        self._holding = False
        self.member = ""
        self.sent = 0
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not derived from it
        self._transport.set_write_buffer_limits(high=8 * 1024 * 1024)
        self._beginning.begun(self)

    def attach(self, peer: Peer) -> None:
        """Hand further frames, and the end of the connection, to ``peer``."""
        self._peer = peer

    def hold(self) -> None:
        """Read nothing more, and handle nothing of what has arrived, until ``release``."""
        if self._transport is not None and not self._holding:
            self._holding = True
            self._transport.pause_reading()

    def release(self) -> None:
        """Go on after ``hold``."""
        if self._holding:
            self._holding = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
                self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= 4 and not self._holding:
                size = int.from_bytes(buffer[start : start + 4], "big")
                if size > (MAX_FRAME if self._peer is not None else self._beginning.largest):
                    raise ValueError(f"a frame of {size} bytes")
                if len(buffer) - start - 4 < size:
                    break
                if self._peer is None:
                    start += 4 + size
                    self._beginning.frame(self, bytes(buffer[start - size : start]))
                    continue
                if size < SMALL:
                    message = decode_body(bytes(buffer[start + 4 : start + 4 + size]))
                else:  # no copy but the decoder's
                    with memoryview(buffer) as view, view[start + 4 : start + 4 + size] as body:
                        message = decode_body(body)
                start += 4 + size
                self.received += 1
                self._deliver(self._peer, message)
        except (ValueError, msgspec.DecodeError) as error:
            if self._peer is None:
                self._beginning.failed(self, error)
            else:
                log.warning("closing a connection: %s sent no valid frame: %s", self.member, message_of(error, 200))
            self.close()
        finally:
            if start:
                del buffer[:start]

    def _deliver(self, peer: Peer, message: Message) -> None:
        try:
            peer.received(message)
        except Exception:
            log.exception("a %s frame could not be handled", type(message).__name__)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._peer is not None:
            self._peer.lost()
        else:
            self._beginning.ended(self)

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

    def begin_with(self, body: bytes) -> None:
        """Send a frame of the beginning."""
        if self._transport is not None and not self._closed:
            self._transport.write(len(body).to_bytes(4, "big") + body)

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
        self._peer = NOBODY
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset the connection, as the death of this process would; the own peer is not called."""
        self._peer = NOBODY
        self.reset()

    def reset(self) -> None:
        """Reset the connection, as a network failure would: both peers get ``lost``."""
        if self._transport is not None:
            self._transport.abort()


class _Nobody:
    """A peer to whom nothing matters any more."""

    def received(self, message: Message) -> None:
        pass

    def lost(self) -> None:
        pass


NOBODY = _Nobody()


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
