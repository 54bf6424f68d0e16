"""A reverse proxy before an API server, over plain HTTP, which answers as proxies, gateways and login pages do, and the answers."""

import re
import ssl
from collections.abc import Callable
from typing import NamedTuple

import aiohttp
from aiohttp import web

from raycp.embedded.cluster import Endpoint

HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"


class Lie(NamedTuple):
    """An answer that no API server gives to the request."""

    status: int
    body: bytes
    kind: str = "application/json"
    location: str = ""


LIES = {
    "html": Lie(200, HTML, "text/html"),
    "redirect": Lie(302, HTML, "text/html", "https://login.example/"),
    "redirect without a body": Lie(301, b"", "text/html", "https://login.example/"),
    "not modified": Lie(304, b""),
    "empty": Lie(200, b""),
    "no content": Lie(204, b""),
    "truncated": Lie(200, b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x","resourceVer'),
    "null": Lie(200, b"null"),
    "a list": Lie(200, b"[]"),
    "a text": Lie(200, b'"ok"'),
    "an empty object": Lie(200, b"{}"),
    "a wrong type": Lie(200, b'{"kind":"ConfigMap","metadata":{"name":7,"resourceVersion":{},"uid":[]},"items":"x"}'),
    "another object": Lie(200, b'{"kind":"ConfigMap","metadata":{"name":"other","resourceVersion":"1","uid":"u"},"spec":{}}'),
    "an object without identity": Lie(200, b'{"kind":"ConfigMap","metadata":{"name":"raycp-t-leader"},"data":{}}'),
    "a success": Lie(200, b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}'),
    "invalid utf-8": Lie(200, b'{"kind":"ConfigMap","metadata":{"name":"\xff\xfe"}}'),
    "not a number": Lie(200, b'{"kind":"ConfigMap","metadata":NaN}'),
    "10 000 levels": Lie(200, b'{"kind":"ConfigMap","metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}"),
    "duplicate keys": Lie(200, b'{"metadata":{"name":"a"},"metadata":{"name":"b"}}'),
    "huge": Lie(200, b'"' + b"x" * (4 << 20) + b'"'),
    "not found, html": Lie(404, HTML, "text/html"),
    "not found, of nothing": Lie(404, b'{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"details":{}}'),
    "not found, of another": Lie(
        404, b'{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"details":{"name":"other","kind":"configmaps"}}'
    ),
    "unauthorized, html": Lie(401, HTML, "text/html"),
    "forbidden, html": Lie(403, HTML, "text/html"),
    "bad gateway": Lie(502, HTML, "text/html"),
    "a code of its own": Lie(999, HTML, "text/html"),
}


class LyingProxy:
    """``lie`` is told where ``about`` matches the path; ``closed``: nothing listens. ``told`` counts."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.lie: Lie | None = None
        self.about = ""
        self.only: Callable[[str], bool] = lambda verb: True
        self.told = 0
        self.port = 0
        self._endpoint = endpoint
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Listen; the second time on the same port."""
        context = ssl.create_default_context(cadata=self._endpoint.ca_pem)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), auto_decompress=False)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Nothing listens any more, and all connections break."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        lie = self.lie
        if lie is not None and re.search(self.about, request.path_qs) and self.only(request.method):
            self.told += 1
            headers = {"Location": lie.location} if lie.location else {}
            return web.Response(status=lie.status, body=lie.body, content_type=lie.kind, headers=headers)
        assert self._session is not None
        kept = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        # Without TLS no client sends credentials: such proxies know who asks, and ask in their name.
        kept.setdefault("Authorization", f"Bearer {self._endpoint.token}")
        body = await request.read()
        async with self._session.request(
            request.method, self._endpoint.server + request.path_qs, data=body or None, headers=kept, allow_redirects=False
        ) as answer:
            out = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    out.headers[name] = value
            await out.prepare(request)
            async for chunk in answer.content.iter_any():
                await out.write(chunk)
            await out.write_eof()
            return out
