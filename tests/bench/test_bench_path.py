"""The path of a change stays short: ``python -m raycp.bench.path``."""

import json
import subprocess
import sys
from pathlib import Path

from raycp.bench.path import figures

ROOT = Path(__file__).parents[2]
MOST_FILES = 25
MOST_RETURNS = 50


def test_a_return_is_counted_where_a_file_is_entered_again() -> None:
    assert figures(["a", "a", "b", "c", "b", "a"]) == (["a", "b", "c"], 2)
    assert figures([]) == ([], 0)


def test_one_change_enters_few_files_and_returns_to_few() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "raycp.bench.path", "--changes", "7"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    (line,) = run.stdout.splitlines()
    found = json.loads(line)
    assert 0 < found["files"] <= MOST_FILES, found
    assert 0 < found["returns"] <= MOST_RETURNS, found
    assert {"shard/ledger.py", "queueing/work_queue.py", "worker/runs.py", "sdk/run.py"} <= set(found["path"])
