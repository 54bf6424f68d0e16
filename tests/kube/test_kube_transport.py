"""Connections through a proxy and from within a Pod; large bodies, concurrent requests, invalid paths."""

import asyncio
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
