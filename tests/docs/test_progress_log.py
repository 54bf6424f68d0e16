"""What ``.ci/run`` prints of a step that was stopped at its limit."""

import os
import subprocess
import sys
from pathlib import Path

import progress_log

ROOT = Path(__file__).parents[2]


def test_the_test_at_work_and_the_slowest_are_named() -> None:
    lines = ["10.0 begin a", "12.5 end a", "12.5 begin b[x y]", "13.0 end b[x y]", "14.0 begin c"]
    assert progress_log.summary(lines, 20.0) == ["at work for 6 s: c", "took 2 s: a", "took 0 s: b[x y]"]


def test_a_run_of_several_processes_is_logged_once(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\n@pytest.mark.parametrize('n', ['a', '\\u00e9'])\ndef test_a(n):\n    assert n\n")
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    log = tmp_path / "log"
    command = [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)]
    environment = os.environ | {progress_log.VARIABLE: str(log), "PYTHONPATH": f"{ROOT / 'tests/support'}:{ROOT}"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line.split(" ", 2)[1:] for line in log.read_text().splitlines()]
    assert sorted(what for what, _ in words) == ["begin", "begin", "end", "end"]
    assert len({name for _, name in words}) == 2
