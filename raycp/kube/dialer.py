"""Opens one connection: TCP, a proxy where one is configured, TLS, socket options."""

import asyncio
import socket
import ssl
from collections.abc import Callable

from raycp.kube.connection import HttpChannel
from raycp.kube.errors import Unreachable
from raycp.kube.proxies import shown_proxy
from raycp.kube.target import Target
from raycp.kube.tunnel import dial_through_proxy

_KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))
_USER_TIMEOUT_MS = 30_000  # the kernel drops a connection whose sent bytes stay unacknowledged for this long


async def dial(target: Target, timeout: float, on_close: Callable[[HttpChannel], None]) -> HttpChannel:
    """A connection to ``target`` within ``timeout`` seconds. Raises ``Unreachable`` (``sent`` False) with the cause."""
    loop = asyncio.get_running_loop()
    where = target.authority + (f" through the proxy {shown_proxy(target.proxy)}" if target.proxy else "")

    def make() -> HttpChannel:
        return HttpChannel(loop, on_close)

    try:
        async with asyncio.timeout(timeout):
            if target.proxy:
                connection = await dial_through_proxy(loop, target, target.proxy, make)
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
