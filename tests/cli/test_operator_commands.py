"""``raycp pause``, ``resume`` and ``reconcile``: what they order of the leader, what they print, how they refuse."""

import contextlib
import getpass
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from raycp.cli import main, operator_name, pause, reconcile
from raycp.driver.fleet_client import FleetError
from raycp.protocol.control import Amended, ReconcileNow, RequestedKey, SetPause
from raycp.runtime.local_ray import AtHand

FLEET = ["--fleet", "blue", "--address", "127.0.0.1:6379"]


class Client:
    asked: list[Any] = []
    answer: Any = Amended(True, "g")

    def __init__(self, namespace: str) -> None:
        assert namespace == "raycp-blue"

    async def ask(self, question: Any) -> Any:
        self.asked.append(question)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(autouse=True)
def _ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    @contextlib.contextmanager
    def at_ray(address: str) -> Iterator[AtHand]:
        yield AtHand(address, ours=False)

    monkeypatch.setattr(Client, "asked", [])
    monkeypatch.setattr(Client, "answer", Amended(True, "g"))
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))
    for command in (pause, reconcile):
        monkeypatch.setattr(command, "at_ray", at_ray)
        monkeypatch.setattr(command, "operator", lambda: "ann@here")
    monkeypatch.setattr("raycp.driver.fleet_client.FleetClient", Client)


def run(*arguments: str) -> int:
    return main.main([*arguments, *FLEET])


@pytest.mark.parametrize(
    ("command", "names", "order", "said"),
    [
        ("pause", ["--cluster", "east"], SetPause(True, ["east"], [], "ann@here"), "cluster east: paused\n"),
        (
            "resume", ["--cluster", "east", "--cluster", "west", "--controller", "echo"],
            SetPause(False, ["east", "west"], ["echo"], "ann@here"), "clusters east, west and controller echo: resumed\n",
        ),
    ],
)  # fmt: skip
def test_a_pause_and_its_end(
    command: str, names: list[str], order: Any, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, *names) == 0
    assert Client.asked == [order]
    assert capsys.readouterr().out == said
    monkeypatch.setattr(Client, "answer", Amended(False, "g"))
    assert run(command, *names) == 0
    assert "nothing to change" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "told"), [
    (["pause"], "nothing is named; name what with --cluster"),
    (["resume"], "nothing is named; name what with --cluster"),
    (["reconcile", "east/ConfigMap/a"], "is not CLUSTER/KIND/NAMESPACE/NAME"),
])  # fmt: skip
def test_bad_input_asks_nobody(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert told in capsys.readouterr().err
    assert not Client.asked


@pytest.mark.parametrize("arguments", [["pause", "--cluster", "west"], ["reconcile", "west/ConfigMap/default/a"]])
def test_what_the_leader_refuses_is_an_error_in_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Client, "answer", FleetError("leader: the fleet has no cluster 'west'; there are: east"))
    assert run(*arguments) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: leader: the fleet has no cluster 'west'; there are: east"


def test_a_reconcile_says_what_each_controller_waits_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [RequestedKey("echo", "ready", "controller echo to be resumed: it is paused"), RequestedKey("copy", "ready")]
    monkeypatch.setattr(Client, "answer", keys)
    assert run("reconcile", "east/v1/ConfigMap/default/a") == 0
    assert re.search(r"^echo +ready +controller echo to be resumed: it is paused$", capsys.readouterr().out, re.MULTILINE)
    assert run("reconcile", "hub/Node/-/n0", "--controller", "copy", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)[1] == {"controller": "copy", "state": "ready", "waitsFor": ""}
    assert Client.asked == [
        ReconcileNow("east", "v1/ConfigMap", "default", "a", "", "ann@here"),
        ReconcileNow("hub", "Node", "-", "n0", "copy", "ann@here"),
    ]  # fmt: skip


def test_the_operator_has_a_name_even_where_the_user_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(operator_name.socket, "gethostname", lambda: "build-7")
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    assert operator_name.operator() == "ann@build-7"
    monkeypatch.setattr(getpass, "getuser", nobody)
    assert operator_name.operator() == "somebody@build-7"
