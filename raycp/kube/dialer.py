"""Opens one connection: TCP, an HTTP proxy where one is configured, TLS, socket options."""

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from raycp.kube.connection import HttpChannel
from raycp.kube.errors import Unreachable
from raycp.kube.target import Target

_KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))
_HEAD = 1 << 16  # bytes of a proxy's answer
_USER_TIMEOUT_MS = 30_000  # the kernel drops a connection whose sent bytes stay unacknowledged for this long


async def dial(target: Target, timeout: float, on_close: Callable[[HttpChannel], None]) -> HttpChannel:
    """A connection to ``target`` within ``timeout`` seconds. Raises ``Unreachable`` (``sent`` False) with the cause."""
    loop = asyncio.get_running_loop()
    where = target.authority

    def make() -> HttpChannel:
        return HttpChannel(loop, on_close)

    try:
        async with asyncio.timeout(timeout):
            if target.proxy:
                connection = await _dial_through_proxy(loop, target, target.proxy, make)
            else:
                _, connection = await loop.create_connection(
                    make, target.host, target.port, ssl=target.tls, server_hostname=target.server_hostname
                )
    except TimeoutError:
        raise Unreachable(f"cannot connect to {where} within {timeout:.3g} s", sent=False, timed_out=True) from None
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(f"TLS to {where}: certificate not trusted: {error.verify_message}", sent=False) from error
    except ssl.SSLError as error:
        raise Unreachable(f"TLS to {where} failed: {error.reason or error}", sent=False) from error
    except ConnectionRefusedError as error:
        raise Unreachable(f"connection to {where} refused", sent=False, refused=True) from error
    except OSError as error:
        text = error.strerror or str(error) or type(error).__name__
        raise Unreachable(f"cannot connect to {where}: {text}", sent=False, refused="refused" in str(error).lower()) from error
    except Exception as error:  # a host name that IDNA refuses, a proxy with a port that is none, ...
        raise Unreachable(f"cannot connect to {where}: {type(error).__name__}: {error}", sent=False) from error
    _tune(connection.socket)
    return connection


def _tune(sock: socket.socket | None) -> None:
    if sock is None:
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    except OSError:  # the transport is not over TCP
        pass


class _Tunnel(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT. The server sends nothing through the tunnel before the client does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answered: asyncio.Future[bytes] = loop.create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if len(self._head) > _HEAD and not self.answered.done():
            self.answered.set_exception(OSError("the proxy answers without end"))
        if b"\r\n\r\n" in self._head and not self.answered.done():
            self.answered.set_result(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(OSError("the proxy closed the connection"))


async def _dial_through_proxy(
    loop: asyncio.AbstractEventLoop, target: Target, proxy: str, make: Callable[[], HttpChannel]
) -> HttpChannel:
    """An HTTP CONNECT tunnel, then TLS inside it. Credentials in the proxy's URL become Proxy-Authorization."""
    url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise OSError(f"proxy scheme {url.scheme!r} is not supported (http and https are)")
    secure = url.scheme == "https"
    transport: asyncio.Transport
    transport, tunnel = await loop.create_connection(
        lambda: _Tunnel(loop), url.hostname, url.port or (443 if secure else 80), ssl=True if secure else None
    )
    try:
        head = f"CONNECT {target.authority} HTTP/1.1\r\nHost: {target.authority}\r\n"
        if url.username:
            pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
            head += f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
        transport.write((head + "\r\n").encode())
        answer = await tunnel.answered
        if answer.split(b" ", 2)[1:2] != [b"200"]:
            raise OSError(f"the proxy refused the tunnel: {answer[:200].splitlines()[0].decode('latin-1')}")
        connection = make()
        if target.tls is None:
            transport.set_protocol(connection)
        else:
            upgraded = await loop.start_tls(transport, connection, target.tls, server_hostname=target.server_hostname)
            assert upgraded is not None
            transport = upgraded
    except BaseException:
        transport.abort()
        raise
    connection.connection_made(transport)
    return connection
