"""An embedded cluster on a node where nobody may write what RAYCP_HOME names."""

from pathlib import Path

import fleet_samples as samples
import pytest
from inprocess import led
from test_standby import doc

from raycp.cli.run import summary


async def test_a_kubeconfig_that_can_not_be_written_is_a_note_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples.reset()
    taken = tmp_path / "file"
    taken.touch()
    monkeypatch.setenv("RAYCP_HOME", str(taken / "home"))
    async with led() as fleet:
        status = await fleet.apply(doc("tracked"))
        here = [row for row in status["clusters"] if row["name"] == "here"]
        assert [row["kubeconfig"] for row in here] == [""]
        notes = {problem["owner"]["cluster"]: problem["message"] for problem in status["problems"]}
        assert "raycp kubeconfig here" in notes["here"]
        assert f"Not a directory: '{taken / 'home'}" in notes["here"]
        assert status["readiness"] == "ready", "it is the user's convenience that is missing"
        assert notes["here"] in summary(status | {"observer": {"url": ""}})
