"""``raycp uninstall`` leaves nothing of a fleet in its clusters but what users made, and touches nothing of others."""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from inprocess import CLOCK, InProcess, until

from raycp.base.keys import GVK
from raycp.cli import main as cli
from raycp.config import load_fleet
from raycp.config.embedded import EmbeddedSpec
from raycp.controllers.batchjob.pods import TRACKING
from raycp.controllers.batchjob.types import FINALIZER
from raycp.driver.fleet_builder import build_fleet
from raycp.driver.in_process import InProcessFleet
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ClusterClient, ConnectSpec

FLEET = """\
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: t}
spec:
  clusters:
    - {name: hub, role: hub, kubeconfig: {path: hub.yaml}}
    - {name: west, kubeconfig: {path: west.yaml}}
    - {name: east, kubeconfig: {path: east.yaml}}
  controllers:
    - {use: raycp.controllers.batchjob}
    - {use: uninstalled_echo}
  observer: {port: 0}
"""
ECHO = """\
from raycp.sdk import controller

@controller("v1/ConfigMap", name="echo", on="members", labels={"app": "echo"})
async def echo(ctx, obj):
    if "example.com/echo" not in (obj["metadata"].get("finalizers") or ()):
        await ctx.patch(obj, {"metadata": {"finalizers": [*(obj["metadata"].get("finalizers") or ()), "example.com/echo"]}})
"""
BATCHJOB, ECHOES = "    - {use: raycp.controllers.batchjob}\n", "    - {use: uninstalled_echo}\n"


@dataclass
class House:
    """Three clusters and the fleet file that names them."""

    file: Path
    clusters: dict[str, EmbeddedCluster]

    def all(self, cluster: str, resource: str, namespace: str = "default") -> list[dict[str, Any]]:
        return [dict(each) for each in self.clusters[cluster].api.list(resource, namespace)[0]]

    def finalizers(self, cluster: str, resource: str) -> list[list[str]]:
        return [list(each["metadata"].get("finalizers") or []) for each in self.all(cluster, resource)]

    async def uninstall(self, *arguments: str, file: Path | None = None) -> int:
        return await asyncio.to_thread(cli.main, ["uninstall", "-c", str(file or self.file), *arguments])

    def config_map(self, name: str, **meta: Any) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", **meta}}

    async def stranger(self, cluster: str, name: str, manager: str) -> None:
        """A Pod with the jobs' finalizer that this fleet has not made."""
        meta = {"name": name, "namespace": "default", "finalizers": [TRACKING]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "main", "image": "busybox"}]}}
        client = await ClusterClient.connect(ConnectSpec(name=cluster, path=str(self.file.with_name(f"{cluster}.yaml"))), CLOCK)
        try:
            await client.create(GVK("", "v1", "Pod"), "default", json.dumps(pod).encode(), query={"fieldManager": manager})
        finally:
            await client.close()

    @contextlib.asynccontextmanager
    async def fleet(self, without: str = "") -> AsyncIterator[InProcessFleet]:
        """A running fleet, which is taken down in order."""
        file = self.file.with_name("running.yaml")
        file.write_text(self.file.read_text().replace(without, "", 1) if without else self.file.read_text())
        fleet = InProcessFleet(InProcess())
        try:
            await fleet.run(build_fleet(load_fleet(file), file, [file.parent]))
            yield fleet
            await fleet.leader.down()
        finally:
            await fleet.stop()

    async def worked(self) -> None:
        """A fleet has run a job and echoed a ConfigMap, and is down."""
        hub, west = self.clusters["hub"].api, self.clusters["west"].api
        async with self.fleet() as fleet:
            pod = {"containers": [{"name": "main", "image": "busybox"}], "restartPolicy": "Never"}
            spec = {"template": {"spec": pod}, "parallelism": 4, "completions": 4}
            meta = {"name": "pi", "namespace": "default"}
            await hub.create(
                "batchjobs", {"apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": meta, "spec": spec}
            )
            await west.create("configmaps", self.config_map("mine", labels={"app": "echo"}, finalizers=["other.io/kept"]))
            await until(lambda: all(TRACKING in each for each in self.finalizers("west", "pods")) and self.all("west", "pods"))
            await until(lambda: ["other.io/kept", "example.com/echo"] in self.finalizers("west", "configmaps"))
            assert self.finalizers("hub", "batchjobs") == [[FINALIZER]]
            assert fleet.status()["ready"]


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "uninstalled_echo.py").write_text(ECHO)
    monkeypatch.syspath_prepend(str(tmp_path))
    life = {"podRuntime": "1h", "controllers": {"gc": False}}
    made = House(
        tmp_path / "fleet.yaml",
        {name: EmbeddedCluster(name, EmbeddedSpec.model_validate(life)) for name in ("hub", "west", "east")},
    )
    for name, cluster in made.clusters.items():
        (tmp_path / f"{name}.yaml").write_text((await cluster.start()).kubeconfig)
    yield made
    sys.modules.pop("uninstalled_echo", None)
    for cluster in made.clusters.values():
        await cluster.stop()


