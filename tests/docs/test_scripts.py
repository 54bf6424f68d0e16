"""The scripts that set up, test and run raycp: they parse, may be executed, and do nothing when nothing is to do."""

import re
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_each_script_parses_and_may_be_executed(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True, timeout=10)
    assert script.stat().st_mode & 0o100
    assert script.read_text().startswith("#!/usr/bin/env bash\n# ")


@pytest.mark.parametrize(("script", "seconds"), [("install.sh", 1.0), ("tools.sh", 2.0)])
def test_a_second_run_is_quick(script: str, seconds: float) -> None:
    stamp = ROOT / ".venv/.installed" if script == "install.sh" else ROOT / ".tools/bin/kubectl"
    if not stamp.exists():
        pytest.skip("not set up by make install and make tools")
    subprocess.run([ROOT / "scripts" / script], check=True, timeout=110, capture_output=True)
    begin = time.perf_counter()
    done = subprocess.run([ROOT / "scripts" / script], check=True, timeout=30, capture_output=True)
    assert time.perf_counter() - begin < seconds
    assert done.stdout == b""


def test_make_tells_its_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, check=True, timeout=10, capture_output=True, text=True)
    for target in ("install", "tools", "demo", "test", "lint", "soak", "bench"):
        assert re.search(rf"^  make {target} ", done.stdout, re.MULTILINE)
