"""``raycp down`` on a terminal names what it takes down, and asks."""

import argparse
import contextlib
import io
from collections.abc import Iterator
from typing import Any

import pytest

from raycp.cli import down
from raycp.runtime.local_ray import AtHand


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Client:
    ended: list[str] = []

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    async def down(self, drain: float) -> int:
        self.ended.append(self._namespace)
        return 3


@pytest.fixture(autouse=True)
def _ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    @contextlib.contextmanager
    def at_ray(address: str) -> Iterator[AtHand]:
        yield AtHand(address, ours=False)

    Client.ended = []
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path))
    monkeypatch.setattr(down, "at_ray", at_ray)
    monkeypatch.setattr("raycp.driver.fleet_client.FleetClient", Client)


def answered(monkeypatch: pytest.MonkeyPatch, answer: str, *, yes: bool = False, terminal: bool = True) -> tuple[int, str]:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stdin", Terminal(answer) if terminal else io.StringIO(answer))
    monkeypatch.setattr("sys.stdout", out)
    arguments = argparse.Namespace(address="127.0.0.1:6379", config=None, fleet="blue", drain=1.0, yes=yes)
    return down.run(arguments), out.getvalue()


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yesterday\n"])
def test_without_a_yes_nothing_is_done(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    code, said = answered(monkeypatch, answer)
    assert code == 1
    assert said == "Take down fleet blue on the Ray at 127.0.0.1:6379? [y/N] nothing was done\n"
    assert Client.ended == []


@pytest.mark.parametrize(("answer", "how"), [("y\n", {}), ("YES\n", {}), ("", {"yes": True}), ("", {"terminal": False})])
def test_with_one_it_is_and_a_script_is_not_asked(monkeypatch: pytest.MonkeyPatch, answer: str, how: dict[str, bool]) -> None:
    code, said = answered(monkeypatch, answer, **how)
    assert code == 0
    assert said.endswith("fleet blue on the Ray at 127.0.0.1:6379 is down: 3 actors ended\n")
    assert ("[y/N]" in said) == (not how)
    assert Client.ended == ["raycp-blue"]
