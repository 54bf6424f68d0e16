"""HTTP/1.1 on an asyncio protocol.

A request that needs no waiting is answered inside ``data_received``, without task or future. A request that waits
(faults, webhooks, streams) becomes a task, and pipelined requests queue behind it. Bodies may be chunked, gzipped, or
announced with ``Expect: 100-continue``.
"""

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from email.utils import formatdate
from typing import Any, Protocol

import httptools

from raycp.embedded.intake import HEAD_SECONDS, HEADERS_LIMIT, WAITING_LIMIT, Heads, Intake

log = logging.getLogger(__name__)

_NO_PAGE = b"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\n"
"""No browser shows an answer as a page, or in one. ``Host`` needs no check: the certificate names this server, and every request
brings its credentials."""

_REASONS = {
    200: b"OK", 201: b"Created", 202: b"Accepted", 204: b"No Content", 301: b"Moved Permanently", 302: b"Found",
    304: b"Not Modified", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found",
    405: b"Method Not Allowed", 406: b"Not Acceptable", 409: b"Conflict", 410: b"Gone",
    413: b"Request Entity Too Large", 415: b"Unsupported Media Type", 422: b"Unprocessable Entity", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable",
    504: b"Gateway Timeout",
}  # fmt: skip
GZIP_FROM = 128 * 1024
PIECE = 256 * 1024


class HttpRequest:
    """One request. ``headers`` have lower-case names; ``pairs`` are all headers in order."""

    __slots__ = ("body", "connection", "headers", "keep_alive", "method", "pairs", "path", "query", "too_large")

    def __init__(self, connection: "HttpConnection") -> None:
        self.connection = connection
        self.method = ""
        self.path = ""
        self.query = ""
        self.headers: dict[bytes, bytes] = {}
        self.pairs: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.keep_alive = True
        self.too_large = False

    def header(self, name: bytes) -> str:
        """A header as text, or an empty string."""
        return self.headers.get(name, b"").decode("latin-1")


