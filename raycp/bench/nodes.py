"""A Ray of several nodes on this machine, one of which can be lost: a head, and nodes that are processes in sessions of their own.

The head holds Ray's own state and, if requested, the fleet's leader. Shards, standbys and workers run on the nodes. A
node can be killed (its raylet and its actors at once: the host refuses connections) or frozen (SIGSTOP of all of them, like a
machine that is cut off: nothing answers, nothing is refused).
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil

from raycp.bench.ports import free_port
from raycp.runtime import ray_token
from raycp.runtime.local_ray import SETTINGS, RayError, connect, node_labels, shut_down

PLACE = "raycp-bench-place"
"""Label of Ray nodes: ``head`` or ``node``."""

NAME = "raycp-bench-node"
"""Label with a different value on each node."""

READY = 60.0


class RayNode:
    """One Ray node: ``ray start``, its raylet, and their child processes."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self._process = process
        self._frozen: list[psutil.Process] = []

    def family(self) -> list[psutil.Process]:
        """All processes of the node, the raylet's parent first."""
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def holds(self, pid: int | None) -> bool:
        """Whether the process is one of the node's."""
        return any(process.pid == pid for process in self.family())

    def kill(self) -> None:
        """SIGKILL to all of it at once."""
        family = self._frozen or self.family()
        _send(family, signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)

    def freeze(self) -> None:
        """SIGSTOP to all of it at once."""
        self._frozen = self.family()
        _send(self._frozen, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to all frozen processes."""
        _send(self._frozen, signal.SIGCONT)


class NodeHouse:
    """The head and its nodes. ``nodes`` are those that were neither killed nor replaced."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self._numbers = itertools.count()
        self._temp = tempfile.mkdtemp(prefix="rb", dir="/tmp")  # short, since it holds Ray's sockets
        self._token = ray_token.new_token()
        self._environment = {**os.environ, **SETTINGS, **ray_token.environment(self._token), "RAY_USAGE_STATS_ENABLED": "0"}
        for name in ("RAY_ADDRESS", ray_token.TOKEN):
            self._environment.pop(name, None)
        self.nodes: list[RayNode] = []
        self.head: RayNode | None = None

    @property
    def address(self) -> str:
        """The address of the head."""
        return f"127.0.0.1:{self._port}"

    async def start(self, nodes: int) -> None:
        """Start head and nodes, and connect this process. Raises ``RayError``."""
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        ray_token.record(self.address, self._token)
        self.head = await asyncio.to_thread(
            self._start, "head", "127.0.0.1",
            ["--head", f"--port={self._port}", "--include-dashboard=false", f"--ray-client-server-port={free_port()}"],
        )  # fmt: skip
        await self._until_port()
        await asyncio.to_thread(connect, self.address)
        for _ in range(nodes):  # one by one: two at once collide on their sockets
            await self.add()

    async def add(self) -> RayNode:
        """Start one more node, ready for actors. Raises ``RayError``."""
        number = next(self._numbers)
        name, ip = f"n{number}", f"127.0.1.{1 + number % 250}"  # an address of its own, so that it counts as another host
        node = await asyncio.to_thread(self._start, name, ip, [f"--address={self.address}", "--include-log-monitor=false"])
        self.nodes.append(node)
        deadline = asyncio.get_running_loop().time() + READY
        while not any(labels.get(NAME) == name for labels in await asyncio.to_thread(node_labels)):
            if asyncio.get_running_loop().time() > deadline or not node.family():
                raise RayError(f"a Ray node did not start: {self._log(name).read_text()[-2000:]}")
            await asyncio.sleep(0.1)
        return node

    async def replace(self, lost: RayNode) -> RayNode:
        """End what is left of a lost node, and start another."""
        self.nodes.remove(lost)
        await asyncio.to_thread(lost.kill)
        return await self.add()

    def where(self, pid: int | None) -> RayNode | None:
        """The node of a process; None if it is on the head or has exited."""
        return next((node for node in self.nodes if node.holds(pid)), None)

    async def stop(self) -> None:
        """End all nodes and the head."""
        await asyncio.to_thread(shut_down)
        for node in [*self.nodes, *([self.head] if self.head else [])]:
            node.thaw()
            await asyncio.to_thread(node.kill)
        for process in psutil.process_iter(["pid", "cmdline"]):
            # Orphans carry the temporary directory in their command line, which no other process does.
            if any(self._temp in part for part in process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        ray_token.forget(self._token)
        await asyncio.to_thread(shutil.rmtree, self._temp, ignore_errors=True)

    def _log(self, name: str) -> Path:
        return self._directory / f"ray-{name}.log"

    def _start(self, name: str, ip: str, arguments: Sequence[str]) -> RayNode:
        command = [
            str(Path(sys.executable).parent / "ray"), "start", "--block", f"--node-ip-address={ip}", "--num-cpus=4",
            f"--temp-dir={self._temp}", "--object-store-memory=100000000", "--disable-usage-stats",
            f"--dashboard-agent-listen-port={free_port()}",
            "--labels", f"{PLACE}={'head' if name == 'head' else 'node'},{NAME}={name}", *arguments,
        ]  # fmt: skip
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return RayNode(name, process)

    async def _until_port(self) -> None:
        deadline = asyncio.get_running_loop().time() + READY
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            if asyncio.get_running_loop().time() > deadline or (self.head and not self.head.family()):
                raise RayError(f"Ray's head did not start: {self._log('head').read_text()[-2000:]}")
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def node_house(nodes: int = 2) -> AsyncIterator[NodeHouse]:
    """A head and ``nodes`` nodes for the duration of the block. Raises ``RayError``."""
    with tempfile.TemporaryDirectory(prefix="raycp-bench-ray-") as directory:
        house = NodeHouse(Path(directory))
        try:
            await house.start(nodes)
            yield house
        finally:
            await house.stop()


def _send(family: Sequence[psutil.Process], what: signal.Signals) -> None:
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(what)
