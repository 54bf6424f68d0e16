"""The scenario ``embedded``: the cost of the embedded API server, measured from outside, over TLS keep-alive.

The server runs in a process of its own; the client is a bare socket loop, so that its own cost is small. Keys:
creates_per_second and gets_per_second (Pods, 8 connections), list_10000_s, fanout_ms (one event to 100 watchers, until
the last has received it), memory_100000_mb (resident size with 100 000 Pods), pods_running_s (10 000 Pods created to Running),
nodes_running_s (5 000 nodes Ready, with leases), start_s (to the first authorized response).
"""

import asyncio
import base64
import contextlib
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec

CONNECTIONS = 8
DEADLINE = 300.0
"""Deadline of each part of the scenario, in seconds."""


class Client:
    """One keep-alive connection to an API server."""

    def __init__(
        self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], host: str, port: int, context: ssl.SSLContext, head: str
    ) -> None:
        self._reader, self._writer = streams
        self.host, self.port, self.context, self.head = host, port, context, head

    @classmethod
    async def connect(cls, kubeconfig: dict[str, Any]) -> "Client":
        cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
        host, port = cluster["server"].removeprefix("https://").rsplit(":", 1)
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        streams = await asyncio.open_connection(host, int(port), ssl=context, limit=1 << 26)
        head = f"Host: {host}:{port}\r\nAuthorization: Bearer {user['token']}\r\nAccept: application/json\r\n"
        return cls(streams, host, int(port), context, head)

    def _send(self, method: str, path: str, body: bytes) -> None:
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{self.head}{length}\r\n".encode() + body)

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of the response. Raises ``RuntimeError`` for an error."""
        self._send(method, path, body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        answer = await self._reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(answer.decode())
        return answer

    def close(self) -> None:
        self._writer.close()


def pod(name: str) -> bytes:
    """A Pod as a job's controller creates it."""
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "bench", "raycp.io/job": "j"}},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "main", "image": "busybox", "resources": {"requests": {"cpu": "10m"}}}],
            },
        }
    )


@contextlib.asynccontextmanager
async def server(spec: EmbeddedSpec) -> AsyncIterator[tuple[dict[str, Any], float, int]]:
    """An embedded cluster in a process of its own: its kubeconfig, the seconds it took to start, its pid."""
    command = [sys.executable, "-m", "raycp.bench.embedded", spec.model_dump_json(by_alias=True)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), DEADLINE)
        started = msgspec.json.decode(line)
        yield msgspec.json.decode(started["kubeconfig"]), started["start_s"], process.pid
    finally:
        process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


async def rate(kubeconfig: dict[str, Any], count: int, ask: Callable[[Client, int], Awaitable[object]]) -> float:
    """Requests per second over ``CONNECTIONS`` connections."""
    clients = [await Client.connect(kubeconfig) for _ in range(CONNECTIONS)]
    numbers = iter(range(count))

    async def work(client: Client) -> None:
        for number in numbers:
            await ask(client, number)

    began = time.perf_counter()
    await asyncio.gather(*(work(client) for client in clients))
    seconds = time.perf_counter() - began
    for client in clients:
        client.close()
    return count / seconds


