"""Fleets in this process (``raycp.driver.in_process``) with the controllers of ``fleet_samples``, and what tests wait with."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import fleet_samples
import msgspec

from raycp.base.clock import SystemClock
from raycp.base.problems import ProblemCode
from raycp.config import FleetDoc
from raycp.driver.fleet_builder import build_fleet
from raycp.driver.in_process import InProcessFleet, InProcessStack, InProcessSubstrate
from raycp.kube import ConnectSpec
from raycp.protocol.plan import ClusterPlan, Fleet, Plan
from raycp.sdk.owner import mark

HERE = Path(__file__).parent
A = TypeVar("A")
HOST = "127.0.0.1"
CLOCK = SystemClock()
QUIET = dict.fromkeys(("gc", "namespace", "serviceaccount", "quota", "disruption", "scheduler", "stages"), False)
"""An API server without life: what most of these tests need."""


async def until(condition: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """Wait for the condition, a function or a coroutine function; its value then. Fails after ``seconds``, which are many for
    the sake of machines under load: how fast something is, is no claim of these tests."""
    deadline = CLOCK.now() + seconds
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if CLOCK.now() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        await asyncio.sleep(0.01)


async def holds(condition: Callable[[], Any], seconds: float, what: str = "") -> None:
    """The condition holds all the time: for what must *not* happen."""
    deadline = CLOCK.now() + seconds
    while CLOCK.now() < deadline:
        assert condition(), what
        await asyncio.sleep(0.01)


def problem_of(status: dict[str, Any], code: ProblemCode) -> str:
    """The messages of all problems of that kind in a status; empty for none."""
    return "; ".join(row["message"] for row in status["problems"] if row["code"] == code)


def fleet_doc(
    clusters: Iterable[str],
    uses: Iterable[str],
    embedded: dict[str, Any] | None = None,
    fields: dict[str, dict[str, Any]] | None = None,
    **spec: Any,
) -> FleetDoc:
    """A fleet file; the first cluster is the hub where there are several. ``fields``: more of each cluster's, by name."""
    names = list(clusters)
    shown = embedded if embedded is not None else {"controllers": QUIET}
    rows: list[dict[str, Any]] = [{"name": name, "embedded": shown, **(fields or {}).get(name, {})} for name in names]
    if len(rows) > 1:
        rows[0]["role"] = "hub"
    return FleetDoc.model_validate(
        {
            "apiVersion": "raycp.io/v1alpha1",
            "kind": "Fleet",
            "metadata": {"name": "t"},
            "spec": {"clusters": rows, "controllers": [{"use": use} for use in uses], "observer": {"port": 0}, **spec},
        }
    )


def fleet_of(doc: FleetDoc) -> Fleet:
    """The fleet with its controllers loaded."""
    return build_fleet(doc, Path("fleet.yaml"), [HERE])


def plan_of(homes: dict[str, str], *uses: str) -> Plan:
    """A plan of clusters in shards, without members; the first cluster is the hub."""
    doc = fleet_doc(homes, [f"fleet_samples:{use}" for use in uses])
    clusters = tuple(ClusterPlan(n, "hub" if n == doc.hub.name else "member", {}, s, None) for n, s in homes.items())
    return Plan(fleet_of(doc), 1, 1, 1, "t", clusters, ())


class InProcess(InProcessSubstrate):
    """Counts what ran in a killed worker as ended. ``recordings``: the directory of the members' flight recorders."""

    def __init__(self, recordings: Path | None = None) -> None:
        super().__init__(clock=CLOCK)
        self.user_loop_ended = fleet_samples.died
        self.recordings = recordings


