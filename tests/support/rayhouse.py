"""A Ray cluster of the tests' own, and ``raycp`` commands against it. Everything that is started is ended by its pid."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import yaml

from raycp.base.clock import SystemClock
from raycp.bench.ports import free_port
from raycp.kube import ClusterClient, ConnectSpec
from raycp.runtime.local_ray import SETTINGS

HERE = Path(__file__).parent


def until(condition: Callable[[], Any], seconds: float, what: str, every: float = 0.1) -> Any:
    """Wait for the condition. Returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every)


def end_tree(pid: int) -> None:
    """End a process and all that it has started, by their pids."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        family = [*root.children(recursive=True), root]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)


def _heeds_hangups() -> None:
    """A command of the tests' own, whether they run under ``nohup`` or not."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def output_until(process: "subprocess.Popen[str]", *words: str) -> str:
    """The process's output up to a line with one of ``words``; all of it if none appears."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if any(word in line for word in words):
            break
    return "".join(lines)


class Node:
    """A Ray node beside the head: a raylet with its actors, on a loopback address of its own, so that it is another host to
    everybody. Its processes are those under ``ray start --block``."""

    def __init__(self, name: str, ip: str, process: "subprocess.Popen[bytes]", identity: str) -> None:
        self.name = name
        self.ip = ip
        self.identity = identity
        """Ray's id of the node, as hex."""
        self._process = process
        self._frozen: list[psutil.Process] = []

    def processes(self) -> list[psutil.Process]:
        """``ray start``, the raylet, its agents, and all actors."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def pids(self) -> set[int]:
        return {process.pid for process in self.processes()}

    def raylet(self) -> psutil.Process:
        return next(process for process in self.processes() if process.name() == "raylet")

    def kill(self) -> None:
        """SIGKILL to all of it at once, parents first so that none cleans up after a child; the ports refuse afterwards."""
        family = self.processes()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(10)
        psutil.wait_procs(family, timeout=10)

    def freeze(self) -> None:
        """SIGSTOP to all of it: the kernel still accepts connections, and no process answers."""
        self._frozen = self.processes()
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """SIGCONT to all frozen processes, actors first: their work continues before any other process reaches them."""
        for process in reversed(self._frozen):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self._frozen = []

    def terminate(self) -> None:
        """SIGTERM to ``ray start --block``, as the end of a pod: the node drains, then ends."""
        self._process.terminate()


class House:
    """One Ray head with its dashboard, and as many nodes beside it as a test adds. ``home`` holds kubeconfigs and fleet files;
    ``environment`` is for Ray's processes; ``head`` are further arguments of the head's ``ray start``."""

    def __init__(self, home: Path, environment: dict[str, str] | None = None, head: tuple[str, ...] = ("--num-cpus=4",)) -> None:
        self.home = home
        self.port = free_port()
        self.dashboard = free_port()
        self.temp = tempfile.mkdtemp(prefix="rt", dir="/tmp")
        self.environment = {
            **os.environ,
            **SETTINGS,
            "RAY_AUTH_MODE": "disabled",
            "RAYCP_HOME": str(home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self.environment.pop("RAY_ADDRESS", None)
        self.address = f"127.0.0.1:{self.port}"
        self._log = (home / "ray.log").open("w")
        self._head: subprocess.Popen[bytes] | None = None
        self._arguments = head
        self._command: list[str] = []
        self.nodes: dict[str, Node] = {}

    def start(self) -> None:
        """Start the head; after ``kill_head`` again, on the same ports."""
        # Our other nodes name the head's address, and this file names it, too: `ray start` would think that it lives.
        (Path(self.temp) / "ray_current_cluster").unlink(missing_ok=True)
        command = self._command = self._command or [
            str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1",
            f"--port={self.port}", "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}",
            f"--temp-dir={self.temp}", "--object-store-memory=100000000", "--disable-usage-stats",
            f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}", *self._arguments,
        ]  # fmt: skip
        before = (self.home / "ray.log").stat().st_size
        self._head = subprocess.Popen(
            command, env=self.environment, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
        until(lambda: self._serves(before), 120.0, "Ray's head serves")

    def _serves(self, before: int) -> bool:
        """The dashboard answers before the raylet is registered, when nobody can join yet: ``ray start`` says so after ``before``
        bytes of its log."""
        assert self._head is not None
        said = (self.home / "ray.log").read_bytes()[before:]
        assert self._head.poll() is None, said[-3000:].decode("utf-8", "replace")
        with socket.socket() as probe:
            return b"Ray runtime started" in said and probe.connect_ex(("127.0.0.1", self.dashboard)) == 0

    def kill_head(self) -> None:
        """SIGKILL to the head's processes: GCS, raylet, dashboard, and the actors that are there."""
        assert self._head is not None
        end_tree(self._head.pid)
        self._head.wait(10)

    # nodes

    def add_node(
        self, name: str, labels: dict[str, str] | None = None, resources: dict[str, float] | None = None, cpus: int = 4
    ) -> Node:
        """Start another raylet, on the next address of 127.0.0.0/8, and wait until Ray knows it."""
        ip = f"127.0.0.{2 + len(self.nodes)}"
        command = [
            str(Path(sys.executable).parent / "ray"), "start", f"--address={self.address}", "--block", f"--node-ip-address={ip}",
            f"--num-cpus={cpus}", "--object-store-memory=100000000", "--disable-usage-stats", "--include-log-monitor=false",
            f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={self.temp}",
            f"--resources={json.dumps(resources or {})}",
            f"--labels={','.join(f'{key}={value}' for key, value in {'raycp-test/node': name, **(labels or {})}.items())}",
        ]  # fmt: skip
        return self.join(name, ip, command)

    def join(self, name: str, ip: str, command: list[str]) -> Node:
        """Start a raylet by ``command``, and wait until Ray knows it under the address ``ip``."""
        before = set(self.alive())
        with (self.home / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

        def joined() -> set[str]:
            assert process.poll() is None, (self.home / f"{name}.log").read_text()[-3000:]
            return {node for node, host in self.alive().items() if host == ip} - before

        try:
            identity = until(joined, 60.0, f"Ray's node {name}").pop()
        except BaseException:
            end_tree(process.pid)
            raise
        self.nodes[name] = Node(name, ip, process, identity)
        return self.nodes[name]

    def alive(self) -> dict[str, str]:
        """Ray's ids of the nodes that live -> their addresses, as the GCS has them."""
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        found = GcsClient(address=self.address).get_all_node_info(timeout=10)
        return {node.hex(): info.node_manager_address for node, info in found.items() if info.state == 0}

    def kill_node(self, name: str) -> None:
        """See ``Node.kill``."""
        self.nodes[name].kill()

    def freeze_node(self, name: str) -> None:
        """See ``Node.freeze``."""
        self.nodes[name].freeze()

    def thaw_node(self, name: str) -> None:
        """See ``Node.thaw``."""
        self.nodes[name].thaw()

    def drain_node(self, name: str, seconds: int = 120) -> None:
        """Announce the node's end, as a spot instance's notice does; Ray places nothing there from then on, and kills nothing."""
        command = [
            str(Path(sys.executable).parent / "ray"), "drain-node", f"--address={self.address}",
            f"--node-id={self.nodes[name].identity}", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=a test",
            f"--deadline-remaining-seconds={seconds}",
        ]  # fmt: skip
        subprocess.run(command, env=self.environment, check=True, timeout=60, capture_output=True)

    def stop(self) -> None:
        for node in self.nodes.values():
            node.kill()
        if self._head is not None:
            end_tree(self._head.pid)
        self._log.close()
        for process in psutil.process_iter(["pid", "cmdline"]):
            # Orphans: their command lines name our own temporary directory.
            if any(self.temp in part for part in process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        shutil.rmtree(self.temp, ignore_errors=True)

    # commands

    def popen(self, *arguments: str, cwd: Path = HERE) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "raycp.cli.main", *arguments], env=self.environment, cwd=cwd, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_heeds_hangups,
        )  # fmt: skip

    def raycp(self, *arguments: str, expect: int = 0, timeout: float = 120.0, cwd: Path = HERE) -> str:
        """Run a command to its end; its output."""
        process = self.popen(*arguments, cwd=cwd)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(f"raycp {' '.join(arguments)} took longer than {timeout:g} s:\n{output}") from None
        assert process.returncode == expect, f"raycp {' '.join(arguments)} ended with {process.returncode}:\n{output}"
        return output

    def up(self, path: Path, epoch: int = 1) -> str:
        """Run the fleet of a file; the command's output. It is ready, with nothing wrong, at ``epoch``."""
        output = self.raycp("run", "-c", str(path), "--address", self.address)
        if f"fleet {path.stem} is ready: epoch {epoch}," not in output:
            raise AssertionError(output)
        return output

    def output_of(self, *arguments: str) -> str:
        """A command's output, however it ends."""
        return self.popen(*arguments, "--address", self.address).communicate(timeout=60)[0]

    def status(self, fleet: str) -> dict[str, Any]:
        process = self.popen("status", "--fleet", fleet, "--address", self.address, "-o", "json")
        output, _ = process.communicate(timeout=60)
        start = output.find("{")
        assert start >= 0, output
        found: dict[str, Any] = json.loads(output[start:])
        return found

    def file(self, name: str, clusters: list[str], uses: list[str], **spec: Any) -> Path:
        """Write a fleet file; the first cluster is the hub."""
        path = self.home / f"{name}.yaml"
        rows: list[dict[str, Any]] = [
            {"name": cluster, "role": "hub" if number == 0 else "member", "embedded": {"podRuntime": "500ms"}}
            for number, cluster in enumerate(clusters)
        ]
        text = {
            "apiVersion": "raycp.io/v1alpha1",
            "kind": "Fleet",
            "metadata": {"name": name},
            "spec": {
                "clusters": rows,
                "controllers": [{"use": use} for use in uses],
                "observer": {"port": 0},
                "timeouts": {"drain": "5s", "ready": "60s"},
                **spec,
            },
        }
        path.write_text(yaml.safe_dump(text))
        return path


