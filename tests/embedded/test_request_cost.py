"""What a request costs, in calls of Python functions, which neither the machine nor its load changes.

What a cluster does not have (policies, webhooks, quotas, limits) must not be paid for by each request. A request that has become
dearer for a good reason gets a higher bound here, and its reason in the commit.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import msgspec
import pytest

from raycp.bench.embedded import pod
from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.httpio import HttpConnection

PODS = "/api/v1/namespaces/default/pods"


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent = bytes(data)


@contextmanager
def calls() -> Iterator[list[str]]:
    """The Python functions that are called meanwhile. Comprehensions are left out: since Python 3.12 they are no calls."""
    found: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and not frame.f_code.co_name.endswith("comp>"):
            found.append(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


Cost = Callable[[str, str, bytes, str], list[str]]


@pytest.fixture
async def cost() -> AsyncIterator[Cost]:
    """The calls of one request that follows another one of its kind: what is compiled once is compiled."""
    cluster = EmbeddedCluster("t", EmbeddedSpec(controllers=EmbeddedControllers.none()))
    await cluster.start()
    wire = Wire()
    connection = HttpConnection(cluster.server)
    connection.connection_made(wire)

    def ask(method: str, path: str, body: bytes, media: str) -> list[str]:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {cluster.endpoint and cluster.endpoint.token}\r\n"
        length = f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n" if body else ""
        request = f"{head}Accept: application/json\r\n{length}\r\n".encode() + body
        with calls() as found:
            connection.data_received(request)
        assert wire.sent.startswith(b"HTTP/1.1 20"), wire.sent
        return found

    yield ask
    connection.connection_lost(None)
    await cluster.stop()


JSON, MERGE = "application/json", "application/merge-patch+json"
STATUS = msgspec.json.encode({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
LABEL = b'{"metadata":{"labels":{"a":"%d"}}}'


@pytest.mark.parametrize(
    ("method", "path", "body", "media", "most"),
    [
        ("GET", f"{PODS}/p-%d", b"", JSON, 44),
        ("POST", PODS, pod("q-%d"), JSON, 172),
        ("PATCH", f"{PODS}/p-%d", LABEL, MERGE, 204),
        ("PATCH", f"{PODS}/p-%d/status", STATUS, MERGE, 197),
    ],
    ids=["get", "create", "patch", "status"],
)
async def test_a_request_pays_for_nothing_that_is_not_there(
    cost: Cost, method: str, path: str, body: bytes, media: str, most: int
) -> None:
    for number in (1, 2):
        cost("POST", PODS, pod(f"p-{number}"), JSON)
    found = []
    for number in (1, 2):
        found = cost(method, path.replace("%d", str(number)), body.replace(b"%d", str(number).encode()), media)
    assert len(found) <= most, found
