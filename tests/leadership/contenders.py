"""Leaders that contend for one lock over real HTTP, each with a connection to the hub that can be cut, a clock that can jump, and a
process that can be frozen; and an arena that checks: two of them never write at once, and the epoch of the writer never falls.

A contender does what a leader does (``raycp.leader.hub_lock``, ``raycp.leader.leadership_proof``), faster: permits of 0.6 s, proofs
ten times a second.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from raycp.base.clock import SystemClock
from raycp.config import FleetDoc
from raycp.config.embedded import EmbeddedSpec
from raycp.config.runtime import LeaderSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.kube import ClusterClient, ConnectSpec, KubeError
from raycp.leadership.epoch import Acquisition, Leadership
from raycp.leadership.locks import Identity, LockProblem, PodRef, Waiting, make_lock
from raycp.leadership.locks.kube_lock import KubeLock
from raycp.leadership.records import Conflict, Records

PERMIT = 0.6
EVERY = 0.1
NAMESPACE = "raycp-system"
REAL = SystemClock()


async def eventually(condition: Callable[[], Any], what: str = "", seconds: float = 10.0) -> None:
    """Wait for the condition."""
    deadline = REAL.now() + seconds
    while not condition():
        if REAL.now() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        await asyncio.sleep(0.005)


def fleet_with(kind: str) -> FleetDoc:
    """The document of the contenders' fleet, with this kind of lock."""
    return FleetDoc.model_validate(
        {
            "apiVersion": "raycp.io/v1alpha1",
            "kind": "Fleet",
            "metadata": {"name": "t"},
            "spec": {
                "clusters": [{"name": "hub", "kubeconfig": {"path": "/k"}}],
                "controllers": [{"use": "m"}],
                "leader": {"lock": {kind: {}}},
                "state": {"namespace": NAMESPACE},
            },
        }
    )


class Jumping:
    """The machine's clock, until it jumps."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.wall_ahead = 0.0

    def now(self) -> float:
        return REAL.now() + self.ahead

    def wall(self) -> float:
        return REAL.wall() + self.wall_ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Way:
    """A TCP proxy to the hub: cut, it accepts no connection, and data in transit is lost."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        self._writers -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class Contender:
    """One fleet's leader."""

    def __init__(self, arena: "Arena", name: str, home: str, pod: PodRef | None, permit: float) -> None:
        self.me = Identity(name, home, pod)
        self.clock = Jumping()
        self.permit = permit
        self.why = ""
        self.entered: Acquisition | None = None
        self.until = float("-inf")
        self.epochs: list[int] = []
        self.way: Way
        self.lock: KubeLock
        self.client: ClusterClient
        self._arena = arena
        self._task: asyncio.Task[None] | None = None
        self._thawed = asyncio.Event()
        self._thawed.set()

    def start(self, living: int = 0) -> "Contender":
        self._task = asyncio.create_task(self._live(living), name=self.me.holder)
        return self

    @property
    def mine(self) -> Leadership:
        assert self.entered is not None
        return self.entered.mine

    @property
    def writing(self) -> bool:
        """Whether a holder of its permits may write at this moment."""
        return self.until > self.clock.now()

    def waits(self, waiting: Waiting) -> None:
        self.why = waiting.why

    async def _live(self, living: int) -> None:
        while True:
            self.entered = entered = await self.lock.acquire(self.me, self.permit, living, self.waits)
            self.why = ""
            not_before = self.clock.now() + entered.wait
            if entered.proved is not None and not entered.wait:  # taking it was the first proof
                await self._thawed.wait()
                self._permit(entered.proved)
            while True:
                await self._thawed.wait()
                sent = self.clock.now()
                try:
                    confirmed = await self.lock.confirm(entered.mine)
                except (KubeError, LockProblem, Conflict, TimeoutError) as error:
                    self.why = str(error) or "no answer"
                else:
                    await self._thawed.wait()  # frozen between the answer and what follows from it
                    self.why = ""
                    if (confirmed.leadership.pair, confirmed.leadership.holder) != (entered.mine.pair, entered.mine.holder):
                        break
                    if confirmed.wait:
                        not_before = self.clock.now() + confirmed.wait
                    if self.clock.now() >= not_before:
                        self._permit(sent)
                await asyncio.sleep(self.lock.every)
            self.entered, living = None, entered.mine.epoch

    def _permit(self, proved: float) -> None:
        if self.mine.epoch not in self.epochs:
            self.epochs.append(self.mine.epoch)
        self.until = max(self.until, proved + self.permit)

    def freeze(self) -> None:
        """Nothing of it runs; its permits, held elsewhere, run on."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    async def die(self) -> None:
        """Its process ends; its permits run on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def release(self, successor: str = "") -> None:
        """All its holders have ended, then it releases the lock."""
        await self.die()
        self.until = float("-inf")
        await self.lock.release(self.mine, successor)


