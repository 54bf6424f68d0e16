"""``raycp status``: what it prints of readiness and problems, its exit code, and a fleet that has a standby fleet."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from raycp.base.problems import FleetProblem, ProblemCode, ProblemOwner
from raycp.cli import kubeconfig
from raycp.cli import status as command
from raycp.cli.status import show_standby
from raycp.protocol.report import FailureReport, Report
from raycp.protocol.status import FleetStatus, LeaderStatus, ShardStatus, WorkerStatus, with_readiness
from raycp.protocol.verdict import with_verdict


def found(*, worker: bool = True, problems: tuple[FleetProblem, ...] = ()) -> dict[str, Any]:
    status = FleetStatus(
        fleet="t",
        leader=LeaderStatus(epoch=1, since=0.0),
        shards=[ShardStatus(shard="0", ready=True)],
        workers=[WorkerStatus(worker="standard/0", tier="standard", ready=worker, reasons=[] if worker else ["it starts"])],
        problems=list(problems),
    )
    shown: dict[str, Any] = msgspec.to_builtins(with_readiness(status))
    return shown


LOOP = FleetProblem(
    ProblemCode.LOOP_FAILED, ProblemOwner(member="shard 0", loop="reflector", cluster="east"), "ValueError: x", 1_700_000_000.0
)


@pytest.mark.parametrize(
    ("status", "word", "code"),
    [
        (found(), "ready", 0),
        (found(problems=(LOOP,)), "degraded", 0),
        (found(worker=False), "not ready", 1),
    ],
    ids=["ready", "degraded", "not ready"],
)
def test_text_json_and_exit_code_agree(
    status: dict[str, Any], word: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Client:
        async def status(self) -> dict[str, Any]:
            return status

        async def beside(self) -> None:
            return None

    @contextlib.contextmanager
    def ray(*_: Any, **__: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(command, "at_ray", ray)
    monkeypatch.setattr(command, "existing", lambda address: address)
    monkeypatch.setattr(command, "namespace_of", lambda args: "raycp-t")
    monkeypatch.setattr(command, "FleetClient", lambda namespace: Client())
    assert command.run(argparse.Namespace(address="x", output="table", watch=False)) == code
    shown = capsys.readouterr().out
    assert f"fleet t ({word})" in shown
    assert shown.lower().startswith(f"{word}: ")
    assert command.run(argparse.Namespace(address="x", output="json", watch=False)) == code
    assert msgspec.json.decode(capsys.readouterr().out)["readiness"] == word.replace(" ", "-")


def test_a_problem_is_shown_with_its_owner_and_since_when() -> None:
    shown = str(command.show(found(problems=(LOOP,)), "table"))
    assert "LoopFailed" in shown
    assert "shard 0, loop reflector, cluster east" in shown
    assert command.since(LOOP.since) in shown
    verdict, _, rest = shown.partition("\n")
    assert LOOP.message in verdict
    assert rest.count(LOOP.message) == 1, "a reason that is a problem is shown as a problem"
    (row,) = msgspec.json.decode(str(command.show(found(problems=(LOOP,)), "json")))["problems"]
    assert row == {
        "code": "LoopFailed",
        "owner": {"cluster": "east", "loop": "reflector", "member": "shard 0"},
        "message": "ValueError: x",
        "since": 1_700_000_000.0,
        "runbook": "docs/runbook.md#loopfailed",
    }


def test_a_standby_fleet_is_shown_with_lag_and_cache() -> None:
    beside = {
        "generation": "0a1b",
        "warm": False,
        "reasons": ["worker standard/0: starting"],
        "observer": {"url": "http://127.0.0.1:1"},
        "standbys": [{"standby": "0/0", "state": "standby", "lagSeconds": 0.0123, "cachedBytes": 2_500_000, "pid": 1, "node": "n"}],
    }
    shown = str(show_standby(beside, "table"))
    assert "standby fleet (not warm): generation 0a1b, observer http://127.0.0.1:1" in shown
    assert "worker standard/0: starting" in shown
    assert "0.012 s" in shown
    assert "2.5 MB" in shown


def test_a_standby_fleet_whose_leader_does_not_answer_is_shown() -> None:
    assert "does not answer" in str(show_standby({"warm": False, "reasons": ["its leader does not answer: gone"]}, "table"))


def test_a_kubeconfig_is_printed_of_an_embedded_cluster_only() -> None:
    clusters = [{"name": "hub", "mode": "embedded"}, {"name": "east", "mode": "kubeconfig"}]
    assert kubeconfig.refusal("blue", clusters, "hub") is None
    assert "fleet blue has no cluster 'hbu'" in str(kubeconfig.refusal("blue", clusters, "hbu"))
    assert "cluster 'east' is not embedded" in str(kubeconfig.refusal("blue", clusters, "east"))


def test_a_drained_cluster_says_so_before_what_is_wrong_with_it() -> None:
    east = {"name": "east", "role": "member", "reachable": True, "synced": True, "objects": 1, "lagSeconds": 0.25, "shard": "0"}
    shown = str(command.show(found() | {"clusters": [east | {"closed": "drained", "reason": "it is slow"}]}, "table"))
    assert "0.250 s   0       drained; it is slow" in shown


def test_what_fails_beside_the_first_is_told_and_a_note_once() -> None:
    note = FleetProblem(ProblemCode.OBJECTS_UNREADABLE, ProblemOwner(cluster="hub"), "2 objects can't be read", 1.0)
    rows = [
        FailureReport("hub", f"hub/v1/Pod/default/{at}", f"controller-{at}", "KeyError: 'a'", "x.py:1", 1, None, 1.0)
        for at in range(7)
    ]
    status = msgspec.convert(found(problems=(note,)), FleetStatus)
    report = Report(1, "node", failures=rows, failing=7)
    lines = str(command.show(msgspec.to_builtins(with_verdict(status, [report], 100.0)), "table")).splitlines()
    assert lines[0].startswith("Failing: controller controller-0, 1 object in 1 cluster since ")
    assert [line.split(",")[0] for line in lines[1:6]] == [
        *(f"controller controller-{at}" for at in (1, 2, 3, 4)), "and 2 more: see `raycp errors`"
    ]  # fmt: skip
    assert sum("2 objects can't be read" in line for line in lines) == 1


def test_the_leader_of_an_earlier_release_tells_no_verdict() -> None:
    shown = msgspec.json.decode(str(command.show(found(worker=False), "json")))
    assert next(iter(shown)) == "verdict"
    assert (shown["verdict"]["level"], shown["verdict"]["text"]) == ("not-ready", "it starts")
