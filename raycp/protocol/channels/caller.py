"""``dial``: a connection to a member that has proven to be it."""

import asyncio
import contextlib
import socket
from typing import NamedTuple

from raycp.base.text import message_of
from raycp.protocol.channels.channel_credentials import ChannelCredentials
from raycp.protocol.channels.handshake import MAX_FIRST, CallerHandshake
from raycp.protocol.channels.sockets import TLS_CLOSING, tuned
from raycp.protocol.transport import Connection, Peer

DIAL_TIMEOUT = 5.0


class NotAccepted(ConnectionError):
    """What listens there has not proven to be the member, or does not accept this one: the text says which."""


class Address(NamedTuple):
    """Where a member listens, and its actor's name."""

    host: str
    port: int
    member: str


async def dial(
    address: Address, role: str, credentials: ChannelCredentials, peer: Peer, timeout: float = DIAL_TIMEOUT
) -> Connection:
    """Connect to a member, as ``role``: both ends have proven themselves then, and ``Hello`` may follow. Raises ``OSError`` or
    ``TimeoutError``; ``NotAccepted`` where something else listens there."""
    loop = asyncio.get_running_loop()
    outgoing = _Outgoing(CallerHandshake(credentials.secret, credentials.member, role, address.member))
    async with asyncio.timeout(timeout):
        made = await _connected(address)
        try:
            tls = credentials.caller_tls(made)
            name, closing = ("", TLS_CLOSING) if tls is not None else (None, None)
            connection = Connection(outgoing)
            await loop.create_connection(
                lambda: connection, sock=made, ssl=tls, server_hostname=name, ssl_shutdown_timeout=closing
            )
        except BaseException:
            made.close()
            raise
        try:
            await outgoing.authenticated
        except BaseException:
            connection.abort()
            raise
    if connection.closed:
        raise ConnectionResetError("the connection was lost")
    connection.member = address.member
    connection.attach(peer)
    return connection


async def _connected(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    family, kind, proto, _, where = (await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))[0]
    made = socket.socket(family, kind, proto)
    try:
        made.setblocking(False)
        await loop.sock_connect(made, where)
        return tuned(made)
    except BaseException:
        made.close()
        raise


class _Outgoing:
    """The beginning of a connection, at its caller."""

    largest = MAX_FIRST

    def __init__(self, handshake: CallerHandshake) -> None:
        self.authenticated: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handshake = handshake

    def begun(self, connection: Connection) -> None:
        connection.begin_with(self._handshake.first)

    def frame(self, connection: Connection, body: bytes) -> None:
        if self.authenticated.done():
            raise ValueError("it speaks before Hello")
        connection.begin_with(self._handshake.answer(body))
        self.authenticated.set_result(None)

    def failed(self, connection: Connection, error: Exception) -> None:
        self._end(NotAccepted(f"what listens there is not accepted: {message_of(error, 200)}"))

    def ended(self, connection: Connection) -> None:
        self._end(ConnectionError("the connection was closed before both ends were authenticated"))

    def _end(self, error: ConnectionError) -> None:
        if not self.authenticated.done():
            self.authenticated.set_exception(error)
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                self.authenticated.exception()  # retrieved, whether or not anyone still waits