class Audience:
    """The watchers of an event: counts those that have received it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.reached: set[WatchClient] = set()
        self.all = asyncio.Event()

    def received(self, watcher: "WatchClient") -> None:
        self.reached.add(watcher)
        if len(self.reached) == self.size:
            self.all.set()

    def expect(self) -> None:
        self.reached.clear()
        self.all.clear()


class WatchClient(asyncio.Protocol):
    """A watch that does nothing but report that bytes arrived."""

    def __init__(self, audience: Audience, request: bytes) -> None:
        self._audience, self._request = audience, request
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._audience.received(self)


async def fanout(kubeconfig: dict[str, Any], watchers: int, rounds: int) -> float:
    """Median milliseconds from sending a change until the last watcher has received it."""
    path = "/api/v1/namespaces/kube-public/configmaps"
    writer = await Client.connect(kubeconfig)
    version = msgspec.json.decode(await writer.ask("GET", path))["metadata"]["resourceVersion"]
    audience = Audience(watchers)
    request = f"GET {path}?watch=true&resourceVersion={version} HTTP/1.1\r\n{writer.head}\r\n".encode()
    loop = asyncio.get_running_loop()
    transports = []
    for _ in range(watchers):
        transport, _ = await loop.create_connection(
            lambda: WatchClient(audience, request), writer.host, writer.port, ssl=writer.context
        )
        transports.append(transport)
    await asyncio.wait_for(audience.all.wait(), DEADLINE)  # all have received the head of the response
    found = []
    for number in range(rounds):
        body = msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"fan-{number}"}})
        await asyncio.sleep(0.02)
        audience.expect()
        began = time.perf_counter()
        answer = asyncio.create_task(writer.ask("POST", path, body))
        await asyncio.wait_for(audience.all.wait(), DEADLINE)
        found.append((time.perf_counter() - began) * 1000)
        await answer
    writer.close()
    for transport in transports:
        transport.close()
    return statistics.median(found)


async def bare(scale: float) -> dict[str, float]:
    """The figures of the bare API server."""
    import psutil

    pods = "/api/v1/namespaces/default/pods"
    first, all_pods = int(10_000 * scale), int(100_000 * scale)
    async with server(EmbeddedSpec(controllers=EmbeddedControllers.none())) as (kubeconfig, start, pid):
        creates = await rate(kubeconfig, first, lambda client, n: client.ask("POST", pods, pod(f"p-{n}")))
        gets = await rate(kubeconfig, 2 * first, lambda client, n: client.ask("GET", f"{pods}/p-{n % first}"))
        client = await Client.connect(kubeconfig)
        lists = []
        for _ in range(5):
            began = time.perf_counter()
            await client.ask("GET", pods)
            lists.append(time.perf_counter() - began)
        client.close()
        spread = await fanout(kubeconfig, 100, 30)
        await rate(kubeconfig, all_pods - first, lambda client, n: client.ask("POST", pods, pod(f"q-{n}")))
        memory = psutil.Process(pid).memory_info().rss / 1e6
    return {
        "creates_per_second": round(creates),
        "gets_per_second": round(gets),
        "list_10000_s": round(statistics.median(lists), 4),
        "fanout_ms": round(spread, 3),
        "memory_100000_mb": round(memory, 1),
        "start_s": round(start, 3),
    }


async def _until(kubeconfig: dict[str, Any], path: str, mark: bytes, count: int) -> None:
    """Wait until ``count`` objects under ``path`` contain ``mark``. Raises ``TimeoutError``."""
    client = await Client.connect(kubeconfig)
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                if (await client.ask("GET", path)).count(mark) >= count:
                    return
                await asyncio.sleep(0.1)
    finally:
        client.close()


async def alive(scale: float) -> dict[str, float]:
    """The figures of a cluster with its controllers, nodes and Pods."""
    pods, nodes = int(10_000 * scale), int(5_000 * scale)
    path = "/api/v1/namespaces/default/pods"
    began = time.perf_counter()
    async with server(EmbeddedSpec(nodes=nodes)) as (kubeconfig, _, _):
        await _until(kubeconfig, "/api/v1/nodes", b'"reason":"KubeletReady"', nodes)
        await _until(kubeconfig, "/apis/coordination.k8s.io/v1/leases", b'"renewTime"', nodes)
        nodes_running = time.perf_counter() - began
    async with server(EmbeddedSpec(nodes=100, pod_runtime=3600)) as (kubeconfig, _, _):
        began = time.perf_counter()
        await rate(kubeconfig, pods, lambda client, n: client.ask("POST", path, pod(f"p-{n}")))
        await _until(kubeconfig, path, b'"phase":"Running"', pods)
        pods_running = time.perf_counter() - began
    return {"pods_running_s": round(pods_running, 2), "nodes_running_s": round(nodes_running, 2)}


async def play(scale: float) -> dict[str, float]:
    """All figures."""
    return {**await bare(scale), **await alive(scale)}


async def run(args: Any) -> dict[str, Any]:
    """Run the scenario. ``args.scale``, if given, shrinks all counts."""
    import uvloop

    scale = float(getattr(args, "scale", 1.0) or 1.0)
    # on an event loop of its own, so that the client is not measured
    figures = await asyncio.to_thread(uvloop.run, play(scale))
    return {"scenario": "embedded", "n": int(100_000 * scale), "missing": 0, **figures}


async def _serve(text: str) -> None:
    began = time.perf_counter()
    from raycp.embedded.cluster import EmbeddedCluster
    from raycp.embedded.standalone import tune

    cluster = EmbeddedCluster("bench", EmbeddedSpec.model_validate_json(text))
    endpoint = await cluster.start()
    seconds = time.perf_counter() - began
    tune()
    print(msgspec.json.encode({"kubeconfig": endpoint.kubeconfig, "start_s": seconds}).decode(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await cluster.stop()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(sys.argv[1]))
