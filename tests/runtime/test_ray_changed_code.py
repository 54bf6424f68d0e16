"""raycp's own code is replaced under a running fleet by another release: what is said, and an upgrade under load loses nothing.

The previous release is this one under another version and with another line of code: a clone without history has no other.
"""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rayhouse import House, clusters_of, house, until
from test_ray_upgrade import MODULE, SPEC, load, settled

import raycp
from raycp.base.release import code_digest

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(400)]

SOURCES = Path(raycp.__file__).parent
OLD, NEW = "0.0.9", "0.1.0"


class Installation:
    """A directory with raycp and a controller, from which Ray's processes and commands import both."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.package = place / "raycp"
        shutil.copytree(SOURCES, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        (place / "upgraded_sample.py").write_text(MODULE.format(version="one"))

    def becomes(self, number: str, line: str) -> str:
        """The release is installed over the one that is there; as commands show it."""
        for old in self.place.glob("raycp-*.dist-info"):
            shutil.rmtree(old)
        info = self.place / f"raycp-{number}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: raycp\nVersion: {number}\n")
        changed = self.package / "base/keys.py"
        changed.write_text((SOURCES / "base/keys.py").read_text() + line)
        return f"raycp {number} (code {code_digest(self.package)})"


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "code")


@pytest.fixture
def ray_house(tmp_path: Path, installed: Installation) -> Iterator[House]:
    with house(tmp_path, {"PYTHONPATH": str(installed.place)}) as made:
        yield made


def released(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in status["problems"] if row["code"] == "ReleaseDiffers"]


def test_another_release_is_named_and_an_upgrade_to_it_under_load_loses_nothing(ray_house: House, installed: Installation) -> None:
    house = ray_house
    old = installed.becomes(OLD, "\nRELEASE = 'old'\n")
    path = str(house.file("changed", ["here"], ["upgraded_sample"], **SPEC))
    ours = ("-c", path, "--address", house.address, "--working-dir", str(installed.place))
    house.raycp("run", *ours)
    status = house.status("changed")
    assert status["release"] == f"{OLD}+{code_digest(installed.package)}"
    assert released(status) == []
    cluster = clusters_of(status)["here"]
    with load(cluster, "c") as changes:
        until(lambda: len(changes.names) > 10, 20, "load")
        new = installed.becomes(NEW, "\nRELEASE = 'new'\n")
        says = f"this fleet runs {old}, this is {new}"
        for command in (("apply", *ours), ("apply", *ours, "--dry-run"), ("run", *ours)):
            assert says in (said := house.raycp(*command, expect=1)), said
            assert "raycp upgrade -c FLEET.yaml" in said
        assert f"note: {says}" in house.output_of("status", "--fleet", "changed")

        (worker,) = status["workers"]
        os.kill(worker["pid"], signal.SIGKILL)

        def named() -> list[dict[str, Any]]:
            return released(house.status("changed"))

        (problem,) = until(named, 60, "the new worker's code is named", every=1.0)
        assert problem["owner"]["member"].startswith("worker ")
        assert f"it runs {new}, the fleet's leader {old}" in problem["message"]

        output = house.raycp("upgrade", *ours)
        assert "leads in epoch 2" in output, output
        done = len(changes.names)
        until(lambda: len(changes.names) > done + 20, 20, "load after the upgrade")
    settled(cluster, changes.names)
    after = house.status("changed")
    assert after["release"] == f"{NEW}+{code_digest(installed.package)}"
    assert released(after) == [], json.dumps(after["problems"])
    assert "nothing to change" in house.raycp("apply", *ours)
    house.raycp("down", "--fleet", "changed", "--address", house.address, "--yes")
