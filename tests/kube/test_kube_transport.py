"""Connections through a proxy and from within a Pod; large bodies, concurrent requests, invalid paths."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_api import ScriptedApi, direct

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient, ConnectError, ConnectSpec, WriteStamp


class Proxy:
    """An HTTP CONNECT proxy that requires a password."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if "Proxy-Authorization: Basic bWU6cHc=" not in head:  # me:pw
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            writer.close()
            return
        host, _, port = head.split()[1].partition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)


async def test_the_client_connects_through_a_proxy(server: ScriptedApi) -> None:
    proxy = Proxy()
    await proxy.start()
    spec = direct(server, proxy=f"http://me:pw@127.0.0.1:{proxy.port}")
    client = await ClusterClient.connect(spec, SystemClock())
    server.put("a")
    assert (await client.request("GET", "/api/v1/configmaps")).status == 200
    assert len(proxy.heads) == 1
    assert "pw@" not in f"{spec!r} {client!r}"
    await client.close()
    with pytest.raises(ConnectError, match="407"):
        await ClusterClient.connect(direct(server, proxy=f"http://127.0.0.1:{proxy.port}"), SystemClock())
    await proxy.stop()


async def test_in_cluster_credentials_follow_a_rotated_token(
    server: ScriptedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    assert server.token is not None
    token.write_text(server.token)
    ca.write_text(server.authority.pem)
    monkeypatch.setattr("raycp.kube.in_cluster.SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    client = await ClusterClient.connect(ConnectSpec(name="c1", mode="inCluster", timeout=5.0), SystemClock())
    server.token = "secret-token-2"
    token.write_text(server.token)
    assert (await client.version()).gitVersion
    await client.close()


async def test_concurrent_requests_with_a_body_of_a_mebibyte(server: ScriptedApi, client: ClusterClient) -> None:
    body = b'{"metadata":{"name":"big"},"data":{"a":"' + b"x" * (1 << 20) + b'"}}'
    await client.request("POST", "/api/v1/namespaces/default/configmaps", body=body)
    path = "/api/v1/namespaces/default/configmaps/big"
    answers = await asyncio.gather(*(client.request("GET", path) for _ in range(20)))
    assert all(len(answer.body) > 1 << 20 for answer in answers)


@pytest.mark.parametrize("path", ["/api/v1/a b", "/api/v1/a\r\nX: y", "/api/v1/ä"])
async def test_paths_and_headers_with_line_breaks_are_rejected(client: ClusterClient, path: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        await client.request("GET", path)
    client.write_guard = lambda: WriteStamp({"X-A": "b\r\nc: d"})
    with pytest.raises(ValueError, match="line break"):
        await client.request("POST", "/api/v1/namespaces/default/configmaps", body=b"{}")
    assert (await client.version()).gitVersion


class BareServer:
    """Answers each request with what ``answers`` says for the numbers of its connection and of it in that; in plain HTTP."""

    def __init__(self, answers: Callable[[int, int], bytes]) -> None:
        self._answers = answers
        self._connections = 0

    async def __aenter__(self) -> ConnectSpec:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return ConnectSpec(name="c1", mode="direct", server=f"http://127.0.0.1:{port}", timeout=5.0)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            for number in itertools.count(1):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answers(connection, number))
        writer.close()


def answer(name: str, date: str = "") -> bytes:
    body = f'{{"kind":"ConfigMap","metadata":{{"name":"{name}"}}}}'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return (head + (f"Date: {date}\r\n" if date else "") + "\r\n" + body).encode()


async def test_an_answer_without_a_request_is_nobodys() -> None:
    """Else each request would get the answer of the one before, from then on."""
    unasked = answer("unasked")
    of_first = [answer("first") + unasked[:9], unasked[9:] + answer("second")]
    async with BareServer(lambda connection, number: of_first[number - 1] if connection == 1 else answer("second")) as spec:
        client = await ClusterClient.connect(spec, SystemClock(), probe=False)
        assert b"first" in (await client.request("GET", "/api/v1/first")).body
        assert b"second" in (await client.request("GET", "/api/v1/second")).body
        await client.close()


@pytest.mark.parametrize(
    "date",
    ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "1 Jan 2026 99999999999999999999:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"],
)
async def test_a_date_that_no_clock_shows_is_no_skew_and_fails_no_request(date: str) -> None:
    async with BareServer(lambda *_: answer("a", date)) as spec:
        client = await ClusterClient.connect(spec, SystemClock(), probe=False)
        assert (await client.request("GET", "/api/v1/a")).status == 200
        assert client.skew == 0.0
        await client.close()
