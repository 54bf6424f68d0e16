"""A soak with hostile answers: users' jobs and changes over clusters whose API servers, or whatever stands before them, lie."""

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
from apis import Api, ApiServer
from beside import beside
from faultplan import Fault
from faultplayer import boottime
from hostileplan import GRACE, deadline, hostilities, named
from rayhouse import House
from recoveries import Change, Played, changes_of, recoveries, worst
from soakrun import JOBS, PERMIT, Scale, Soak, api_servers, at_ray, bring_up, fleet_file
from weights import Weights

from raycp.driver.fleet_client import FleetClient
from raycp.kube import KubeError
from raycp.kube.exec_plugin import PLUGIN_SECONDS
from raycp.runtime.ray_substrate import RaySubstrate

CLUSTERS = ["hub", "east", "west", "north"]
PLUGIN = "west"
"""The cluster whose kubeconfig names a credential plugin."""
BATCHJOBS = "batchjobs.batch.raycp.io"
EVERY = 5.0
"""Seconds between two samples of the processes' weights."""
TOLD = 3.0
"""Seconds that status may lag behind."""

NAMES = {
    "html": "text/html|Sign in",
    "redirect": "redirect",
    "truncated": "ended|closed|cannot be read|cut|incomplete",
    "401 storm": "401",
    "plugin hangs": "credential|401",
}
"""What status has to say of a fault. Of the others: that an answer is not one."""
NONSENSE = "instead of|cannot be read|answer"


class HostileSoak(Soak):
    """One run. ``ended``: jobs that were complete with the right counts, and deleted then."""

    def __init__(self, scale: Scale, house: House, client: FleetClient, apis: dict[str, Api], plugin: ApiServer) -> None:
        super().__init__(scale, house, client, RaySubstrate("raycp-soak"), apis)
        self.ended: set[str] = set()
        self.weights = Weights()
        self.played: list[Played] = []
        self.said: list[tuple[float, dict[str, str]]] = []
        """(Unix time, cluster -> what status says of it), whenever there is a new status"""
        self.stalls: list[tuple[float, float]] = []
        """(seconds from the begin, how much longer than it should a sleep of this process took), of more than a second"""
        self.begun = boottime()
        self._flag = Path(f"{plugin.kubeconfig}.login")

    async def play(self) -> None:
        """Faults under load; then everything must be reconciled, and nothing else may have happened."""
        seconds = self.scale.seconds
        planned = hostilities(self.scale.seed, seconds, CLUSTERS, PLUGIN)
        print("\n".join(map(str, planned)), flush=True)
        members = self.player.processes()
        begun = self.begun = boottime()
        async with beside(self._gather(), self._reap(), self._weigh_all(), self._listen()):
            users = [asyncio.ensure_future(self._change_things(seconds)), asyncio.ensure_future(self._submit_jobs(0, seconds))]
            playing = [asyncio.ensure_future(self._play(fault, begun)) for fault in planned]
            try:
                await asyncio.gather(*playing)
                jobs = (await asyncio.gather(*users))[1]
                await self.until_ended(jobs)
            finally:
                for task in (*users, *playing):
                    task.cancel()
        await self.settle([])
        for api in self.apis.values():
            await api.gather()
        await self._judge([])
        self.report.faults = len(planned)
        print(self.summary(), flush=True)
        wrong = [str(each) for each in self.recovered() if each.late]
        wrong += self.unnamed()
        wrong += [f"{place}: process {pid} is gone" for place, pid in members.items() if self.player.pid(place) != pid]
        wrong += self.plugins()
        if wrong:
            await self.fail("after everything was reconciled", wrong)

    # while faults run

    async def _play(self, fault: Fault, begun: float) -> None:
        await asyncio.sleep(max(0.0, begun + fault.at - boottime()))
        cluster, at = fault.targets[0], time.time()
        self.player.log.append(str(fault))
        if fault.kind == "plugin hangs":
            self._flag.touch()
        try:
            lasting = [{"for": f"{fault.seconds:.1f}s", **spec} for spec in fault.specs]
            await self.apis[cluster].faulty(lasting, fault.seconds)
        finally:
            if fault.kind == "plugin hangs":
                self._flag.unlink(missing_ok=True)
        self.played.append(Played(fault.kind, cluster, at, time.time(), deadline(fault) + GRACE, named(fault)))

    async def _reap(self) -> None:
        """Users look after their jobs and delete what is complete, so that the number of objects stays the same."""
        while True:
            await asyncio.sleep(2.0)
            with contextlib.suppress(KubeError):
                for item in (await self.hub.ask("GET", JOBS))["items"]:
                    name, state, size = item["metadata"]["name"], item.get("status") or {}, item["spec"]["completions"]
                    counts = (state.get("succeeded", 0), state.get("failed", 0), state.get("active", 0))
                    if name not in self.ended and _complete(state) and counts == (size, 0, 0):
                        await self.hub.sure("DELETE", f"{JOBS}/{name}", done=(404,))
                        self.ended.add(name)

    async def _weigh_all(self) -> None:
        while True:
            self.weights.sample(boottime() - self.started, self.player.processes())
            await asyncio.sleep(EVERY)

    async def _listen(self) -> None:
        seen: Any = None
        while True:
            status, before = self.player.status, boottime()
            if status and status is not seen:
                self.said.append((time.time(), {row["name"]: _said(status, row) for row in status["clusters"]}))
                seen = status
            await asyncio.sleep(0.1)
            if (late := boottime() - before - 0.1) > 1.0:
                self.stalls.append((before - self.begun, late))

    # afterwards

    async def until_ended(self, jobs: list[str]) -> None:
        """Wait until users have seen all jobs complete."""
        limit = boottime() + self.scale.quiet
        while missing := set(jobs) - self.ended:
            if boottime() > limit:
                states = {row["metadata"]["name"]: row.get("status") for row in (await self.hub.sure("GET", JOBS))["items"]}
                wrong = [f"hub/BatchJob/default/{name}: not complete: {json.dumps(states.get(name))[:300]}" for name in missing]
                await self.fail("jobs are not complete", sorted(wrong))
            await asyncio.sleep(0.5)

    def recovered(self) -> list[Any]:
        changes: list[Change] = []
        for name, api in self.apis.items():
            if api is self.hub:
                changes += changes_of(name, api.writes, BATCHJOBS, (BATCHJOBS, f"{BATCHJOBS}/status"))
            else:
                changes += changes_of(name, api.writes, "configmaps", ("secrets",))
        return recoveries(self.played, changes, CLUSTERS, CLUSTERS[0])

    def unnamed(self) -> list[str]:
        """Faults of which status said nothing while they ran."""
        wrong = []
        for fault in self.played:
            texts = {each[fault.cluster] for at, each in self.said if fault.begin <= at <= fault.end + TOLD}
            words = re.compile(NAMES.get(fault.kind, NONSENSE))
            if fault.named and not any(map(words.search, texts)):
                lasted = fault.end - fault.begin
                wrong.append(f"{fault.cluster}: {fault.kind} for {lasted:.1f} s, of which status says {sorted(texts)}")
        return wrong

    def plugins(self) -> list[str]:
        """Credential plugins, and children of theirs, that were not killed."""
        left = []
        for process in psutil.process_iter(["pid", "cmdline", "create_time"]):
            words = " ".join(process.info["cmdline"] or ())
            if str(self._flag.parent) in words and ("login.sh" in words or "tail -f" in words):
                left.append((process.info["create_time"], f"plugin {process.info['pid']} still runs: {words}"))
        return [text for created, text in left if time.time() - created > PLUGIN_SECONDS + 5.0]

    def summary(self) -> str:
        found = self.recovered()
        kinds, longest = Counter(each.kind for each in self.played), worst(found)
        rows = [f"{kind}: {count} played, worst recovery {longest.get(kind, 0.0):.1f} s" for kind, count in sorted(kinds.items())]
        offset = time.time() - (boottime() - self.begun)
        switches = [
            f"{row['at'] - offset:.1f} s: {row['what']}, {row['cause']}, epoch {row['epoch']}, term {row['term']}"
            + "".join(f"\n    {text}" for text in row.get("tail", ())[-5:])
            for row in self.player.status["switches"]
        ]
        stalls = [f"{at:.1f} s: this process stood still for {late:.1f} s" for at, late in self.stalls]
        return "\n".join([*map(str, found), *rows, *self.weights.table(), "switches:", *switches, *stalls, str(self.report)])


