"""The recent writes and their users: a bounded ring that tests of fencing read at ``/raycp/admin/writes``."""

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec


class Write(msgspec.Struct, rename="camel", gc=False):
    """One mutating request that was committed. ``epoch``, ``shard``, ``term``, ``change`` are its ``X-Raycp-*`` headers;
    ``time`` is Unix seconds, whatever the fault ``clockSkew`` does, so that records of several clusters can be ordered."""

    verb: str
    resource: str
    namespace: str
    name: str
    uid: str
    resource_version: int
    epoch: str
    shard: str
    term: str
    user: str
    time: float
    change: str = ""


class Recorder:
    """Keeps the last ``limit`` writes, and the uid of every creation, to find a key that was created twice."""

    def __init__(self, limit: int = 20_000) -> None:
        self.writes: deque[Write] = deque(maxlen=limit)
        self.count = 0

    def add(
        self,
        verb: str,
        resource: str,
        ns: str,
        name: str,
        uid: str,
        version: int,
        user: str,
        time: float,
        headers: Mapping[bytes, bytes],
    ) -> None:
        self.count += 1
        self.writes.append(
            Write(
                verb,
                resource,
                ns,
                name,
                uid,
                version,
                headers.get(b"x-raycp-epoch", b"").decode("latin-1"),
                headers.get(b"x-raycp-shard", b"").decode("latin-1"),
                headers.get(b"x-raycp-term", b"").decode("latin-1"),
                user,
                time,
                headers.get(b"x-raycp-change", b"").decode("latin-1"),
            )
        )

    def select(self, resource: str = "", verb: str = "", after: int = 0) -> list[Write]:
        """The kept writes, oldest first, of one resource and verb if given, without the first ``after`` of the cluster."""
        skip = max(0, after - (self.count - len(self.writes)))
        writes = islice(self.writes, skip, None)
        return [w for w in writes if (not resource or w.resource == resource) and (not verb or w.verb == verb)]

    def json(self, resource: str = "", verb: str = "", after: int = 0) -> bytes:
        """The writes as the admin path returns them. ``count`` is the number of all writes, ``kept`` of those still held: a
        client that passes ``after`` has missed none while ``count - after`` is at most ``kept``."""
        found: dict[str, Any] = {"count": self.count, "kept": len(self.writes), "writes": self.select(resource, verb, after)}
        return msgspec.json.encode(found)
