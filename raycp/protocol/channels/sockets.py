"""Options of the sockets of channels."""

import socket

TLS_CLOSING = 1.0
"""Seconds for which the end of a connection waits for the other end to confirm it."""

_KEEP_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds of silence, seconds between probes, probes: a connection that is kept for later must not be dead by then."""


def tuned(made: socket.socket) -> socket.socket:
    """Without delay, and with keep-alive."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
