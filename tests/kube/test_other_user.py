"""``ConnectSpec.user``: the server of a cluster as another user, whose kubeconfig may name another server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from doormen import FAR, GUEST, TOKEN, Doormen, Visit
from kubeconfig_rows import CLUSTER_INFO, Row, dump, far, filled, plugin, runs, server

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient, ConnectSpec
from raycp.kube.connect import UserSource

GUEST_FILE = dump({"token": GUEST, "as": "jane"}, server("https://127.0.0.1:1", "<64:other-ca>"))
SEEN = Visit("main", "/version", f"Bearer {GUEST}", "", ("impersonate-user=jane",), "")
AUTHOR = {"author": GUEST_FILE}


@pytest.fixture(scope="module")
def doormen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doormen]:
    with Doormen(tmp_path_factory.mktemp("doormen")) as found:
        yield found


async def visit(spec: ConnectSpec, doormen: Doormen) -> list[Visit]:
    doormen.forget()
    await (await ClusterClient.connect(spec, SystemClock())).close()
    return doormen.visits


async def test_of_a_kubeconfig_only_the_server_is_used_and_its_plugin_is_not_run(doormen: Doormen, tmp_path: Path) -> None:
    Row("", True, runs(), files={"plugin": "#!/bin/sh\nexit 1\n", **AUTHOR}).write(tmp_path, doormen)
    spec = ConnectSpec(name="c1", path=str(tmp_path / "config"), user=UserSource(str(tmp_path / "author")))
    assert await visit(spec, doormen) == [SEEN]


async def test_its_proxy_ca_and_server_name_stay(doormen: Doormen, tmp_path: Path) -> None:
    Row("", True, {"token": TOKEN}, far("socks5://127.0.0.1:<port:socks>"), files=AUTHOR).write(tmp_path, doormen)
    spec = ConnectSpec(name="c1", path=str(tmp_path / "config"), user=UserSource(str(tmp_path / "author"), "one"))
    assert await visit(spec, doormen) == [SEEN._replace(server="far", sni=FAR)]
    assert doormen.tunnels == ["socks"]


async def test_its_plugin_is_told_of_the_server_that_is_used(doormen: Doormen, tmp_path: Path) -> None:
    cluster = server(
        tls_server_name="localhost",
        extensions=[{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "the-good"}}],
    )
    files = {"author": dump(runs(provideClusterInfo=True), far()), **plugin('{"token": "$A-token"}', before=CLUSTER_INFO)}
    Row("", True, {"token": "wrong"}, cluster, files=files).write(tmp_path, doormen)
    spec = ConnectSpec(name="c1", path=str(tmp_path / "config"), user=UserSource(str(tmp_path / "author")))
    assert await visit(spec, doormen) == [Visit("main", "/version", f"Bearer {TOKEN}", "", (), "localhost")]


@pytest.mark.parametrize("mode", ["direct", "inCluster"])
async def test_in_every_mode(mode: str, doormen: Doormen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Row("", True, files={**AUTHOR, "token": TOKEN, "ca.crt": "<pem:ca>"}).write(tmp_path, doormen)
    user = UserSource(str(tmp_path / "author"))
    if mode == "direct":
        url = filled("<url:main>", doormen, tmp_path)
        spec = ConnectSpec(name="c1", mode="direct", server=url, ca_pem=doormen.texts["ca"], token=TOKEN, user=user)
    else:
        monkeypatch.setattr("raycp.kube.in_cluster.SERVICE_ACCOUNT", tmp_path)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(doormen.ports["main"]))
        spec = ConnectSpec(name="c1", mode="inCluster", user=user)
    assert await visit(spec, doormen) == [SEEN]


async def test_a_change_of_its_file_is_seen(doormen: Doormen, tmp_path: Path) -> None:
    Row("", True, files=AUTHOR).write(tmp_path, doormen)
    spec = ConnectSpec(name="c1", mode="direct", server=filled("<url:main>", doormen, tmp_path), ca_pem=doormen.texts["ca"])
    spec.user = UserSource(str(tmp_path / "author"))
    client = await ClusterClient.connect(spec, SystemClock())
    doormen.tokens.discard(GUEST)
    try:
        (tmp_path / "author").write_text(filled(dump(), doormen, tmp_path))
        doormen.forget()
        await client.version()
        assert doormen.visits[-1].authorization == f"Bearer {TOKEN}"
    finally:
        doormen.tokens.add(GUEST)
        await client.close()
