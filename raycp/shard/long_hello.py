"""``LongHello``: a worker that has more in work than fits into a first frame, until it has said all of it."""

from collections.abc import Callable

import msgspec

from raycp.protocol.channels import Hold
from raycp.protocol.frames import Hello, HelloPart, Message, Refusal
from raycp.protocol.transport import Connection, Peer


class LongHello:
    """Collects ``HelloPart`` frames, then has ``accept`` decide, and passes everything on to the peer that it gives."""

    def __init__(self, connection: Connection, hello: Hello, accept: Callable[[Connection, Hello], Peer | Refusal | Hold]) -> None:
        self._connection = connection
        self._hello = hello
        self._accept = accept
        self._in_flight = list(hello.in_flight)
        self._peer: Peer | None = None

    def received(self, message: Message) -> None:
        """A frame of the worker."""
        if self._peer is not None:
            self._peer.received(message)
        elif isinstance(message, HelloPart):
            self._in_flight += message.in_flight
            if not message.more:
                self._complete()

    def _complete(self) -> None:
        found = self._accept(self._connection, msgspec.structs.replace(self._hello, in_flight=self._in_flight, more=False))
        if isinstance(found, Hold):  # the plan has changed since the first frame: it connects again
            found = found.refusal
        if isinstance(found, Refusal):
            self._connection.send(found)
            self._connection.close()
        else:
            self._peer = found

    def lost(self) -> None:
        """The connection has ended."""
        if self._peer is not None:
            self._peer.lost()
