"""The wheel that a user installs."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OFFLINE = ("--quiet", "--no-deps", "--no-index")
"""For ``pip``: nothing is fetched."""


def build_wheel(directory: Path) -> Path:
    """Build it in ``directory``, from a copy of the sources: a build leaves files behind."""
    source = directory / "source"
    for name in ("raycp", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", *OFFLINE, "--no-build-isolation", "-w", directory, source]
    subprocess.run(command, check=True, timeout=100)
    (wheel,) = directory.glob("*.whl")
    return wheel
