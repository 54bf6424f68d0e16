"""The clusters that a benchmark runs on: embedded ones, each in a process of its own that exits with this one, or given
kubeconfigs.

The API servers outlive the fleets under test, so that a scenario can stop and start fleets, and peers can run on the same
servers.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raycp.bench.child import end_child
from raycp.config.embedded import EmbeddedSpec

BENCH_CLUSTER: dict[str, Any] = {"controllers": {"scheduler": False, "stages": False}, "history": 100_000}
"""No nodes and no controllers: Pods stay Pending, and the cores are left to the system under test."""


class GroundError(Exception):
    """A cluster could not be started or reached."""


class GroundCluster:
    """One embedded cluster in a child process."""

    def __init__(self, name: str, kubeconfig: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.kubeconfig = kubeconfig
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def freeze(self) -> None:
        """SIGSTOP: the kernel accepts connections and nothing answers, as with a host whose packets are dropped."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        if self._process.returncode is None:
            self.thaw()
            await end_child(self._process)


async def start_cluster(name: str, directory: Path, spec: Mapping[str, Any] | None = None) -> GroundCluster:
    """Start one. Raises ``GroundError`` with its stderr."""
    settings = EmbeddedSpec.model_validate({**BENCH_CLUSTER, **(spec or {})}).model_dump(mode="json", by_alias=True)
    log = directory / f"{name}.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "raycp.bench.cluster_process", name, json.dumps(settings),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
    assert process.stdout
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        kubeconfig = json.loads(line)["kubeconfig"]
    except (TimeoutError, ValueError, KeyError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise GroundError(f"embedded cluster {name} did not start: {log.read_text()[-2000:]}") from None
    path = directory / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(kubeconfig)
    return GroundCluster(name, path, process)


class Ground:
    """Clusters by name. ``clusters`` has the embedded ones, ``kubeconfigs`` all."""

    def __init__(self, kubeconfigs: dict[str, Path], clusters: dict[str, GroundCluster], directory: Path) -> None:
        self.kubeconfigs = kubeconfigs
        self.clusters = clusters
        self.directory = directory

    @property
    def names(self) -> list[str]:
        return list(self.kubeconfigs)


@contextlib.asynccontextmanager
async def ground(
    count: int, directory: Path, given: Sequence[Path] = (), spec: Mapping[str, Any] | None = None
) -> AsyncIterator[Ground]:
    """``count`` embedded clusters, or the given kubeconfigs (their current contexts)."""
    if given:
        yield Ground({f"cluster-{i}": path for i, path in enumerate(given)}, {}, directory)
        return
    started: list[GroundCluster] = []
    try:
        for i in range(count):
            started.append(await start_cluster(f"cluster-{i}", directory, spec))
        yield Ground({c.name: c.kubeconfig for c in started}, {c.name: c for c in started}, directory)
    finally:
        for cluster in started:
            await cluster.stop()
