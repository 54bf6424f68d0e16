"""A living cluster and the clients of Kubernetes' e2e suite, for replays of its specs.

Clients send and accept what Go's do: the typed ones protobuf, the dynamic one JSON.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.strategy.protobuf_writer import encode_protobuf
from raycp.testkit.clusters import EmbeddedHandle, EmbeddedHost

Object = dict[str, Any]
JSON = "application/json"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PROTOBUF = "application/vnd.kubernetes.protobuf"
TYPED = {"Content-Type": PROTOBUF, "Accept": f"{PROTOBUF},{JSON}"}
DYNAMIC = {"Content-Type": JSON, "Accept": JSON}
DEADLINE = 20.0  # seconds, for what takes a moment on a quiet machine


class Refused(Exception):
    """The server answered with an error. ``status`` is its body, a ``Status`` unless the answer has no JSON."""

    def __init__(self, code: int, status: Any) -> None:
        super().__init__(code, status)
        self.code = code
        self.status: Object = status if isinstance(status, dict) else {"message": str(status)}

    @property
    def message(self) -> str:
        return str(self.status.get("message"))

    @property
    def reason(self) -> str:
        return str(self.status.get("reason"))


def living_cluster(directory: Path) -> Iterator[EmbeddedHandle]:
    """A cluster with three nodes and all controllers, to be yielded from a fixture of a module."""
    host = EmbeddedHost(directory)
    yield host.start("e2e", EmbeddedSpec(nodes=3))
    host.close()


class E2eClient:
    """A client of one cluster. Answers that are errors raise ``Refused``; those that are JSON are decoded."""

    def __init__(self, cluster: EmbeddedHandle, http: aiohttp.ClientSession) -> None:
        self.cluster = cluster
        self._http = http

    async def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
        """Status, headers and bytes of an answer, whatever it is. ``path`` begins with a slash and may have a query."""
        sent = {"Authorization": f"Bearer {self.cluster.token}", **headers}
        async with self._http.request(method, self.cluster.server + path, data=body, headers=sent, ssl=False) as answer:
            return answer.status, answer.headers, await answer.read()

    async def typed(self, method: str, path: str, body: Object | None = None, **headers: str) -> Any:
        """As a typed client: ``body``, with its apiVersion and kind, goes as protobuf."""
        data = None if body is None else encode_protobuf(body)
        return self._opened(*await self.raw(method, path, data, **{**TYPED, **headers}))

    async def dynamic(self, method: str, path: str, body: Object | None = None, **headers: str) -> Any:
        """As the dynamic client: JSON."""
        data = None if body is None else json.dumps(body).encode()
        return self._opened(*await self.raw(method, path, data, **{**DYNAMIC, **headers}))

    async def change(self, path: str, edit: Callable[[Object], None]) -> Any:
        """Read, edit and write an object; again where another write, such as its controller's, came between, as client-go's
        ``RetryOnConflict`` does."""
        for _ in range(10):
            wanted = await self.typed("GET", path)
            edit(wanted)
            if (told := await unless(409, self.typed("PUT", path, wanted))) is not None:
                return told
        raise AssertionError(f"each update of {path} had a conflict")

    async def patch(self, path: str, body: Any, kind: str = "strategic-merge") -> Any:
        """As a typed client: patches are JSON in any client. ``kind`` is strategic-merge, merge or json."""
        sent = {**TYPED, "Content-Type": f"application/{kind}-patch+json"}
        return self._opened(*await self.raw("PATCH", path, json.dumps(body).encode(), **sent))

    @staticmethod
    def _opened(status: int, headers: Any, told: bytes) -> Any:
        media = headers.get("Content-Type", "")
        answer = json.loads(told) if media.startswith(JSON) else told.decode(errors="replace")
        if status >= 400:
            raise Refused(status, answer)
        return answer

    @asynccontextmanager
    async def stream(self, path: str, accept: str = JSON) -> AsyncIterator[aiohttp.ClientResponse]:
        """A watch, from the moment at which the server has answered. ``path`` has ``watch=1`` in its query."""
        sent = {"Authorization": f"Bearer {self.cluster.token}", "Accept": accept}
        async with self._http.get(self.cluster.server + path, headers=sent, ssl=False) as answer:
            assert answer.status == 200, await answer.text()
            yield answer

    @asynccontextmanager
    async def watching(self, path: str) -> AsyncIterator[AsyncIterator[Object]]:
        """The events of a watch. Each comes within the deadline."""
        async with self.stream(path) as answer:

            async def events() -> AsyncIterator[Object]:
                while True:
                    async with asyncio.timeout(DEADLINE):
                        line = await answer.content.readline()
                    if not line:
                        return
                    yield json.loads(line)

            yield events()

    async def namespace(self, base: str, **labels: str) -> str:
        """A namespace for one spec, as the framework makes it: ready once its ServiceAccount and CA bundle are there."""
        metadata = {"generateName": f"{base}-", "labels": {"e2e-framework": base, **labels}}
        made = await self.typed("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        name: str = made["metadata"]["name"]
        for each in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
            path = f"/api/v1/namespaces/{name}/{each}"
            await until(lambda path=path: self.found(path), f"{path} is there")
        return name

    async def found(self, path: str) -> Any:
        """The object, or None where there is none."""
        return await unless(404, self.typed("GET", path))


async def unless(code: int, request: Awaitable[Any]) -> Any:
    """The answer, or None if the server refuses with ``code``."""
    try:
        return await request
    except Refused as refused:
        if refused.code != code:
            raise
        return None


@asynccontextmanager
async def e2e_client(cluster: EmbeddedHandle) -> AsyncIterator[E2eClient]:
    """A client for the duration of a test."""
    async with aiohttp.ClientSession() as http:
        yield E2eClient(cluster, http)


async def until(check: Callable[[], Awaitable[Any]], what: str, deadline: float = DEADLINE) -> Any:
    """What ``check`` returns as soon as that is true. Fails with ``what`` after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while True:
        found = await check()
        if found:
            return found
        assert time.monotonic() < end, f"not within {deadline:.0f} s: {what}"
        await asyncio.sleep(0.02)


def delete_options(api_version: str = "v1", **fields: Any) -> Object:
    """A body of DELETE. Typed clients write it in the group and version of what they delete."""
    return {"apiVersion": api_version, "kind": "DeleteOptions", **fields}


def collection(api_version: str, namespace: str, plural: str) -> str:
    """The path of a namespace's objects of one kind; of all objects, where there is no namespace."""
    base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return f"{base}/namespaces/{namespace}/{plural}" if namespace else f"{base}/{plural}"
