"""``ClusterClient``: requests and streams to the API server of one cluster.

The path of a request: gate (breaker, budget, in-flight cap) → connection → write guard → send → answer → gate's report. The guard
runs after everything that can wait, so that a permit is checked at the moment of sending (law 6e).
"""

import asyncio
import contextlib
import email.utils
import logging
from collections.abc import AsyncIterator, Mapping

from raycp.base.clock import Clock
from raycp.kube.answers import answer_error
from raycp.kube.breaker import Breaker
from raycp.kube.budget import LIVE, Budget
from raycp.kube.connect import ConnectSpec
from raycp.kube.connection import HttpChannel, LineStream, Response
from raycp.kube.credentials import Credentials
from raycp.kube.discovery import Discovery
from raycp.kube.errors import ApiError, BadAnswer, KubeError, TooLarge, Unreachable
from raycp.kube.gate import Gate, TokenSource
from raycp.kube.guard import HeaderSource, WriteGuard
from raycp.kube.limits import AnswerLimits, ReceivedBytes
from raycp.kube.objects import JSON, ObjectCalls, Query
from raycp.kube.payload import Payloads
from raycp.kube.pool import Pool
from raycp.kube.remedies import probe_error

log = logging.getLogger("raycp.kube")

_READS = frozenset({"GET"})
_CONNECT_SECONDS = 10.0
_SKEW_SECONDS = 60.0
_READ_IDLE_SECONDS = 80.0
_WRITE_IDLE_SECONDS = 20.0  # a write uses only a connection that was in use this recently


