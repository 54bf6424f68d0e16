"""Embedded API servers in processes of their own, unaffected by faults of the fleet, and users' clients of them."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import rayhouse

from raycp.base.clock import SystemClock
from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.cluster import write_kubeconfig
from raycp.kube import ApiError, BadAnswer, ClusterClient, ConnectSpec, KubeError, decode_answer


class ApiServer:
    """One process. ``within`` is prepended to its command, such as ``ip netns exec NAME``."""

    def __init__(self, name: str, home: Path, spec: Mapping[str, Any], within: Sequence[str] = ()) -> None:
        self.name = name
        self.kubeconfig = home / f"{name}.kubeconfig"
        told = EmbeddedSpec.model_validate(spec).model_dump(mode="json", by_alias=True)
        self._log = (home / f"{name}.log").open("w")
        self._process = subprocess.Popen(
            [*within, sys.executable, "-m", "raycp.bench.cluster_process", name, json.dumps(told)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True,
        )  # fmt: skip

    def ready(self) -> "ApiServer":
        """Wait for its first line, which is its kubeconfig; each further line is one with a new token."""
        assert self._process.stdout is not None
        self._keep(self._process.stdout.readline())
        threading.Thread(target=self._follow, daemon=True).start()
        return self

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        write_kubeconfig(self.kubeconfig, json.loads(line)["kubeconfig"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(3)
        rayhouse.end_tree(self._process.pid)
        self._process.wait()
        self._log.close()


class Api:
    """A user of one cluster. ``sure`` repeats a request until it succeeds."""

    def __init__(self, name: str, client: ClusterClient) -> None:
        self.name = name
        self._client = client
        self._fetched = 0
        self.writes: list[dict[str, Any]] = []
        """The writes that the server recorded, as far as ``gather`` has fetched them."""

    @classmethod
    async def connect(cls, name: str, kubeconfig: Path) -> "Api":
        spec = ConnectSpec(name=name, mode="kubeconfig", path=str(kubeconfig), max_in_flight=1000, user_agent="soak-user")
        client = await ClusterClient.connect(spec, SystemClock(), probe=False)
        client.breaker = None
        return cls(name, client)

    async def ask(self, verb: str, path: str, body: Any = None, timeout: float = 5.0, **more: Any) -> Any:
        """Send one request, once. Raises ``KubeError``, also for JSON that is no answer of an API server: it names its kind."""
        raw = msgspec.json.encode(body) if body is not None else None
        answer = await self._client.request(verb, path, body=raw, timeout=timeout, **more)
        found = decode_answer(answer.body, Any, f"{verb} {path}")
        if not path.startswith("/raycp/") and not (isinstance(found, dict) and "kind" in found):
            raise BadAnswer(f"{verb} {path}: {answer.body[:60]!r} instead of an object")
        return found

    async def sure(
        self, verb: str, path: str, body: Any = None, done: Sequence[int] = (), seconds: float = 60.0, **more: Any
    ) -> Any:
        """Repeat until it succeeds. A status in ``done`` counts as success (409 for a create whose first response was lost)."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                return await self.ask(verb, path, body, timeout=2.0, **more)
            except KubeError as error:
                if isinstance(error, ApiError) and error.status in done:
                    return None
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def gather(self) -> None:
        """Fetch the writes that were recorded since the last call."""
        found = await self.sure("GET", "/raycp/admin/writes", query={"after": str(self._fetched)})
        assert found["count"] - self._fetched <= found["kept"], f"{self.name}: writes were dropped before they were fetched"
        self._fetched = found["count"]
        self.writes.extend(found["writes"])

    async def faults(self, specs: Sequence[Mapping[str, Any]]) -> None:
        """Add these faults to the active ones; each ends by itself, or with ``clear``."""
        await self.sure("POST", "/raycp/admin/faults", list(specs))

    async def faulty(self, specs: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """Have these faults for that long; a repeating one has no end of its own."""
        before = {row["id"] for row in await self.sure("GET", "/raycp/admin/faults")}
        await self.faults(specs)
        mine = [row["id"] for row in await self.sure("GET", "/raycp/admin/faults") if row["id"] not in before]
        await asyncio.sleep(seconds)
        for number in mine:
            await self.sure("DELETE", f"/raycp/admin/faults/{number}", done=(404,))

    async def clear(self) -> None:
        await self.sure("DELETE", "/raycp/admin/faults")

    async def close(self) -> None:
        await self._client.close()
