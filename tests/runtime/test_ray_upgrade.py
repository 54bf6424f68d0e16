"""An upgrade on a real Ray: a fleet with a changed reconciler takes over under load, and the old one is gone."""

import asyncio
import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from rayhouse import Cluster, House, clusters_of, house, until

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient, ConnectSpec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

MODULE = """
from raycp import Context, controller

VERSION = "{version}"


@controller("v1/ConfigMap", labels={{"app": "mine"}}, owns=["v1/Secret"])
async def mine(ctx: Context, cm: dict) -> None:
    if not ctx.children("v1/Secret"):
        name = cm["metadata"]["name"]
        meta = {{"name": f"{{name}}-child", "namespace": "default", "labels": {{"version": VERSION}}}}
        await ctx.create(ctx.own({{"apiVersion": "v1", "kind": "Secret", "metadata": meta}}))
"""
SPEC: dict[str, Any] = {"shards": {"standby": 1}, "tiers": {"standard": {"workers": {"min": 1, "max": 1}}}}


@pytest.fixture(scope="module")
def ray_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("home")) as made:
        yield made


def code(house: House, version: str) -> str:
    """A directory with the module of that version."""
    directory = house.home / version
    directory.mkdir(exist_ok=True)
    (directory / "upgraded_sample.py").write_text(MODULE.format(version=version))
    return str(directory)


class Load(threading.Thread):
    """Creates ConfigMaps, 20 a second, over one connection; ``names`` are those that the server has taken."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        super().__init__(daemon=True)
        self._prefix = prefix
        self.names: list[str] = []
        self._cluster = cluster
        self._end = threading.Event()

    def run(self) -> None:
        asyncio.run(self._work())

    async def _work(self) -> None:
        spec = ConnectSpec(name=self._cluster.name, mode="kubeconfig", path=self._cluster.kubeconfig)
        client = await ClusterClient.connect(spec, SystemClock())
        begun = time.monotonic()
        while not self._end.is_set():
            name = f"{self._prefix}{len(self.names)}"
            body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s","namespace":"default","labels":{"app":"mine"}}}'
            await client.request("POST", "/api/v1/namespaces/default/configmaps", body=body % name.encode())
            self.names.append(name)
            await asyncio.sleep(max(0.0, begun + len(self.names) * 0.05 - time.monotonic()))
        await client.close()

    def stop(self) -> None:
        self._end.set()
        self.join(10)


@contextlib.contextmanager
def load(cluster: Cluster, prefix: str) -> Iterator[Load]:
    made = Load(cluster, prefix)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def writes(cluster: Cluster) -> list[dict[str, Any]]:
    """What took effect on children, in order; the Secret of the leader's keys is none."""
    found = asyncio.run(cluster.request("GET", "/raycp/admin/writes", query={"resource": "secrets", "verb": "create"}))
    return [row for row in found["writes"] if row["name"].endswith("-child")]


def settled(cluster: Cluster, names: list[str]) -> None:
    """Each has its child, made once, and no write of an old epoch came after one of a new."""
    want = {f"{name}-child" for name in names}
    until(lambda: want <= {row["name"] for row in writes(cluster)}, 15, "all are reconciled", every=0.3)
    made = Counter(row["name"] for row in writes(cluster))
    assert max(made.values()) == 1, [name for name, count in made.items() if count > 1]
    epochs = [int(row["epoch"]) for row in writes(cluster)]
    assert epochs == sorted(epochs), "an old epoch wrote after a new one"


def pids(status: dict[str, Any]) -> set[int]:
    return {row["pid"] for what in ("shards", "standbys", "workers") for row in status[what]} | {status["observer"]["pid"]}


def test_new_code_takes_over_under_load(ray_house: House) -> None:
    house = ray_house
    path = str(house.file("up", ["here"], ["upgraded_sample"], **SPEC))
    house.raycp("run", "-c", path, "--address", house.address, "--working-dir", code(house, "one"))
    status = house.status("up")
    cluster = clusters_of(status)["here"]
    old = pids(status)
    with load(cluster, "u") as changes:
        until(lambda: len(changes.names) > 20, 10, "load")
        output = house.raycp("upgrade", "-c", path, "--address", house.address, "--working-dir", code(house, "two"))
        print(output)
        assert "leads in epoch 2" in output
        count = len(changes.names)
        until(lambda: len(changes.names) > count + 30, 10, "load after")
    settled(cluster, changes.names)
    secrets = asyncio.run(cluster.request("GET", "/api/v1/namespaces/default/secrets"))["items"]
    versions = {each["metadata"]["name"]: each["metadata"]["labels"]["version"] for each in secrets if "labels" in each["metadata"]}
    assert versions[f"{changes.names[0]}-child"] == "one"
    assert versions[f"{changes.names[-1]}-child"] == "two"
    until(lambda: not any(psutil.pid_exists(pid) for pid in old if pid), 10, "the old actors are gone")
    after = house.status("up")
    assert after["ready"], after["reasons"]
    assert not pids(after) & old
    assert after["observer"]["url"]
    history = house.raycp("leader", "history", "--fleet", "up", "--address", house.address)
    print(history)
    assert "upgrade" in history
    assert "nothing to change" not in output
    again = house.raycp("upgrade", "-c", path, "--address", house.address, "--working-dir", code(house, "two"))
    assert "already" in again


