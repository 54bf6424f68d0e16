"""``raycp bench admission`` at a small scale."""

import json

import pytest

from raycp.cli.main import main


def test_it_prints_figures_and_never_exceeds_a_quota(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "admission", "--scale", "0.04"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scenario"] == "admission"
    assert found["over_quota"] == 0
    assert min(found[name] for name in ("decisions_per_second", "submit_us", "decide_p99_ms")) > 0
