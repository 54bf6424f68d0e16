"""A credential plugin that fails, hangs or leaves children behind: bounded, killed, tried again with backoff, and shown."""

import asyncio
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripted_api import ScriptedApi
from test_kube_credentials import write

from raycp.base.clock import SystemClock, VirtualClock
from raycp.cli.main import main
from raycp.kube import ApiError, ClusterClient, ConnectError, ConnectSpec, KubeError, Unreachable
from raycp.kube.client_table import ClientTable
from raycp.kube.exec_plugin import PluginError, run_plugin

PRINT = 'print(\'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":%s}\')'


def plugin(folder: Path, code: str, name: str = "plugin") -> dict[str, Any]:
    """A user of a kubeconfig whose plugin runs this Python."""
    script = folder / name
    count = f"open({str(folder / 'runs')!r}, 'a').write('.')"
    script.write_text(f"#!{sys.executable}\nimport os, sys, time, subprocess\n{count}\n{code}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "interactiveMode": "Never"}}


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text())


def state(pid: int) -> str:
    """As in ``ps``: Z is a process that has ended; empty: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return ""


def token(text: str, expires: str = "") -> str:
    status = f'{{"token":"{text}"' + (f',"expirationTimestamp":"{expires}"' if expires else "") + "}"
    return PRINT % status


async def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if state(pid) in ("", "Z"):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_plugin_that_never_ends_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.kube.exec_plugin.PLUGIN_SECONDS", 4.0)  # it has to start
    pids = tmp_path / "pids"
    code = f"child = subprocess.Popen(['sleep', '600'])\nopen({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')"
    command = plugin(tmp_path, f"{code}\ntime.sleep(600)")["exec"]["command"]
    with pytest.raises(PluginError, match="did not end within 4 s, and was killed"):
        await run_plugin([command], os.environ)
    for pid in map(int, pids.read_text().split()):
        assert await gone(pid)


async def test_a_child_that_holds_the_output_open_delays_nothing(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"child = subprocess.Popen(['sleep', '600']); open({str(pids)!r}, 'w').write(str(child.pid)); {token('t')}"
    command = plugin(tmp_path, code)["exec"]["command"]
    assert b'"token"' in await run_plugin([command], os.environ)
    assert await gone(int(pids.read_text()))


async def test_cancelling_kills_it(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = plugin(tmp_path, f"open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(600)")["exec"]["command"]
    running = asyncio.create_task(run_plugin([command], os.environ))
    async with asyncio.timeout(20):
        while not (pids.exists() and pids.read_text()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await gone(int(pids.read_text()))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("sys.exit('abcdef')", "it ended with code 1; what it printed is not shown here"),
        ("sys.exit('token: abcdef')", "it ended with code 1; what it printed is not shown here"),
        ("print('abcdef'); sys.stderr.write('abcdef'); os.kill(os.getpid(), 9)", "it was ended by signal 9"),
        ("print('<html>')", "it printed no ExecCredential"),
        ("print('{\"status\":5}')", "it printed no ExecCredential"),
        ("print('[' * 100000)", "it printed no ExecCredential"),
        ("sys.stdout.buffer.write(b'\\xff\\xfe')", "it printed no ExecCredential"),
        ("print('x' * (3 << 20))", "it printed no ExecCredential"),
        ("pass", "it printed no ExecCredential"),
        (PRINT % '{"clientCertificateData":"x"}', "it printed no ExecCredential"),
        (token("two\\\\nlines"), "characters that an HTTP header may not have"),
        ("sys.stdin.read() or sys.exit(7)", "it ended with code 7"),
    ],
)
async def test_what_is_wrong_is_said_and_no_secret(server: ScriptedApi, tmp_path: Path, code: str, problem: str) -> None:
    with pytest.raises(ConnectError) as caught:
        await ClusterClient.connect(write(tmp_path / "config", server, plugin(tmp_path, code)), SystemClock())
    assert problem in str(caught.value)
    assert "abcdef" not in str(caught.value)


async def test_the_deadline_of_a_request_holds_while_a_plugin_runs(server: ScriptedApi, tmp_path: Path) -> None:
    switch = tmp_path / "hang"
    code = f"time.sleep(600 if os.path.exists({str(switch)!r}) else 0); {token(str(server.token))}"
    client = await ClusterClient.connect(write(tmp_path / "config", server, plugin(tmp_path, code)), SystemClock())
    switch.touch()
    server.token = "another"
    begun = time.monotonic()
    with pytest.raises(ApiError) as caught:
        await client.request("GET", "/version", timeout=3.0)
    assert caught.value.status == 401
    async with asyncio.timeout(20):
        with pytest.raises(ApiError):
            await anext(client.stream("/api/v1/configmaps", {"watch": True}).gen)
    assert time.monotonic() - begun < 25.0
    await client.close()


async def test_expired_credentials_that_are_not_renewed_in_time_are_an_error_and_valid_ones_stay_in_use(
    server: ScriptedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raycp.kube.credentials._PATIENCE", 0.05)
    clock = VirtualClock(wall=1_700_000_000.0)
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + 100))
    switch = tmp_path / "hang"
    code = f"time.sleep(600 if os.path.exists({str(switch)!r}) else 0); {token(str(server.token), expires)}"
    client = await ClusterClient.connect(write(tmp_path / "config", server, plugin(tmp_path, code)), clock)
    switch.touch()
    await clock.advance(61)
    assert (await client.version()).gitVersion, "39 s are left of them"
    await clock.advance(61)
    with pytest.raises(Unreachable, match="credentials have expired"):
        await client.request("GET", "/version", timeout=0.2)
    await client.close()


async def test_credentials_that_have_ended_by_a_clock_that_is_off_are_used_as_long_as_the_plugin_gives_them(
    server: ScriptedApi, tmp_path: Path
) -> None:
    clock = VirtualClock(wall=1_700_000_000.0)
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 - 300))
    spec = write(tmp_path / "config", server, plugin(tmp_path, token(str(server.token), expires)))
    client = await ClusterClient.connect(spec, clock)
    for _ in range(3):
        await clock.advance(61)
        assert (await client.version()).gitVersion
        async with client.stream("/api/v1/configmaps", {"watch": True}):
            pass
    await client.close()


async def test_a_storm_of_401s_runs_the_plugin_with_backoff_and_shows_why(server: ScriptedApi, tmp_path: Path) -> None:
    clock = VirtualClock()
    state = tmp_path / "state"
    state.write_text(str(server.token))
    code = f"text = open({str(state)!r}).read()\nif not text: sys.exit('log in again')\n" + token("%s") + ""
    code = code.replace('"token":"%s"', '"token":"\' + text + \'"')
    client = await ClusterClient.connect(write(tmp_path / "config", server, plugin(tmp_path, code)), clock)
    client.breaker = None  # it would send nothing after five refusals
    server.token = "rotated"
    before = runs(tmp_path)

    async def refused() -> None:
        with pytest.raises(ApiError):
            await client.request("GET", "/version")

    for _ in range(10):
        await refused()
    assert runs(tmp_path) == before + 1, "the same token again: it waits"
    state.write_text("")
    await clock.advance(1.1)
    for _ in range(10):
        await refused()
    assert runs(tmp_path) == before + 2
    assert "it ended with code 1" in client.credentials_problem
    assert "log in again" not in client.credentials_problem
    await clock.advance(1.1)
    await refused()
    assert runs(tmp_path) == before + 2, "2 s this time"
    state.write_text("rotated")
    await clock.advance(1.1)
    assert (await client.version()).gitVersion
    assert client.credentials_problem == ""
    await client.close()


async def test_credentials_that_were_accepted_again_are_renewed_at_the_next_401(server: ScriptedApi, tmp_path: Path) -> None:
    """A storm of 401s that ends by itself leaves no backoff for a token that is rotated later."""
    clock = VirtualClock()
    good = str(server.token)
    state = tmp_path / "state"
    state.write_text(good)
    code = (f"text = open({str(state)!r}).read()\n" + token("%s")).replace('"token":"%s"', '"token":"\' + text + \'"')
    client = await ClusterClient.connect(write(tmp_path / "config", server, plugin(tmp_path, code)), clock)
    client.breaker = None  # it would send nothing after five refusals
    server.token = "of another replica"
    for _ in range(16):  # the plugin runs after 0, 1, 3, 7 and 15 s, and would run next after 31 s
        with pytest.raises(ApiError):
            await client.request("GET", "/version")
        await clock.advance(1.01)
    server.token = good
    await client.version()
    await clock.advance(11.0)
    server.token = "rotated"
    state.write_text("rotated")
    assert (await client.version()).gitVersion
    await client.close()


async def test_a_client_that_waits_for_its_plugin_delays_a_request_by_its_deadline_at_most(
    server: ScriptedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raycp.kube.exec_plugin.PLUGIN_SECONDS", 4.0)
    spec = write(tmp_path / "config", server, plugin(tmp_path, "time.sleep(600)"))
    spec.timeout = 0.3
    clock = SystemClock()
    table = ClientTable(lambda spec: ClusterClient.connect(spec, clock, probe=False), clock)
    with pytest.raises(Unreachable, match="no client within"):
        await table.get(spec)
    error: Exception = ValueError()
    async with asyncio.timeout(20):
        while not isinstance(error, ConnectError):
            error = await failure(table, spec)
    assert "did not end within" in str(error)
    assert runs(tmp_path) == 1
    with pytest.raises(ConnectError):
        await table.get(spec)
    assert runs(tmp_path) == 1, "tried again with backoff"
    await table.close()


async def failure(table: ClientTable, spec: ConnectSpec) -> Exception:
    """Why it gives no client."""
    try:
        await table.get(spec)
    except KubeError as error:
        return error
    raise AssertionError("it gave one")


def test_raycp_check_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("raycp.kube.exec_plugin.PLUGIN_SECONDS", 0.5)
    server = ScriptedApi()
    server.port = 1
    write(tmp_path / "config", server, plugin(tmp_path, "time.sleep(600)"))
    fleet = {
        "apiVersion": "raycp.io/v1alpha1",
        "kind": "Fleet",
        "metadata": {"name": "f"},
        "spec": {
            "clusters": [{"name": "one", "kubeconfig": {"path": str(tmp_path / "config")}}],
            "controllers": [{"use": "fleet_samples:tracked"}],
        },
    }
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    begun = time.monotonic()
    assert main(["check", "-c", str(tmp_path / "fleet.yaml")]) == 1
    assert time.monotonic() - begun < 25.0
    assert "did not end within" in capsys.readouterr().err
