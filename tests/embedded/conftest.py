"""Tools and clusters for the tests with real clients."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raycp.config.embedded import EmbeddedSpec
from raycp.testkit.clusters import EmbeddedHandle, EmbeddedHost

ROOT = Path(__file__).parents[2]
OLDEST_KUBECTL = (1, 32)


def find_tool(name: str) -> str | None:
    """The tool on PATH if it is new enough, else the one that ``scripts/tools.sh`` has fetched."""
    found = shutil.which(name)
    if found and name == "kubectl":
        told = subprocess.run([found, "version", "--client"], capture_output=True, text=True, timeout=30).stdout
        version = re.search(r"v(\d+)\.(\d+)", told)
        if version is None or (int(version[1]), int(version[2])) < OLDEST_KUBECTL:
            found = None
    return found or shutil.which(name, path=str(ROOT / ".tools" / "bin"))


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    def get(name: str) -> str:
        found = find_tool(name)
        if found is None:
            told = f"{name} is missing: scripts/tools.sh fetches it"
            if os.environ.get("CI") == "true":
                pytest.fail(told)
            pytest.skip(told)
        return found

    return get


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Iterator[EmbeddedHandle]:
    """An embedded cluster with two nodes and quick Pods, shared by the tests of a module."""
    host = EmbeddedHost(tmp_path_factory.mktemp("clusters"), binary=tool("kubectl"))
    yield host.start("living", EmbeddedSpec(nodes=2, pod_runtime=1.0))
    host.close()
