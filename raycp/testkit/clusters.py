"""Clusters for tests: embedded ones on an event loop in a thread of their own, or a real one by its kubeconfig."""

import asyncio
import itertools
import subprocess
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from raycp.base.clock import Clock, SystemClock, VirtualClock
from raycp.config.embedded import EmbeddedSpec, FaultSpec

T = TypeVar("T")


class SharedClock(VirtualClock):
    """A virtual clock for sleepers on another thread's loop: ``advance`` and ``move`` may be called from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sleepers wait on ``loop``."""
        self._loop = loop

    async def advance(self, seconds: float) -> None:
        """Advance by ``seconds`` and wake the sleepers that are due, in order."""
        loop = self._loop
        if loop is None or loop is asyncio.get_running_loop():
            await super().advance(seconds)
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(super().advance(seconds), loop))

    def move(self, seconds: float) -> None:
        """``advance`` for synchronous tests."""
        if self._loop is None:
            asyncio.run(super().advance(seconds))
        else:
            asyncio.run_coroutine_threadsafe(super().advance(seconds), self._loop).result(60)


class ClusterHandle(Protocol):
    """What a test sees of a cluster."""

    name: str
    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run kubectl against it. Raises ``AssertionError`` with its output where it fails and ``check`` is set."""
        ...

    def add_fault(self, kind: str, **fields: Any) -> int:
        """Set a fault (``raycp.config.embedded.FaultSpec``); its number. Raises ``NotEmbedded`` on a real cluster."""
        ...

    def clear_faults(self) -> None: ...


class NotEmbedded(Exception):
    """Only an embedded cluster can do this."""


def kubectl(
    binary: str, kubeconfig: Path, *arguments: str, stdin: str = "", check: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run kubectl with a discovery cache of its own: later clusters reuse ports, and kubectl's cache is keyed by port."""
    done = subprocess.run(
        [binary, f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent / 'kubectl-cache'}", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class RealCluster:
    """A real cluster, by its kubeconfig."""

    def __init__(self, kubeconfig: Path, binary: str = "kubectl") -> None:
        self.name = str(yaml.safe_load(kubeconfig.read_text()).get("current-context") or "real")
        self.kubeconfig = kubeconfig
        self._binary = binary

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> "subprocess.CompletedProcess[str]":
        return kubectl(self._binary, self.kubeconfig, *arguments, stdin=stdin, check=check)

    def add_fault(self, kind: str, **fields: Any) -> int:
        raise NotEmbedded

    def clear_faults(self) -> None:
        return None


class EmbeddedHandle:
    """An embedded cluster on a host's thread. ``inner`` is the ``EmbeddedCluster``: use it on that thread only."""

    def __init__(self, host: "EmbeddedHost", inner: Any, endpoint: Any, kubeconfig: Path, binary: str) -> None:
        self.name: str = inner.name
        self.inner = inner
        self.server: str = endpoint.server
        self.token: str = endpoint.token
        self.ca_pem: str = endpoint.ca_pem
        self.kubeconfig = kubeconfig
        self._host = host
        self._binary = binary

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> "subprocess.CompletedProcess[str]":
        return kubectl(self._binary, self.kubeconfig, *arguments, stdin=stdin, check=check)

    def call(self, function: Callable[[Any], T]) -> T:
        """``function(inner)`` on the cluster's own thread."""

        async def run() -> T:
            return function(self.inner)

        return self._host.run(run())

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await something on the cluster's own loop."""
        return self._host.run(coroutine)

    def add_fault(self, kind: str, **fields: Any) -> int:
        spec = FaultSpec.model_validate({"kind": kind, **fields})
        return self.call(lambda inner: int(inner.faults.add(spec)))

    def clear_faults(self) -> None:
        self.call(lambda inner: inner.faults.clear())


class EmbeddedHost:
    """A thread with an event loop on which embedded clusters live, so that the test's own thread may block."""

    def __init__(self, directory: Path, clock: Clock | None = None, binary: str = "kubectl") -> None:
        self.directory = directory
        self.clock = clock or SystemClock()
        self.binary = binary
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedded clusters", daemon=True)
        self._clusters: list[EmbeddedHandle] = []
        self._numbers = itertools.count(1)
        self._thread.start()
        if isinstance(self.clock, SharedClock):
            self.clock.bind(self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await ``coroutine`` on the clusters' loop. Raises ``TimeoutError`` after a minute."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def start(self, name: str = "", spec: EmbeddedSpec | None = None) -> EmbeddedHandle:
        """A new cluster; its kubeconfig is written below the host's directory."""
        from raycp.embedded.cluster import EmbeddedCluster

        name = name or f"cluster-{next(self._numbers)}"

        async def begin() -> tuple[Any, Any]:
            inner = EmbeddedCluster(name, spec or EmbeddedSpec(), self.clock)
            return inner, await inner.start()

        inner, endpoint = self.run(begin())
        home = self.directory / name
        home.mkdir(parents=True, exist_ok=True)
        path = home / "kubeconfig"
        path.write_text(endpoint.kubeconfig)
        path.chmod(0o600)
        handle = EmbeddedHandle(self, inner, endpoint, path, self.binary)
        self._clusters.append(handle)
        return handle

    def close(self) -> None:
        """Stop all clusters and the thread."""

        async def end() -> None:
            for cluster in self._clusters:
                await cluster.inner.stop()

        try:
            self.run(end())
        finally:
            self._clusters.clear()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()