@contextlib.asynccontextmanager
async def hostile_ground(scale: Scale, house: House) -> AsyncIterator[HostileSoak]:
    """A fleet whose permits depend on the hub (lock ``configMap``), and of which one cluster has a credential plugin."""
    with api_servers(house.home, CLUSTERS, podRuntime="500ms") as servers:
        paths = {name: server.kubeconfig for name, server in servers.items()}
        file = fleet_file(
            house, "soak", {**paths, PLUGIN: _with_plugin(paths[PLUGIN])},
            [{"use": "raycp.controllers.batchjob"}, {"use": "diary:diary", "config": {"diary": str(house.home / "diary.jsonl")}}],
            shards={"standby": 1, "clustersPerShard": 2}, tiers={"standard": {"workers": {"min": 2, "max": 2}}},
            leader={"permit": f"{PERMIT:g}s", "lock": {"configMap": {}}}, timeouts={"drain": "5s", "ready": "60s", "list": "5s"},
        )  # fmt: skip
        with at_ray(house.address):
            client = FleetClient("raycp-soak")
            await bring_up(file, client)
            apis = {name: await Api.connect(name, kubeconfig) for name, kubeconfig in paths.items()}
            made = HostileSoak(scale, house, client, apis, servers[PLUGIN])
            try:
                async with beside(made.player.look()):
                    await made.prepare()
                    yield made
            finally:
                for api in apis.values():
                    await api.close()


async def hostile_soak(scale: Scale, house: House) -> None:
    """A whole run; raises ``AssertionError`` with the seed and the faults when something is lost, late or silent."""
    print(f"hostile answers: RAYCP_SOAK_SEED={scale.seed}, {scale.seconds:g} s", flush=True)
    async with hostile_ground(scale, house) as made:
        await made.settle([])
        await made.play()


def _with_plugin(kubeconfig: Path) -> Path:
    """Another kubeconfig of the same cluster, whose user is what ``login.sh`` prints."""
    doc = json.loads(kubeconfig.read_text())
    script = str(Path(__file__).parent / "login.sh")
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": [script, str(kubeconfig)]}
    doc["users"][0]["user"] = {"exec": {**plugin, "interactiveMode": "Never"}}
    path = kubeconfig.with_name("plugin.kubeconfig")
    path.write_text(json.dumps(doc))
    return path


def _complete(state: dict[str, Any]) -> bool:
    return any(row["type"] == "Complete" and row["status"] == "True" for row in state.get("conditions") or ())


def _said(status: dict[str, Any], row: dict[str, Any]) -> str:
    """What status says of a cluster: its own row, and what names it elsewhere; of the hub, all problems."""
    problems = [f"{each['owner']} {each['code']}: {each['message']}" for each in status["problems"]]
    about = [text for text in (*problems, *status["reasons"]) if row["role"] == "hub" or row["name"] in text]
    return " | ".join([f"{row['breaker']} {row['reason']}", *about])

