"""A server that lies: it stands before an API server, and answers in its place what a test wants."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import aiohttp
import fleet_samples
import msgspec
from aiohttp import web
from inprocess import Stack, fleet_doc

from raycp.config.embedded import BadAnswerKind
from raycp.embedded.badanswers import BODIES
from raycp.kube import ConnectSpec

Rule = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""The answer to a request; None: what the real server answers."""


def said(entry: BadAnswerKind) -> web.Response:
    """The answer of this name."""
    kind, body = BODIES[entry]
    return web.Response(body=body, headers={"Content-Type": kind})


def status(code: int, reason: str, message: str = "", headers: dict[str, str] | None = None, **details: Any) -> web.Response:
    """An error as an API server answers it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message or reason}
    return web.json_response({**body, "details": details}, status=code, headers=headers)


async def lines(request: web.Request, *events: bytes) -> web.StreamResponse:
    """A watch with these lines, which ends after the last."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for event in events:
        await response.write(event + b"\n")
    return response


class HostileProxy:
    """``rule`` is asked first; ``upstream`` says where the real server is, once that is known. ``hits`` counts what ``rule``
    answered."""

    def __init__(self) -> None:
        self.rule: Rule | None = None
        self.upstream: Callable[[], ConnectSpec | None] = lambda: None
        self.hits = 0
        self.seen: list[tuple[str, str]] = []
        """(method, path and query) of each request"""
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession(auto_decompress=False)

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def spec(self, name: str, **change: Any) -> ConnectSpec:
        """How to reach the cluster through it."""
        fields = {"name": name, "mode": "direct", "server": self.url, "token": "t", "timeout": 5.0, **change}
        return ConnectSpec(**fields)

    def count(self, method: str, part: str) -> int:
        """Requests of that method whose path and query contain ``part``."""
        return sum(seen == method and part in path for seen, path in self.seen)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """What the real server answers."""
        there = self.upstream()
        if there is None or self._session is None:
            return status(503, "ServiceUnavailable", "the real server is not up yet")
        context = ssl.create_default_context(cadata=there.ca_pem)
        headers = {key: value for key, value in request.headers.items() if key.lower() in ("accept", "content-type")}
        headers["Authorization"] = f"Bearer {there.token}"
        body = await request.read()
        url = there.server + request.raw_path
        async with self._session.request(
            request.method, aiohttp.client.URL(url, encoded=True), data=body, headers=headers, ssl=context
        ) as found:
            kept = {key: value for key, value in found.headers.items() if key.lower() in ("content-type", "date", "retry-after")}
            answer = web.StreamResponse(status=found.status, headers=kept)
            await answer.prepare(request)
            async for chunk in found.content.iter_any():
                await answer.write(chunk)
            await answer.write_eof()
            return answer

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path))
        answer = await self.rule(request) if self.rule is not None else None
        if answer is not None:
            self.hits += 1
            return answer
        try:
            return await self.forward(request)
        except (aiohttp.ClientError, ConnectionError) as error:
            return status(502, "BadGateway", repr(error))


@contextlib.asynccontextmanager
async def behind(
    cluster: str, uses: Iterable[str], homes: dict[str, str], embedded: dict[str, Any] | None = None, **spec: Any
) -> AsyncIterator[tuple[Stack, HostileProxy]]:
    """A ``Stack`` of which one cluster is reached through a ``HostileProxy``, up and synced."""
    fleet_samples.reset()
    proxy = HostileProxy()
    await proxy.start()
    made = Stack(fleet_doc(homes, list(uses), embedded, **spec), homes)
    proxy.upstream = lambda: made.right.get(cluster)
    try:
        await made.start(1, {cluster: proxy.spec(cluster)})
        await made.synced(seconds=30.0)
        yield made, proxy
    finally:
        await made.stop()
        await proxy.stop()


async def reconnect(fleet: Stack, cluster: str, number: int) -> None:
    """Make all members connect to the cluster anew."""
    fleet.connects[cluster] = msgspec.structs.replace(fleet.connects[cluster], user_agent=f"raycp-{number}")
    await fleet.configure()


def watch_line(kind: str, obj: dict[str, Any]) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": obj}).encode()
