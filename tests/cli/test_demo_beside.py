"""The README's own two commands at once, for a user who installed the wheel: a fleet in the foreground, the demo beside it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
from rayhouse import end_tree, output_until, until
from wheels import OFFLINE, ROOT, build_wheel

CLUSTERS = ("hub", "east-1", "east-2", "west-1")

pytestmark = [pytest.mark.wide, pytest.mark.timeout(600)]


def installed(directory: Path, env: dict[str, str]) -> Path:
    """``raycp`` of a new virtual environment with the wheel; what raycp depends on is this environment's."""
    environment = directory / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", *OFFLINE, build_wheel(directory)]
    subprocess.run(install, check=True, timeout=100)
    packages = environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # What a .pth file names comes after the environment's own; .pth files there, such as that of an editable raycp, are not read.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    where = [python, "-c", "import raycp; print(raycp.__file__)"]
    found = subprocess.run(where, cwd=directory, env=env, check=True, capture_output=True, text=True, timeout=60).stdout
    assert found.startswith(str(packages)), "the wheel's, not the repository's"
    return environment / "bin" / "raycp"


def test_the_demo_of_the_wheel_beside_the_quickstart_fleet(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copy(ROOT / "configs" / "quickstart.yaml", tmp_path / "quickstart.yaml")
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    env |= {"RAYCP_HOME": str(home), "PYTHONUNBUFFERED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    raycp = installed(tmp_path, env)
    both: dict[str, Any] = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": tmp_path, "env": env}
    started: list[subprocess.Popen[str]] = []
    try:
        started.append(subprocess.Popen([raycp, "run", "-c", "quickstart.yaml"], start_new_session=True, **both))
        fleet = started[0]
        shown = output_until(fleet, "Ctrl-C takes it down", "error:")
        assert "fleet quickstart is ready" in shown, shown
        kept = {name: (home / "quickstart" / f"{name}.kubeconfig").read_text() for name in CLUSTERS}

        started.append(subprocess.Popen([raycp, "demo", "--jobs", "20"], start_new_session=True, **both))
        told, _ = started[1].communicate(timeout=300)
        assert started[1].returncode == 0, told
        assert "Jobs: 20 complete, 0 failed; Pods created twice: 0" in told
        assert "waits for WaitingForQuota: " in told, "of the five jobs with a queue, two have to wait"
        assert re.search(r"^demo-(research|serving) +demo +[1-9]", told, re.MULTILINE), told

        assert fleet.poll() is None, "the first one goes on"
        assert {name: (home / "quickstart" / f"{name}.kubeconfig").read_text() for name in CLUSTERS} == kept
        status = subprocess.run([raycp, "status", "-c", "quickstart.yaml"], timeout=60, check=False, **both)
        assert status.returncode == 0, status.stdout
        assert all(name in status.stdout for name in CLUSTERS)

        fleet.send_signal(signal.SIGINT)
        end, _ = fleet.communicate(timeout=90)
        assert "fleet quickstart is down" in end
        until(lambda: not list(home.glob("*/*.kubeconfig")), 10.0, "no kubeconfig is left")
    finally:
        for process in started:
            end_tree(process.pid)
