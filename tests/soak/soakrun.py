"""A soak: rounds of users' changes and faults, each followed by a quiet time, after which all invariants must hold."""

import asyncio
import base64
import contextlib
import json
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import invariants
import msgspec
import psutil
from apis import Api, ApiServer
from beside import beside
from faultplan import faults
from faultplayer import Player, boottime
from hostileplan import BREAKER_MAX
from rayhouse import House

from raycp.config import load_fleet
from raycp.driver.fleet_builder import build_fleet
from raycp.driver.fleet_client import FleetClient, FleetError, up
from raycp.protocol.control import ReadCache
from raycp.protocol.members import Member
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable
from raycp.runtime.local_ray import SETTINGS, connect, shut_down
from raycp.runtime.ray_substrate import RaySubstrate

HERE = Path(__file__).parent
JOBS = "/apis/batch.raycp.io/v1alpha1/namespaces/default/batchjobs"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"
MERGE = "application/merge-patch+json"
PERMIT = 3.0
CAUGHT_UP = 15.0
"""Seconds that a watch may take to resume after the last fault: its backoff doubled during the fault."""
GROWS = 6.0 * 2**20
"""Allowed growth of the processes of a role after the first third of the rounds, in bytes per minute."""


@dataclass
class Scale:
    """The size of a soak. ``clusters``: the hub first. Rates are per second, over all clusters."""

    seed: int
    seconds: float
    clusters: list[str]
    shards: int = 2
    workers: int = 2
    keys: int = 20
    changes: float = 20.0
    jobs: float = 1.0
    turn: float = 60.0
    quiet: float = 90.0
    """Deadline until everything is reconciled and all members are ready, in seconds."""
    job: dict[str, Any] = field(default_factory=dict)
    """Further fields of each job's ``spec``."""


@dataclass
class Report:
    """The counts of a run."""

    changes: int = 0
    jobs: int = 0
    pods: int = 0
    reconciles: int = 0
    writes: int = 0
    faults: int = 0
    settled: list[float] = field(default_factory=list)
    other_objects: int = 0
    terms: dict[str, int] = field(default_factory=dict)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def __str__(self) -> str:
        sizes = {role: f"{found[-1][1] / 2**20:.0f}" for role, found in self.memory.items() if found}
        return (
            f"{self.changes} changes, {self.jobs} jobs with {self.pods} Pods, {self.reconciles} reconciles, {self.writes} writes, "
            f"{self.faults} faults; terms {self.terms}; ready again after {[round(each, 1) for each in self.settled]} s; "
            f"{self.other_objects} requests in flight at a switch took effect after it on other objects; MiB at the end {sizes}"
        )


@contextlib.contextmanager
def api_servers(home: Path, names: Sequence[str], **spec: Any) -> Iterator[dict[str, ApiServer]]:
    """Embedded API servers with these names, for the duration of the block."""
    made: dict[str, ApiServer] = {}
    try:
        for name in names:
            made[name] = ApiServer(name, home, spec)
        for server in made.values():
            server.ready()
        yield made
    finally:
        for server in made.values():
            server.stop()


@contextlib.contextmanager
def at_ray(address: str) -> Iterator[None]:
    """Connect this process to that Ray as a driver."""
    before = dict(os.environ)
    os.environ.update({**SETTINGS, "RAY_AUTH_MODE": "disabled"})
    connect(address)
    try:
        yield
    finally:
        shut_down()
        os.environ.clear()
        os.environ.update(before)


def fleet_file(house: House, name: str, servers: dict[str, Path], uses: list[dict[str, Any]], **spec: Any) -> Path:
    """The file of a fleet over running API servers; the first is the hub."""
    path = house.file(name, list(servers), [], **spec)
    import yaml

    text = yaml.safe_load(path.read_text())
    for row in text["spec"]["clusters"]:
        del row["embedded"]
        row |= {"kubeconfig": {"path": str(servers[row["name"]])}, "requestTimeout": "1500ms"}
        row["breaker"] = {"max": f"{BREAKER_MAX:g}s"}
    text["spec"]["controllers"] = uses
    path.write_text(yaml.safe_dump(text))
    return path


async def bring_up(path: Path, client: FleetClient) -> None:
    """Bring the fleet up as ``raycp run`` does from this directory, whose modules all nodes can import, since they share the
    machine.
    """
    await up(client, build_fleet(load_fleet(path), path, [HERE]))


