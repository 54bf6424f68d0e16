"""``raycp slo``: rules from a file, a report from a real observer's HTTP server."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from raycp.base.clock import SystemClock
from raycp.base.keys import RequestKey
from raycp.cli.main import main
from raycp.metrics import Metrics, SliMetrics
from raycp.slo import Objective, Objectives, SliClocks, SloBook, SloTracker

FLEET: dict[str, Any] = {
    "apiVersion": "raycp.io/v1alpha1",
    "kind": "Fleet",
    "metadata": {"name": "demo"},
    "spec": {
        "clusters": [{"name": "hub", "role": "hub", "embedded": {}}],
        "controllers": [{"use": "raycp.bench.workload"}],
        "slo": [{"controller": "bench", "tier": "critical", "objective": "99.9%", "within": "1s"}],
    },
}


def _file(tmp_path: Path, **spec: Any) -> str:
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump({**FLEET, "spec": {**FLEET["spec"], **spec}}))
    return str(path)


def test_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slo", "rules", "-c", _file(tmp_path)]) == 0
    groups = yaml.safe_load(capsys.readouterr().out)["groups"]
    assert [g["name"] for g in groups] == ["raycp-slo", "raycp-slo-bench-critical-1s", "raycp-fleet"]
    assert main(["slo", "rules", "-c", _file(tmp_path), "--operator"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["kind"] == "PrometheusRule"


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slo", "rules"]) == 2
    assert "-c" in capsys.readouterr().err
    assert main(["slo", "--url", "localhost:1"]) == 2
    assert main(["slo", "--url", "http://127.0.0.1:9"]) == 1
    assert "does not answer" in capsys.readouterr().err
    twice = [*FLEET["spec"]["slo"], {**FLEET["spec"]["slo"][0], "objective": "99%"}]
    assert main(["slo", "rules", "-c", _file(tmp_path, slo=twice)]) == 2


def test_raycp_slo_prints_the_report_of_a_book(capsys: pytest.CaptureFixture[str]) -> None:
    from raycp.cli.slo import show

    clock = SystemClock()
    objectives = Objectives([Objective("echo", None, 0.99, 1.0)])
    clocks, tracker, book = (
        SliClocks(clock, objectives),
        SloTracker(objectives, SliMetrics(Metrics()), clock.wall),
        SloBook(clock, objectives),
    )
    for i in range(10):
        key = RequestKey("echo", "east", "default", str(i))
        clocks.started(key, "user", clock.now() - (5.0 if i == 0 else 0.001))
        clocks.handed_out(key)
        tracker.taken += clocks.done(key, True)
    book.feed("s", tracker.report())
    rows = json.loads(json.dumps(book.report()))
    table = str(show(rows, "wide")).splitlines()
    assert "BUDGET LEFT" in table[0]
    assert "90.00 %" in table[1]
    assert "page (1h)" not in table[1], "99 % may miss at most ten-fold: 14.4 is out of reach"
    assert "-900.0 %" in table[1]
    assert json.loads(str(show(rows, "json")))[0]["name"] == "echo-all-1s"
    assert "no objective" in str(show([], "table"))
