"""``raycp sweep`` and ``raycp drain`` as commands: what they print, and what they refuse before anything is done."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from raycp.cli import main as cli
from raycp.config.embedded import EmbeddedSpec
from raycp.controllers.batchjob.dead_jobs import HeldSweep, SweepRecord
from raycp.controllers.batchjob.sweeper import CONFIRMED, NAME, RECORD
from raycp.controllers.batchjob.types import crd
from raycp.embedded.cluster import EmbeddedCluster

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
FLEET = """\
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: t}
spec:
  clusters:
    - {name: hub, role: hub, kubeconfig: {path: hub.yaml}}
    - {name: west, kubeconfig: {path: west.yaml}}
  controllers:
    - {use: raycp.controllers.batchjob}
"""
HELD = SweepRecord("hub-uid", 1.0, [HeldSweep("west", 7, 9, ["default/pi", "team/sum"], "more than 20%")], "abc123")


@dataclass
class Hub:
    file: Path
    cluster: EmbeddedCluster

    async def note(self, record: SweepRecord) -> None:
        annotations = {RECORD: msgspec.json.encode(record).decode()}
        await self.cluster.api.patch_merge(CRDS, "", NAME, msgspec.json.encode({"metadata": {"annotations": annotations}}))

    async def raycp(self, *arguments: str) -> int:
        return await asyncio.to_thread(cli.main, [*arguments, "-c", str(self.file)])

    @property
    def annotations(self) -> dict[str, str]:
        found = self.cluster.api.get(CRDS, "", NAME)
        assert found is not None
        return dict(found["metadata"].get("annotations") or {})


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    cluster = EmbeddedCluster("hub", EmbeddedSpec())
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "hub.yaml").write_text((await cluster.start()).kubeconfig)
    await cluster.api.create(CRDS, msgspec.json.decode(msgspec.json.encode(crd())))
    yield Hub(tmp_path / "fleet.yaml", cluster)
    await cluster.stop()


async def test_sweep_shows_what_is_held_and_changes_nothing(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert await hub.raycp("sweep") == 0
    assert "no sweep has run yet" in capsys.readouterr().out
    await hub.note(SweepRecord("hub-uid", 1.0))
    assert await hub.raycp("sweep") == 0
    assert "no Pods of dead jobs are held" in capsys.readouterr().out
    await hub.note(HELD)
    assert await hub.raycp("sweep") == 1
    assert "cluster west: 7 of 9 Pods, of jobs default/pi, team/sum: more than 20%" in capsys.readouterr().out
    assert CONFIRMED not in hub.annotations


async def test_a_confirmation_needs_a_person_or_yes(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    await hub.note(HELD)
    assert await hub.raycp("sweep", "--confirm") == 2
    assert "--confirm --yes" in capsys.readouterr().err
    assert CONFIRMED not in hub.annotations


async def test_a_confirmation_that_no_fleet_takes_up_is_an_error(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raycp.cli.sweep.WITHIN", 0.3)
    await hub.note(HELD)
    assert await hub.raycp("sweep", "--confirm", "--yes") == 1
    assert "no fleet has swept" in capsys.readouterr().err
    assert hub.annotations[CONFIRMED] == "abc123"


async def test_a_hub_without_jobs_says_so(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    await hub.cluster.api.delete(CRDS, "", NAME)
    assert await hub.raycp("sweep") == 1
    assert NAME in capsys.readouterr().err


@pytest.mark.parametrize("command", [["drain", "west"], ["sweep", "--confirm"]])
def test_without_a_terminal_nothing_is_done(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    assert cli.main([*command, "-c", str(tmp_path / "fleet.yaml")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error:")
    assert "there is no terminal to ask on" in shown


def test_an_embedded_hub_needs_a_kubeconfig(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fleet.yaml").write_text(re.sub("kubeconfig: {path: [a-z]*.yaml}", "embedded: {}", FLEET))
    assert cli.main(["sweep", "-c", str(tmp_path / "fleet.yaml")]) == 2
    assert "--kubeconfig" in capsys.readouterr().err
