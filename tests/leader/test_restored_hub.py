"""The hub is restored from a backup: what members still show neither runs again nor is lost (law 7), with the fleet down meanwhile
or at work."""

import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import InProcess, until

from raycp.config import load_fleet
from raycp.config.embedded import EmbeddedSpec
from raycp.controllers.batchjob.job import NAME_TAKEN
from raycp.driver.fleet_builder import build_fleet
from raycp.driver.in_process import InProcessFleet
from raycp.embedded.cluster import EmbeddedCluster
from raycp.sdk import conditions

FLEET = """\
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: t}
spec:
  clusters:
    - {name: hub, role: hub, kubeconfig: {path: hub.yaml}, requestTimeout: 1s, breaker: {max: 1s}}
    - {name: west, kubeconfig: {path: west.yaml}, requestTimeout: 1s}
    - {name: east, kubeconfig: {path: east.yaml}, requestTimeout: 1s}
  controllers: [{use: raycp.controllers.batchjob}]
  observer: {port: 0}
  leader: {permit: 2s}
"""
NOTICED_WITHIN = 150.0
"""A watch that goes on from a version that the restored hub has not reached is silent; its bookmarks, one a minute, tell."""

MEMBERS = ("west", "east")

IN_WEST = {"clusters": ["west"]}
"""A job that is made anew has another uid, by which others are spread otherwise."""


class Ground:
    """Three clusters that outlive the fleets; the hub keeps its state in a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clusters: dict[str, EmbeddedCluster] = {}
        self.port = 0
        self.fleet: InProcessFleet | None = None

    async def start(self, name: str) -> None:
        life: dict[str, Any] = {"podRuntime": "100ms"}
        if name == "hub":
            life |= {"dataDir": str(self.folder / "hub"), "port": self.port}
        cluster = self.clusters[name] = EmbeddedCluster(name, EmbeddedSpec.model_validate(life))
        endpoint = await cluster.start()
        (self.folder / f"{name}.yaml").write_text(endpoint.kubeconfig)
        if name == "hub":
            self.port = int(endpoint.server.rpartition(":")[2])

    def back_up(self) -> None:
        shutil.copytree(self.folder / "hub", self.folder / "backup")

    async def restore(self) -> None:
        await self.clusters["hub"].stop()
        shutil.rmtree(self.folder / "hub")
        shutil.copytree(self.folder / "backup", self.folder / "hub")
        await self.start("hub")

    async def up(self) -> None:
        file = self.folder / "fleet.yaml"
        file.write_text(FLEET)
        self.fleet = InProcessFleet(InProcess())
        await self.fleet.run(build_fleet(load_fleet(file), file, []), 40.0)

    async def down(self) -> None:
        assert self.fleet is not None
        await self.fleet.leader.down()
        await self.fleet.stop()
        self.fleet = None

    # jobs

    async def submit(self, name: str, runtime: str = "100ms", **spec: Any) -> None:
        template = {
            "metadata": {"annotations": {"embedded.raycp.io/runtime": runtime}},
            "spec": {"containers": [{"name": "main", "image": "busybox"}], "restartPolicy": "Never"},
        }
        job = {
            "apiVersion": "batch.raycp.io/v1alpha1",
            "kind": "BatchJob",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"template": template, "completions": 3, "parallelism": 3, **spec},
        }
        await self.clusters["hub"].api.create("batchjobs", job)

    def status(self, name: str) -> dict[str, Any]:
        found = self.clusters["hub"].api.get("batchjobs", "default", name)
        return dict((found or {}).get("status") or {})

    def complete(self, *names: str) -> bool:
        return all(conditions.is_true(self.status(name).get("conditions"), "Complete") for name in names)

    async def end(self, name: str) -> None:
        """The Pods of a job that runs for long come to their end."""
        for cluster in MEMBERS:
            api = self.clusters[cluster].api
            for pod in api.list("pods", "default")[0]:
                if pod["metadata"]["name"].startswith(f"{name}-") and pod["status"].get("phase") == "Running":
                    body = json.dumps({"status": {"phase": "Succeeded"}}).encode()
                    await api.patch_merge("pods", "default", pod["metadata"]["name"], body, subresource="status")

    async def delete_pods(self, name: str) -> None:
        for cluster in MEMBERS:
            api = self.clusters[cluster].api
            for pod in api.list("pods", "default")[0]:
                if pod["metadata"]["name"].startswith(f"{name}-"):
                    await api.delete("pods", "default", pod["metadata"]["name"])

    def created(self) -> Counter[str]:
        """How often each Pod was created, in all members together."""
        return Counter(write.name for cluster in MEMBERS for write in self.clusters[cluster].recorder.select("pods", "create"))


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    made = Ground(tmp_path)
    for name in ("hub", *MEMBERS):
        await made.start(name)
    yield made
    if made.fleet is not None:
        await made.fleet.stop()
    for cluster in made.clusters.values():
        await cluster.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fleet", ["down", pytest.param("at work", marks=pytest.mark.soak)])
async def test_nothing_runs_again_and_nothing_is_lost_that_members_show(ground: Ground, fleet: str) -> None:
    await ground.up()
    await ground.submit("before")
    await until(lambda: ground.complete("before"))
    await ground.submit("across", runtime="never")
    await until(lambda: ground.status("across").get("active") == 3)
    await ground.submit("later", suspend=True)
    await until(lambda: conditions.is_true(ground.status("later").get("conditions"), "Suspended"))
    ground.back_up()

    await ground.end("across")
    unsuspended = json.dumps({"spec": {"suspend": False}}).encode()
    await ground.clusters["hub"].api.patch_merge("batchjobs", "default", "later", unsuspended)
    await ground.submit("forgotten", placement=IN_WEST)
    await until(lambda: ground.complete("across", "later", "forgotten"))
    ran = ground.created()
    assert len(ran) == 12
    assert set(ran.values()) == {1}

    if fleet == "down":
        await ground.down()
    await ground.restore()
    assert not ground.complete("across")
    assert ground.status("later").get("succeeded", 0) == 0, "the backup knows none of its Pods"
    if fleet == "down":
        await ground.up()
    await until(lambda: ground.complete("across"), NOTICED_WITHIN)
    assert ground.status("across")["succeeded"] == 3
    await ground.clusters["hub"].api.patch_merge("batchjobs", "default", "later", unsuspended)
    await until(lambda: ground.complete("later"), NOTICED_WITHIN)
    assert ground.status("later")["succeeded"] == 3
    assert ground.created() == ran, "what members show has run"

    await ground.submit("forgotten", placement=IN_WEST)
    await until(lambda: NAME_TAKEN in [each.get("reason") for each in ground.status("forgotten").get("conditions", ())])
    assert ground.created() == ran, "another job's Pods are there under these names"
    await ground.delete_pods("forgotten")
    await until(lambda: ground.complete("forgotten"))
    await ground.submit("new")
    await until(lambda: ground.complete("new"))
    assert sum(ground.created().values()) == 18
