"""The examples as their readers start them: ``raycp run`` in a terminal, an object, its effect, Ctrl-C, nothing left.

One Ray per fleet (``--address local``), ended by ``raycp run`` itself.
"""

import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from raycp.base.clock import SystemClock
from raycp.base.keys import GVK
from raycp.kube import ApiError, ClusterClient, ConnectSpec

ROOT = Path(__file__).parents[2]
RAYCP = Path(sys.executable).parent / "raycp"
CONFIGMAP, SECRET, POD, BATCHJOB = (
    GVK("", "v1", "ConfigMap"),
    GVK("", "v1", "Secret"),
    GVK("", "v1", "Pod"),
    GVK("batch.raycp.io", "v1alpha1", "BatchJob"),
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


class Running:
    """A foreground fleet in a process group of its own, with its output and its clusters' clients."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.ready = asyncio.Event()
        self._clients: dict[str, ClusterClient] = {}
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            self.lines.append(raw.decode().rstrip())
            if "Ctrl-C takes it down" in self.lines[-1]:
                self.ready.set()

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    async def up(self) -> None:
        """Wait for the fleet to be ready."""
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait({ready, self.reading}, timeout=90, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        assert self.ready.is_set(), self.said

    async def client(self, cluster: str) -> ClusterClient:
        """By the kubeconfig that ``raycp run`` names."""
        if cluster not in self._clients:
            path = re.search(rf"^kubeconfig of {cluster}: (.*)$", self.said, re.MULTILINE)
            assert path, self.said
            self._clients[cluster] = await ClusterClient.connect(
                ConnectSpec(name=cluster, mode="kubeconfig", path=path[1]), SystemClock()
            )
        return self._clients[cluster]

    async def interrupt(self) -> None:
        """Ctrl-C in a terminal reaches all processes of the group. Ends with 0, and leaves nothing."""
        for client in self._clients.values():
            await client.close()
        os.killpg(self.process.pid, signal.SIGINT)
        async with asyncio.timeout(40):
            await self.process.wait()
            await self.reading
        assert self.process.returncode == 0, self.said
        assert re.search(r"^fleet [\w-]+ is down$", self.said, re.MULTILINE), self.said
        await eventually(lambda: _nobody_in(self.process.pid), "processes are left", 15)

    async def kill(self) -> None:
        """What a failed test leaves."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        self.reading.cancel()


async def _nobody_in(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


async def eventually(holds: Callable[[], Awaitable[bool]], else_say: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, else_say
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def fleet(file: str, tmp_path: Path, pythonpath: str = "") -> AsyncIterator[Running]:
    """The fleet of a file of the repository, its observer on a free port, kubeconfigs in ``tmp_path``."""
    shutil.copytree((ROOT / file).parent, tmp_path / Path(file).parent)
    document = yaml.safe_load((ROOT / file).read_text())
    document["spec"]["observer"] = {"port": 0}
    (tmp_path / file).write_text(yaml.safe_dump(document))
    path = [str(tmp_path / pythonpath)] if pythonpath else []
    path += filter(None, [os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "RAYCP_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(path)}
    process = await asyncio.create_subprocess_exec(
        RAYCP, "run", "-c", file, "--address", "local",
        cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    running = Running(process)
    try:
        await running.up()
        yield running
    finally:
        await running.kill()


def body(obj: dict[str, Any]) -> bytes:
    return msgspec.json.encode(obj)


async def names(client: ClusterClient, kind: GVK, label: str = "") -> dict[str, dict[str, Any]]:
    resource = await client.resource(kind)
    query = {"labelSelector": label} if label else {}
    answer = await client.request("GET", resource.path("default"), query=query)
    return {item["metadata"]["name"]: item for item in msgspec.json.decode(answer.body)["items"]}


async def test_echo(tmp_path: Path) -> None:
    """A ConfigMap with a message becomes a Pod; another message, another Pod; no ConfigMap, no Pod."""
    async with fleet("examples/echo/fleet.yaml", tmp_path, "examples/echo") as running:
        east = await running.client("east-1")
        meta = {"name": "greeting", "namespace": "default", "labels": {"app": "echo"}}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"message": "hello"}}
        await east.create(CONFIGMAP, "default", body(config))

        async def one() -> bool:
            return len(await names(east, POD, "app=echo")) == 1

        await eventually(one, "no Pod")
        (first,) = (await names(east, POD, "app=echo")).values()
        assert first["spec"]["containers"][0]["command"] == ["echo", "hello"]
        assert first["metadata"]["ownerReferences"][0]["name"] == "greeting"
        await east.patch(CONFIGMAP, "default", "greeting", body({"data": {"message": "good night"}}))

        async def other() -> bool:
            pods = await names(east, POD, "app=echo")
            return len(pods) == 1 and first["metadata"]["name"] not in pods

        await eventually(other, "the old Pod is still there, or no new one")
        assert not await names(await running.client("west-1"), POD, "app=echo")
        await east.delete(CONFIGMAP, "default", "greeting")

        async def none() -> bool:
            return not await names(east, POD, "app=echo")

        await eventually(none, "the Pod outlives its owner")
        await running.interrupt()


async def test_expiry(tmp_path: Path) -> None:
    """Objects go when their time is up, of both kinds, in both clusters; others stay."""
    async with fleet("examples/expiry/fleet.yaml", tmp_path, "examples/expiry") as running:
        for cluster in ("east-1", "west-1"):
            client = await running.client(cluster)
            for name, after in (("soon", "2s"), ("later", "1h")):
                meta = {
                    "name": name,
                    "namespace": "default",
                    "labels": {"expiry.example.com/enabled": "true"},
                    "annotations": {"expiry.example.com/after": after},
                }
                await client.create(CONFIGMAP, "default", body({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}))
                secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"a": base64.b64encode(b"x").decode()}}
                await client.create(SECRET, "default", body(secret))
        for cluster in ("east-1", "west-1"):
            client = await running.client(cluster)

            async def gone(client: ClusterClient = client) -> bool:
                return "soon" not in await names(client, CONFIGMAP) and "soon" not in await names(client, SECRET)

            await eventually(gone, f"what should have gone is still in {cluster}")
            assert "later" in await names(client, CONFIGMAP)
            assert "later" in await names(client, SECRET)
        await running.interrupt()


async def test_batchjob(tmp_path: Path) -> None:
    """examples/batchjob.yaml on the quickstart fleet: twelve indexes on the east members, none in the west."""
    async with fleet("configs/quickstart.yaml", tmp_path) as running:
        hub = await running.client("hub")
        job = yaml.safe_load((ROOT / "examples/batchjob.yaml").read_text())
        await hub.create(BATCHJOB, "default", body(job))
        place = ("default", job["metadata"]["name"])

        async def complete() -> bool:
            status = msgspec.json.decode(await hub.get(BATCHJOB, *place)).get("status", {})
            return any(each["type"] == "Complete" and each["status"] == "True" for each in status.get("conditions", []))

        await eventually(complete, "the job does not complete", 60)
        status = msgspec.json.decode(await hub.get(BATCHJOB, *place))["status"]
        assert (status["succeeded"], status.get("failed", 0)) == (12, 0)
        found = {name: await names(await running.client(name), POD) for name in ("east-1", "east-2", "west-1")}
        assert len(found["east-1"]) + len(found["east-2"]) == 12
        assert found["east-1"]
        assert found["east-2"]
        assert not found["west-1"]
        await hub.delete(BATCHJOB, *place)

        async def clean() -> bool:
            try:
                await hub.get(BATCHJOB, *place)
            except ApiError as error:
                return error.status == 404
            return False

        await eventually(clean, "the finalizer does not let the job go")
        for name in ("east-1", "east-2"):
            assert not await names(await running.client(name), POD)
        await running.interrupt()
