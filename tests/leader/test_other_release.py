"""A fleet whose code was changed under it: commands and the status say so, with the remedy, and `upgrade` mends it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from inprocess import fleet_of, led, until
from revisions import house
from test_leader import doc as led_doc
from test_standby import doc

from raycp.base.problems import ProblemCode
from raycp.base.release import shown, this_release
from raycp.cli import main as cli
from raycp.cli.fleets import note_release
from raycp.driver.fleet_client import OtherRelease
from raycp.driver.upgrade import upgrade
from raycp.protocol.control import Configure, ControlError, ErrorCode
from raycp.protocol.control.codec import decode_question, encode_failure, respond
from raycp.protocol.members import LEADER, Role
from raycp.runtime.local_ray import AtHand
from raycp.worker.core import WorkerCore

OTHER = "0.1.0+0123456789ab"
SAYS = f"this fleet runs raycp 0.1.0 (code 0123456789ab), this is {shown(this_release())}"
REMEDY = "raycp upgrade -c FLEET.yaml"


async def test_a_fleet_of_another_release_is_not_applied_to_and_is_upgraded() -> None:
    async with house() as fleet:
        await fleet.up(doc("tracked"))
        fleet.base.cores[LEADER].raycp_release = OTHER
        changed = fleet_of(doc("tracked", workers={"slots": 16}))
        with pytest.raises(OtherRelease) as refused:
            await fleet.client.apply(changed)
        assert SAYS in str(refused.value)
        assert REMEDY in str(refused.value)
        assert (await fleet.client.plan()).fleet.generation != changed.generation  # type: ignore[union-attr]
        await upgrade(fleet.client, changed)
        assert await fleet.client.other_release() == ""
        await fleet.client.apply(fleet_of(doc("tracked")))


async def test_a_leader_without_a_fleet_is_given_one_whatever_it_runs() -> None:
    async with house() as fleet:
        await fleet.client.ensure_leader({})
        fleet.base.cores[LEADER].raycp_release = OTHER
        assert await fleet.client.other_release() == ""
        await fleet.client.apply(fleet_of(doc("tracked")))


async def test_a_member_of_other_code_is_named_in_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    async with led() as fleet:
        await fleet.apply(led_doc())
        status = fleet.status()
        assert status["release"] == this_release()
        assert status["readiness"] == "ready"
        note_release(status)
        assert capsys.readouterr().err == ""
        worker = fleet.substrate.living(Role.WORKER)[0]
        embedded = fleet.substrate.living(Role.EMBEDDED)[0]
        worker.raycp_release = embedded.raycp_release = OTHER
        worker.changed()
        embedded.changed()
        status = await until(lambda: (found := fleet.status())["readiness"] == "degraded" and found)
        (problem,) = status["problems"]
        assert problem["code"] == ProblemCode.RELEASE
        assert problem["owner"]["member"].startswith("worker ")
        assert f"it runs raycp 0.1.0 (code 0123456789ab), the fleet's leader {shown(this_release())}" in problem["message"]
        assert any(REMEDY in reason for reason in status["reasons"])
        note_release({**status, "release": OTHER})
        assert f"note: {SAYS}: `{REMEDY}`" in capsys.readouterr().err


async def test_a_member_whose_code_does_not_understand_the_plan_is_not_ready_for_that_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refused(raw: bytes, ask: Any) -> bytes:
        if isinstance(next(iter(getattr(ask, "args", ())), None), WorkerCore) and isinstance(decode_question(raw), Configure):
            failure = encode_failure(ControlError(ErrorCode.MALFORMED, "Object missing required field `rooms`"))
            return msgspec.msgpack.encode([*msgspec.msgpack.decode(failure)[:4], OTHER])
        return await respond(raw, ask)

    monkeypatch.setattr("raycp.driver.in_process.substrate.respond", refused)
    async with led() as fleet:
        await fleet.leader.apply(fleet_of(led_doc()))
        reason = await until(lambda: next((each for each in fleet.status()["reasons"] if "rooms" in each), ""))
        assert "it runs raycp 0.1.0 (code 0123456789ab)" in reason
        assert REMEDY in reason
        assert fleet.status()["readiness"] == "not-ready"


FLEET = """\
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: t}
spec:
  clusters: [{name: here, embedded: {}}]
  controllers: [{use: raycp.controllers.batchjob}]
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options for commands, whose Ray is not there: what asks the fleet more than its release fails."""

    @contextlib.contextmanager
    def at_ray(address: str) -> Iterator[AtHand]:
        yield AtHand(address, ours=False)

    async def other_release(self: Any) -> str:
        return SAYS

    async def plan(self: Any) -> None:
        raise OtherRelease("leader: PlanOf: the answer can't be decoded; it runs another")

    for module in ("apply", "upgrade"):
        monkeypatch.setattr(f"raycp.cli.{module}.at_ray", at_ray)
    monkeypatch.setattr("raycp.runtime.local_ray.working_dir_uri", lambda: "")
    monkeypatch.setattr("raycp.driver.fleet_client.FleetClient.other_release", other_release)
    monkeypatch.setattr("raycp.driver.fleet_client.FleetClient.plan", plan)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return ["-c", str(tmp_path / "fleet.yaml"), "--address", "127.0.0.1:6379"]


def test_apply_says_what_runs_and_what_to_do(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--dry-run"]):
        assert cli.main(["apply", *command, *more]) == 1
        assert capsys.readouterr().err == f"error: {SAYS}; `{REMEDY}` brings the fleet to this release\n"


def test_upgrade_of_a_fleet_that_cannot_be_followed_says_what_to_do(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["upgrade", *command]) == 1
    err = capsys.readouterr().err
    assert "this fleet can't be upgraded while it runs: leader: PlanOf" in err
    assert "raycp down" in err
    assert REMEDY not in err
