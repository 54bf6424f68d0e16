"""What the driver makes of a fleet file: the code of each controller is told from that of the others."""

import sys
from pathlib import Path
from typing import Any

import pytest
from inprocess import fleet_doc

from raycp.config import ConfigError, diff
from raycp.driver.fleet_builder import build_fleet
from raycp.leader.desired import wanted_members
from raycp.protocol.amendments import with_pause

SOURCE = '''
from typing import Any
from raycp import Context, controller


@controller("v1/ConfigMap")
async def {name}(ctx: Context, obj: dict[str, Any]) -> None:
    {body}
'''


def codes(folder: Path, monkeypatch: pytest.MonkeyPatch, **bodies: str) -> tuple[dict[str, str], Any]:
    """The code of each controller, by name, after a fresh import; and the fleet."""
    for name, body in bodies.items():
        (folder / f"{name}_module.py").write_text(SOURCE.format(name=name, body=body))
        monkeypatch.delitem(sys.modules, f"{name}_module", raising=False)
    uses = [f"{name}_module" for name in bodies]
    fleet = build_fleet(fleet_doc(["here"], [*uses, "raycp.controllers.batchjob"]), Path("fleet.yaml"), [folder])
    return {controller.name: controller.code for controller in fleet.controllers}, fleet


def test_a_change_of_a_module_is_new_code_of_its_controllers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before, first = codes(tmp_path, monkeypatch, one="pass", two="pass")
    assert all(before.values()), "installed code has a digest too"
    again, _ = codes(tmp_path, monkeypatch, one="pass", two="pass")
    assert again == before
    after, second = codes(tmp_path, monkeypatch, one="return None", two="pass")
    assert {name for name in after if after[name] != before[name]} == {"one"}
    workers = [
        {slot: want.fingerprint for slot, want in wanted_members(fleet, {"0"}, {}).items() if slot.role == "worker"}
        for fleet in (first, second)
    ]
    assert all(workers[0][slot] != workers[1][slot] for slot in workers[0]), "a worker can't import it again"


def test_a_paused_controller_must_be_one_of_the_loaded_ones() -> None:
    doc = fleet_doc(["here"], ["raycp.controllers.batchjob"], paused={"controllers": ["batchjob", "batchjobs"]})
    with pytest.raises(ConfigError, match=r"spec\.paused\.controllers\[1\]: batchjobs is no controller of this fleet; its con"):
        build_fleet(doc, Path("fleet.yaml"), [])


def test_a_pause_is_the_document_that_a_file_with_it_makes_and_replaces_no_process() -> None:
    uses = ["raycp.controllers.batchjob"]
    fleet = build_fleet(fleet_doc(["hub", "east"], uses), Path("fleet.yaml"), [])
    paused = with_pause(fleet, ["east"], ["batchjob"], paused=True)
    of_file = fleet_doc(["hub", "east"], uses, paused={"clusters": ["east"], "controllers": ["batchjob"]})
    assert paused.generation == build_fleet(of_file, Path("fleet.yaml"), []).generation != fleet.generation
    assert [str(change) for change in diff(paused.doc, fleet.doc)] == [
        '~ spec.paused.clusters: ["east"] -> []', '~ spec.paused.controllers: ["batchjob"] -> []',
    ]  # fmt: skip
    before, after = (
        {slot: want.fingerprint for slot, want in wanted_members(each, {"0"}, {}).items()} for each in (fleet, paused)
    )
    assert before == after
    assert with_pause(paused, ["east"], [], paused=True) is paused
    assert with_pause(paused, ["east"], ["batchjob"], paused=False).generation == fleet.generation
