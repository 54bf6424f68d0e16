"""``switch --policy seed``: the cost of the same switch for an operator with leader-for-life (``peer_seed``), phase by phase.

The bench acts as kubelet and ReplicaSet: a deleted Pod gets SIGTERM, its object is removed when its process has exited, and
another Pod replaces it; a container that dies restarts in its Pod. A switch begins when the standby's backoff has reached its
maximum, at a random moment of that wait, as in an operator that has run for a while.
"""

import asyncio
import contextlib
import itertools
import json
import random
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from raycp.base.clock import SystemClock
from raycp.bench.child import end_child
from raycp.bench.driver import LoadError
from raycp.bench.gaps import gap_figures, gaps_of
from raycp.bench.peer_seed import BACKOFF_MAX, LABEL_VALUE, NAMESPACE
from raycp.bench.phases import phase_figures
from raycp.bench.scenario import EXISTING, USERS_PER_SECOND, Row, RunOutcome, Stage, outcome_of
from raycp.kube import ClusterClient, ConnectSpec
from raycp.kube.errors import KubeError

CAUSES = ("graceful", "upgrade", "leader-kill")
"""The causes that it supports. The first two are the same for it: its Pod is deleted, as by a rolling upgrade."""

REPETITIONS = 4
"""As many as the observations in Table 1 of the article (see ``peer_seed``)."""

KUBELET_NOTICES = 1.0
"""Seconds until a dead container restarts: the kubelet checks once a second. (The first time; then it backs off.)"""

LIMIT = 120.0


class SeedPod:
    """A Pod of the operator: the object, and the process that is its container."""

    def __init__(self, name: str, uid: str, kubeconfig: Path, log: Path) -> None:
        self.name = name
        self.uid = uid
        self._kubeconfig = kubeconfig
        self._log = log
        self._changed = asyncio.Event()
        self.events: dict[str, float] = {}
        self.backoff = 0.0
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start the container; earlier events are discarded."""
        self.events.clear()
        self.backoff = 0.0
        with self._log.open("ab") as stderr:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "raycp.bench.peer_seed", str(self._kubeconfig), self.name, self.uid,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr,
            )  # fmt: skip
        self._reading = asyncio.create_task(self._read(self.process))

    async def until(self, event: str, limit: float = LIMIT) -> float:
        """Wait for ``event``; its time. Raises ``LoadError``."""
        deadline = time.monotonic() + limit
        while event not in self.events:
            left = deadline - time.monotonic()
            if left <= 0 or self.process.returncode is not None:
                raise LoadError(f"{self.name} of --policy seed: no {event!r}. Its log: {self._log.read_text()[-1000:]}")
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, 0.5))
        return self.events[event]

    async def patient(self) -> None:
        """Wait until its backoff has reached its maximum."""
        await self.until("waiting")
        while self.backoff < BACKOFF_MAX:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), LIMIT)

    async def stop(self) -> None:
        await end_child(self.process)
        self._reading.cancel()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        while line := await process.stdout.readline():
            message = json.loads(line)
            self.backoff = message.get("seconds", self.backoff)
            self.events.setdefault(message["event"], message["at"])
            self._changed.set()


class SeedFleet:
    """Two Pods of the operator on one cluster."""

    def __init__(self, client: ClusterClient, kubeconfig: Path, directory: Path) -> None:
        self._client = client
        self._kubeconfig = kubeconfig
        self._directory = directory
        self._numbers = itertools.count()
        self._pods: list[SeedPod] = []
        self.leader: SeedPod
        self.standby: SeedPod

    async def start(self) -> None:
        """Start both; the first one leads."""
        self.leader = await self._pod()
        await self.leader.until("synced")
        self.standby = await self._pod()

    async def stop(self) -> None:
        for pod in self._pods:
            await pod.stop()
            with contextlib.suppress(KubeError):
                await self._delete(pod, 0)

    async def deleted(self) -> dict[str, float]:
        """Delete the leader's Pod; the phases of the switch, in seconds."""
        old, new = self.leader, self.standby
        begun = time.monotonic()
        await self._delete(old, 30)
        old.process.send_signal(signal.SIGTERM)
        stopped = await old.until("stopped", 30)
        await old.process.wait()
        await self._delete(old, 0)  # its container has exited: the kubelet removes the object
        leads = await new.until("leader")
        found = await _taken_over(new)
        self.leader, self.standby = new, await self._pod()  # created by the ReplicaSet
        return {"drain": stopped - begun, "leaderless": leads - stopped, **found}

    async def killed(self) -> dict[str, float]:
        """Kill the leader's process; it restarts in its Pod and finds its lock."""
        begun = time.monotonic()
        self.leader.process.kill()
        await self.leader.process.wait()
        await asyncio.sleep(KUBELET_NOTICES)
        await self.leader.start()
        leads = await self.leader.until("leader")
        return {"leaderless": leads - begun, **await _taken_over(self.leader)}

    async def _pod(self) -> SeedPod:
        name = f"seed-operator-{next(self._numbers)}-{random.randrange(10**6)}"
        body = {
            "metadata": {"name": name, "labels": {"app": "seed-operator"}},
            # bound to a node, so that its deletion waits for a kubelet
            "spec": {"nodeName": "bench", "containers": [{"name": "operator", "image": "registry.k8s.io/pause:3.10"}]},
        }
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        answer = await self._client.request("POST", path, body=msgspec.json.encode(body))
        uid = json.loads(answer.body)["metadata"]["uid"]
        pod = SeedPod(name, uid, self._kubeconfig, self._directory / f"{name}.log")
        self._pods.append(pod)
        await pod.start()
        return pod

    async def _delete(self, pod: SeedPod, grace: int) -> None:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod.name}"
        await self._client.request("DELETE", path, query={"gracePeriodSeconds": str(grace)})


