"""kubeconfig files: rotation of every kind of credential, and configuration errors."""

import asyncio
import base64
import logging
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from doormen import id_token
from scripted_api import ScriptedApi

from raycp.base.clock import SystemClock, VirtualClock
from raycp.config.kubeconfig_model import KubeconfigProvider
from raycp.kube import ClusterClient, ConnectError, ConnectSpec
from raycp.kube.credentials import Credentials
from raycp.kube.exec_plugin import PluginError
from raycp.kube.oidc import OidcTokens


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(path: Path, server: ScriptedApi, user: dict[str, Any], **cluster: Any) -> ConnectSpec:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": server.url,
                    "certificate-authority-data": encoded(server.authority.pem),
                    **cluster,
                },
            }
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return ConnectSpec(name="c1", mode="kubeconfig", path=str(path), timeout=5.0)


async def connect(spec: ConnectSpec) -> ClusterClient:
    return await ClusterClient.connect(spec, SystemClock())


async def test_a_token_authenticates(server: ScriptedApi, tmp_path: Path) -> None:
    client = await connect(write(tmp_path / "config", server, {"token": server.token}))
    assert (await client.version()).gitVersion
    await client.close()


async def test_a_kubeconfig_client_certificate_authenticates(tmp_path: Path) -> None:
    server = ScriptedApi(require_client_cert=True)
    await server.start()
    cert, key = server.authority.issue("me")
    user = {"client-certificate-data": encoded(cert), "client-key-data": encoded(key)}
    client = await connect(write(tmp_path / "config", server, user))
    assert (await client.version()).gitVersion
    await client.close()
    await server.stop()


def plugin(tmp_path: Path, token_file: Path) -> dict[str, Any]:
    script = tmp_path / "plugin"
    answer = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}'
    count = f"open({str(tmp_path / 'runs')!r}, 'a').write('.')"
    script.write_text(f"#!{sys.executable}\n{count}\nprint('{answer}' % open({str(token_file)!r}).read())\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "interactiveMode": "Never"}}


def plugin_runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text())


async def test_a_401_renews_the_credential_of_an_exec_plugin(server: ScriptedApi, tmp_path: Path) -> None:
    assert server.token is not None
    token_file = tmp_path / "token"
    token_file.write_text(server.token)
    client = await connect(write(tmp_path / "config", server, plugin(tmp_path, token_file)))
    server.token = "secret-token-2"
    token_file.write_text(server.token)
    server.put("a")
    assert (await client.request("GET", "/api/v1/configmaps")).status == 200
    server.token = "secret-token-3"
    token_file.write_text(server.token)
    async with client.stream("/api/v1/configmaps", {"watch": True, "resourceVersion": 100}) as stream:
        await anext(stream)
    await client.close()


async def test_a_401_reloads_a_rotated_token_file(server: ScriptedApi, tmp_path: Path) -> None:
    assert server.token is not None
    token_file = tmp_path / "token"
    token_file.write_text(server.token)
    client = await connect(write(tmp_path / "config", server, {"tokenFile": "token"}))
    server.token = "secret-token-2"
    token_file.write_text(server.token)
    assert (await client.version()).gitVersion
    await client.close()


async def test_a_rotated_kubeconfig_is_reloaded_before_a_401(server: ScriptedApi, tmp_path: Path) -> None:
    path = tmp_path / "config"
    clock = VirtualClock()
    client = await ClusterClient.connect(write(path, server, {"token": server.token}), clock)
    server.token = "secret-token-2"
    write(path, server, {"token": server.token})
    await clock.advance(61)
    await client.version()
    assert all("token-2" in h["Authorization"] for h in server.headers[-1:])
    await client.close()


async def test_concurrent_requests_with_an_expired_token_succeed_after_a_renewal(server: ScriptedApi, tmp_path: Path) -> None:
    assert server.token is not None
    token_file = tmp_path / "token"
    token_file.write_text(server.token)
    client = await connect(write(tmp_path / "config", server, plugin(tmp_path, token_file)))
    server.token = "secret-token-2"
    token_file.write_text(server.token)
    await asyncio.gather(*(client.version() for _ in range(10)))
    await client.close()


async def test_a_401_between_a_renewal_and_its_waiters_does_not_renew_again(server: ScriptedApi, tmp_path: Path) -> None:
    assert server.token is not None
    token_file = tmp_path / "token"
    token_file.write_text(server.token)
    credentials = Credentials(write(tmp_path / "config", server, plugin(tmp_path, token_file)), SystemClock())
    await credentials.load()
    used, renewed = credentials.generation, asyncio.Event()
    credentials.on_change = renewed.set
    runs = plugin_runs(tmp_path)
    token_file.write_text("secret-token-2")
    first = asyncio.create_task(credentials.renewed(used, 10.0))
    await renewed.wait()  # resumed at the end of the renewal, ahead of ``first``, which waits for it
    assert not first.done()
    assert await credentials.renewed(used, 10.0)
    assert not first.done()
    assert await first
    assert plugin_runs(tmp_path) == runs + 1, "nothing was read a second time"


