"""Ports for what is started beside us."""

import contextlib
import random
import socket


def free_port() -> int:
    """A port that is free, and below those that outgoing connections are given: one of them could have it before it is used.

    Raises ``OSError`` where there is none.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise OSError("none of a hundred ports between 20000 and 32000 is free")
