"""``raycp check`` on files, and on real API servers (embedded clusters over HTTPS)."""

import asyncio
import json
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from collector import collector

from raycp.cli import main as cli
from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.config.load import load_fleet
from raycp.config.rayenv import RAY_ENV, local_ray_environments, missing_settings
from raycp.driver.fleet_builder import build_fleet

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]

MODULE = """
from raycp import Context, Result, controller

@controller("v1/ConfigMap", labels={"app": "echo"}, owns=["v1/Pod"])
async def echo(ctx: Context, cm: dict) -> Result | None: ...
"""
FLEET = """
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: x}
spec:
  clusters:
    - {name: a, kubeconfig: {path: a.yaml}, requestTimeout: 3s}
  controllers: [{use: MODULE}]
"""


def write(folder: Path, fleet: str = FLEET, module: str = MODULE) -> Path:
    """A fleet file and its module, under a name that no other test has imported."""
    name = f"echo_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(module)
    file = folder / "fleet.yaml"
    file.write_text(fleet.replace("MODULE", name))
    return file


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


EMBEDDED = FLEET.replace("kubeconfig: {path: a.yaml}", "embedded: {}")


def test_check_of_a_valid_file(tmp_path: Path, capsys: Captured) -> None:
    assert cli.main(["check", "-c", str(write(tmp_path, EMBEDDED))]) == 0
    out = capsys.readouterr().out
    assert "is valid" in out
    assert "echo (v1/ConfigMap)" in out


