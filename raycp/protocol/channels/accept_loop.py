"""``AcceptLoop``: a port that is open for as long as its process lives, whatever connects to it.

A refused connection to a member's port proves that its process is dead (law 6f). So the listening socket is closed by nothing but
the end of the process: where descriptors run out, a connection is accepted with one that is kept for this, and closed.
"""

import asyncio
import contextlib
import errno
import logging
import os
import random
import socket
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

BACKLOG = 256
AT_ONCE = 64
"""Connections that are accepted before other tasks get their turn."""

REST = 0.1
"""Seconds for which nothing is accepted after an error of the system; the kernel keeps the connections meanwhile."""

LOG_EVERY = 10.0
"""Seconds between two lines of the log about that."""

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class AcceptLoop:
    """An open port of the running loop. ``accepted`` gets each connection as a socket that does not block, and owns it."""

    def __init__(self, accepted: Callable[[socket.socket], None]) -> None:
        self.port = 0
        self.shed = 0
        """Connections that were closed at once for want of a descriptor."""
        self._accepted = accepted
        self._socket: socket.socket | None = None
        self._spare: int | None = None
        self._silent_until = 0.0

    async def open(self, host: str, ports: Sequence[int] = ()) -> None:
        """Listen on ``host``, on one of ``ports`` that is free, or where there are none on one that the kernel chooses. Raises
        ``OSError``."""
        loop = asyncio.get_running_loop()
        family, *_, address = (await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))[0]
        self._socket = _bound(family, str(address[0]), ports)
        self.port = int(self._socket.getsockname()[1])
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._socket.close()
            raise
        loop.add_reader(self._socket.fileno(), self._ready)

    def close(self) -> None:
        """Refuse from now on."""
        listening, self._socket = self._socket, None
        if listening is not None:
            asyncio.get_running_loop().remove_reader(listening.fileno())
            listening.close()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _ready(self) -> None:
        listening = self._socket
        for _ in range(AT_ONCE):
            if listening is None:
                return
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR and self._spare is not None:
                    self._accept_and_close(listening)
                    continue
                self._rest(listening, error)
                return
            accepted.setblocking(False)
            try:
                self._accepted(accepted)
            except Exception:
                log.exception("a connection to port %d could not be taken", self.port)
                accepted.close()

    def _accept_and_close(self, listening: socket.socket) -> None:
        """All descriptors are in use: without this the queue of the port would fill up, and a full one is silent."""
        assert self._spare is not None
        os.close(self._spare)
        self._spare = None
        with contextlib.suppress(OSError):
            accepted, _ = listening.accept()
            accepted.close()
            self.shed += 1
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._silent_until:
            self._silent_until = loop.time() + LOG_EVERY
            log.warning("port %d accepts no connection at present: %s", self.port, error)
        loop.remove_reader(listening.fileno())
        loop.call_later(REST, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if self._socket is not listening:
            return
        if self._spare is None:
            with contextlib.suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(listening.fileno(), self._ready)


def _bound(family: int, host: str, ports: Sequence[int]) -> socket.socket:
    """A listening socket. Ports are tried in random order: the next process should not get that of one that has just died, since
    its port would not refuse then."""
    for port in random.sample(ports, len(ports)) or [0]:
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((host, port))
            made.listen(BACKLOG)
        except OSError as error:
            made.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return made
    raise OSError(errno.EADDRINUSE, f"spec.channels.ports: none of {min(ports)}-{max(ports)} is free on {host}; widen it")