async def test_nothing_is_left_of_a_fleet_that_is_down(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    await house.worked()
    hub = house.clusters["hub"].api
    stranger = house.config_map("raycp-t-x-leader", labels={"raycp.io/fleet": "t-x"})
    stranger["metadata"]["namespace"] = "raycp-system"
    await hub.create("configmaps", stranger)
    await house.stranger("east", "of-another-fleet", "raycp-batchjob")

    assert await house.uninstall("--dry-run") == 0
    shown = capsys.readouterr().out
    assert f"remove finalizer {TRACKING} from " in shown
    assert "remove finalizer example.com/echo from 1 ConfigMap" in shown
    assert "delete Secret raycp-system/raycp-t-marks" in shown
    assert "keep CustomResourceDefinition batchjobs.batch.raycp.io and its 1 object" in shown
    assert house.finalizers("hub", "batchjobs") == [[FINALIZER]], "a dry run changes nothing"

    assert await house.uninstall("--yes") == 0
    assert house.finalizers("hub", "batchjobs") == [[]]
    pods = [*house.all("west", "pods"), *house.all("east", "pods")]
    held = [each["metadata"]["name"] for each in pods if each["metadata"].get("finalizers")]
    assert held == ["of-another-fleet"], "what it did not put there stays"
    assert len(pods) == 5, "Pods that run go on"
    assert house.finalizers("west", "configmaps").count(["other.io/kept"]) == 1
    assert [
        each["metadata"]["name"] for each in house.all("hub", "configmaps", "raycp-system") if "raycp" in each["metadata"]["name"]
    ] == ["raycp-t-x-leader"]
    assert house.all("hub", "secrets", "raycp-system") == []
    epochs = hub.get("customresourcedefinitions", "", "epochs.raycp.io")
    assert epochs is not None
    assert "epoch.raycp.io/t.raycp-system" not in (epochs["metadata"].get("annotations") or {})
    assert hub.get("customresourcedefinitions", "", "batchjobs.batch.raycp.io") is not None

    capsys.readouterr()
    assert await house.uninstall("--yes", "--crds") == 0
    assert "and with it 1 object" in capsys.readouterr().out
    await until(lambda: hub.get("customresourcedefinitions", "", "batchjobs.batch.raycp.io") is None)
    assert await house.uninstall("--yes", "--crds") == 0
    assert "nothing is left to remove" in capsys.readouterr().out


async def test_a_lease_goes_with_the_fleet(house: House) -> None:
    house.file.write_text(
        FLEET.replace("observer: {port: 0}", "observer: {port: 0}\n  leader: {lock: {lease: {namespace: kube-public}}}")
    )
    async with house.fleet():
        assert [each["metadata"]["name"] for each in house.all("hub", "leases", "kube-public")] == ["raycp-t"]
        assert await house.uninstall("--yes") == 1
    assert await house.uninstall("--yes") == 0
    assert house.all("hub", "leases", "kube-public") == []


async def test_a_running_fleet_keeps_what_it_has(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    async with house.fleet():
        assert await house.uninstall("--yes") == 1
        assert "raycp down --fleet t" in capsys.readouterr().err
        assert await house.uninstall("--yes", "--controller", "echo") == 1
        assert "controller echo runs in fleet t" in capsys.readouterr().err
        assert house.all("hub", "secrets", "raycp-system")


async def test_one_controller_goes_while_the_fleet_runs_without_it(house: House) -> None:
    await house.worked()
    async with house.fleet(without=ECHOES):
        assert await house.uninstall("--yes", "--controller", "echo") == 0
        assert ["other.io/kept"] in house.finalizers("west", "configmaps")
        assert house.finalizers("hub", "batchjobs") == [[FINALIZER]]
        assert house.all("hub", "secrets", "raycp-system"), "the fleet's own"


async def test_a_cluster_that_does_not_answer_stops_no_other(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    await house.worked()
    await house.clusters["east"].stop()
    assert await house.uninstall("--yes") == 1
    said = capsys.readouterr().out
    assert "cluster east:\n  not done: " in said
    assert "keep Secret raycp-system/raycp-t-marks" in said
    assert house.finalizers("west", "pods")
    assert not any(house.finalizers("west", "pods"))
    assert house.all("hub", "secrets", "raycp-system"), "it tells which Pods of east are the fleet's"


async def test_without_the_hub_nothing_is_done(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    await house.worked()
    await house.clusters["hub"].stop()
    assert await house.uninstall("--yes") == 1
    assert "nothing was done" in capsys.readouterr().err
    assert all(TRACKING in each for each in house.finalizers("west", "pods"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_it_asks_on_a_terminal_and_refuses_without(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await house.worked()
    assert await house.uninstall() == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    monkeypatch.setattr("sys.stdout", out := Terminal())
    assert await house.uninstall() == 1
    assert "Do this? [y/N]" in out.getvalue()
    assert "nothing was done" in out.getvalue()
    assert house.finalizers("hub", "batchjobs") == [[FINALIZER]]


async def test_bad_input_names_what_to_write(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    assert await house.uninstall("--yes", "--controller", "ecko") == 2
    assert "spec.controllers has no 'ecko'; name one of batchjob, batchjob-sweep, echo" in capsys.readouterr().err
    file = house.file.with_name("embedded.yaml")
    file.write_text(FLEET.replace("kubeconfig: {path: hub.yaml}", "embedded: {}"))
    assert await house.uninstall("--yes", file=file) == 2
    assert "the hub hub is embedded" in capsys.readouterr().err
