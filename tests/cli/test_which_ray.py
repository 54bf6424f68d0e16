"""Which Ray a command asks: the one that is named, else the one of its fleet, never a random one of several."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from raycp.cli import fleets
from raycp.cli.errors import BadInput, CliError
from raycp.config import FleetDoc
from raycp.runtime import fleet_home, ray_token
from raycp.runtime.local_ray import AtHand, RayError, running_address

HERE, THERE, OTHER = "127.0.0.1:6379", "127.0.0.1:6380", "127.0.0.1:6381"


class Machine:
    """``rays`` run on it; heads of others answer too where they are in ``answering``."""

    def __init__(self) -> None:
        self.rays: list[str] = []
        self.answering: set[str] = set()

    def silence(self, address: str, within: float = 3.0) -> str:
        return "" if address in self.answering or address in self.rays else "refused"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(fleets, "silence", made.silence)
    monkeypatch.setattr("raycp.runtime.local_ray.silence", made.silence)
    monkeypatch.setattr("raycp.runtime.local_ray.running_addresses", lambda: made.rays)
    return made


def document(name: str = "blue", address: str = "auto", embedded: bool = True) -> dict[str, Any]:
    cluster: dict[str, Any] = {"name": "hub", "role": "hub"}
    cluster |= {"embedded": {}} if embedded else {"kubeconfig": {"path": "/etc/hub"}}
    spec = {"ray": {"address": address}, "clusters": [cluster], "controllers": [{"use": "raycp.controllers.batchjob"}]}
    return {"apiVersion": "raycp.io/v1alpha1", "kind": "Fleet", "metadata": {"name": name}, "spec": spec}


def arguments(tmp_path: Path, **given: Any) -> argparse.Namespace:
    """``ray``: the address in the fleet file that ``config`` asks for."""
    if "ray" in given:
        path = tmp_path / "fleet.yaml"
        path.write_text(str(document(address=given.pop("ray"))).replace("'", '"'))
        given["config"] = path
    return argparse.Namespace(**{"address": None, "config": None, "fleet": None, **given})


def test_what_is_named_comes_first_then_the_file_then_the_environment(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.rays = [HERE, THERE]
    monkeypatch.setenv("RAY_ADDRESS", OTHER)
    assert fleets.existing(arguments(tmp_path, address="10.0.0.1:6379", ray=THERE)) == "10.0.0.1:6379"
    assert fleets.existing(arguments(tmp_path, ray=THERE)) == THERE
    assert fleets.existing(arguments(tmp_path, ray="auto")) == OTHER
    assert fleets.existing(arguments(tmp_path, address="auto", ray=THERE)) == OTHER, "as in a Ray job, whatever the file says"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("environment", "given"),
    [
        (OTHER, {"ray": "local"}),  # `run` has started one for it
        (OTHER, {"ray": "auto", "address": "local"}),
        ("auto", {"ray": "auto"}),
        ("local", {"ray": "auto"}),
        (" ", {"ray": "auto"}),
        ("", {"ray": "auto", "address": ""}),
        ("", {"ray": "auto", "address": "auto"}),
    ],
)
def test_what_names_no_ray_leads_to_the_fleets_own_and_starts_none(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str, given: dict[str, str]
) -> None:
    machine.rays = [HERE, THERE]
    monkeypatch.setenv("RAY_ADDRESS", environment)
    fleet_home.record_ray("blue", THERE)
    assert fleets.existing(arguments(tmp_path, **given)) == THERE
    machine.rays = []
    with pytest.raises(CliError, match="no Ray runs on this machine"):
        fleets.existing(arguments(tmp_path, **given))


@pytest.mark.parametrize("by", [{"ray": "auto"}, {"fleet": "blue"}])
def test_the_fleets_own_ray_is_found_among_several(
    machine: Machine, tmp_path: Path, by: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.rays = [HERE, THERE, OTHER]
    fleet_home.record_ray("blue", THERE)
    fleet_home.record_ray("green", OTHER)
    assert fleets.existing(arguments(tmp_path, **by)) == THERE
    assert capsys.readouterr().err == f"on the Ray at {THERE}\n"


def test_of_several_none_is_taken_and_all_are_listed(machine: Machine, tmp_path: Path) -> None:
    machine.rays = [HERE, THERE]
    fleet_home.record_ray("green", THERE)
    for given in ({}, {"fleet": "blue"}, {"ray": "auto"}):
        with pytest.raises(BadInput, match=f"several Rays run on this machine: {HERE}, {THERE}; name one with --address"):
            fleets.existing(arguments(tmp_path, **given))


def test_a_record_of_a_ray_that_is_gone_does_not_count(machine: Machine, tmp_path: Path) -> None:
    fleet_home.record_ray("blue", THERE)
    machine.rays = [HERE]
    assert fleets.existing(arguments(tmp_path, fleet="blue")) == HERE
    machine.rays = []
    with pytest.raises(CliError, match="no Ray runs on this machine"):
        fleets.existing(arguments(tmp_path, fleet="blue"))


def test_a_fleet_that_is_down_is_not_recorded(machine: Machine) -> None:
    fleet_home.record_ray("blue", THERE)
    fleet_home.forget_ray("blue", HERE)
    assert fleet_home.recorded_ray("blue") == THERE, "another Ray's"
    fleet_home.forget_ray("blue", THERE)
    assert fleet_home.recorded_ray("blue") == ""


def test_two_fleets_of_one_name_on_two_rays_do_not_share_their_files(machine: Machine) -> None:
    made = FleetDoc.model_validate(document())
    machine.answering = {HERE, THERE}
    fleets.claim(made, AtHand(HERE, ours=False))
    fleets.claim(made, AtHand(HERE, ours=False))
    with pytest.raises(CliError, match=f"a fleet blue runs on the Ray at {HERE}.*raycp down --fleet blue --address {HERE}"):
        fleets.claim(made, AtHand(THERE, ours=True))
    fleets.claim(FleetDoc.model_validate(document(embedded=False)), AtHand(THERE, ours=True))
    fleet_home.record_ray("blue", HERE)
    machine.answering = {THERE}
    fleets.claim(made, AtHand(THERE, ours=True))
    assert fleet_home.recorded_ray("blue") == THERE


def test_a_home_that_can_not_be_written_is_said(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAYCP_HOME", str(tmp_path / "file"))
    with pytest.raises(CliError, match=r"file/blue can't be written: Not a directory; RAYCP_HOME names"):
        fleets.claim(FleetDoc.model_validate(document()), AtHand(HERE, ours=False))


def test_a_user_without_a_home_is_told_to_name_one(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("RAYCP_HOME", "HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert fleet_home.recorded_ray("blue") == ""
    with pytest.raises(CliError, match="this user has no home directory: set RAYCP_HOME"):
        fleets.claim(FleetDoc.model_validate(document()), AtHand(HERE, ours=False))


def test_auto_takes_none_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycp.runtime.local_ray.running_addresses", lambda: [HERE, THERE])
    with pytest.raises(RayError, match=f"several Rays run on this machine: {HERE}, {THERE}; name one with --address"):
        running_address()


def test_run_joins_no_ray_that_another_foreground_fleet_has_started(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    ray_token.record(HERE, ray_token.new_token())
    machine.rays = [HERE]
    assert fleets.to_join("auto") == "", "it starts its own"
    assert fleets.to_join(HERE) == HERE, "it was named"
    assert capsys.readouterr().err == ""
    machine.rays = [HERE, THERE]
    assert fleets.to_join("auto") == THERE
    assert capsys.readouterr().err == f"on the Ray at {THERE}\n"
    machine.rays = [HERE, THERE, OTHER]
    with pytest.raises(CliError, match=f"several Rays run on this machine: {THERE}, {OTHER}; name one with --address"):
        fleets.to_join("auto")


def test_run_says_which_ray_the_environment_names(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", OTHER)
    machine.answering = {OTHER}
    assert fleets.to_join("auto") == OTHER
    assert capsys.readouterr().err == f"on the Ray at {OTHER}\n"
    machine.answering = set()
    with pytest.raises(CliError, match=f"no Ray answers at {OTHER}: refused"):
        fleets.to_join("auto")
    machine.rays = [HERE]
    for value, where in (("auto", HERE), ("local", "")):
        monkeypatch.setenv("RAY_ADDRESS", value)
        assert fleets.to_join("auto") == where