class Stack(InProcessStack):
    """With controllers of ``fleet_samples``."""

    def __init__(self, doc: FleetDoc, homes: dict[str, str]) -> None:
        super().__init__(fleet_of(doc), homes, InProcess())

    async def lists_reported(self) -> None:
        """Wait until the start of two shards is over: the members' shard has reported its lists to the hub's, which makes owners
        due too."""
        await until(lambda: len(self.shard("0").wakes.incoming) == 1 and not len(self.shard("1").wakes.outbox("0")))

    # the clusters, as a user has them

    async def put(self, cluster: str, app: str, name: str, **data: str) -> None:
        """Create or change a ConfigMap."""
        api = self.clusters[cluster].api
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
               "data": data}  # fmt: skip
        if api.get("configmaps", "default", name) is None:
            await api.create("configmaps", obj)
        else:
            await api.patch_merge("configmaps", "default", name, msgspec.json.encode({"data": data}))

    def child_of(self, owner: str, kind: str, cluster: str, name: str) -> dict[str, Any]:
        """A child of a ConfigMap of the hub, marked as by the fleet; to be created in ``cluster``."""
        hub = next(iter(self.homes))
        made = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}}
        found = self.clusters[hub].api.get("configmaps", "default", owner)
        assert found is not None
        return mark(made, {"apiVersion": "v1", "kind": "ConfigMap", **found}, hub, cluster, self.marks, label=True)

    def writes(self, cluster: str, resource: str, verb: str = "") -> list[Any]:
        return self.clusters[cluster].recorder.select(resource, verb)


@contextlib.asynccontextmanager
async def stack(
    uses: Iterable[str],
    homes: dict[str, str] | None = None,
    workers: int = 1,
    embedded: dict[str, Any] | None = None,
    connects: dict[str, ConnectSpec] | None = None,
    **spec: Any,
) -> AsyncIterator[Stack]:
    """A ``Stack`` that is up and synced, for the time of the block. ``connects`` are other ways to clusters than the right ones."""
    fleet_samples.reset()
    homes = homes or {"here": "0"}
    made = Stack(fleet_doc(homes, [f"fleet_samples:{use}" for use in uses], embedded, **spec), homes)
    try:
        await made.start(workers, connects or {})
        await made.synced()
        yield made
    finally:
        await made.stop()


async def quiet(fleet: Stack) -> None:
    """Nothing is queued, in work, or on its way from shard to shard. A shard reaches another some time after both are ready: until
    then what the lists of the start wake is on its way."""
    names = sorted(set(fleet.homes.values()))

    def busy(name: str) -> bool:
        shard = fleet.shard(name)
        return bool(shard.queue.snapshot() or shard.ledger.working) or any(
            len(shard.wakes.outbox(other)) for other in names if other != name
        )

    await until(lambda: not any(busy(name) for name in names), 20.0, "no shard has anything left to do")


class Led(InProcessFleet):
    """With controllers of ``fleet_samples``."""

    def __init__(self, recordings: Path | None = None) -> None:
        super().__init__(InProcess(recordings))

    async def apply(self, doc: FleetDoc, seconds: float = 20.0) -> dict[str, Any]:
        """Apply, and wait until the fleet is ready with it."""
        return await self.run(fleet_of(doc), seconds)

    async def put(self, cluster: str, app: str, name: str, **data: str) -> None:
        """Create a ConfigMap."""
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
               "data": data}  # fmt: skip
        await self.cluster(cluster).api.create("configmaps", obj)


@contextlib.asynccontextmanager
async def led(recordings: Path | None = None) -> AsyncIterator[Led]:
    """A leader without a fleet yet. With ``recordings``, a directory, all processes have a flight recorder."""
    fleet_samples.reset()
    made = Led(recordings)
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def users(fleet: Led) -> AsyncIterator[list[str]]:
    """Create objects for ``tracked`` at 50 a second in the cluster ``here`` until the block ends; yields the names so far."""
    names: list[str] = []
    stop = asyncio.Event()

    async def create() -> None:
        while not stop.is_set():
            names.append(f"u{len(names)}")
            await fleet.put("here", "tracked", names[-1])
            await asyncio.sleep(0.02)

    creating = asyncio.ensure_future(create())
    try:
        yield names
    finally:
        stop.set()
        await creating
