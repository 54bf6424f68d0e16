"""``ClusterClient``: raw requests and streams to one cluster's API server.

The way of a request: gate (breaker, budget, in-flight cap) → connection → write guard → send → answer → gate's report.
The guard runs after everything that can wait, so that a permit is judged at the moment of sending (law 6e).
"""

import asyncio
import contextlib
import email.utils
import logging
from collections.abc import AsyncGenerator, Mapping
from urllib.parse import quote

from raycp.base.clock import Clock
from raycp.kube.breaker import Breaker
from raycp.kube.budget import LIVE, Budget
from raycp.kube.connect import ConnectSpec
from raycp.kube.connection import LineStream, Response
from raycp.kube.credentials import Credentials
from raycp.kube.discovery import Discovery
from raycp.kube.errors import ApiError, ConnectError, Unreachable, api_error
from raycp.kube.gate import Gate, TokenSource
from raycp.kube.guard import WriteGuard
from raycp.kube.objects import JSON, ObjectCalls, Query
from raycp.kube.transport import Pool

log = logging.getLogger("raycp.kube")

_READS = frozenset({"GET"})
_CONNECT_SECONDS = 10.0
_SKEW_SECONDS = 60.0
_WRITE_IDLE_SECONDS = 20.0  # a write goes over a connection that was in use this recently


