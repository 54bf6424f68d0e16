"""``Listener``: a member's port, and how a connection to it becomes that of a member.

accepted (``accept_loop``) → TLS, from another node → challenge (``handshake``) → a member of the plan → ``Hello`` → its peer. Until
the challenge is passed it is a stranger, with little memory and little time (``strangers``). A member whose plan is newer than ours
is held for ``HOLD`` seconds: nothing of it is read until our next plan says who it is.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import weakref
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from raycp.base.text import message_of
from raycp.protocol.channels.accept_loop import AcceptLoop
from raycp.protocol.channels.channel_credentials import ChannelCredentials
from raycp.protocol.channels.handshake import MAX_FIRST, NotAuthenticated, ReceiverHandshake
from raycp.protocol.channels.sockets import TLS_CLOSING, tuned
from raycp.protocol.channels.strangers import Strangers
from raycp.protocol.frames import Hello, Refusal, RefusalCode, decode_body, encode_body
from raycp.protocol.transport import MAX_FRAME, Connection, Peer

log = logging.getLogger(__name__)

HOLD = 2.0
"""Seconds for which a connection waits for the plan by which it is accepted."""


class Hold(msgspec.Struct, frozen=True):
    """The answer to a ``Hello`` that the next plan decides: ask again then, and refuse after ``HOLD`` seconds."""

    refusal: Refusal


Accept = Callable[[Connection, Hello], "Peer | Refusal | Hold"]
"""The peer of a member's connection, or why it has none."""


class Listener:
    """An open port. ``close`` refuses new connections and leaves accepted ones alone; ``abort`` resets those, too."""

    def __init__(self, credentials: ChannelCredentials, accept: Accept, strangers: Strangers | None = None) -> None:
        self.strangers = strangers if strangers is not None else Strangers()
        self._credentials = credentials
        self._accept = accept
        self._port = AcceptLoop(self._accepted)
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._beginning: set[asyncio.Task[None]] = set()
        self._held: dict[Connection, _Incoming] = {}

    @property
    def port(self) -> int:
        """Its number; 0 before ``open``."""
        return self._port.port

    async def open(self, host: str, ports: Sequence[int] = ()) -> None:
        """See ``AcceptLoop.open``. Raises ``OSError``."""
        await self._port.open(host, ports)

    def reconsider(self) -> None:
        """There is another plan: decide again on the connections that are held."""
        for connection, incoming in list(self._held.items()):
            try:
                incoming.decide()
            except Exception:  # law 11: of one connection, not of the plan
                log.exception("a connection of %s can't be accepted", connection.member)
                connection.reset()

    def close(self) -> None:
        self._port.close()

    def abort(self) -> None:
        self.close()
        self.strangers.close()
        for connection in list(self._open):
            connection.abort()

    def _accepted(self, accepted: socket.socket) -> None:
        incoming = _Incoming(self._credentials, self._accept, self.strangers, self._held)
        task = asyncio.get_running_loop().create_task(self._begin(accepted, incoming))
        self._beginning.add(task)
        task.add_done_callback(partial(self._begun, accepted))
        self.strangers.add(incoming, partial(_cancel, task))

    async def _begin(self, accepted: socket.socket, incoming: "_Incoming") -> None:
        try:
            tuned(accepted)
            tls = self._credentials.receiver_tls(accepted)
            closing = TLS_CLOSING if tls is not None else None
            make = partial(self._made, incoming)
            await asyncio.get_running_loop().connect_accepted_socket(make, accepted, ssl=tls, ssl_shutdown_timeout=closing)
        except OSError as error:
            accepted.close()
            if self.strangers.remove(incoming) and not _hung_up(error):  # no TLS, or not this fleet's
                self.strangers.log.closed(message_of(error, 200))

    def _made(self, incoming: "_Incoming") -> Connection:
        connection = Connection(incoming)
        self._open.add(connection)
        return connection

    def _begun(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._beginning.discard(task)
        if task.cancelled():
            accepted.close()


def _hung_up(error: OSError) -> bool:
    """Whether the other end only looked whether the port is open, as members do (law 6f)."""
    return isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


class _Incoming:
    """The beginning of a connection, at its receiver."""

    def __init__(
        self, credentials: ChannelCredentials, accept: Accept, strangers: Strangers, held: "dict[Connection, _Incoming]"
    ) -> None:
        self._credentials = credentials
        self._accept = accept
        self._strangers = strangers
        self._held = held
        self._handshake = ReceiverHandshake(credentials.secret, credentials.member)
        self._connection: Connection | None = None
        self._hello: Hello | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def largest(self) -> int:
        return MAX_FIRST if self._handshake.caller is None else MAX_FRAME

    def begun(self, connection: Connection) -> None:
        self._connection = connection
        self._strangers.closes_by(self, connection.reset)

    def frame(self, connection: Connection, body: bytes) -> None:
        if self._handshake.caller is None:
            answer = self._handshake.received(body)
            if answer is not None:
                connection.begin_with(answer)
            self._proven(connection)
            return
        message = decode_body(body)
        caller = self._handshake.caller
        if not isinstance(message, Hello) or (message.member, message.role) != (caller.member, caller.role):
            raise ValueError("its first frame is not the Hello of the member that it has proven to be")
        connection.received += 1
        self._hello = message
        self.decide()

    def _proven(self, connection: Connection) -> None:
        caller = self._handshake.caller
        if caller is not None:
            self._strangers.remove(self)
            connection.member = caller.member
            self.decide()

    def decide(self) -> None:
        """Go on as far as the present plan allows."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        found: Peer | Refusal | Hold | None = None
        if connection.member not in self._credentials.members:
            reason = "the fleet's plan, as this member has it, does not name the caller"
            found = Hold(Refusal(reason, RefusalCode.NOT_A_MEMBER))
        elif self._hello is not None:
            found = self._accept(connection, self._hello)
        if isinstance(found, Hold):
            self._hold(connection, found.refusal)
            return
        self._ended_hold(connection)
        if isinstance(found, Refusal):
            _refuse(connection, found)
            return
        if found is not None:
            connection.attach(found)
        connection.release()

    def _hold(self, connection: Connection, refusal: Refusal) -> None:
        connection.hold()
        if connection not in self._held:
            self._held[connection] = self
            self._timer = asyncio.get_running_loop().call_later(HOLD, self._refuse_held, connection, refusal)

    def _refuse_held(self, connection: Connection, refusal: Refusal) -> None:
        self._ended_hold(connection)
        log.info("a connection of %s is refused: %s", connection.member, refusal.reason)
        _refuse(connection, refusal)

    def _ended_hold(self, connection: Connection) -> None:
        self._held.pop(connection, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def failed(self, connection: Connection, error: Exception) -> None:
        known = self._strangers.remove(self)
        if isinstance(error, NotAuthenticated) and error.refusal is not None:
            connection.begin_with(encode_body(error.refusal))
        if known:
            self._strangers.log.closed(message_of(error, 200))
        else:
            log.warning("closing a connection of %s: %s", connection.member, message_of(error, 200))

    def ended(self, connection: Connection) -> None:
        self._strangers.remove(self)
        self._ended_hold(connection)


def _refuse(connection: Connection, refusal: Refusal) -> None:
    connection.hold()
    with contextlib.suppress(ValueError):
        connection.send(refusal)
    connection.close()
