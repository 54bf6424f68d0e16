"""Reaches a server through a proxy: HTTP CONNECT, SOCKS5 (RFC 1928, RFC 1929), or no tunnel at all for a server without TLS.

As in Go's net/http, an https proxy has to show a certificate that is good for the API server: one of the cluster's CA.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import SplitResult

from raycp.kube.connection import HttpChannel
from raycp.kube.proxies import parse_proxy, proxy_authorization, proxy_login, proxy_port
from raycp.kube.target import Target

_HEAD = 1 << 16  # bytes of a proxy's answer

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)

_SOCKS_ERRORS = {
    1: "it failed",
    2: "its rules forbid it",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the connection was refused",
    6: "the time to live has expired",
    7: "it does not know the command",
    8: "it does not know the type of address",
}


async def dial_through_proxy(
    loop: asyncio.AbstractEventLoop, target: Target, proxy: str, make: Callable[[], HttpChannel]
) -> HttpChannel:
    """A connection to ``target``. Raises ``OSError`` and ``ssl.SSLError``; the caller has a deadline."""
    url = parse_proxy(proxy)
    if target.forwarded:
        return (await _connect(loop, target, url, make))[1]
    transport, reader = await _connect(loop, target, url, lambda: _ProxyReader(loop))
    try:
        if url.scheme.startswith("socks5"):
            await _socks(transport, reader, target, url)
        else:
            await _http_connect(transport, reader, target, proxy)
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


async def _connect(
    loop: asyncio.AbstractEventLoop, target: Target, url: SplitResult, make: Callable[[], _Protocol]
) -> tuple[asyncio.Transport, _Protocol]:
    host, port = str(url.hostname), proxy_port(url)
    if url.scheme != "https":
        return await loop.create_connection(make, host, port)
    other = target.server_hostname if target.server_hostname != target.host else None  # tls-server-name
    tls = target.tls or ssl.create_default_context()
    return await loop.create_connection(make, host, port, ssl=tls, server_hostname=other or host)


class _ProxyReader(asyncio.Protocol):
    """Reads a proxy's answers. The server sends nothing through the tunnel before the client does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._read = b""
        self._lost = False
        self._more: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self._read += data
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._wake()

    async def exactly(self, count: int) -> bytes:
        """Raises ``OSError``."""
        while len(self._read) < count:
            await self._wait()
        found, self._read = self._read[:count], self._read[count:]
        return found

    async def until(self, end: bytes) -> bytes:
        """Raises ``OSError``."""
        while end not in self._read:
            if len(self._read) > _HEAD:
                raise OSError("the proxy answers without end")
            await self._wait()
        found, self._read = self._read, b""
        return found

    async def _wait(self) -> None:
        if self._lost:
            raise OSError("the proxy closed the connection")
        self._more = self._loop.create_future()
        await self._more

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)


async def _http_connect(transport: asyncio.Transport, reader: _ProxyReader, target: Target, proxy: str) -> None:
    """Credentials in the proxy's URL become Proxy-Authorization."""
    lines = [f"CONNECT {target.authority} HTTP/1.1", f"Host: {target.authority}", *proxy_authorization(proxy)]
    transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    answer = await reader.until(b"\r\n\r\n")
    if answer.split(b" ", 2)[1:2] != [b"200"]:
        raise OSError(f"the proxy refused the tunnel: {answer[:200].splitlines()[0].decode('latin-1')}")


async def _socks(transport: asyncio.Transport, reader: _ProxyReader, target: Target, url: SplitResult) -> None:
    """The proxy resolves the server's name."""
    login = proxy_login(url)
    transport.write(b"\x05\x01\x00" if login is None else b"\x05\x02\x00\x02")
    version, method = await reader.exactly(2)
    if version != 5:
        raise OSError("the proxy does not speak SOCKS5")
    if method == 2 and login is not None:
        parts = [part.encode()[:255] for part in login]
        transport.write(b"\x01" + b"".join(bytes([len(part)]) + part for part in parts))
        if (await reader.exactly(2))[1] != 0:
            raise OSError("the proxy refused the name and password of its URL")
    elif method != 0:
        raise OSError("the proxy wants a login" if login is None else "the proxy takes no name and password")
    transport.write(b"\x05\x01\x00" + _socks_address(target.host) + target.port.to_bytes(2, "big"))
    _, code, _, kind = await reader.exactly(4)
    if code:
        raise OSError(f"the proxy refused the tunnel: {_SOCKS_ERRORS.get(code, f'code {code}')}")
    if kind not in (1, 3, 4):
        raise OSError("the proxy's answer is no SOCKS5")
    length = {1: 4, 4: 16}.get(kind) or (await reader.exactly(1))[0]
    await reader.exactly(length + 2)  # the address from which it connects is of no interest


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("idna") if not host.isascii() else host.encode()
        if len(name) > 255:
            raise OSError("the host name is too long for SOCKS5") from None
        return b"\x03" + bytes([len(name)]) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed
