"""What a switch is measured by, its causes, and tables of what was measured."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from raycp.bench.bounds import judge
from raycp.bench.causes import CAUSES
from raycp.bench.gaps import gap_figures, gaps_of, stale_writes, undisturbed
from raycp.bench.phases import PHASES, phase_figures, phase_means, phases_between
from raycp.bench.plot import draw_phases
from raycp.bench.report import causes_table, replace_marked, tables, verdict_rows
from raycp.bench.runner import Request, RunResult, variants_document
from raycp.bench.scenario import SCENARIOS, RunOutcome
from raycp.bench.suite import STEPS, SuiteStep, play_steps, read_out
from raycp.bench.switch import cause_of
from raycp.cli.bench import MODULES
from raycp.cli.main import main


def row(at: float, **more: Any) -> dict[str, Any]:
    phases = {"drain": 0.01, "leaderless": 0.02, "rampUp": 0.03, "backlog": None}
    return {"at": at, "what": "shard 0", "cause": "death", "term": 2, **phases, **more}


def test_phases_are_those_of_the_one_switch() -> None:
    history = [row(5.0, cause="start"), row(9.0), row(20.0, what="leader"), row(20.5, drain=0.5), row(31.0)]
    assert phases_between(history, 19.0, 30.0, killed=False) == {"drain": 0.5, "leaderless": 0.02, "ramp_up": 0.03}
    assert phases_between(history, 19.0, 30.0, killed=True)["leaderless"] == 1.5  # from the kill, not from its notice
    assert phases_between(history, 40.0, 50.0, killed=True) == {}


def test_phase_figures_are_sums_and_medians() -> None:
    told = phase_figures([{"drain": 1.0, "leaderless": 8.0}, {"leaderless": 2.0, "backlog": 1.0}, {"ramp_up": 0.5}])
    assert (told["switches"], told["leaderless_p50_ms"], told["total_p50_ms"], told["total_max_ms"]) == (3, 5000.0, 3000.0, 9000.0)
    assert phase_figures([]) == {}
    assert set(phase_means([{"drain": 1.0}])) == set(PHASES)


def test_a_gap_is_the_longest_extra_wait() -> None:
    windows = [[("a", 0.0, 0.01), ("b", 0.1, 0.01)], [("c", 1.0, 0.01), ("d", 1.1, 0.51)]]
    assert undisturbed(windows, 1) == 0.01
    assert undisturbed([[("late", 5.0, 0.5), ("early", 4.0, 0.02)]], 1) == 0.02
    assert undisturbed([], 1) == 0.0
    assert gaps_of(windows, 0.01) == pytest.approx([0.0, 0.5])
    assert gaps_of(windows, 0.11) == pytest.approx([-0.1, 0.4])
    assert gap_figures([0.5, 0.1])["max_gap_ms"] == 500.0


def test_a_stale_write_is_one_after_a_newer_stamp() -> None:
    assert stale_writes([(1, "0", 1), (1, "1", 4), (1, "0", 1), (1, "0", 2), (1, "1", 4), (2, "0", 1)]) == 0
    assert stale_writes([(1, "0", 2), (1, "0", 1), (1, "0", 2)]) == 1  # an old term
    assert stale_writes([(2, "0", 1), (1, "1", 9)]) == 1  # an old epoch, of whatever shard


def test_causes_are_those_of_the_issue() -> None:
    assert {
        "graceful",
        "leader-kill",
        "shard-kill",
        "standby-kill",
        "worker-kill",
        "observer-kill",
        "node-kill",
        "node-freeze",
    } <= set(CAUSES)
    assert SCENARIOS["switch"].variants == ("cause", tuple(CAUSES))
    assert cause_of({}).name == "graceful"
    assert SCENARIOS["switch"].suits("seed", "leader-kill")
    assert not SCENARIOS["switch"].suits("seed", "node-kill")


def figures(gap: float, **more: Any) -> dict[str, Any]:
    gaps = {"repetitions": 30, "max_gap_ms": gap, "gap_p50_ms": gap / 3, "gap_p99_ms": gap}
    return {"n": 900, "missing": 0, "duplicates": 0, **gaps, "total_p50_ms": gap, "total_mean_ms": gap, **more}


def several() -> dict[str, Any]:
    found: dict[str, RunResult | str] = {
        "graceful": RunResult({"raycp": figures(80.0, cause="graceful"), "seed": figures(12_000.0)}, {}),
        "shard-kill": RunResult({"raycp": figures(230.0, duplicates=1, cause="shard-kill")}, {}),
        "node-kill": "a Ray node did not start",
    }
    return variants_document(Request(SCENARIOS["switch"]), found)


def test_one_object_of_several_causes() -> None:
    told = several()
    assert (told["max_gap_ms"], told["duplicates"], told["repetitions"]) == (230.0, 1, 60)
    assert told["causes"]["graceful"]["peers"]["seed"]["max_gap_ms"] == 12_000.0
    assert told["causes"]["node-kill"] == {"failed": "a Ray node did not start"}
    broken = {(bound.scenario, bound.figure) for bound, kept, _ in judge("switch", told) if kept is False}
    assert ("switch", "duplicates") in broken
    table = causes_table(told)
    assert "12.0 s" in table
    assert "failed: a Ray node" in table


def test_bounds_of_a_cause_hold_for_that_cause() -> None:
    slow = {**figures(9_000.0), "cause": "graceful"}
    assert [kept for bound, kept, _ in judge("switch", slow) if bound.figure == "max_gap_ms"] == [False]
    cut_off = {**figures(7_000.0), "cause": "node-freeze"}
    assert [kept for bound, kept, _ in judge("switch", cut_off) if bound.figure == "max_gap_ms"] == [True]


def test_tables_stand_between_their_marks() -> None:
    before = {"depth_mean": 3000.0, "p999_ms": 7000.0, "within_objective": 0.5}
    resync = {"scenario": "resync-storm", "policy": "raycp", "depth_mean": 0.5, "p999_ms": 66.0, "within_objective": 1.0}
    found = {"switch": several(), "resync-storm": {**resync, "peers": {"fifo": before}}}
    made = tables(found)
    text = "# T\n<!-- bench:seed -->\nold\n<!-- /bench:seed -->\nkept\n<!-- bench:nobody -->\n<!-- /bench:nobody -->\n"
    document, empty = replace_marked(text, made)
    assert "old" not in document
    assert "kept" in document
    assert "−99.98 %" in document
    assert "1 000 → 30" in document
    assert empty == ["nobody"]
    assert replace_marked(document, made)[0] == document  # twice is once
    with pytest.raises(ValueError, match="no end"):
        replace_marked("<!-- bench:seed -->\n", made)
    kinds = {line[-1] for line in verdict_rows(found)}
    assert {"kept", "BROKEN"} <= kinds


def test_phases_are_drawn(tmp_path: Path) -> None:
    ours = RunOutcome(curves={"gap_ms": [(0.0, 12.0), (1.0, -0.2)]}, phases=[{"drain": 0.01, "leaderless": 0.02}])
    theirs = RunOutcome(curves={"gap_ms": [(0.0, 12_000.0)]}, phases=[{"leaderless": 11.0, "ramp_up": 1.0}])
    path = tmp_path / "figure.svg"
    draw_phases(
        "switch",
        {"graceful": RunResult({}, {"raycp": [ours], "seed": [theirs]}), "worker-kill": RunResult({}, {"raycp": [ours]})},
        path,
    )
    text = path.read_text()
    assert "ramp-up" in text or path.stat().st_size > 10_000


async def test_one_step_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    steps = [SuiteStep("broken", ("no-such-scenario",), 0.1), SuiteStep("named", ("list",), 0.1, plot=False)]
    said: list[str] = []
    played = await play_steps(steps, tmp_path, [], "svg", said.append)
    assert [each.code for each in played] == [2, 0]
    assert "is not a scenario" in (tmp_path / "broken.log").read_text()
    assert read_out(tmp_path) == {}
    (tmp_path / "named.json").write_text(json.dumps({"scenario": "x", "machine": {}}))
    assert list(read_out(tmp_path)) == ["named"]


def test_every_scenario_is_a_step() -> None:
    for module in MODULES:
        importlib.import_module(f"raycp.bench.{module}")
    assert {step.arguments[0] for step in STEPS} == {*SCENARIOS, "embedded"}


def test_bad_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["switch", "--cause", "nonsense"], "there is no such cause"),
        (["steady", "--cause", "graceful"], "has no causes"),
        (["steady", "--policy", "seed"], "has no policy seed"),
        (["switch", "--policy", "fifo"], "has no policy fifo"),
        (["switch", "--policy", "seed", "--cause", "node-kill"], "can't play --cause node-kill"),
        (["all"], "--out DIR"),
        (["all", "--out", str(tmp_path), "--only", "nothing"], "no such step"),
        (["report", "--out", str(tmp_path / "none")], "no such directory"),
        (["report", "--out", str(tmp_path)], "holds no results"),
    ):
        assert main(["bench", *arguments]) == 2, arguments
        assert said in capsys.readouterr().err


def test_a_report_goes_into_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "switch.json").write_text(json.dumps(several()))
    (tmp_path / "switch.svg").write_text("<svg/>")
    (tmp_path / "older.svg").write_text("<svg/>")
    page = tmp_path / "page.md"
    page.write_text("<!-- bench:switch -->\n<!-- /bench:switch -->\n<!-- bench:latencies -->\n<!-- /bench:latencies -->\n")
    figures = tmp_path / "figures"
    assert main(["bench", "report", "--out", str(tmp_path), "--into", str(page), "--figures", str(figures)]) == 0
    assert [path.name for path in figures.iterdir()] == ["switch.svg"]
    assert "latencies" in capsys.readouterr().err
    assert "| graceful | seed | 30 |" in page.read_text()
    assert main(["bench", "report", "--out", str(tmp_path)]) == 0
    assert "## seed" in capsys.readouterr().out
