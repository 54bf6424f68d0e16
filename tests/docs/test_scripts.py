"""The scripts that install, test and check raycp: they parse, are executable, and return at once when nothing is to do."""

import re
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_each_script_parses_and_is_executable(script: Path) -> None:
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


def test_make_help_lists_the_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, check=True, timeout=10, capture_output=True, text=True)
    for target in ("install", "tools", "demo", "test", "test-wide", "lint", "soak", "bench", "lock", "sbom"):
        assert re.search(rf"^  make {target} ", done.stdout, re.MULTILINE)


def test_ci_ends_within_eighty_minutes() -> None:
    steps = {name: int(seconds) for name, seconds in re.findall(r"step (\w+) (\d+) ", (ROOT / ".ci/run").read_text())}
    assert {"install", "test", "wide", "demo"} <= steps.keys()
    assert steps["test"] <= 25 * 60
    assert steps["wide"] <= 35 * 60
    assert sum(steps.values()) < 80 * 60


def test_each_test_belongs_to_one_target() -> None:
    selected = re.findall(r'-m (?:"([^"]+)"|(\w+))(?= )', (ROOT / "Makefile").read_text())
    expressions = [quoted or word for quoted, word in selected if (quoted or word) != "pytest"]
    assert len(expressions) == 4

    def targets(marks: set[str]) -> int:
        names = {name: name in marks for name in ("ray", "wide", "soak")}
        return sum(bool(eval(each, {}, names)) for each in expressions)

    for ray in (set(), {"ray"}):
        for slow in (set(), {"wide"}, {"soak"}):
            assert targets(ray | slow) == 1, ray | slow
