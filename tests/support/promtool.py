"""Prometheus' own checks of what raycp gives it. A test without the tool fails: ``make tools`` installs it."""

import os
import shutil
import subprocess
from pathlib import Path

TOOLS = Path(__file__).parents[2] / ".tools/bin"


def promtool(*args: str | Path, page: bytes = b"") -> str:
    """Run it with ``page`` on its standard input; what it prints. Fails where it refuses anything, or says anything of metrics."""
    found = shutil.which("promtool", path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found is not None, "promtool is not installed: run `make tools`"
    done = subprocess.run([found, *map(str, args)], input=page, capture_output=True, check=False)
    printed = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, printed
    return printed