@pytest.mark.parametrize("command", [["check", "--offline"], ["check"], ["run"]], ids=" ".join)
def test_a_bad_program_in_a_stage_file_is_bad_input(command: list[str], tmp_path: Path, capsys: Captured) -> None:
    stage = tmp_path / "stages.yaml"
    stage.write_text(
        "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {name: odd}\n"
        "spec: {resourceRef: {kind: Pod}, selector: {matchExpressions: [{key: '.status | nosuch(1)', operator: Exists}]}}\n"
    )
    file = write(tmp_path, EMBEDDED.replace("embedded: {}", "embedded: {stages: [stages.yaml]}"))
    assert cli.main([*command, "-c", str(file)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {stage}: stage odd: spec.selector.matchExpressions[0]: jq expression '.status | nosuch(1)': ")
    assert "nosuch/1 is not defined" in err


def test_check_prints_json(tmp_path: Path, capsys: Captured) -> None:
    assert cli.main(["check", "-c", str(write(tmp_path, EMBEDDED)), "-o", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["fleet"] == "x"
    assert content["clusters"][0]["status"] == "ok"
    assert content["controllers"][0]["name"] == "echo"


def test_the_generation_is_the_one_that_the_fleet_will_run(tmp_path: Path, capsys: Captured) -> None:
    """Declarations and code of the controllers are part of it, as in `raycp status`."""
    file = write(tmp_path, EMBEDDED)
    fleet = build_fleet(load_fleet(file), file, [Path.cwd(), tmp_path])
    assert cli.main(["check", "-c", str(file), "--offline"]) == 0
    assert f"generation {fleet.generation}:" in capsys.readouterr().out
    assert cli.main(["check", "-c", str(file), "--offline", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["generation"] == fleet.generation


def test_modules_are_found_where_run_is_told_to_find_them(tmp_path: Path, capsys: Captured) -> None:
    modules = tmp_path / "new"
    (modules / "in_a_folder").mkdir(parents=True)
    (modules / "in_a_folder/__init__.py").write_text(MODULE)
    (modules / "in_a_folder/.#__init__.py").symlink_to("someone@somewhere.1234")  # an editor's
    file = write(tmp_path, EMBEDDED.replace("MODULE", "in_a_folder"))
    assert cli.main(["check", "-c", str(file), "--offline"]) == 2
    assert "in_a_folder" in capsys.readouterr().err
    assert cli.main(["check", "-c", str(file), "--offline", "--working-dir", str(modules), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["generation"] == build_fleet(load_fleet(file), file, [modules]).generation
    assert cli.main(["check", "-c", str(file), "--offline", "--working-dir", str(modules / "none")]) == 2
    assert "is not a directory" in capsys.readouterr().err


def test_an_invalid_file_is_bad_input(tmp_path: Path, capsys: Captured) -> None:
    file = write(tmp_path, FLEET.replace("kubeconfig", "kubeconfg"))
    assert cli.main(["check", "-c", str(file)]) == 2
    err = capsys.readouterr().err
    assert f"error: {file}:7: spec.clusters[0].kubeconfg" in err
    assert "did you mean 'kubeconfig'" in err


def test_a_missing_kubeconfig_is_bad_input_unless_offline(tmp_path: Path, capsys: Captured) -> None:
    file = write(tmp_path)
    assert cli.main(["check", "-c", str(file)]) == 2
    assert "spec.clusters[0].kubeconfig.path" in capsys.readouterr().err
    assert cli.main(["check", "-c", str(file), "--offline"]) == 0


@pytest.mark.parametrize(
    ("module", "message"),
    [("import nosuchmodule", "nosuchmodule"), ("x = 1", "no controller"), ("def f(:", "f(:")],
    ids=["import", "empty", "syntax"],
)
def test_a_module_without_a_usable_controller_is_bad_input(tmp_path: Path, capsys: Captured, module: str, message: str) -> None:
    assert cli.main(["check", "-c", str(write(tmp_path, EMBEDDED, module))]) == 2
    err = capsys.readouterr().err
    assert "spec.controllers[0]" in err
    assert message in err
    assert "Traceback" not in err


TRACED = EMBEDDED + "  traces: {endpoint: ENDPOINT, sample: 10%, errors: true}\n"


@pytest.fixture
def _no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("collector:4318", "spec.traces.endpoint"),
        ("grpc://collector:4317", "OTLP over HTTP"),
        ("http://me:t0psecret@collector", "carries a user name or password"),
        ("http://collector:port", "is not a URL"),
        ("http://me:t0psecret@collector:port", "carries a user name or password"),
    ],
)
def test_a_bad_endpoint_of_traces_is_bad_input(endpoint: str, message: str, tmp_path: Path, capsys: Captured) -> None:
    assert cli.main(["check", "--offline", "-c", str(write(tmp_path, TRACED.replace("ENDPOINT", endpoint)))]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "fleet.yaml:9" in shown
    assert "t0psecret" not in shown


@pytest.mark.usefixtures("_no_collector")
def test_a_protocol_that_raycp_does_not_speak_is_bad_input_wherever_it_is_set(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = "OTEL_EXPORTER_OTLP_ENDPOINT: http://collector:4317, OTEL_EXPORTER_OTLP_PROTOCOL: grpc"
    assert cli.main(["check", "--offline", "-c", str(write(tmp_path, EMBEDDED + f"  ray: {{env: {{{env}}}}}\n"))]) == 2
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'" in capsys.readouterr().err
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector")
    assert cli.main(["check", "--offline", "-c", str(write(tmp_path, EMBEDDED))]) == 2
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ('collector')" in capsys.readouterr().err


@pytest.mark.usefixtures("_no_collector")
def test_headers_are_no_variables_of_ray(tmp_path: Path, capsys: Captured) -> None:
    env = "OTEL_EXPORTER_OTLP_HEADERS: authorization=t0psecret"
    assert cli.main(["check", "--offline", "-c", str(write(tmp_path, EMBEDDED + f"  ray: {{env: {{{env}}}}}\n"))]) == 2
    shown = capsys.readouterr().err
    assert "looks like a secret" in shown
    assert "t0psecret" not in shown


@pytest.mark.usefixtures("_no_collector")
def test_a_collector_that_does_not_answer_is_a_warning(tmp_path: Path, capsys: Captured) -> None:
    file = write(tmp_path, TRACED.replace("ENDPOINT", "http://127.0.0.1:9"))
    assert cli.main(["check", "-c", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "traces: 10% of the changes, and failures, to http://127.0.0.1:9/v1/traces" in out
    assert "warning: the collector of traces takes nothing from this machine: " in err
    assert cli.main(["check", "--offline", "-o", "json", "-c", str(file)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["traces"] == {"endpoint": "http://127.0.0.1:9/v1/traces", "sample": 0.1, "errors": True}


@pytest.mark.usefixtures("_no_collector")
async def test_a_collector_is_asked_with_the_headers_of_the_file(tmp_path: Path, capsys: Captured) -> None:
    headers = tmp_path / "headers"
    headers.write_text("authorization=Bearer t0psecret\n")
    async with collector() as to:
        text = TRACED.replace("ENDPOINT", to.url).replace("errors: true", f"headersFile: {headers}")
        assert await asyncio.to_thread(cli.main, ["check", "-c", str(write(tmp_path, text))]) == 0
        assert "collector of traces" not in capsys.readouterr().err
        assert [each["authorization"] for each in to.headers] == ["Bearer t0psecret"]
        to.status = 401
        assert await asyncio.to_thread(cli.main, ["check", "-c", str(tmp_path / "fleet.yaml")]) == 0
        assert "the collector answers with status 401" in capsys.readouterr().err


def test_an_objective_for_an_unknown_controller_is_bad_input(tmp_path: Path, capsys: Captured) -> None:
    fleet = EMBEDDED + "  slo: [{controller: ecko, objective: 99%, within: 1s}]\n"
    assert cli.main(["check", "-c", str(write(tmp_path, fleet))]) == 2
    assert "did you mean 'echo'" in capsys.readouterr().err


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t0psecret}}]
"""


@pytest.mark.parametrize("what", ["a fifo", "50 MB", "a token that is a number"])
def test_a_kubeconfig_that_cannot_be_read_is_bad_input_at_once(what: str, tmp_path: Path, capsys: Captured) -> None:
    file, path = write(tmp_path), tmp_path / "a.yaml"
    if what == "a fifo":
        os.mkfifo(path)
    else:
        path.write_text("#" * (50 << 20) if what == "50 MB" else KUBECONFIG.replace("t0psecret", "98765"))
    assert cli.main(["check", "-c", str(file)]) == 2
    err = capsys.readouterr().err
    assert f'error: {file}:7: spec.clusters[0].kubeconfig.path: "a.yaml" cannot be used: kubeconfig {path}' in err
    expected = {"a fifo": "not a regular file", "50 MB": "more than 4096 KiB"}.get(what, "users[0].user.token is a number")
    assert expected in err
    assert "98765" not in err
    assert "Traceback" not in err


def test_check_refuses_a_proxy_that_raycp_cannot_use_and_says_which_it_can(tmp_path: Path, capsys: Captured) -> None:
    file = write(tmp_path)
    (tmp_path / "a.yaml").write_text(KUBECONFIG.replace('127.0.0.1:1"', '127.0.0.1:1", proxy-url: "socks4://me:t0psecret@p:1080"'))
    assert cli.main(["check", "-c", str(file)]) == 1
    err = capsys.readouterr().err
    assert "the proxy 'p:1080' is not a URL with one of the schemes http, https and socks5" in err
    assert "t0psecret" not in err


def test_check_fails_where_no_server_answers(tmp_path: Path, capsys: Captured) -> None:
    file = write(tmp_path)
    (tmp_path / "a.yaml").write_text(KUBECONFIG)
    assert cli.main(["check", "-c", str(file)]) == 1
    captured = capsys.readouterr()
    assert "failed" in captured.out
    assert "refused" in captured.err
    assert "t0psecret" not in captured.out + captured.err


async def _check(arguments: list[str]) -> int:
    return await asyncio.to_thread(cli.main, ["check", *arguments])


async def test_check_of_a_real_server(tmp_path: Path, capsys: Captured) -> None:
    from raycp.embedded.cluster import EmbeddedCluster

    cluster = EmbeddedCluster("a", EmbeddedSpec(controllers=EmbeddedControllers.none()))
    endpoint = await cluster.start()
    try:
        (tmp_path / "a.yaml").write_text(endpoint.kubeconfig)
        file = write(tmp_path)
        assert await _check(["-c", str(file), "-o", "json"]) == 0
        row = json.loads(capsys.readouterr().out)["clusters"][0]
        assert row["status"] == "ok"
        assert row["version"].startswith("v1.")
        assert row["granted"] == row["asked"] > 10

        unknown = write(tmp_path, FLEET, MODULE.replace("v1/ConfigMap", "example.com/v1/Widget"))
        sys.modules.pop(f"echo_{tmp_path.name.replace('-', '_')}", None)
        assert await _check(["-c", str(unknown)]) == 1
        assert "serves no example.com/v1/Widget" in capsys.readouterr().err

        (tmp_path / "b.yaml").write_text(endpoint.kubeconfig)
        hub = "- {name: b, role: hub, kubeconfig: {path: b.yaml}, requestTimeout: 3s}\n    - {name: a,"
        both = write(tmp_path, FLEET.replace("- {name: a,", hub))
        sys.modules.pop(f"echo_{tmp_path.name.replace('-', '_')}", None)
        assert await _check(["-c", str(both)]) == 1
        assert "cluster a is the same cluster as b" in capsys.readouterr().err

        file = write(tmp_path)
        wrong = endpoint.kubeconfig.replace(endpoint.token, "x" * len(endpoint.token))
        (tmp_path / "a.yaml").write_text(wrong)
        assert await _check(["-c", str(file)]) == 1
        assert "401" in capsys.readouterr().err
    finally:
        await cluster.stop()


def test_missing_settings_of_a_running_ray_are_found(tmp_path: Path) -> None:
    for pid, comm, environ in ((1, "raylet", "A=b\0RAY_worker_niceness=0\0"), (2, "bash", ""), (3, "gcs_server", "")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(f"{comm}\n")
        (tmp_path / str(pid) / "environ").write_text(environ)
    found = local_ray_environments(tmp_path)
    assert len(found) == 2
    assert all(missing_settings(each) for each in found)
    assert any("RAY_worker_niceness=0" not in missing_settings(each) for each in found)
    assert not missing_settings(RAY_ENV)


async def _kubectl(kubeconfig: Path, *arguments: str) -> str:
    kubectl = ROOT / ".tools/bin/kubectl"
    program = str(kubectl) if kubectl.exists() else shutil.which("kubectl") or pytest.skip("no kubectl: make tools")
    process = await asyncio.create_subprocess_exec(
        program, "--kubeconfig", str(kubeconfig), *arguments, stdout=PIPE, stderr=PIPE, cwd=ROOT
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


async def test_the_shipped_roles_suffice_and_missing_rights_are_named(tmp_path: Path, capsys: Captured) -> None:
    """deploy/rbac, applied by kubectl to a server that enforces RBAC, lets a one-cluster fleet with BatchJob pass."""
    from raycp.embedded.cluster import EmbeddedCluster

    cluster = EmbeddedCluster("a", EmbeddedSpec(rbac=True, controllers=EmbeddedControllers.none()))
    endpoint = await cluster.start()
    try:
        admin = tmp_path / "admin.yaml"
        admin.write_text(endpoint.kubeconfig)
        await _kubectl(admin, "create", "namespace", "raycp-system")
        await _kubectl(admin, "-n", "raycp-system", "create", "serviceaccount", "raycp")
        token = await _kubectl(admin, "-n", "raycp-system", "create", "token", "raycp")
        (tmp_path / "a.yaml").write_text(endpoint.kubeconfig.replace(endpoint.token, token))
        file = write(tmp_path, FLEET.replace("MODULE", "raycp.controllers.batchjob"))
        assert await _check(["-c", str(file)]) == 1
        err = capsys.readouterr().err
        assert "does not let us" in err
        assert "v1/Pod (controller batchjob" in err
        assert token not in err
        for role in ("hub", "member"):
            await _kubectl(admin, "apply", "-f", f"deploy/rbac/{role}.yaml")
        assert await _check(["-c", str(file)]) == 0, capsys.readouterr().err
    finally:
        await cluster.stop()


async def test_the_rights_of_a_controllers_own_credentials_are_asked_for_as_its_user(tmp_path: Path, capsys: Captured) -> None:
    """It needs to write what it writes; the caches are filled with the cluster's own."""
    from raycp.embedded.cluster import EmbeddedCluster

    cluster = EmbeddedCluster("a", EmbeddedSpec(rbac=True, controllers=EmbeddedControllers.none()))
    endpoint = await cluster.start()
    token = cluster.add_user("author")
    own = "{use: MODULE, credentials: {a: {path: author.yaml}}}"
    try:
        (tmp_path / "a.yaml").write_text(endpoint.kubeconfig)
        (tmp_path / "author.yaml").write_text(endpoint.kubeconfig.replace(endpoint.token, token))
        file = write(tmp_path, FLEET.replace("{use: MODULE}", own))
        assert await _check(["-c", str(file)]) == 1
        err = capsys.readouterr().err
        author = tmp_path / "author.yaml"
        assert f"does not let the user of {author} create, patch, update, delete v1/Pod (controller echo, which owns them)" in err
        assert f"does not let the user of {author} patch, update v1/ConfigMap (controller echo)" in err
        assert "does not let us" not in err
        assert token not in err
        cluster.auth.revoke(token)
        assert await _check(["-c", str(file)]) == 1
        assert f"error: cluster a {author}: " in (err := capsys.readouterr().err)
        assert "rejects the credentials (401)" in err
        cluster.add_user("author", ("system:masters",), token)
        assert await _check(["-c", str(file)]) == 0, capsys.readouterr().err
    finally:
        await cluster.stop()