class Soak:
    """One run. ``ground`` brings everything up and takes it down."""

    def __init__(self, scale: Scale, house: House, client: FleetClient, substrate: RaySubstrate, apis: dict[str, Api]) -> None:
        self.scale = scale
        self.house = house
        self.client = client
        self.substrate = substrate
        self.apis = apis
        self.player = Player(client, apis, PERMIT)
        self.report = Report()
        self.diary = house.home / "diary.jsonl"
        self.wanted: dict[tuple[str, str], int] = {}
        self.started = boottime()
        self._rng = random.Random(scale.seed)
        self._numbers = iter(range(1, 10**9))

    @property
    def hub(self) -> Api:
        return self.apis[self.scale.clusters[0]]

    async def prepare(self) -> None:
        members = self.scale.clusters[1:]
        await asyncio.gather(*(self._create(c, f"d{n}") for c in members for n in range(self.scale.keys)))

    async def _create(self, cluster: str, name: str) -> None:
        number = next(self._numbers)
        body = {"metadata": {"name": name, "labels": {"app": "diary"}}, "data": {"n": str(number)}}
        await self.apis[cluster].sure("POST", CONFIG_MAPS, body, done=(409,))
        self.wanted[cluster, name] = number

    # a round

    async def round(self, turn: int, seconds: float) -> None:
        """Faults under load, then a quiet time and the invariants. Raises ``AssertionError`` with all violations."""
        planned = faults(self.scale.seed, turn, seconds, self.scale.clusters, self.scale.shards, self.scale.workers, PERMIT)
        begun = boottime()
        self.player.log.append(f"round {turn}, {seconds:g} s, at {begun - self.started:.1f} s")
        users = [asyncio.ensure_future(self._change_things(seconds)), asyncio.ensure_future(self._submit_jobs(turn, seconds))]
        async with beside(self._gather()):
            for fault in planned:
                await asyncio.sleep(max(0.0, begun + fault.at - boottime()))
                await self.player.play(fault, self.started)
            self.report.faults += len(planned)
            jobs = (await asyncio.gather(*users))[1]
            await self.player.over()
        for api in self.apis.values():
            await api.clear()
        quiet = boottime()
        await self.settle(jobs)
        self.report.settled.append(boottime() - quiet)
        for api in self.apis.values():
            await api.gather()
        await self._judge(jobs)
        await self._clean(jobs)
        self._weigh()

    async def _gather(self) -> None:
        while True:
            await asyncio.sleep(2.0)
            for api in self.apis.values():
                await api.gather()

    async def _change_things(self, seconds: float) -> list[str]:
        """Users set numbers, repeatedly on the same objects; some delete and recreate an object."""
        end, pending, busy = boottime() + seconds, set(), set()
        places = sorted(self.wanted)
        while (now := boottime()) < end:
            cluster, name = self._rng.choice(places)
            if (cluster, name) not in busy:
                busy.add((cluster, name))
                task = asyncio.ensure_future(self._change(cluster, name, busy))
                pending.add(task)
                task.add_done_callback(pending.discard)
            await asyncio.sleep(max(0.0, now + self._rng.expovariate(self.scale.changes) - boottime()))
        await asyncio.gather(*pending)
        return []

    async def _change(self, cluster: str, name: str, busy: set[tuple[str, str]]) -> None:
        api, anew, number = self.apis[cluster], self._rng.random() < 0.05, next(self._numbers)
        try:
            if anew:
                await api.sure("DELETE", f"{CONFIG_MAPS}/{name}", done=(404,))
                await self._create(cluster, name)
            else:
                await api.sure("PATCH", f"{CONFIG_MAPS}/{name}", {"data": {"n": str(number)}}, content_type=MERGE)
                self.wanted[cluster, name] = number
            self.report.changes += 1
        finally:
            busy.discard((cluster, name))

    async def _submit_jobs(self, turn: int, seconds: float) -> list[str]:
        jobs: dict[str, int] = {}
        end, pending = boottime() + seconds, []
        while (now := boottime()) < end:
            name, size = f"j{turn}-{len(jobs)}", self._rng.choice((1, 2, 3))
            jobs[name] = size
            pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "work", "image": "busybox"}]}}
            body = {
                "apiVersion": "batch.raycp.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": name},
                "spec": {"completions": size, "parallelism": size, "template": pod, **self.scale.job},
            }  # fmt: skip
            pending.append(asyncio.ensure_future(self.hub.sure("POST", JOBS, body, done=(409,))))
            await asyncio.sleep(max(0.0, now + self._rng.expovariate(self.scale.jobs) - boottime()))
        await asyncio.gather(*pending)
        self.report.jobs += len(jobs)
        self.report.pods += sum(jobs.values())
        return list(jobs)

    # quiet

    async def settle(self, jobs: list[str]) -> None:
        """Wait until everything is reconciled and all members are ready."""
        deadline, wrong = boottime() + self.scale.quiet, ["not checked yet"]
        while wrong and boottime() < deadline:
            await asyncio.sleep(0.5)
            wrong = await self._undone(jobs)
        if wrong:
            await self.fail("not everything is reconciled", wrong)

    async def _undone(self, jobs: list[str]) -> list[str]:
        wrong = []
        for cluster in self.scale.clusters[1:]:
            listed = await self.apis[cluster].sure("GET", SECRETS)
            have = {
                each["metadata"]["name"]: base64.b64decode((each.get("data") or {}).get("n", "")).decode()
                for each in listed["items"]
            }
            for (where, name), number in self.wanted.items():
                if where == cluster and have.get(name) != str(number):
                    wrong.append(f"{cluster}/ConfigMap/default/{name}: wants {number}, its Secret has {have.get(name)}")
        states = {each["metadata"]["name"]: each.get("status") or {} for each in (await self.hub.sure("GET", JOBS))["items"]}
        for name in jobs:
            conditions = states.get(name, {}).get("conditions") or ()
            if not any(row["type"] == "Complete" and row["status"] == "True" for row in conditions):
                wrong.append(f"{self.hub.name}/BatchJob/default/{name}: not complete: {json.dumps(states.get(name))[:300]}")
        try:
            status = await self.client.status()
        except FleetError as error:
            return [*wrong, str(error)]
        if "standbys" not in status:
            return [*wrong, "the leader has no fleet yet"]
        if status["unsettled"] or not all(row["ready"] for row in (*status["standbys"], *status["workers"])):
            standbys = [(row["standby"], row["state"]) for row in status["standbys"]]
            wrong.append(f"the fleet is not ready: {status['unsettled']} {standbys}")
        return wrong

    async def _judge(self, jobs: list[str]) -> None:
        writes = {name: api.writes for name, api in self.apis.items()}
        entries = [json.loads(line) for line in self.diary.read_bytes().splitlines()]
        found = invariants.spans(entries, self.player.stopped)
        wrong = invariants.overlaps(found)
        wrong += invariants.made_twice(writes)
        wrong += invariants.late_writes(writes, same_object=True)
        self.report.other_objects = len(invariants.late_writes(writes))
        self.report.reconciles = len(found)
        self.report.writes = sum(1 for rows in writes.values() for row in rows if row["term"])
        for item in (await self.hub.sure("GET", JOBS))["items"]:
            state, size = item.get("status") or {}, item["spec"]["completions"]
            counts = (state.get("succeeded", 0), state.get("failed", 0), state.get("active", 0))
            if item["metadata"]["name"] in jobs and counts != (size, 0, 0):
                name = item["metadata"]["name"]
                wrong.append(f"{self.hub.name}/BatchJob/default/{name}: {size} completions; succeeded, failed, active {counts}")
        wrong += await self.caches()
        self.report.terms = {row["shard"]: row["term"] for row in (await self.client.status())["shards"]}
        if wrong:
            await self.fail("after everything was reconciled", wrong)

    async def caches(self) -> list[str]:
        """Law 7: the caches of shards and standbys equal a fresh list at their version."""
        wrong = []
        status = await self.client.status()
        kinds = {c: [("v1/ConfigMap", CONFIG_MAPS), ("v1/Secret", SECRETS), ("v1/Pod", "/api/v1/pods")] for c in self.apis}
        kinds[self.hub.name] = [("batch.raycp.io/v1alpha1/BatchJob", JOBS)]
        homes = {cluster: row["shard"] for row in status["shards"] for cluster in row["clusters"]}
        for member in await self.substrate.members():
            if member.role not in ("shard", "standby"):
                continue
            for cluster, shard in homes.items():
                if member.shard == shard:
                    for kind, path in kinds[cluster]:
                        wrong += await self._cache(member, cluster, kind, path)
        return wrong

    async def _cache(self, member: Member, cluster: str, kind: str, path: str) -> list[str]:
        """A dropped watch may still be in its backoff while own writes are in the cache already: compare again until a deadline."""
        deadline = boottime() + CAUGHT_UP
        while True:
            wrong = await self._compared(member, cluster, kind, path)
            if not wrong or boottime() > deadline:
                return wrong
            await asyncio.sleep(0.25)

    async def _compared(self, member: Member, cluster: str, kind: str, path: str) -> list[str]:
        try:
            content = await self.substrate.ask(member, ReadCache(cluster, kind))
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            return [f"{member}: {error}"]
        if not content.synced:
            return [f"{member}: its cache of {kind} in {cluster} is not synced"]
        query = {"resourceVersion": str(content.rv), "resourceVersionMatch": "Exact"}
        if content.selector:
            query["labelSelector"] = content.selector
        listed = await self.apis[cluster].sure("GET", path, query=query)
        real = {_name(each): _shown(each) for each in listed["items"]}
        held = {_name(each): _shown(each) for each in map(msgspec.json.decode, content.objects)}
        return [
            f"{member}: {cluster}/{kind}/{'/'.join(name)} at version {content.rv} is {held.get(name)} in the cache, "
            f"{real.get(name)} in the cluster"
            for name in sorted(real.keys() | held.keys())
            if real.get(name) != held.get(name)
        ]

    async def _clean(self, jobs: list[str]) -> None:
        """Delete the jobs of a round, so that objects do not accumulate."""
        await asyncio.gather(*(self.hub.sure("DELETE", f"{JOBS}/{name}", done=(404,)) for name in jobs))

    def _weigh(self) -> None:
        sizes: dict[str, list[float]] = defaultdict(list)
        for place, pid in self.player.processes().items():
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes[place.split(" ")[0]].append(psutil.Process(pid).memory_info().rss)
        for role, found in sizes.items():
            self.report.memory[role].append((boottime() - self.started, statistics.median(found)))

    def weighed(self) -> list[str]:
        return invariants.growing(self.report.memory, GROWS)

    async def fail(self, when: str, wrong: list[str]) -> None:
        """Fail with the seed, the faults, the violations and their timelines."""
        shown = [f"seed {self.scale.seed} (RAYCP_SOAK_SEED={self.scale.seed}): {when}, {len(wrong)} wrong:", *wrong[:20]]
        shown += ["faults:", *self.player.log]
        for line in wrong[:3]:
            place = line.split(": ")[0]
            if place.count("/") == 3:
                told = await asyncio.to_thread(self.house.output_of, "why", place, "--fleet", "soak")
                shown += [f"raycp why {place}:", told]
        with contextlib.suppress(Exception):
            status = await self.client.status()
            shown.append(
                json.dumps({key: status[key] for key in ("reasons", "shards", "standbys", "workers", "lanes", "problems")})
            )
        raise AssertionError("\n".join(shown))