class ClusterClient(ObjectCalls):
    """One cluster. Make it with ``connect``. Safe for use by many tasks of one event loop."""

    def __init__(self, spec: ConnectSpec, clock: Clock, credentials: Credentials) -> None:
        self.name = spec.name
        self.spec = spec
        self.write_guard: WriteGuard | None = None
        """asked immediately before each write is sent; see ``raycp.kube.guard``"""
        self.skew = 0.0
        """seconds that the server's wall clock is ahead of ours, by its ``Date`` header (1 s resolution)"""
        self._clock = clock
        self._credentials = credentials
        self._reloading: asyncio.Task[bool] | None = None
        self._pool = Pool(credentials.target)
        self._skew_due = 0.0
        self._prefix = b""
        self._build_prefix()
        budget = Budget(clock, spec.qps, spec.burst)
        self.gate = Gate(spec.name, clock, spec.max_in_flight, budget, Breaker(clock, spec.breaker, on_change=self._tell_breaker))
        self.discovery = Discovery(spec.name, self._fetch, clock)

    def __repr__(self) -> str:
        return f"ClusterClient({self.name!r}, {self._credentials.target!r})"

    # -- life

    @classmethod
    async def connect(cls, spec: ConnectSpec, clock: Clock, *, probe: bool = True) -> "ClusterClient":
        """A client whose credentials are loaded and, with ``probe``, whose server has answered.

        Raises ``ConnectError`` with a remedy: missing file or context, unreachable server, untrusted CA, refused
        credentials.
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
        """Drop all connections; requests under way end with ``Unreachable``."""
        await self.gate.close()
        await self._pool.close()

    @property
    def budget(self) -> TokenSource | None:
        """The client budget; another source where it is shared with other processes (a worker's client)."""
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
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        priority: int = LIVE,
        guard: WriteGuard | None = None,
    ) -> Response:
        """One request; ``verb`` is the HTTP method. ``timeout`` in seconds covers all waiting (default: the spec's).

        ``guard`` replaces the client's ``write_guard`` for this one. Raises ``ApiError``, ``Unreachable``
        (``CircuitOpen``, ``Throttled``), ``Fenced``. A read is tried once more on a fresh connection when a kept one
        turns out dead; a write never is.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.spec.timeout if timeout is None else timeout)
        if self._credentials.due(self._clock.now()):
            await self._reload()
        gate = self.gate
        await gate.enter(priority, deadline - loop.time())
        error: BaseException | None = None
        try:
            for attempt in (1, 2):
                authorization = self._prefix
                try:
                    return await self._exchange(verb, path, body, query, content_type, headers, deadline, guard)
                except ApiError as failed:
                    # 401 means that nothing was done: try again if newer credentials are there now.
                    if failed.status == 401 and attempt == 1 and await self._renewed(authorization):
                        continue
                    raise
            raise AssertionError("unreachable")
        except BaseException as failed:
            error = failed
            raise
        finally:
            gate.leave()
            gate.report(error)

    async def _exchange(
        self,
        verb: str,
        path: str,
        body: bytes | None,
        query: Query | None,
        content_type: str,
        headers: Mapping[str, str] | None,
        deadline: float,
        guard: WriteGuard | None,
    ) -> Response:
        loop = asyncio.get_running_loop()
        pool = self._pool
        reading = verb in _READS
        max_idle = 80.0 if reading else _WRITE_IDLE_SECONDS
        fresh = False
        while True:
            connection = await pool.acquire(min(_CONNECT_SECONDS, max(0.0, deadline - loop.time())), fresh=fresh, max_idle=max_idle)
            try:
                remaining = deadline - loop.time()
                guard = guard or self.write_guard
                if not reading and guard is not None:
                    stamp = guard()
                    headers = {**headers, **stamp.headers} if headers else stamp.headers
                    if stamp.budget is not None:
                        remaining = min(remaining, stamp.budget)
                        query = {**(query or {}), "timeout": f"{max(1, int(stamp.budget * 1000) - 1)}ms"}
                if remaining <= 0:
                    raise Unreachable(f"no time left for {verb} {path}", sent=False, timed_out=True)
                reused = connection.used > 0
                answer = await connection.send(self._payload(verb, path, body, query, content_type, headers), remaining)
            except Unreachable as failed:
                if reading and failed.sent and reused and getattr(failed, "no_bytes", False) and not failed.timed_out:
                    fresh = True  # the server had closed the kept connection
                    continue
                failed.args = (f"{verb} {path}: {failed}",)
                raise
            except BaseException:
                connection.close()  # cancelled between question and answer, or fenced
                raise
            assert isinstance(answer, Response)
            pool.release(connection)
            if answer.status >= 400:
                raise api_error(answer.status, answer.body, answer.headers.get("retry-after"), f"{verb} {path}")
            if loop.time() >= self._skew_due:
                self._note_skew(answer.headers.get("date"), loop.time())
            return answer

    async def stream(
        self,
        path: str,
        query: Query | None = None,
        *,
        timeout: float | None = None,
        idle_timeout: float | None = None,
        accept: str = JSON,
    ) -> AsyncGenerator[list[bytes], None]:
        """Lines of a streaming GET (a watch, a log), as many at once as have arrived.

        ``timeout`` bounds the wait for the answer's head; ``idle_timeout`` the silence between bytes. Ends when the
        server ends the answer; raises ``ApiError`` and ``Unreachable``. Streams have connections of their own,
        outside the in-flight cap, and pass an open breaker (a reflector's backoff is its own), to which they report.
        """
        if self._credentials.due(self._clock.now()):
            await self._reload()
        limit = self.spec.timeout if timeout is None else timeout
        for attempt in (1, 2):
            authorization = self._prefix
            try:
                connection = await self._pool.acquire(min(_CONNECT_SECONDS, limit), fresh=True)
                payload = self._payload("GET", path, None, query, JSON, {"Accept": accept} if accept != JSON else None)
                try:
                    answer = await connection.send(payload, limit, stream=True)
                except asyncio.CancelledError:
                    connection.close()
                    raise
            except Unreachable as failed:
                self.gate.report(failed)
                failed.args = (f"GET {path}: {failed}",)
                raise
            if isinstance(answer, LineStream):
                break
            self._pool.release(connection)
            error = api_error(answer.status, answer.body, answer.headers.get("retry-after"), f"GET {path}")
            if answer.status == 401 and attempt == 1 and await self._renewed(authorization):
                continue
            self.gate.report(error)
            raise error
        assert isinstance(answer, LineStream)
        self.gate.report(None)
        try:
            async with contextlib.aclosing(answer.batches(idle_timeout)) as batches:
                async for lines in batches:
                    yield lines
        finally:
            if answer.done:
                self._pool.release(connection)
            else:
                connection.close()

    # -- inside

    async def _fetch(self, path: str) -> bytes:
        return (await self.request("GET", path)).body

    def _build_prefix(self) -> None:
        target, authorization = self._credentials.target, self._credentials.authorization
        lines = [f" HTTP/1.1\r\nHost: {target.authority}", f"User-Agent: {self.spec.user_agent}"]
        if authorization:
            lines.append(f"Authorization: {authorization}")
        self._prefix = "\r\n".join(lines).encode("latin-1") + b"\r\n"
        self._base = target.base

    def _payload(
        self,
        verb: str,
        path: str,
        body: bytes | None,
        query: Query | None,
        content_type: str,
        headers: Mapping[str, str] | None,
    ) -> bytes:
        """Head and body in one piece: one TLS record, one system call."""
        head = f"{verb} {self._base}{path}?{encode_query(query)}" if query else f"{verb} {self._base}{path}"
        if not head.isascii() or any(c in head[len(verb) + 1 :] for c in " \r\n"):
            raise ValueError(f"path {path!r} holds characters that a URL can't")
        parts = [head.encode(), self._prefix]
        accept = JSON
        if headers:
            for key, value in headers.items():
                if key == "Accept":
                    accept = value
                elif "\n" in value or "\r" in value:
                    raise ValueError(f"header {key} holds a line break")
                else:
                    parts.append(f"{key}: {value}\r\n".encode("latin-1"))
        if body is None:
            parts.append(f"Accept: {accept}\r\n\r\n".encode())
        else:
            parts.append(f"Accept: {accept}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            parts.append(body)
        return b"".join(parts)

    async def _renewed(self, used: bytes) -> bool:
        """After a 401: whether other credentials than those ``used`` are there now."""
        return self._prefix != used or await self._reload()

    async def _reload(self) -> bool:
        """Re-read credentials, once for all requests that wait for it."""
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload_once())
        return await asyncio.shield(self._reloading)

    async def _reload_once(self) -> bool:
        # In use before the task is done: who comes between its end and its waiters' turn must not reload again.
        changed = await self._credentials.reload()
        if changed:
            self._build_prefix()
            if self._pool.target != self._credentials.target:
                self._pool.retarget(self._credentials.target)
            log.info("credentials of cluster %r were renewed", self.name)
        return changed

    def _note_skew(self, date: str | None, now: float) -> None:
        self._skew_due = now + _SKEW_SECONDS
        if date:
            with contextlib.suppress(ValueError, TypeError):
                ahead = email.utils.parsedate_to_datetime(date).timestamp() + 0.5 - self._clock.wall()
                self.skew = ahead if abs(ahead) > 1.0 else 0.0  # less is within the header's resolution

    def _tell_breaker(self, old: str, new: str, reason: str) -> None:
        log.warning("cluster %r: breaker %s -> %s%s", self.name, old, new, f" ({reason})" if reason else "")

    async def _probe(self) -> None:
        where = self._credentials.target.authority
        try:
            await self.request("GET", "/version", timeout=min(self.spec.timeout, _CONNECT_SECONDS))
        except ApiError as error:
            if error.status == 401:
                raise ConnectError(
                    self.name,
                    f"{where} refuses the credentials (401)",
                    "The token or client certificate has expired or is of another cluster: renew it",
                ) from None
            if error.status in (403, 404):  # reachable; /version itself may be forbidden
                return
            raise ConnectError(
                self.name,
                f"{where} answers {error.status} {error.reason}",
                "Is it a Kubernetes API server, and healthy?",
            ) from None
        except Unreachable as error:
            text = str(error).removeprefix("GET /version: ")
            raise ConnectError(self.name, text, _remedy(text)) from None


def encode_query(query: Query) -> str:
    """``a=1&force=true``; values are percent-encoded where they need it."""
    return "&".join(f"{key}={_text(value)}" for key, value in query.items())


def _text(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if text.isascii() and text.isalnum() else quote(text, safe="-._~")


def _remedy(text: str) -> str:
    if "not trusted" in text:
        return (
            "The CA in the config did not sign the server's certificate: give the right one (or, for a test, insecureSkipTlsVerify)"
        )
    if "refused" in text:
        return "Nothing listens there: is the server up, and the port right?"
    if "TLS" in text:
        return "Is this an https port?"
    if "HTTP" in text:
        return "Is this a Kubernetes API server's port, and https?"
    if "Name or service" in text or "resolution" in text or "nodename" in text:
        return "The host name does not resolve on this node"
    return "Check address, firewall and routes from this node"
