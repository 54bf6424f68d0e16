"""One HTTP/1.1 connection: an ``asyncio.Protocol`` over llhttp (httptools), one exchange at a time.

It writes a prepared request in one piece and collects the answer. Cookies, redirects, multipart bodies and per-request context
objects are left out, because the client of an API server needs none of them.
"""

import asyncio
import socket
from collections.abc import Callable

import httptools

from raycp.kube.errors import Unreachable
from raycp.kube.limits import AnswerLimits, ReceivedBytes, too_large

_STREAM_HIGH = 1 << 20  # unread bytes of a stream above which reading from the socket pauses


class Response:
    """An answer. ``headers`` has lower-case names; of repeated headers the last one counts. ``content_type`` is in lower case,
    empty if the server sent none.
    """

    __slots__ = ("_headers", "_raw_headers", "body", "content_type", "status")

    def __init__(self, status: int, body: bytes, raw_headers: list[tuple[bytes, bytes]], content_type: bytes = b"") -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self._raw_headers = raw_headers
        self._headers: dict[str, str] | None = None

    @property
    def headers(self) -> dict[str, str]:
        if self._headers is None:
            self._headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in self._raw_headers}
        return self._headers

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"


class LineStream:
    """The body of a streaming answer: an async iterator over lists of lines, each all the lines that have arrived.

    Iteration raises ``Unreachable`` when the connection breaks, or when no byte arrives for ``idle_timeout`` seconds while the
    consumer waits. Reading pauses while the consumer is behind. One consumer at a time.
    """

    __slots__ = (
        "_connection",
        "_error",
        "_lines",
        "_longest",
        "_open",
        "_parts",
        "_paused",
        "_size",
        "_timer",
        "_waiter",
        "content_type",
        "date",
        "done",
        "idle_timeout",
        "last_bytes",
    )

    def __init__(
        self,
        connection: "HttpChannel",
        now: float,
        content_type: bytes = b"",
        longest: int = AnswerLimits().line,
        date: str | None = None,
    ) -> None:
        self.content_type = content_type
        self.date = date
        """of the server's clock, as its header says it"""
        self._connection = connection
        self._lines: list[bytes] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._open = 0
        """Bytes of the line that is not complete."""
        self._longest = longest
        self._paused = False
        self._waiter: asyncio.Future[list[bytes]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None
        self.idle_timeout: float | None = None
        self.done = False
        self.last_bytes = now

    def __aiter__(self) -> "LineStream":
        return self

    def __anext__(self) -> "asyncio.Future[list[bytes]]":
        # A future rather than a coroutine: a consumer that waits is resumed with the lines, not through a frame of this class.
        waiter: asyncio.Future[list[bytes]] = self._connection.loop.create_future()
        if self._lines:
            waiter.set_result(self._take())
        elif self.done:
            waiter.set_exception(self._error or StopAsyncIteration())
        else:
            self._waiter = waiter
            if self.idle_timeout is not None and self._timer is None:
                self._timer = self._connection.loop.call_at(self.last_bytes + self.idle_timeout, self._check_idle)
        return waiter

    def feed(self, data: bytes, now: float) -> None:
        """Bytes of the body have arrived."""
        self.last_bytes = now
        self._size += len(data)
        if b"\n" not in data:
            self._parts.append(data)
            self._open += len(data)
            if self._open > self._longest:
                self._connection.fail(too_large("a line of the stream has", self._longest))
                return
        else:
            if self._parts:
                self._parts.append(data)
                data = b"".join(self._parts)
                self._parts.clear()
            lines = data.split(b"\n")
            tail = lines.pop()
            self._open = len(tail)
            if tail:
                self._parts.append(tail)
            self._lines.extend(line for line in lines if line)
        if not self._lines:
            return
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self._waiter = None
            waiter.set_result(self._take())
        elif self._size > _STREAM_HIGH and not self._paused:
            self._paused = True
            self._connection.pause()

    def finish(self, error: Exception | None) -> None:
        """The body has ended, with ``error`` where the connection broke."""
        self.done = True
        self._error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if error is None and self._parts:  # a last line without its newline
            self._lines.append(b"".join(self._parts))
            self._parts.clear()
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if self._lines:
            waiter.set_result(self._take())
        else:
            waiter.set_exception(error or StopAsyncIteration())

    def _take(self) -> list[bytes]:
        lines, self._lines = self._lines, []
        self._size = 0
        if self._paused:
            self._paused = False
            self._connection.resume()
        return lines

    def _check_idle(self) -> None:
        self._timer = None
        if self._waiter is None or self.idle_timeout is None:  # the next wait starts the timer again
            return
        loop = self._connection.loop
        due = self.last_bytes + self.idle_timeout
        if loop.time() + 0.001 < due:
            self._timer = loop.call_at(due, self._check_idle)
        else:
            text = f"stream stalled: no byte for {self.idle_timeout:g} s"
            self._connection.fail(Unreachable(text, sent=True, timed_out=True))


class HttpChannel(asyncio.Protocol):
    """Idle (``ready``), in one exchange, or closed. ``on_close`` is called once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_close: Callable[["HttpChannel"], None]) -> None:
        self.loop = loop
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Response | LineStream] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._largest = 0
        self._content_type = b""
        self._stream: LineStream | None = None
        self._want_stream = False
        self._got_bytes = False
        self._until_close = False
        self._status = 0
        self._framing = 0
        """Bytes since the last ones of a body: headers, trailers, chunk extensions, interim answers."""
        self.received = ReceivedBytes(AnswerLimits())
        """Of the client whose connection this is."""
        self.closed = False
        self.used = 0
        self.idle_since = 0.0
        self.generation = 0

    # -- called by pool and client

    @property
    def socket(self) -> socket.socket | None:
        """The underlying socket, to set options on."""
        return self._transport.get_extra_info("socket") if self._transport is not None else None

    @property
    def ready(self) -> bool:
        return not self.closed and self._waiter is None and self._stream is None

    def send(
        self, payload: bytes, timeout: float, *, stream: bool = False, largest: int = 0
    ) -> "asyncio.Future[Response | LineStream]":
        """Write one request. The future resolves to a ``Response``, or with ``stream`` to a ``LineStream`` if the status is below
        300.

        ``timeout`` in seconds bounds the whole answer; for a stream, only its headers. ``largest``: bytes of its body; 0 for those
        of a page. Raises ``Unreachable``.
        """
        assert self._transport is not None
        if self.closed:
            raise Unreachable("connection lost before the request was sent", sent=False)
        self.used += 1
        self._want_stream = stream
        self._largest = largest or self.received.limits.page
        self._framing = 0
        self._got_bytes = False
        self._waiter = waiter = self.loop.create_future()
        self._timer = self.loop.call_later(timeout, self._expire, timeout)
        self._transport.write(payload)
        return waiter

    def pause(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def close(self) -> None:
        """Drop the connection; a pending exchange fails with ``Unreachable``."""
        self.fail(Unreachable("connection closed by this client", sent=True))

    def fail(self, error: Unreachable) -> None:
        """Drop the connection; a pending exchange fails with ``error``."""
        if self.closed:
            return
        self._finish(error)
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "pause_reading")
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._got_bytes = True
        self._framing += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(Unreachable(f"the server does not speak HTTP/1.1: {error}", sent=True))
        except httptools.HttpParserUpgrade:
            self.fail(Unreachable("the server asked for a protocol upgrade", sent=True))
        if self._framing > self.received.limits.header and not self.closed:
            self._fail_header()

    def _fail_header(self) -> None:
        self.fail(too_large("the headers of the answer have", self.received.limits.header))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._until_close and exc is None and not self.closed:
            self.on_message_complete()  # a body that ends with the connection
        what = "connection lost" if exc is None else f"connection lost: {_describe(exc)}"
        what += " in the middle of an answer" if self._got_bytes else " before any answer"
        self._finish(Unreachable(what, sent=True, unanswered=not self._got_bytes))

    def _finish(self, error: Unreachable) -> None:
        if self.closed:
            return
        self.closed = True
        self._drop_body()
        self._cancel_timer()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.finish(error)
        self._on_close(self)

    def _expire(self, timeout: float) -> None:
        self.fail(Unreachable(f"no answer within {timeout:.3g} s", sent=True, timed_out=True))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- httptools callbacks

    def _drop_body(self) -> list[bytes]:
        body, self._body = self._body, []
        self.received.held -= self._size
        self._size = 0
        return body

    def on_message_begin(self) -> None:
        if self._waiter is None and self._stream is None:  # or the next request would get it, and each one the last one's answer
            self.fail(Unreachable("the server sent an answer without a request", sent=True))
        self._headers = []
        self._drop_body()
        self._content_type = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        if len(name) == 12 and name.lower() == b"content-type":
            self._content_type = value.lower()

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if sum([len(name) + len(value) for name, value in self._headers]) > self.received.limits.header:
            self._fail_header()  # they came in one piece with the body
            return
        names = [name.lower() for name, _ in self._headers]
        self._until_close = b"content-length" not in names and b"transfer-encoding" not in names and self._status not in (204, 304)
        if self._want_stream and 200 <= self._status < 300:  # an interim answer is no stream
            date = next((value.decode("latin-1") for name, value in self._headers if name.lower() == b"date"), None)
            self._stream = LineStream(self, self.loop.time(), self._content_type, self.received.limits.line, date)
            self._resolve(self._stream)

    def on_body(self, data: bytes) -> None:
        self._framing = 0
        if self._stream is not None:
            self._stream.feed(data, self.loop.time())
        elif not self.closed:
            self._body.append(data)
            received = self.received
            self._size += len(data)
            received.held += len(data)
            if self._size > self._largest:
                self.fail(too_large("the answer has", self._largest))
            elif received.held > received.most:
                self.fail(too_large("answers that are being received have", received.most))

    def on_message_complete(self) -> None:
        if self._status < 200:  # 100 Continue: the answer follows
            return
        self._until_close, self._framing = False, 0
        keep = self._parser.should_keep_alive()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.finish(None)
        else:
            body = self._drop_body()
            whole = body[0] if len(body) == 1 else b"".join(body)
            self._resolve(Response(self._status, whole, self._headers, self._content_type))
        if not keep and not self.closed:
            self.closed = True
            self._on_close(self)
            if self._transport is not None:
                self._transport.close()

    def _resolve(self, result: "Response | LineStream") -> None:
        self._cancel_timer()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(result)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
