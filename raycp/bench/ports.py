"""Ports for child processes."""

import contextlib
import random
import socket

_given: set[int] = set()


def free_port() -> int:
    """A free port below the ephemeral range, so that no outgoing connection takes it before it is used. No two calls in a
    process return the same one, since what the first is for may not listen yet.

    Raises ``OSError`` if there is none.
    """
    left = sorted(set(range(20_000, 32_000)) - _given)
    for port in random.sample(left, min(len(left), 100)):
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise OSError("none of a hundred ports between 20000 and 32000 is free")
