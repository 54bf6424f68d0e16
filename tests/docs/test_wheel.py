"""What a user gets who installs the wheel, without the repository."""

import zipfile
from pathlib import Path

from wheels import ROOT, build_wheel


def test_the_wheel_has_the_fleet_of_the_demo(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as built:
        assert built.read("raycp/cli/quickstart.yaml") == (ROOT / "configs" / "quickstart.yaml").read_bytes()
