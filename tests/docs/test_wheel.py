"""What a user gets who installs the wheel, without the repository."""

import zipfile
from pathlib import Path

from wheels import ROOT, build_wheel


def test_the_wheel_has_the_fleet_of_the_demo_and_the_parts_of_the_page(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as built:
        parts = (ROOT / "raycp" / "observer" / "page").iterdir()
        assert {f"raycp/observer/page/{part.name}" for part in parts} <= set(built.namelist())
        assert built.read("raycp/cli/quickstart.yaml") == (ROOT / "configs" / "quickstart.yaml").read_bytes()
