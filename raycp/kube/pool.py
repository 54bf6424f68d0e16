"""The keep-alive pool of one cluster: lends the most recently used connection, dials new ones, retires stale ones."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable

from raycp.kube.connection import HttpChannel
from raycp.kube.dialer import dial
from raycp.kube.errors import Unreachable
from raycp.kube.limits import AnswerLimits, ReceivedBytes
from raycp.kube.target import Target

log = logging.getLogger("raycp.kube")

_IDLE_SECONDS = 85.0  # servers and load balancers usually close after 90 s or more: close before they do
_DIAL_SECONDS = 5.0  # the kernel resends SYN after 1, 3 and 7 s: after 5 s a new attempt succeeds sooner than this one
_DIALS = 3  # handshakes at a time

Dialer = Callable[[Target, float, Callable[[HttpChannel], None]], Awaitable[HttpChannel]]
"""``dial(target, timeout, on_close)``."""


class Pool:
    """Connections to one ``Target``. Its size is bounded by the number of concurrent requests (the client's in-flight cap).

    A handshake costs about as much CPU as thirty requests, so a burst does not open one connection per request: at most
    ``_DIALS`` handshakes run at a time, and a waiting request takes the first connection that is opened or returned.
    """

    def __init__(self, target: Target, dialer: Dialer = dial, received: ReceivedBytes | None = None) -> None:
        self._target = target
        self._received = received or ReceivedBytes(AnswerLimits())
        self._dialer = dialer
        self._idle: list[HttpChannel] = []
        self._all: set[HttpChannel] = set()
        self._waiting: deque[tuple[float, asyncio.Future[HttpChannel]]] = deque()
        self._dialing: set[asyncio.Task[None]] = set()
        self._generation = 0
        self.opened = 0
        """connections opened so far"""

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return len(self._waiting)

    @property
    def target(self) -> Target:
        return self._target

    def retarget(self, target: Target) -> None:
        """Use ``target`` from now on (rotated certificates); pending exchanges end on their old connections."""
        self._target = target
        self._generation += 1
        for connection in list(self._idle):
            connection.close()

    async def acquire(self, timeout: float, *, fresh: bool = False, max_idle: float = _IDLE_SECONDS) -> HttpChannel:
        """An idle connection, the most recently used first, or a new one. Raises ``Unreachable`` (``sent`` False).

        ``timeout`` in seconds bounds the wait. ``max_idle`` in seconds is lower for requests that must not be sent twice: the
        server or a middlebox may be about to close a connection that has been idle for longer.
        """
        if fresh:
            return await self._open(timeout)
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._idle:
            connection = self._idle.pop()
            if connection.ready and now - connection.idle_since < max_idle:
                return connection
            connection.close()
        waiter: asyncio.Future[HttpChannel] = loop.create_future()
        self._waiting.append((now, waiter))
        self._dial()
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())  # it came too late: leave it to the next request
            waiter.cancel()
            if isinstance(error, TimeoutError):
                text = f"cannot connect to {self._target.authority} within {timeout:.3g} s"
                raise Unreachable(text, sent=False, timed_out=True) from None
            raise

    def release(self, connection: HttpChannel) -> None:
        """Take back a connection after its exchange; a broken or outdated one is dropped."""
        if connection.closed:
            return
        if not connection.ready or connection.generation != self._generation:
            connection.close()
            return
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        connection.idle_since = now = connection.loop.time()
        self._idle.append(connection)
        oldest = self._idle[0]
        if now - oldest.idle_since > _IDLE_SECONDS:
            oldest.close()

    def distrust(self, since: float) -> None:
        """A request that was sent at ``since`` (loop time) got no answer: the link may be dead, and with it each idle connection
        that was not in use since. A middlebox that has forgotten them drops their packets without a word, so each would cost one
        more deadline.
        """
        for connection in [each for each in self._idle if each.idle_since < since]:
            connection.close()

    def drop(self) -> None:
        """Close all connections; pending exchanges fail with ``Unreachable``, later ones dial again."""
        for connection in list(self._all):
            connection.close()

    async def close(self) -> None:
        """Drop all connections and end all attempts to open one."""
        for task in list(self._dialing):
            task.cancel()
        self._fail(Unreachable("connection closed by this client", sent=False))
        self.drop()
        await asyncio.sleep(0)  # let the transports run their close callbacks

    def _forget(self, connection: HttpChannel) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _dial(self) -> None:
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        while len(self._dialing) < min(_DIALS, len(self._waiting)):
            task = asyncio.get_running_loop().create_task(self._dial_one())
            self._dialing.add(task)
            task.add_done_callback(self._dialed)

    async def _dial_one(self) -> None:
        started = asyncio.get_running_loop().time()
        try:
            connection = await self._open(_DIAL_SECONDS)
            if connection.closed:
                raise Unreachable(f"connection to {self._target.authority} was closed at once", sent=False)
        except Unreachable as error:
            self._fail(error, started)
        except Exception as error:  # whoever waits must hear of it: the next attempt would fail the same way, at once and for ever
            log.exception("the connection to %s cannot be opened", self._target.authority)
            self._fail(Unreachable(f"cannot connect to {self._target.authority}: {error!r}", sent=False), started)
        else:
            self.release(connection)

    def _dialed(self, task: asyncio.Task[None]) -> None:
        self._dialing.discard(task)
        if not task.cancelled():
            self._dial()

    def _fail(self, error: Unreachable, started: float = math.inf) -> None:
        """Fail the requests that waited when the failed attempt ``started``. Later ones wait for their own attempt: the network
        may have recovered since, and a breaker's probe that fails with an old error keeps the cluster isolated for longer.
        """
        waiting, self._waiting = self._waiting, deque()
        for since, waiter in waiting:
            if since > started:
                self._waiting.append((since, waiter))
            elif not waiter.done():
                copy = Unreachable(str(error), sent=False, refused=error.refused, timed_out=error.timed_out)
                waiter.set_exception(copy)

    async def _open(self, timeout: float) -> HttpChannel:
        generation = self._generation
        connection = await self._dialer(self._target, timeout, self._forget)
        connection.generation = generation
        connection.received = self._received
        self.opened += 1
        self._all.add(connection)
        return connection