class Cluster:
    """One cluster's API, as a user has it: by the kubeconfig that the fleet wrote."""

    def __init__(self, name: str, kubeconfig: str) -> None:
        self.name = name
        self.kubeconfig = kubeconfig

    async def request(self, verb: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        client = await ClusterClient.connect(ConnectSpec(name=self.name, mode="kubeconfig", path=self.kubeconfig), SystemClock())
        try:
            raw = msgspec.json.encode(body) if body is not None else None
            return msgspec.json.decode((await client.request(verb, path, body=raw, query=query)).body)
        finally:
            await client.close()

    async def created(self, resource: str) -> list[str]:
        """Names in the order of their creation, as the server recorded it: each try that took effect is in it."""
        found = await self.request("GET", "/raycp/admin/writes", query={"resource": resource, "verb": "create"})
        return [f"{write['namespace']}/{write['name']}" for write in found["writes"]]


def clusters_of(status: dict[str, Any]) -> dict[str, Cluster]:
    return {row["name"]: Cluster(row["name"], row["kubeconfig"]) for row in status["clusters"]}


@contextlib.contextmanager
def redis(home: Path) -> Iterator[dict[str, str]]:
    """A real Redis for the time of the block; the environment with which Ray keeps its own state in it."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(home)]
    with (home / "redis.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, 10.0, f"Redis: {(home / 'redis.log').read_text()[-2000:]}")
        yield {"RAY_REDIS_ADDRESS": f"127.0.0.1:{port}", "RAY_external_storage_namespace": "raycp"}
    finally:
        end_tree(process.pid)
        process.wait(10)


@contextlib.contextmanager
def house(home: Path, environment: dict[str, str] | None = None, head: tuple[str, ...] = ("--num-cpus=4",)) -> Iterator[House]:
    """A Ray head for the time of the block."""
    made = House(home, environment, head)
    try:
        made.start()
        yield made
    finally:
        made.stop()