async def test_an_insecure_kubeconfig_logs_a_warning(server: ScriptedApi, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = write(tmp_path / "config", server, {"token": server.token})
    text = Path(spec.path or "").read_text().replace("certificate-authority-data", "x-none")  # noqa: ASYNC240
    (tmp_path / "config").write_text(text.replace("    server:", "    insecure-skip-tls-verify: true\n    server:"))
    client = await connect(spec)
    assert "NOT verified" in caplog.text
    await client.close()


async def test_a_valid_oidc_token_authenticates(server: ScriptedApi, tmp_path: Path) -> None:
    token = id_token(3600)
    server.token = token
    user = {"auth-provider": {"name": "oidc", "config": {"id-token": token, "client-id": "c", "idp-issuer-url": "i"}}}
    client = await connect(write(tmp_path / "config", server, user))
    assert (await client.version()).gitVersion
    await client.close()


async def test_an_oidc_token_whose_end_is_beyond_all_numbers_is_none(server: ScriptedApi, tmp_path: Path) -> None:
    claims = base64.urlsafe_b64encode(b'{"exp": 1' + b"0" * 400 + b"}").decode().rstrip("=")
    config = {"id-token": f"e30.{claims}.x", "client-id": "c", "idp-issuer-url": "i"}
    with pytest.raises(ConnectError, match="id-token has expired or is none"):
        await connect(write(tmp_path / "config", server, {"auth-provider": {"name": "oidc", "config": config}}))


async def test_each_configuration_error_names_a_remedy_and_no_secret(
    server: ScriptedApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "config"
    good = write(path, server, {"token": "very-secret"})

    async def problem(spec: ConnectSpec) -> str:
        with pytest.raises(ConnectError) as caught:
            await connect(spec)
        assert "very-secret" not in str(caught.value)
        assert caught.value.remedy
        return str(caught.value)

    assert "does not exist" in await problem(ConnectSpec(name="c1", path=str(tmp_path / "none")))
    assert "Known contexts: one" in await problem(ConnectSpec(name="c1", path=str(path), context="two"))
    assert "401" in await problem(good)
    (tmp_path / "bad").write_text("a: [very-secret")
    assert "is not valid YAML" in await problem(ConnectSpec(name="c1", path=str(tmp_path / "bad")))
    (tmp_path / "empty").write_text("")
    await problem(ConnectSpec(name="c1", path=str(tmp_path / "empty")))
    missing = write(path, server, {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "no-such-plugin"}})
    assert "exec plugin 'no-such-plugin'" in await problem(missing)
    other = write(path, server, {"token": "very-secret"}, **{"certificate-authority-data": encoded(ScriptedApi().authority.pem)})
    assert "not trusted" in await problem(other)
    broken = write(path, server, {"token": "very-secret"}, **{"certificate-authority-data": encoded("nonsense")})
    assert "CA" in await problem(broken)
    nameless = write(path, server, {"token": "very-secret"})
    path.write_text(path.read_text().replace("server:", "sever:"))
    assert "no server" in await problem(nameless)
    path.write_text(path.read_text().replace("sever:", "server:").replace("user:", "usr:"))
    await problem(nameless)
    content = yaml.safe_load(path.read_text().replace("usr:", "user:"))
    for url in ("https://me:very-secret@a:1", "https://me:very-secret@a b:1", "me:very-secret@a/x", "//me:very-secret@a"):
        path.write_text(yaml.safe_dump({**content, "clusters": [{"name": "c", "cluster": {"server": url}}]}))
        assert "cannot be used: the server" in await problem(nameless)
    assert "in-cluster" in await problem(ConnectSpec(name="c1", mode="inCluster"))
    assert "very-secret" not in caplog.text


async def test_several_kubeconfig_files_are_merged(server: ScriptedApi, tmp_path: Path) -> None:
    write(tmp_path / "a", server, {"token": server.token})
    (tmp_path / "b").write_text(yaml.safe_dump({"contexts": [{"name": "two", "context": {"cluster": "c", "user": "u"}}]}))
    spec = ConnectSpec(name="c1", path=f"{tmp_path}/a{os.pathsep}{tmp_path}/b", context="two")
    client = await connect(spec)
    await client.close()


async def test_a_file_that_appears_later_in_a_list_is_read(server: ScriptedApi, tmp_path: Path) -> None:
    """It comes first in the list, and was not there at the start."""
    clock = VirtualClock()
    write(tmp_path / "b", server, {"token": server.token})
    spec = ConnectSpec(name="c1", path=f"{tmp_path}/a{os.pathsep}{tmp_path}/b", timeout=5.0)
    client = await ClusterClient.connect(spec, clock)
    server.token = "secret-token-2"
    write(tmp_path / "a", server, {"token": server.token})
    await clock.advance(61)
    await client.version()
    assert "token-2" in server.headers[-1]["Authorization"]
    assert client.credentials_problem == ""
    assert len([each for each in server.headers if "token-1" in each["Authorization"]]) == 1, "no 401 told it"
    await client.close()


@pytest.mark.parametrize("expires", ["1" + 400 * "0", "1e999", '"soon"', "null"])
async def test_an_id_token_whose_end_is_no_time_is_no_token(expires: str) -> None:
    claims = base64.urlsafe_b64encode(f'{{"exp":{expires}}}'.encode()).decode().rstrip("=")
    provider = KubeconfigProvider(config={"idp-issuer-url": "https://issuer", "client-id": "c", "id-token": f"e30.{claims}.x"})
    with pytest.raises(PluginError, match="has expired or is none"):
        await OidcTokens().get("c1", provider, None, 0.0)
