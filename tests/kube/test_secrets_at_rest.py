"""Tokens and keys lie in no file but those that were given, and in no message."""

import asyncio
import base64
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doormen import TOKEN, Doormen
from kubeconfig_rows import PRINTS_CERT, Row, oidc, plugin, runs, server

from raycp.base.clock import SystemClock
from raycp.config.kubeconfig import read_kubeconfigs
from raycp.kube import ClusterClient, ConnectError, ConnectSpec
from raycp.kube.credentials import Credentials

CERT = {"client-certificate-data": "<64:cert>", "client-key-data": "<64:key>"}


@pytest.fixture(scope="module")
def doormen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doormen]:
    with Doormen(tmp_path_factory.mktemp("doormen")) as found:
        yield found


def spec(row: Row, folder: Path, doormen: Doormen) -> ConnectSpec:
    row.write(folder, doormen)
    return ConnectSpec(name="c1", path=str(folder / "config"), timeout=10.0)


@pytest.mark.parametrize(
    ("user", "files"),
    [
        (CERT, {}),
        (runs(), PRINTS_CERT),
        (oidc(id_token="<pem:old-jwt>", refresh_token="renew-me"), {}),
        ({"token": TOKEN}, {}),
    ],
    ids=["client certificate", "plugin's certificate", "oidc, refreshed", "token"],
)
async def test_no_temporary_file_is_needed(
    user: Any, files: dict[str, str], doormen: Doormen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no directory for one, none can be made, none stays behind, and no reaper removes it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    client = await ClusterClient.connect(spec(Row("", True, user, files=files), tmp_path, doormen), SystemClock())
    assert (await client.version()).gitVersion
    await client.close()


async def test_the_descriptors_of_keys_are_closed(doormen: Doormen, tmp_path: Path) -> None:
    at = spec(Row("", True, CERT), tmp_path, doormen)
    await Credentials(at, SystemClock()).load()
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        await Credentials(at, SystemClock()).load()
    assert len(os.listdir("/proc/self/fd")) <= len(before)


async def test_unchanged_certificates_keep_the_connections(doormen: Doormen, tmp_path: Path) -> None:
    at = spec(Row("", True, CERT), tmp_path, doormen)
    credentials = Credentials(at, SystemClock())
    await credentials.load()
    target = credentials.target
    await credentials.load()
    assert credentials.target is target
    other = Row("", True, CERT, server(ca="<64:other-ca>"))
    spec(other, tmp_path, doormen)
    await credentials.load()
    assert credentials.target != target


@pytest.mark.parametrize("value", ["s3cret value", "a.b", "x", "first line\nsecond line", "3"])
async def test_no_value_of_env_is_in_an_error(
    value: str, doormen: Doormen, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A plugin that complains about its environment quotes it, on the last line of its stderr too."""
    caplog.set_level(logging.DEBUG)
    env = [{"name": "PIN", "value": value}, {"name": "MORE", "value": f"{value}!"}]
    fails = plugin("null", before='echo "cannot log in with $PIN as $MORE" >&2; exit 1')
    at = spec(Row("", False, runs(env=env), files=fails), tmp_path, doormen)
    with pytest.raises(ConnectError) as caught:
        await ClusterClient.connect(at, SystemClock())
    said = caught.value.problem.partition("gave no credential: ")[2].replace("exit", "").replace("MORE", "")
    for text in (said, caplog.text):
        words = text.replace("<PIN>", "").split()
        assert not any(line in words or (len(line) > 3 and line in text) for line in value.splitlines())


@pytest.mark.parametrize(
    ("problem", "user", "env"),
    [
        ("exec.env has no name", runs(env=[{"name": "", "value": "hide-me"}]), {}),
        (r"env\[0\]\.value is a list", runs(env=[{"name": "A", "value": ["hide-me"]}]), {}),
        (r"env\[0\] is text", runs(env=["hide-me"]), {}),
        ("cannot be started", runs(env=[{"name": "A=B", "value": "hide-me"}]), {}),
        ("as-uid, as-groups", {"token": "hide-me", "as-uid": "1"}, {}),
        ("characters that an HTTP header", {"token": "hide-me\n"}, {}),
        ("the proxy '127.0.0.1:x' is not a URL", {"token": TOKEN}, {"proxy_url": "http://me:hide-me@127.0.0.1:x"}),
        ("one of the schemes http, https and socks5", {"token": TOKEN}, {"proxy_url": "socks4://me:hide-me@127.0.0.1:1"}),
        ("is neither a URL nor", {"token": TOKEN}, {}),
    ],
)
async def test_no_secret_is_in_an_error(problem: str, user: Any, env: Any, doormen: Doormen, tmp_path: Path) -> None:
    cluster = server("a:b/c" if "neither" in problem else "<url:main>", **env)
    row = Row("", False, user, cluster, plugin(f'{{"token": "{TOKEN}"}}'))
    with pytest.raises(ConnectError, match=problem) as caught:
        await ClusterClient.connect(spec(row, tmp_path, doormen), SystemClock())
    assert "hide-me" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


def test_no_repr_of_a_kubeconfig_has_a_secret(doormen: Doormen, tmp_path: Path) -> None:
    secrets = {"token": "hide-me", "password": "hide-me", "client-key-data": base64.b64encode(b"hide-me").decode()}
    user = {**secrets, **runs(args=["hide-me"], env=[{"name": "A", "value": "hide-me"}]), **oidc(client_secret="hide-me")}
    at = spec(Row("", False, user, server(proxy_url="http://me:hide-me@p")), tmp_path, doormen)
    found = read_kubeconfigs(at.files())
    assert "hide-me" not in f"{found!r} {found.select(None)!r}"
    assert str(base64.b64encode(b"hide-me").decode()) not in repr(found)


@pytest.mark.parametrize("what", ["tokenFile", "client-key", "certificate-authority"])
async def test_a_fifo_in_the_place_of_a_file_is_refused_at_once(what: str, doormen: Doormen, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    user: dict[str, str] = {"tokenFile": "fifo"}
    cluster = server()
    if what == "client-key":
        user = {"client-certificate-data": "<64:cert>", "client-key": "fifo"}
    elif what == "certificate-authority":
        user, cluster = {"token": TOKEN}, server(ca=None, certificate_authority="fifo")
    async with asyncio.timeout(20):
        with pytest.raises(ConnectError, match=f"its {what} .*fifo cannot be read on .*: it is not a regular file"):
            await ClusterClient.connect(spec(Row("", False, user, cluster), tmp_path, doormen), SystemClock())


async def test_nobody_is_asked_for_the_passphrase_of_a_key(doormen: Doormen, tmp_path: Path) -> None:
    """OpenSSL would ask on the terminal, and wait."""
    user = {"client-certificate-data": "<64:locked-cert>", "client-key-data": "<64:locked-key>"}
    with pytest.raises(ConnectError, match="the key is encrypted"):
        await ClusterClient.connect(spec(Row("", False, user), tmp_path, doormen), SystemClock())