async def _taken_over(pod: SeedPod) -> dict[str, float]:
    leads, first, idle = await pod.until("leader"), await pod.until("first"), await pod.until("idle")
    return {"ramp_up": first - leads, "backlog": idle - first}


@contextlib.asynccontextmanager
async def seed_fleet(kubeconfig: Path, directory: Path) -> AsyncIterator[SeedFleet]:
    """Two Pods of the operator for the duration of the block. Raises ``LoadError``."""
    spec = ConnectSpec(name="bench", mode="kubeconfig", path=str(kubeconfig), user_agent="raycp-bench")
    client = await ClusterClient.connect(spec, SystemClock())
    fleet = SeedFleet(client, kubeconfig, directory)
    try:
        await fleet.start()
        yield fleet
    finally:
        await fleet.stop()
        await client.close()


async def seed_switch(stage: Stage) -> RunOutcome:
    """The scenario ``switch`` for this operator."""
    cause = str(stage.options.get("cause") or CAUSES[0])
    if cause not in CAUSES:
        raise LoadError(f"--policy seed has no {cause}: it is measured with {', '.join(CAUSES)}")
    cluster = stage.members[0]
    repetitions = stage.count(int(stage.options.get("seed_repetitions") or REPETITIONS))
    existing = stage.count(int(stage.options.get("existing") or EXISTING))
    rate = float(stage.options.get("rate") or USERS_PER_SECOND)
    tag = f"{stage.run}s"
    patience = float(stage.options.get("seed_patience") or BACKOFF_MAX)
    await stage.load.post(cluster, f"e{tag}", existing, work_label=LABEL_VALUE)
    switches: list[dict[str, float]] = []
    windows: list[list[Row]] = []
    quiet: list[float] = []
    missing = 0
    answer: dict[str, Any] = {"duplicates": 0}
    async with seed_fleet(stage.ground.kubeconfigs[cluster], stage.ground.directory) as fleet:
        await stage.load.wait(f"e{tag}", existing, 240)
        for number in range(repetitions):
            await stage.load.post(cluster, f"q{tag}{number}", 40, rate=rate, work_label=LABEL_VALUE)
            before = await stage.load.wait(f"q{tag}{number}", 40, 30)
            quiet += [latency for _, _, latency in before["rows"]]
            if cause != "leader-kill" and patience >= BACKOFF_MAX:
                await fleet.standby.patient()
                await asyncio.sleep(random.uniform(0.0, patience))
            prefix = f"s{tag}{number}"
            switching = asyncio.create_task(fleet.killed() if cause == "leader-kill" else fleet.deleted())
            sent = 0
            while not switching.done():  # one second of changes at a time, until the switch is over
                await stage.load.post(cluster, prefix, round(rate), first=sent, rate=rate, work_label=LABEL_VALUE)
                sent += round(rate)
            switches.append(await switching)
            answer = await stage.load.wait(prefix, sent, 60)
            missing += answer["missing"]
            windows.append(answer["rows"])
    await stage.load.clean(cluster, selector=f"bench={LABEL_VALUE}")
    gaps = gaps_of(windows, statistics.median(quiet or [0.0]))
    rows = [row for window in windows for row in window]
    own = {"cause": cause, "existing": existing, **gap_figures(gaps), **phase_figures(switches)}
    outcome = outcome_of({"rows": rows, "missing": missing, "duplicates": answer["duplicates"]}, **own)
    outcome.curves["gap_ms"] = [(float(number), gap * 1000) for number, gap in enumerate(sorted(gaps))]
    outcome.phases = switches
    return outcome