class HttpResponse:
    """An answer. ``headers`` are finished lines, each with its CRLF. ``cut``: the connection ends within the body (a fault)."""

    __slots__ = ("body", "content_type", "cut", "headers", "status")

    def __init__(
        self, status: int, body: bytes, content_type: str = "application/json", headers: bytes = b"", *, cut: bool = False
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.cut = cut


class Stream:
    """An answer of unknown length. ``start`` is called after its headers are sent, ``closed`` when the client disconnects.

    It writes with ``Connection.write`` and ends with ``Connection.finish_stream``.
    """

    content_type = "application/json"

    def start(self, connection: "HttpConnection") -> None:
        raise NotImplementedError

    def closed(self) -> None:
        raise NotImplementedError

    def writable(self) -> None:
        """The client reads again."""


Answer = HttpResponse | Stream | None
"""None: drop the connection without an answer (a fault)"""


class Handler(Protocol):
    """Answers requests. ``handle`` never raises."""

    max_body: int
    gzip: bool
    heads: Heads
    connections: set["HttpConnection"]

    def handle(self, request: HttpRequest) -> Answer | Coroutine[Any, Any, Answer]: ...
    def body_limit(self, request: HttpRequest) -> int: ...
    def wall(self) -> float: ...
    def certificate(self, transport: asyncio.BaseTransport) -> Any: ...


def header_line(name: str, value: str) -> bytes:
    """One header line; line breaks in the value are replaced."""
    return f"{name}: {value}\r\n".replace("\r\n", "\0").replace("\r", " ").replace("\n", " ").replace("\0", "\r\n").encode("utf-8")


class HttpConnection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.certificate: Any = None
        self.paused = False
        self._parser = httptools.HttpRequestParser(self)
        self._request = HttpRequest(self)
        self._url = b""
        self._intake = Intake(handler.heads)
        self._refused = False
        self._overflow = False
        self._reading = True
        self._patience: asyncio.TimerHandle | None = None
        self._body: bytes | bytearray = b""
        self._limit: int | None = None
        self._size = 0
        self._waiting: deque[HttpRequest] = deque()
        self._busy = False
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Event | None = None
        self._date = (0, b"")

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.certificate = self.handler.certificate(transport)
        self.handler.connections.add(self)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.handler.connections.discard(self)
        self._intake.close()
        self._head_came()
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.closed()
        if self._task is not None:
            self._task.cancel()
        if self._drained is not None:
            self._drained.set()

    def pause_writing(self) -> None:
        self.paused = True
        self._flow()

    def resume_writing(self) -> None:
        self.paused = False
        if self._drained is not None:
            self._drained.set()
        if self._stream is not None:
            self._stream.writable()
        self._serve_waiting()
        self._flow()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        intake = self._intake
        intake.before()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self._plain_refusal(400)
            return
        status = 431 if self._overflow else intake.fed(len(data), self._size)
        if status:
            self._plain_refusal(status)
        elif self._patience is None and intake.waiting:
            self._wait_for_head()

    def _wait_for_head(self) -> None:
        self._patience = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._impatient)

    def _impatient(self) -> None:
        self._refused = True
        self.transport.abort()

    def _head_came(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _flow(self) -> None:
        """Read no more while the client does not read its answers, or has too many requests waiting. A watch reads on, to notice
        the client's end."""
        wanted = len(self._waiting) < WAITING_LIMIT and not (self.paused and self._stream is None)
        if wanted is not self._reading and not self.transport.is_closing():
            self._reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    # ---- httptools

    def on_message_begin(self) -> None:
        self._intake.begun()
        self._request = HttpRequest(self)
        self._url = b""
        self._body = b""
        self._limit = None
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        if self._intake.in_body:
            return
        if len(request.pairs) >= HEADERS_LIMIT:
            self._overflow = True  # refused when the parser returns
            return
        name = name.lower()
        request.headers[name] = value
        request.pairs.append((name, value))

    def on_headers_complete(self) -> None:
        self._intake.head_complete()
        self._head_came()
        if self._request.headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, piece: bytes) -> None:
        if self._limit is None:
            self._limit = self.handler.body_limit(self._request)
        self._size += len(piece)
        if self._size <= self._limit:
            if not self._body:
                self._body = piece  # most bodies come in one piece
            else:
                if type(self._body) is bytes:
                    self._body = bytearray(self._body)
                self._body += piece

    def on_message_complete(self) -> None:
        self._intake.complete()
        if self._overflow:
            return
        request = self._request
        request.body = bytes(self._body)
        self._body = b""
        request.too_large = self._limit is not None and self._size > self._limit
        request.method = self._parser.get_method().decode("ascii")
        request.keep_alive = self._parser.should_keep_alive()
        if b"content-encoding" in request.headers and request.body:
            self._inflate(request)
        path, _, query = self._url.decode("latin-1").partition("?")
        if path.startswith("http"):  # absolute form
            path = "/" + path.split("/", 3)[3] if path.count("/") >= 3 else "/"
        request.path, request.query = path, query.partition("#")[0]
        if self._busy or self.paused:  # one read may bring thousands of requests: no answer is made before there is room for it
            self._waiting.append(request)
            self._flow()
        else:
            self._serve(request)

    def _inflate(self, request: HttpRequest) -> None:
        if request.headers[b"content-encoding"].strip().lower() in (b"gzip", b"x-gzip"):
            inflater = zlib.decompressobj(31)
            try:
                request.body = inflater.decompress(request.body, self.handler.max_body + 1)
            except zlib.error:
                return
            request.too_large = len(request.body) > self.handler.max_body

    # ---- answers

    def _serve(self, request: HttpRequest) -> None:
        answer = self.handler.handle(request)
        if isinstance(answer, HttpResponse):
            body = answer.body
            small = len(body) < GZIP_FROM or (len(body) <= PIECE * 4 and not self._compresses(request))
            if small:
                self._write_response(request, answer)
                return
            self._busy = True
            self._task = asyncio.get_running_loop().create_task(self._send_big(request, answer))
        elif isinstance(answer, Stream):
            self._begin_stream(request, answer)
        elif answer is None:
            self.transport.abort()
        else:
            self._busy = True
            self._task = asyncio.get_running_loop().create_task(self._wait_for(request, answer))

    async def _wait_for(self, request: HttpRequest, answer: Awaitable[Answer]) -> None:
        found = await answer
        if self.transport.is_closing():
            if isinstance(found, Stream):
                found.closed()
            return
        if isinstance(found, HttpResponse) and found.cut:
            self.transport.write(self._head(request, found) + found.body[: len(found.body) // 2])
            self.transport.close()
        elif isinstance(found, HttpResponse):
            await self._send_big(request, found)
        elif isinstance(found, Stream):
            self._begin_stream(request, found)
        else:
            self.transport.abort()

    async def _send_big(self, request: HttpRequest, answer: HttpResponse) -> None:
        """Send a large answer: compress it off the loop, or write it piece by piece as the client reads."""
        if len(answer.body) >= GZIP_FROM and self._compresses(request):
            loop = asyncio.get_running_loop()
            answer.body = await loop.run_in_executor(None, _gzip, answer.body)
            answer.headers += b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
        if len(answer.body) <= PIECE * 4:
            self._write_response(request, answer)
        else:
            self.transport.write(self._head(request, answer))
            view = memoryview(answer.body)
            for at in range(0, len(view), PIECE):
                if self.transport.is_closing():
                    return
                self.transport.write(bytes(view[at : at + PIECE]))
                if self.paused:
                    self._drained = asyncio.Event()
                    await self._drained.wait()
                    self._drained = None
            if not request.keep_alive:
                self.transport.close()
        self._next()

    def _compresses(self, request: HttpRequest) -> bool:
        accepted = request.headers.get(b"accept-encoding", b"")
        if not self.handler.gzip or b"gzip" not in accepted:
            return False
        # with a quality it is none of apiserver's: ``gzip;q=0`` refuses it (``negotiateContentEncoding``)
        return any(one.strip() == b"gzip" for one in accepted.split(b","))

    def _head(self, request: HttpRequest, answer: HttpResponse) -> bytes:
        status = answer.status
        if status in (204, 304):  # without a body, nor its length
            head = b"HTTP/1.1 %d %b\r\nCache-Control: no-cache, private\r\nDate: %b\r\n%b\r\n"
            return head % (status, _REASONS[status], self._now(), answer.headers)
        return (
            b"HTTP/1.1 %d %b\r\nCache-Control: no-cache, private\r\n%bContent-Type: %b\r\nDate: %b\r\n%b%b"
            b"Content-Length: %d\r\n\r\n"
            % (
                status,
                _REASONS.get(status, b"Unknown"),
                _NO_PAGE,
                answer.content_type.encode(),
                self._now(),
                answer.headers,
                b"" if request.keep_alive else b"Connection: close\r\n",
                len(answer.body),
            )
        )

    def _write_response(self, request: HttpRequest, answer: HttpResponse) -> None:
        head = self._head(request, answer)
        self.transport.write(head if request.method == "HEAD" else head + answer.body)
        if not request.keep_alive:
            self.transport.close()

    def _now(self) -> bytes:
        second = int(self.handler.wall())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]

    def _begin_stream(self, request: HttpRequest, stream: Stream) -> None:
        self._busy = True
        self._stream = stream
        self._flow()
        head = (
            b"HTTP/1.1 200 OK\r\nCache-Control: no-cache, private\r\n%bContent-Type: %b\r\nDate: %b\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        self.transport.write(head % (_NO_PAGE, stream.content_type.encode(), self._now()))
        stream.start(self)

    def finish_stream(self) -> None:
        """Send the last chunk; the connection can be reused."""
        if self._stream is not None:
            self._stream = None
            if not self.transport.is_closing():
                self.transport.write(b"0\r\n\r\n")
                self._next()

    def _next(self) -> None:
        self._busy = False
        self._task = None
        self._serve_waiting()
        self._flow()

    def _serve_waiting(self) -> None:
        while self._waiting and not self._busy and not self.paused and not self.transport.is_closing():
            self._serve(self._waiting.popleft())

    def _plain_refusal(self, status: int) -> None:
        self._refused = True
        if not self.transport.is_closing():
            text = b"%d %b" % (status, _REASONS[status])
            self.transport.write(
                b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (text, len(text), text)
            )
            self.transport.close()


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    return compressor.compress(body) + compressor.flush()


Factory = Callable[[], HttpConnection]