def leaders(house: House) -> list[psutil.Process]:
    """The processes of leaders, the older first."""
    found = []
    assert house._head is not None
    for process in psutil.Process(house._head.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "RaycpLeader" in " ".join(process.cmdline()):
                found.append((process.create_time(), process.pid))
    return [psutil.Process(pid) for _, pid in sorted(found)]


def standing(house: House) -> dict[str, Any]:
    return house.status("up").get("standing") or {}


def given_away(cluster: Cluster, epoch: int) -> bool:
    """Whether the old epoch's leader has released its lock, or is succeeded."""
    record = asyncio.run(cluster.request("GET", "/api/v1/namespaces/raycp-system/configmaps/raycp-up-leader"))["data"]
    return int(record["epoch"]) > epoch or record["released"] == "true"


def test_leaders_are_killed_while_a_fleet_stands_by_and_in_the_switch(ray_house: House) -> None:
    """The switch is begun by SIGTERM to an attached driver; the leader that gives the fleet away is killed when it has."""
    house = ray_house
    path = str(house.file("up", ["here"], ["upgraded_sample"], **SPEC))
    attached = house.popen("run", "-c", path, "--attach", "--address", house.address, "--working-dir", code(house, "two"))
    until(lambda: "ready" in house.output_of("status", "--fleet", "up"), 40, "the fleet is there")
    until(lambda: (now := house.status("up")).get("ready") and not now["unsettled"], 40, "the fleet is ready")
    cluster = clusters_of(house.status("up"))["here"]
    first = house.status("up")["leader"]["epoch"]
    with load(cluster, "k") as changes:
        until(lambda: len(changes.names) > 20, 10, "load")
        house.raycp("upgrade", "--standby", "-c", path, "--address", house.address, "--working-dir", code(house, "three"))
        assert standing(house)["warm"]
        leaders(house)[-1].kill()
        until(lambda: standing(house).get("warm"), 30, "it comes back, and stands by as before")
        attached.send_signal(signal.SIGTERM)
        until(lambda: given_away(cluster, first), 30, "the old leader has given the lock away", every=0.002)
        leaders(house)[0].kill()
        output, _ = attached.communicate(timeout=60)

        def whole() -> bool:
            now = house.status("up")
            return now["ready"] and not now["unsettled"] and "standing" not in now

        until(whole, 30, "one fleet leads, and it is whole")
        count = len(changes.names)
        until(lambda: len(changes.names) > count + 20, 10, "load after")
    settled(cluster, changes.names)
    handed = "was handed over" in output
    assert handed or "goes on as it was" in output, output
    assert house.status("up")["leader"]["epoch"] == (first + 1 if handed else first), output
    house.raycp("down", "--fleet", "up", "--address", house.address)


@pytest.mark.wide
def test_an_upgrade_as_a_job_beside_the_old(ray_house: House) -> None:
    """The modules travel with the job, and the old fleet's with its own."""
    house = ray_house
    path = str(house.file("job", ["here"], ["upgraded_sample"], **SPEC))
    dashboard = f"http://127.0.0.1:{house.dashboard}"
    house.raycp("submit", "-c", path, "--address", dashboard, "--working-dir", code(house, "one"))
    cluster = clusters_of(house.status("job"))["here"]
    output = house.raycp("upgrade", "--submit", "-c", path, "--address", dashboard, "--working-dir", code(house, "two"))
    print(output)
    assert "leads in epoch 2" in output
    with load(cluster, "j") as changes:
        until(lambda: len(changes.names) > 10, 10, "load")
    settled(cluster, changes.names)
    secrets = asyncio.run(cluster.request("GET", "/api/v1/namespaces/default/secrets"))["items"]
    versions = {each["metadata"]["labels"]["version"] for each in secrets if "version" in each["metadata"].get("labels", {})}
    assert versions == {"two"}
    house.raycp("down", "--fleet", "job", "--address", house.address)
