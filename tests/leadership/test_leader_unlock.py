"""``raycp leader unlock``: frees the lock of a dead holder, and removes a foreign object; a living holder keeps its lock."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from contenders import REAL, Arena, arena_of, eventually, fleet_with

from raycp.cli.errors import CliError
from raycp.cli.unlock import unlock
from raycp.kube import ConnectSpec
from raycp.leadership.locks import eligibility


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eligibility, "KNOCK_SLACK", 0.3)
    monkeypatch.setattr(eligibility, "MISSING", 0.5)
    monkeypatch.setattr("raycp.cli.unlock.RESTORED_WITHIN", 1.0)


@pytest_asyncio.fixture(params=["ray", "configMap", "lease"])
async def arena(request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    async with arena_of(request.param) as made:
        yield made


def way(arena: Arena) -> ConnectSpec:
    endpoint = arena.cluster.endpoint
    assert endpoint is not None
    return ConnectSpec(name="hub", mode="direct", server=endpoint.server, ca_pem=endpoint.ca_pem, token=endpoint.token)


async def test_unlock_frees_a_lock_for_life_of_a_dead_holder() -> None:
    async with arena_of("configMap") as arena:
        first = (await arena.contender("a")).start()
        await arena.writes(first)
        second = (await arena.contender("b")).start()
        await eventually(lambda: "for life, and no Pod owns it" in second.why)
        assert "unlock" not in second.why, "the holder answers"
        await first.die()
        await eventually(lambda: "raycp leader unlock" in second.why)
        (line,) = await unlock(fleet_with("configMap"), way(arena), REAL, "me@here")
        assert "was held by a (epoch 1); it is free" in line
        await arena.writes(second)
        assert second.mine.epoch == 2


async def test_unlocked_living_holder_keeps_its_lock(arena: Arena) -> None:
    first = (await arena.contender("a")).start()
    await arena.writes(first)
    second = (await arena.contender("b")).start()
    with pytest.raises(CliError, match=r"a is alive and has taken .* back.*raycp down"):
        await unlock(fleet_with(arena.kind), way(arena), REAL, "me@here")
    assert first.writing
    assert not second.epochs


async def test_unlock_without_a_lock_does_nothing(arena: Arena) -> None:
    (line,) = await unlock(fleet_with(arena.kind), way(arena), REAL, "me@here")
    assert "does not exist" in line


async def test_unlock_after_a_change_of_the_lock_of_a_dead_fleet(arena: Arena) -> None:
    first = (await arena.contender("a")).start()
    await arena.writes(first)
    await first.die()
    for kind in ("ray", "configMap", "lease"):
        if kind != arena.kind:
            break
    other = await Arena(kind, arena.cluster).contender("b")
    arena.contenders.append(other)
    other.start()
    await eventually(lambda: "raycp leader unlock" in other.why)
    await unlock(fleet_with(kind), way(arena), REAL, "me@here")
    await arena.writes(other)
    assert other.mine.epoch > first.mine.epoch


def test_unlock_reports_bad_input_without_a_traceback(tmp_path: Path) -> None:
    def run_unlock(*arguments: str) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "raycp.cli.main", "leader", "unlock", *arguments], capture_output=True, text=True
        )

    file = tmp_path / "fleet.yaml"
    text = (
        "apiVersion: raycp.io/v1alpha1\nkind: Fleet\nmetadata: {name: t}\nspec:\n"
        "  clusters: [{name: hub, WAY}]\n  controllers: [{use: m}]\n"
    )
    done = run_unlock()
    assert done.returncode == 2
    assert "-c FLEET.yaml" in done.stderr
    file.write_text(text.replace("WAY", "embedded: {}"))
    done = run_unlock("-c", str(file))
    assert done.returncode == 2
    assert "--kubeconfig" in done.stderr
    file.write_text(text.replace("WAY", "kubeconfig: {path: nowhere}"))
    done = run_unlock("-c", str(file))
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
