"""An upgrade on a real Ray: a fleet with a changed reconciler takes over under load, and the old one is gone."""

import asyncio
import contextlib
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

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
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
            name = f"u{len(self.names)}"
            body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s","namespace":"default","labels":{"app":"mine"}}}'
            await client.request("POST", "/api/v1/namespaces/default/configmaps", body=body % name.encode())
            self.names.append(name)
            await asyncio.sleep(max(0.0, begun + len(self.names) * 0.05 - time.monotonic()))
        await client.close()

    def stop(self) -> None:
        self._end.set()
        self.join(10)


@contextlib.contextmanager
def load(cluster: Cluster) -> Iterator[Load]:
    made = Load(cluster)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def writes(cluster: Cluster) -> list[dict[str, Any]]:
    """What took effect on Secrets, in order."""
    found = asyncio.run(cluster.request("GET", "/raycp/admin/writes", query={"resource": "secrets", "verb": "create"}))
    rows: list[dict[str, Any]] = found["writes"]
    return rows


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
    with load(cluster) as changes:
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