@contextlib.asynccontextmanager
async def ground(scale: Scale, house: House) -> AsyncIterator[Soak]:
    """The fleet under test, over API servers of its own, on ``house``."""
    with api_servers(house.home, scale.clusters, podRuntime="500ms") as servers:
        paths = {name: server.kubeconfig for name, server in servers.items()}
        diary = {"use": "diary:diary", "config": {"diary": str(house.home / "diary.jsonl")}}
        pool = {"min": scale.workers, "max": scale.workers}
        path = fleet_file(
            house, "soak", paths, [{"use": "raycp.controllers.batchjob"}, diary],
            shards={"standby": 1, "clustersPerShard": -(-len(scale.clusters) // scale.shards)},
            tiers={"standard": {"workers": pool}}, leader={"permit": f"{PERMIT:g}s"},
            timeouts={"drain": "5s", "ready": "60s", "list": "5s"},
        )  # fmt: skip
        with at_ray(house.address):
            client = FleetClient("raycp-soak")
            await bring_up(path, client)
            apis = {name: await Api.connect(name, kubeconfig) for name, kubeconfig in paths.items()}
            soak = Soak(scale, house, client, RaySubstrate("raycp-soak"), apis)
            try:
                async with beside(soak.player.look()):
                    await soak.prepare()
                    yield soak
            finally:
                for api in apis.values():
                    await api.close()


async def soak(scale: Scale, house: House) -> Report:
    """A whole run; raises ``AssertionError`` with the seed and the faults when an invariant does not hold."""
    print(f"soak: RAYCP_SOAK_SEED={scale.seed}, {scale.seconds:g} s", flush=True)
    async with ground(scale, house) as made:
        await made.settle([])
        end, turn = time.monotonic() + scale.seconds, 0
        while turn == 0 or time.monotonic() < end:
            await made.round(turn, min(scale.turn, max(10.0, end - time.monotonic())))
            print(f"round {turn}: {made.report}", flush=True)
            turn += 1
        wrong = made.weighed()
        if wrong:
            await made.fail("memory grows", wrong)
        return made.report


def _name(obj: dict[str, Any]) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _shown(obj: dict[str, Any]) -> dict[str, Any]:
    """The object without the fields that a cache drops (managedFields) and that list items lack (kind, apiVersion)."""
    found = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
    found["metadata"] = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return found