class ClusterClient(ObjectCalls):
    """One cluster. Make it with ``connect``. Safe for use by many tasks of one event loop."""

    def __init__(self, spec: ConnectSpec, clock: Clock, credentials: Credentials) -> None:
        self.name = spec.name
        self.spec = spec
        self.write_guard: WriteGuard | None = None
        """called immediately before each write is sent; see ``raycp.kube.guard``"""
        self.skew = 0.0
        """seconds by which the server's wall clock is ahead of ours, from its ``Date`` header, of 1 s resolution: it moves only by
        more than that"""
        self._clock = clock
        self._credentials = credentials
        self.received = ReceivedBytes(spec.limits)
        self.pool = Pool(credentials.target, received=self.received)
        self._skew_due = 0.0
        self._payloads = Payloads(spec.user_agent)
        self._use_credentials()
        credentials.on_change = self._use_credentials
        budget = Budget(clock, spec.qps, spec.burst)
        breaker = Breaker(clock, spec.breaker, on_change=self._log_breaker)
        self.gate = Gate(spec.name, clock, spec.max_in_flight, budget, breaker)
        self.discovery = Discovery(spec.name, self._fetch, clock)

    def __repr__(self) -> str:
        return f"ClusterClient({self.name!r}, {self._credentials.target!r})"

    # -- life

    @classmethod
    async def connect(cls, spec: ConnectSpec, clock: Clock, *, probe: bool = True) -> "ClusterClient":
        """A client with loaded credentials, after one answered request if ``probe`` is set.

        Raises ``ConnectError`` with a remedy: missing file or context, unreachable server, untrusted CA, rejected credentials.
        """
        credentials = Credentials(spec, clock)
        await credentials.load()
        client = cls(spec, clock, credentials)
        if probe:
            try:
                await client._probe()
            except BaseException:
                await client.close()
                raise
        return client

    async def close(self) -> None:
        """Drop all connections; pending requests fail with ``Unreachable``."""
        await self.gate.close()
        await self.pool.close()

    @property
    def credentials_problem(self) -> str:
        """Why the credentials could not be renewed; empty while they are as their source has them."""
        return self._credentials.problem

    @property
    def limits(self) -> AnswerLimits:
        """How large its answers may be."""
        return self.received.limits

    @property
    def budget(self) -> TokenSource | None:
        """The client budget; a shared source where other processes send requests under the same budget (a worker's client)."""
        return self.gate.budget

    @budget.setter
    def budget(self, budget: TokenSource | None) -> None:
        self.gate.budget = budget

    @property
    def breaker(self) -> Breaker | None:
        return self.gate.breaker

    @breaker.setter
    def breaker(self, breaker: Breaker | None) -> None:
        self.gate.breaker = breaker

    # -- requests

    async def request(
        self,
        verb: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Query | None = None,
        content_type: str = JSON,
        timeout: float | None = None,
        priority: int = LIVE,
        guard: WriteGuard | None = None,
        headers: HeaderSource | None = None,
        of_kind: bool = False,
        largest: int = 0,
    ) -> Response:
        """One request; ``verb`` is the HTTP method. ``timeout`` in seconds covers all waiting (default: the spec's), for a
        credential plugin too.

        ``guard`` replaces the client's ``write_guard`` for this request; ``headers`` are added to it. ``of_kind``: its failure
        may be the kind's alone, and is no evidence against the server (``gate``).
        ``largest``: bytes of the answer; 0 for those of a page (``limits``). Raises ``ApiError``, ``Unreachable`` (``BadAnswer``,
        ``CircuitOpen``, ``Throttled``), ``Fenced``. A read is retried once on a fresh connection if a kept one was dead; a write
        never is.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.spec.timeout if timeout is None else timeout)
        credentials, now = self._credentials, self._clock.now()
        if now >= credentials.recheck_at and credentials.stale(now):
            await credentials.refreshed(deadline - loop.time())
        gate = self.gate
        await gate.enter(priority, deadline - loop.time())
        sent = self._clock.now()
        error: BaseException | None = None
        try:
            for attempt in (1, 2):
                generation = credentials.generation
                try:
                    return await self._exchange(verb, path, body, query, content_type, deadline, guard, headers, largest)
                except ApiError as failed:
                    # 401 means that the request had no effect: retry if the credentials have changed since it was sent.
                    left = deadline - loop.time()
                    if failed.status == 401 and attempt == 1 and await credentials.renewed(generation, left):
                        continue
                    raise
            raise AssertionError("unreachable")
        except BaseException as failed:
            error = failed
            raise
        finally:
            gate.leave()
            gate.report(error, sent, of_server=not of_kind and not path.startswith("/apis/"))

    async def _exchange(
        self,
        verb: str,
        path: str,
        body: bytes | None,
        query: Query | None,
        content_type: str,
        deadline: float,
        guard: WriteGuard | None,
        extra: HeaderSource | None,
        largest: int,
    ) -> Response:
        loop = asyncio.get_running_loop()
        pool = self.pool
        reading = verb in _READS
        max_idle = _READ_IDLE_SECONDS if reading else _WRITE_IDLE_SECONDS
        headers: Mapping[str, str] = {}
        fresh = False
        while True:
            connection = await pool.acquire(min(_CONNECT_SECONDS, max(0.0, deadline - loop.time())), fresh=fresh, max_idle=max_idle)
            try:
                remaining = deadline - loop.time()
                guard = guard or self.write_guard
                if not reading and guard is not None:
                    stamp = guard()
                    headers = stamp.headers
                    if stamp.budget is not None:
                        remaining = min(remaining, stamp.budget)
                        query = {**(query or {}), "timeout": f"{max(1, int(stamp.budget * 1000) - 1)}ms"}
                if extra is not None:
                    headers = {**headers, **extra()}
                if remaining <= 0:
                    raise Unreachable(f"no time left for {verb} {path}", sent=False, timed_out=True)
                reused, begun = connection.used > 0, loop.time()
                payload = self._payloads.make(verb, path, body, query, content_type, headers)
                answer = await connection.send(payload, remaining, largest=largest)
            except Unreachable as failed:
                if failed.timed_out and failed.sent:
                    pool.distrust(begun)
                if reading and failed.sent and reused and failed.unanswered and not failed.timed_out:
                    fresh = True  # the server had closed the kept connection
                    continue
                failed.args = (f"{verb} {path}: {failed}",)
                raise
            except BaseException:
                connection.close()  # fenced, or cancelled before the answer
                raise
            assert isinstance(answer, Response)
            pool.release(connection)
            problem = answer_error(answer, f"{verb} {path}")
            if problem is not None:
                raise problem
            if loop.time() >= self._skew_due:
                self._measure_skew(answer.headers.get("date"))
            return answer

    @contextlib.asynccontextmanager
    async def stream(
        self,
        path: str,
        query: Query | None = None,
        *,
        idle_timeout: float | None = None,
    ) -> AsyncIterator[LineStream]:
        """A streaming GET (a watch, a log): gives an async iterator over lists of lines, each with all lines that have arrived.

        ``idle_timeout`` bounds the silence between bytes, in seconds. The iterator ends when the server ends the answer. Opening
        raises ``ApiError`` and ``Unreachable``, iterating ``Unreachable``. A stream has a connection of its own, outside the
        in-flight cap. It passes an open breaker, since a reflector has its own backoff, and reports to it.
        """
        connection, lines = await self._open_stream(path, query)
        lines.idle_timeout = idle_timeout
        try:
            yield lines
        except TooLarge as error:  # of the stream, or of what its consumer made of it
            self.gate.report(error)
            raise
        finally:
            if lines.done:
                self.pool.release(connection)
            else:
                connection.close()

    async def _open_stream(self, path: str, query: Query | None) -> tuple[HttpChannel, LineStream]:
        credentials, now = self._credentials, self._clock.now()
        limit = self.spec.timeout
        if now >= credentials.recheck_at and credentials.stale(now):
            await credentials.refreshed(limit)
        for attempt in (1, 2):
            generation = credentials.generation
            sent = self._clock.now()
            payload = self._payloads.make("GET", path, query=query)
            try:
                connection = await self.pool.acquire(min(_CONNECT_SECONDS, limit), fresh=True)
                try:
                    answer = await connection.send(payload, limit, stream=True)
                except asyncio.CancelledError:
                    connection.close()
                    raise
            except Unreachable as failed:
                self.gate.report(failed, sent, of_server=False)
                failed.args = (f"GET {path}: {failed}",)
                raise
            error: KubeError | None
            if isinstance(answer, LineStream):
                if b"json" in answer.content_type or "watch" not in (query or ()):
                    self._measure_skew(answer.date)  # once its lists are read, a shard sends few other requests
                    self.gate.report(None)
                    return connection, answer
                connection.close()
                shown = answer.content_type.decode("latin-1")[:60] or "no content type"
                error = BadAnswer(f"GET {path}: a stream of {shown} instead of JSON; no API server answers so")
            else:
                self.pool.release(connection)
                error = answer_error(answer, f"GET {path}")
                assert error is not None
                if answer.status == 401 and attempt == 1 and await credentials.renewed(generation, limit):
                    continue
            self.gate.report(error, sent, of_server=False)
            raise error
        raise AssertionError("unreachable")

    def refused(self, error: TooLarge) -> TooLarge:
        """Answers were well one by one, and are too large together: count that against the server. Returns ``error``."""
        self.gate.report(error)
        return error

    # -- inside

    async def _fetch(self, path: str) -> bytes:
        return (await self.request("GET", path, of_kind=True)).body

    def _use_credentials(self) -> None:
        target = self._credentials.target
        self._payloads.use(target, self._credentials.authorization, self._credentials.headers)
        if self.pool.target != target:
            self.pool.retarget(target)

    def _measure_skew(self, date: str | None) -> None:
        self._skew_due = asyncio.get_running_loop().time() + _SKEW_SECONDS
        if date:
            with contextlib.suppress(ValueError, TypeError, OverflowError):
                ahead = email.utils.parsedate_to_datetime(date).timestamp() + 0.5 - self._clock.wall()
                ahead = ahead if abs(ahead) > 1.0 else 0.0  # below the resolution of the header
                if abs(ahead - self.skew) > 1.0:
                    self.skew = ahead

    def _log_breaker(self, old: str, new: str, reason: str) -> None:
        log.warning("cluster %r: breaker %s -> %s%s", self.name, old, new, f" ({reason})" if reason else "")

    async def _probe(self) -> None:
        try:
            await self.version(timeout=min(self.spec.timeout, _CONNECT_SECONDS))
        except (ApiError, Unreachable) as error:
            problem = probe_error(self.name, self._credentials.target.authority, error)
            if problem is not None:
                raise problem from None
