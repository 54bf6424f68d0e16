"""By which names this server may be called.

It asks nobody who they are, so that any page in a browser that can reach it could read it, if the page's own name pointed to this
server's address (DNS rebinding: the browser takes both for one origin). Such a page comes with its own name in ``Host``. Names that
no stranger can have point to themselves: addresses, names of this host, of Services in a cluster, and those of the fleet file.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable

_LOCAL = ("localhost", ".localhost", ".svc", ".cluster.local")
"""The last three: as ends of names. ``localhost`` never leaves the host (RFC 6761); nobody can register the names of Services."""


RESOLVED_WITHIN = 1.0
"""Seconds."""


class KnownHosts:
    """``names``: further ones, such as ``own_names``; an entry that begins with a dot stands for all names that end so."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        known = [name.lower().rstrip(".") for name in (*_LOCAL, *names)]
        self._names = frozenset(name for name in known if name and not name.startswith("."))
        self._ends = tuple(name for name in known if name.startswith("."))

    def knows(self, host: str) -> bool:
        """Whether ``host``, a ``Host`` header with or without a port, is a name or an address of this server. An empty one is: no
        browser sends that."""
        name, bracket, _ = host.strip().removeprefix("[").partition("]")
        if not bracket:
            name = name.partition(":")[0]
        name = name.lower().rstrip(".")
        if not name:
            return not host.strip()
        return name in self._names or name.endswith(self._ends) or _is_address(name)


async def own_names() -> list[str]:
    """The names of this host, the full one only if the resolver knows it at once."""
    found = [socket.gethostname()]
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(RESOLVED_WITHIN):
            found.append(await asyncio.to_thread(socket.getfqdn))
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
