"""What the leader does at the clusters' APIs: epoch and fleet document in the hub, CRDs of controllers where they are needed.

All of it runs beside supervision: a cluster that does not answer holds nothing up, it is tried again with backoff. A cluster's
connection is published to the shards when its CRDs are in place, or after ``PATIENCE``, whichever is first.
"""

import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.fleet.loops import Loops
from raycp.fleet.plan import Plan
from raycp.fleet.proving import Prover
from raycp.kube import ApiError, ClusterClient, ConnectError, ConnectSpec, KubeError
from raycp.kube.budget import URGENT
from raycp.leadership.epoch import Leadership, confirm, enter, release
from raycp.leadership.permit import Ledger
from raycp.leadership.records import Conflict, Records

log = logging.getLogger(__name__)

PATIENCE = 10.0
MAX_BACKOFF = 10.0
ESTABLISHED_WITHIN = 5.0


class _Condition(msgspec.Struct):
    type: str
    status: str


class _CrdStatus(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Crd(msgspec.Struct):
    status: _CrdStatus = msgspec.field(default_factory=_CrdStatus)


class HubKeeper:
    """One per leader. ``leadership`` is None until the hub has recorded this leader."""

    def __init__(self, clock: Clock, identity: str, loops: Loops, led: Callable[[Records, Leadership], None]) -> None:
        self._led = led
        self.prover = Prover(clock, loops)
        self._clock = clock
        self._identity = identity
        self._loops = loops
        self._clients: dict[str, tuple[ConnectSpec, ClusterClient]] = {}
        self._prepared: dict[str, tuple[ConnectSpec, frozenset[str]]] = {}
        self._since: dict[str, float] = {}
        self._busy: set[str] = set()
        self._due: dict[str, float] = {}
        self._backoff: dict[str, float] = {}
        self._living_epoch = 0
        self._home: ConnectSpec | None = None
        self._stored = ""
        self.leadership: Leadership | None = None
        self.problems: dict[str, str] = {}

    def recovered(self, plan: Plan) -> None:
        """A living fleet was found: its epoch goes on, its clusters are prepared."""
        self._living_epoch = plan.epoch
        for cluster in plan.clusters:
            if cluster.connect is not None:
                self._prepared[cluster.name] = (cluster.connect, _crds(plan, cluster.name))

    def published(self, name: str, connect: ConnectSpec | None) -> ConnectSpec | None:
        """The connection to tell to the shards: None until the cluster is prepared or has been waited for long enough."""
        if connect is None:
            self._since.pop(name, None)
            return None
        since = self._since.setdefault(name, self._clock.now())
        prepared = self._prepared.get(name)
        if (prepared is not None and prepared[0] == connect) or self._clock.now() - since > PATIENCE:
            return connect
        return None

    def step(self, plan: Plan, endpoints: dict[str, ConnectSpec]) -> None:
        """Start whatever is due; returns at once."""
        hub = plan.fleet.doc.hub.name
        for name, connect in endpoints.items():
            crds = _crds(plan, name)
            if self._prepared.get(name) != (connect, crds):
                self._try(f"cluster {name}", self._prepare(name, connect, crds))
        home = self._home = endpoints.get(hub)
        if home is not None:
            if self.leadership is None:
                self._try("leadership", self._enter(plan, home))
            elif self._stored != plan.fleet.generation:
                self._try("fleet document", self._store(plan, home))

    def _try(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        if what in self._busy or self._clock.now() < self._due.get(what, 0.0):
            work.close()
            return
        self._busy.add(what)

        async def run() -> None:
            try:
                await work
            except (KubeError, Conflict, TimeoutError) as error:
                wait = min(MAX_BACKOFF, self._backoff.get(what, 0.25) * 2)
                self._backoff[what] = wait
                self._due[what] = self._clock.now() + wait
                if self.problems.get(what) != str(error):
                    log.warning("%s: %s; tried again in %.1f s", what, error, wait)
                self.problems[what] = str(error)
            else:
                self._backoff.pop(what, None)
                self.problems.pop(what, None)
            finally:
                self._busy.discard(what)

        self._loops.spawn(run(), what)

    async def _client(self, connect: ConnectSpec) -> ClusterClient:
        known = self._clients.get(connect.name)
        if known is not None and known[0] == connect:
            return known[1]
        if known is not None:
            await known[1].close()
            del self._clients[connect.name]
        client = await ClusterClient.connect(connect, self._clock)
        self._clients[connect.name] = (connect, client)
        return client

    async def _prepare(self, name: str, connect: ConnectSpec, crds: frozenset[str]) -> None:
        if crds:
            client = await self._client(connect)
            for crd in sorted(crds):
                await install_crd(client, json.loads(crd), self._clock)
        self._prepared[name] = (connect, crds)

    async def _enter(self, plan: Plan, connect: ConnectSpec) -> None:
        records = await self._records(plan, connect)
        permit = plan.fleet.doc.spec.leader.permit
        sent = self._clock.now()
        entered = await enter(records, self._identity, self._clock, permit, self._living_epoch)
        mine = entered.mine
        recorded = self._clock.now()
        fresh = mine.epoch != self._living_epoch
        if entered.wait:
            log.warning("the epoch before was not ended orderly: its permits end within %.1f s; waiting for that", entered.wait)
            self.problems["leadership"] = "waiting for permits of the epoch before to end"
            await self._clock.sleep(entered.wait)

        async def read() -> Leadership | None:
            current = Records(await self._client(self._home or connect), plan.fleet.name, plan.fleet.doc.spec.state.namespace)
            return await confirm(current, mine, URGENT)

        self.prover.begin(mine, Ledger(permit, recorded, fresh=fresh), sent, read)
        self.leadership = mine
        self._led(records, mine)
        log.info("leading in epoch %d, incarnation %d", mine.epoch, mine.incarnation)

    async def release(self, plan: Plan) -> None:
        """All members are gone: say so, for whoever leads next."""
        home = self._home
        if self.leadership is None or home is None or self.prover.superseded:
            return
        try:
            await release(await self._records(plan, home), self.leadership)
        except (KubeError, Conflict) as error:
            log.warning("the end of epoch %d could not be recorded: %s", self.leadership.epoch, error)

    async def _store(self, plan: Plan, connect: ConnectSpec) -> None:
        records = await self._records(plan, connect)
        fleet = plan.fleet
        data = {"generation": fleet.generation, "sequence": str(fleet.sequence), "fleet": msgspec.json.encode(fleet).decode()}
        found = await records.read("fleet")
        if found is None or found.data.get("generation") != fleet.generation:
            await records.write("fleet", data, found)
        self._stored = fleet.generation

    async def _records(self, plan: Plan, connect: ConnectSpec) -> Records:
        records = Records(await self._client(connect), plan.fleet.name, plan.fleet.doc.spec.state.namespace)
        await records.ensure_namespace()
        return records

    async def close(self) -> None:
        """Close all connections."""
        for _, client in self._clients.values():
            await client.close()
        self._clients.clear()


def _crds(plan: Plan, cluster: str) -> frozenset[str]:
    """CRDs that controllers need in a cluster, as JSON."""
    hub = plan.fleet.doc.hub.name
    wanted: set[str] = set()
    for controller in plan.fleet.controllers:
        if cluster in controller.clusters or (controller.on == "hub" and cluster == hub):
            wanted.update(controller.crds)
    return frozenset(wanted)


async def install_crd(client: ClusterClient, crd: dict[str, object], clock: Clock) -> None:
    """Apply a CustomResourceDefinition and wait until it is Established. Raises ``ApiError``, ``Unreachable``, ``ConnectError``."""
    metadata = crd["metadata"]
    assert isinstance(metadata, dict)
    name = str(metadata["name"])
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    try:
        await client.request(
            "PATCH",
            path,
            body=msgspec.json.encode(crd),
            query={"fieldManager": "raycp", "force": True},
            content_type="application/apply-patch+yaml",
        )
    except ApiError as error:
        if error.status == 403:
            raise ConnectError(
                client.name, f"no right to install CRD {name}", "grant it (deploy/), or install the CRD yourself"
            ) from error
        raise
    deadline = clock.now() + ESTABLISHED_WITHIN
    while True:
        found = msgspec.json.decode((await client.request("GET", path)).body, type=_Crd)
        if any(c.type == "Established" and c.status == "True" for c in found.status.conditions or ()):
            return
        if clock.now() > deadline:
            raise ConnectError(client.name, f"CRD {name} is not Established", "look at its conditions with kubectl describe crd")
        await clock.sleep(0.05)
