"""The pytest plugin as a user's project uses it, in a separate pytest process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raycp.testkit.clusters import EmbeddedHandle

TESTS = """
import asyncio
import pytest

@pytest.mark.embedded(nodes=2, pod_runtime="1s")
def test_blocking(embedded_cluster, assert_converges):
    embedded_cluster.kubectl("run", "p", "--image=x", "--restart=Never")
    look = lambda: embedded_cluster.kubectl("get", "pod", "p", "-o", "jsonpath={.status.phase}").stdout == "Succeeded"
    assert_converges(look, within=20)

async def test_waiting_for_a_coroutine(assert_converges):
    seen = []
    async def check():
        seen.append(1)
        return len(seen) > 2
    await assert_converges(check, within=5)

def test_assert_converges_reports_a_check_that_never_holds(assert_converges):
    with pytest.raises(AssertionError, match="did not converge within 0.2 s: 'pending'") as caught:
        assert_converges(lambda: "" or (_ for _ in ()).throw(AssertionError("pending")), within=0.2)

@pytest.mark.embedded(nodes=1, pod_runtime="1h")
def test_virtual_time(embedded_cluster, virtual_clock, assert_converges):
    embedded_cluster.kubectl("run", "p", "--image=x", "--restart=Never")
    phase = lambda: embedded_cluster.kubectl("get", "pod", "p", "-o", "jsonpath={.status.phase}").stdout
    assert_converges(lambda: phase() == "Running", within=5)
    virtual_clock.move(3700)
    assert_converges(lambda: phase() == "Succeeded", within=5)

async def test_virtual_time_awaited(embedded_cluster, virtual_clock):
    before = virtual_clock.now()
    await virtual_clock.advance(60)
    assert virtual_clock.now() == before + 60

def test_fleet(embedded_fleet):
    clusters = embedded_fleet(3)
    assert [c.name for c in clusters] == ["hub", "member-1", "member-2"]
    assert len({c.server for c in clusters}) == 3

def test_faults(embedded_cluster):
    embedded_cluster.add_fault("error", status=503, resources=["secrets"])
    assert "unable to handle the request" in embedded_cluster.kubectl("get", "secrets", check=False).stderr
    embedded_cluster.clear_faults()
    embedded_cluster.kubectl("get", "secrets")
"""

REAL = """
def test_on_any_cluster(embedded_cluster):
    assert "default" in embedded_cluster.kubectl("get", "ns", "-o", "name").stdout

def test_faults(embedded_cluster):
    embedded_cluster.add_fault("reset")

def test_fleet(embedded_fleet):
    embedded_fleet(2)

def test_time(virtual_clock):
    pass
"""


def run(directory: Path, text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    (directory / "test_mine.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    plugins = ["-p", "raycp.testkit.plugin", "-p", "pytest_asyncio.plugin"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", *plugins, *arguments, str(directory)],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
        cwd=directory,
    )


def test_the_fixtures_of_the_test_kit(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS.replace("'pending'", "AssertionError"))
    assert "7 passed" in done.stdout, done.stdout + done.stderr


def test_tests_run_on_an_existing_cluster_with_kubeconfig(living: EmbeddedHandle, tmp_path: Path) -> None:
    done = run(tmp_path, REAL, f"--kubeconfig={living.kubeconfig}")
    assert "1 passed, 3 skipped" in done.stdout, done.stdout + done.stderr


FLEET = """
from raycp import controller

def test_my_controller(fleet_running, assert_converges):
    with fleet_running(controllers=["mine"], clusters=2) as fleet:
        hub, member = fleet.clusters
        assert fleet.status()["ready"]
        member.kubectl("create", "configmap", "a", "--from-literal=x=1")
        member.kubectl("label", "configmap", "a", "app=mine")

        def seen():
            return member.kubectl("get", "configmap", "a-copy", check=False).returncode == 0

        assert_converges(seen, within=20)
"""

CONTROLLER = """
from raycp import Context, controller

@controller("v1/ConfigMap", labels={"app": "mine"})
async def mine(ctx: Context, cm: dict) -> None:
    await ctx.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": cm["metadata"]["name"] + "-copy", "namespace": cm["metadata"]["namespace"]}, "data": cm["data"]}, own=True)
"""


@pytest.mark.ray
def test_a_users_controller_runs_over_the_kits_clusters(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CONTROLLER)
    done = run(tmp_path, FLEET)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
