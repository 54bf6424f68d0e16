"""Ports for child processes."""

import contextlib
import random
import socket


def free_port() -> int:
    """A free port below the ephemeral range, so that no outgoing connection takes it before it is used.

    Raises ``OSError`` if there is none.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise OSError("none of a hundred ports between 20000 and 32000 is free")