class Arena:
    """One hub, one lock, many candidates."""

    def __init__(self, kind: str, cluster: EmbeddedCluster, spec: dict[str, Any] | None = None) -> None:
        self.kind = kind
        self.cluster = cluster
        self.spec = LeaderSpec.model_validate(
            {
                "lock": {kind: {"duration": "1s", "renew": f"{EVERY}s"} if kind == "lease" else {}},
                "backoff": {"min": "20ms", "max": "200ms"},
                **(spec or {}),
            }
        )
        self.contenders: list[Contender] = []
        self.writers: list[tuple[int, str]] = []
        """Epoch and name of all writers, in the order in which they began."""
        self.wrong: list[str] = []
        self._watch: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        await self.cluster.start()
        await self.cluster.api.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        self._watch = asyncio.create_task(self._look())

    async def contender(
        self, name: str, *, home: str = "", pod: PodRef | None = None, permit: float = PERMIT, token: str = ""
    ) -> Contender:
        endpoint = self.cluster.endpoint
        assert endpoint is not None
        made = Contender(self, name, home or f"home of {name}", pod, permit)
        host, port = endpoint.server.removeprefix("https://").split(":")
        made.way = Way((host, int(port)))
        await made.way.open()
        server = f"https://127.0.0.1:{made.way.port}"
        spec = ConnectSpec(
            name="hub", mode="direct", server=server, ca_pem=endpoint.ca_pem, token=token or endpoint.token, timeout=2.0
        )
        made.client = await ClusterClient.connect(spec, made.clock, probe=False)
        made.client.breaker = None  # its patience after failures is not what is tested here
        made.lock = make_lock(self.spec, made.client, "t", NAMESPACE, made.clock)
        made.lock.every = EVERY
        self.contenders.append(made)
        return made

    async def pod(self, name: str) -> PodRef:
        """A Pod for a contender to live in."""
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        made = await self.cluster.api.create("pods", body)
        return PodRef(NAMESPACE, name, str(made["metadata"]["uid"]))

    @property
    def records(self) -> Records:
        return Records(self.contenders[0].client, "t", NAMESPACE)

    @property
    def place(self) -> tuple[str, str]:
        """Resource and name of the lock's object."""
        return {
            "ray": ("configmaps", "raycp-t-leader"),
            "configMap": ("configmaps", "raycp-t-lock"),
            "lease": ("leases.coordination.k8s.io", "raycp-t"),
        }[self.kind]

    def object(self) -> dict[str, Any] | None:
        resource, name = self.place
        found: dict[str, Any] | None = self.cluster.api.get(resource, NAMESPACE, name)
        return found

    async def delete(self) -> None:
        resource, name = self.place
        await self.cluster.api.delete(resource, NAMESPACE, name)

    async def put(self, obj: dict[str, Any]) -> None:
        """Write this content whatever is there, as a restore from a backup does."""
        resource, _ = self.place
        obj = msgspec.json.decode(msgspec.json.encode(obj))
        for key in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
            obj["metadata"].pop(key, None)
        if self.object() is not None:
            await self.delete()
        await self.cluster.api.create(resource, obj)

    async def suspend(self, contender: Contender, seconds: float = 3600.0) -> None:
        """The machine of ``contender`` sleeps; another holder of the lock goes on: it has answered, and it has renewed."""
        resource, name = self.place

        def answered() -> bool:
            data = (self.object() or {}).get("data", {})
            return bool(data.get("knock", "") == data.get("answer", ""))

        await eventually(answered)
        contender.clock.ahead += seconds
        patch = f'{{"metadata":{{"annotations":{{"renewed":"{contender.clock.now()}"}}}}}}'.encode()
        await self.cluster.api.patch_merge(resource, NAMESPACE, name, patch)

    async def _look(self) -> None:
        while True:
            writing = [each for each in self.contenders if each.entered is not None and each.writing]
            writing += [each for each in self.contenders if each.writing and each not in writing]
            if len(writing) > 1:
                self.wrong.append(f"{[(each.me.holder, each.epochs) for each in writing]} write at once")
            for each in writing:
                wrote = each.epochs[-1], each.me.holder
                if not self.writers or self.writers[-1] != wrote:
                    if self.writers and wrote[0] < self.writers[-1][0]:
                        self.wrong.append(f"epoch fell: {self.writers[-1]} then {wrote}")
                    self.writers.append(wrote)
            await asyncio.sleep(0.005)

    async def writes(self, contender: Contender, seconds: float = 10.0) -> float:
        """Wait until ``contender`` may write; how long that took, in seconds."""
        begun = REAL.now()
        while not contender.writing:
            if REAL.now() - begun > seconds:
                state = [(each.me.holder, each.why, each.writing) for each in self.contenders]
                raise AssertionError(f"{contender.me.holder} does not lead after {seconds} s: {state}, {self.object()}")
            await asyncio.sleep(0.005)
        return REAL.now() - begun

    async def end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for each in self.contenders:
            await each.die()
            await each.client.close()
            await each.way.cut()
        await self.cluster.stop()
        assert not self.wrong, self.wrong


@contextlib.asynccontextmanager
async def arena_of(kind: str, **embedded: Any) -> AsyncIterator[Arena]:
    """An arena, for the time of the block; what went wrong in it fails at its end."""
    quiet = {"gc": True, "namespace": False, "serviceaccount": False, "disruption": False, "scheduler": False, "stages": False}
    cluster = EmbeddedCluster("hub", EmbeddedSpec.model_validate({"controllers": quiet, **embedded}), REAL)
    arena = Arena(kind, cluster)
    try:
        await arena.begin()
        yield arena
    finally:
        await arena.end()
