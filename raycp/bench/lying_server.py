"""An HTTPS server that passes for a small API server until it is told to lie: then lists and watches get answers of one ``Lie``.

As a process it prints its kubeconfig as a JSON line, takes names of lies (or an empty line: none) from its standard input, and
exits with its parent (end of stdin).
"""

import asyncio
import base64
import contextlib
import gzip
import itertools
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from raycp.embedded.tls import Authority, server_context

PIECE = b"x" * 16_384
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n\r\n"
_numbers = itertools.count(1)


class Exchange:
    """One request for objects: ``watch`` or list. What is written without end ends with the client's connection."""

    def __init__(self, writer: asyncio.StreamWriter, *, watch: bool) -> None:
        self.watch = watch
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Raises ``OSError`` when the client has gone."""
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(0)  # drain may not wait, and that the client has gone is noticed by the loop

    async def chunk(self, data: bytes) -> None:
        """See ``send``."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def whole(self, body: bytes, head: bytes = JSON) -> None:
        """An answer with its length."""
        await self.send(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))


Lie = Callable[[Exchange], Awaitable[None]]


def thing() -> dict[str, Any]:
    """A ConfigMap like no other."""
    number = next(_numbers)
    meta = {"name": f"x-{number}", "namespace": "default", "uid": f"u-{number}", "resourceVersion": str(10_000_000 + number)}
    labels = {"labels": {"bench": "work"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta | labels, "data": {"x": "y" * 2000}}


def listed(items: list[dict[str, Any]], **meta: str) -> bytes:
    """A list."""
    meta = {"resourceVersion": str(10_000_000 + next(_numbers)), **meta}
    return json.dumps({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": meta, "items": items}).encode()


async def truth(to: Exchange) -> None:
    """No objects, and no events."""
    if to.watch:
        await to.send(CHUNKED)
        await silence(to)
    else:
        await to.whole(listed([]))


async def expired(to: Exchange) -> None:
    """A watch must begin anew, with a list."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"}
    await to.whole(json.dumps(status).encode(), JSON.replace(b"200 OK", b"410 Gone"))


async def forever(to: Exchange, head: bytes, piece: Callable[[], bytes], *, chunked: bool = True) -> None:
    """``head``, then pieces until the client goes."""
    await to.send(head)
    while True:
        await (to.chunk(piece()) if chunked else to.send(piece()))


def of_list(lie: Lie) -> Lie:
    """Lists get the lie, watches end."""
    return lambda to: expired(to) if to.watch else lie(to)


def of_watch(lie: Lie) -> Lie:
    """Watches get the lie, lists are empty."""
    return lambda to: lie(to) if to.watch else truth(to)


async def silence(to: Exchange) -> None:
    """Nothing more, until the connection ends."""
    await asyncio.Event().wait()


async def trickle(to: Exchange) -> None:
    """A byte a second."""
    await to.send(CHUNKED)
    while True:
        await to.chunk(b" ")
        await asyncio.sleep(1.0)


def _event() -> bytes:
    return json.dumps({"type": "ADDED", "object": thing()}).encode() + b"\n"


_BOMB = gzip.compress(bytes(64 << 20))
_HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
_GZIP = JSON + b"Content-Encoding: gzip\r\n"
_STATUS = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Unauthorized", "code": 401, "message": "no"}

LIES: dict[str, Lie] = {
    "a header without end": lambda to: forever(to, JSON + b"X-Long: ", lambda: PIECE, chunked=False),
    "headers without end": lambda to: forever(to, JSON, lambda: b"X-%d: %b\r\n" % (next(_numbers), PIECE[:1000]), chunked=False),
    "interim answers without end": lambda to: forever(to, b"", lambda: b"HTTP/1.1 102 Processing\r\n\r\n" * 100, chunked=False),
    "a body without end": of_list(lambda to: forever(to, CHUNKED, lambda: PIECE)),
    "items without end": of_list(
        lambda to: forever(to, CHUNKED + b"1\r\n{\r\n", lambda: b'"items":[' + json.dumps(thing()).encode() + b'],"x":')
    ),
    "pages without end": of_list(lambda to: to.whole(listed([thing() for _ in range(50)], **{"continue": str(next(_numbers))}))),
    "a line without end": of_watch(lambda to: forever(to, CHUNKED, lambda: PIECE)),
    "events without end": of_watch(lambda to: forever(to, CHUNKED, lambda: b"".join(_event() for _ in range(20)))),
    "no objects in events": of_watch(lambda to: forever(to, CHUNKED, lambda: b'{"type":"ADDED","object":7}\n' * 100)),
    "a compressed bomb": of_list(lambda to: to.whole(_BOMB, _GZIP)),
    "10 000 levels": of_list(lambda to: to.whole(b'{"items":' + b"[" * 10_000 + b"]" * 10_000 + b"}")),
    "a truncated list": of_list(lambda to: to.whole(listed([thing()])[:-20])),
    "html": of_list(lambda to: to.whole(_HTML, JSON.replace(b"application/json", b"text/html"))),
    "a redirect": lambda to: to.whole(_HTML, b"HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\n"),
    "unauthorized": lambda to: to.whole(json.dumps(_STATUS).encode(), JSON.replace(b"200 OK", b"401 Unauthorized")),
    "silence": of_list(silence),
    "a byte a second": of_list(trickle),
}
"""What a server may answer to requests for objects. Each ends with its connection."""


class LyingServer:
    """``lie`` is the name of one of ``LIES``, or empty. ``told`` counts the answers that were lies."""

    def __init__(self) -> None:
        self.lie = ""
        self.told = 0
        self.kubeconfig = ""
        self.url = ""
        self._authority = Authority()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port of the loopback interface."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=server_context(self._authority, "127.0.0.1"))
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        cluster = {
            "server": self.url,
            "certificate-authority-data": base64.b64encode(self._authority.pem.encode()).decode(),
        }
        names = {"cluster": "c", "user": "u"}
        self.kubeconfig = json.dumps(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": names}],
            }
        )  # fmt: skip

    @property
    def ca_pem(self) -> str:
        """The authority of its certificate."""
        return self._authority.pem

    def tell(self, lie: str) -> None:
        """From now on; open connections end, so that all is asked again."""
        self.lie = lie
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """End all connections."""
        assert self._server is not None
        self._server.close()
        self.tell("")
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while request := await reader.readline():
                method, target, _ = request.decode("latin-1").split(" ", 2)
                length = 0
                while (line := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = line.decode("latin-1").partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                await reader.readexactly(length)
                await self._answer(writer, method, target)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or is to come again
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter, method: str, target: str) -> None:
        url = urlsplit(target)
        query = parse_qs(url.query)
        to = Exchange(writer, watch=query.get("watch", [""])[0] in ("1", "true"))
        if "sendInitialEvents" in query:
            await to.whole(b'{"kind":"Status","status":"Failure","code":422}', JSON.replace(b"200 OK", b"422 Invalid"))
        elif url.path in KNOWN:
            await to.whole(json.dumps(KNOWN[url.path]).encode())
        elif method == "GET" and url.path.rpartition("/")[2] in ("configmaps", "pods"):
            self.told += bool(self.lie)
            await (LIES[self.lie] if self.lie else truth)(to)
        else:
            await to.whole(b'{"kind":"Status","status":"Failure","code":404}', JSON.replace(b"200 OK", b"404 Not Found"))


_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
KNOWN: dict[str, Any] = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0", "platform": "linux/amd64"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1/namespaces/kube-system": {
        "kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "kube-system", "uid": "lies", "resourceVersion": "1"},
    },
    "/api/v1": {
        "kind": "APIResourceList", "groupVersion": "v1",
        "resources": [
            {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": _VERBS}
            for name, kind in (("configmaps", "ConfigMap"), ("pods", "Pod"))
        ],
    },
}  # fmt: skip
"""Answers that are always true."""


async def main() -> None:
    """See the module."""
    server = LyingServer()
    await server.start()
    print(json.dumps({"kubeconfig": server.kubeconfig}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with contextlib.suppress(asyncio.CancelledError):
        while line := await reader.readline():
            server.tell(line.decode().strip())
    await server.stop()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
