"""What the leader does at the clusters' APIs: epoch and fleet document in the hub, CRDs of controllers where they are needed.

All of it runs beside supervision: a cluster that does not answer holds nothing up, it is tried again with backoff. A cluster's
connection is published to the shards when its CRDs are in place, or after ``PATIENCE``, whichever is first.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.kube import ClusterClient, ConnectError, ConnectSpec, KubeError
from raycp.leader.crds import crds_of, exists, install_crd
from raycp.leader.leadership_proof import LeadershipProof
from raycp.leadership.epoch import Leadership
from raycp.leadership.locks import Confirmed, Identity, Lock, LockProblem, Waiting, make_lock, pod_of
from raycp.leadership.permit import Ledger
from raycp.leadership.records import Conflict, Records
from raycp.protocol.plan import Fleet, Plan

log = logging.getLogger(__name__)

PATIENCE = 10.0
MAX_BACKOFF = 10.0
SKEWED = 10.0
"""Seconds between the leader's wall clock and the hub's beyond which it is told."""

TAKE_WITHIN = 2.0
"""How long a lock that was given away is tried to be taken back before it is looked at again, in seconds, beside its permit."""


class HubKeeper:
    """One per leader. ``leadership`` is None until the hub has recorded this leader."""

    def __init__(
        self,
        clock: Clock,
        identity: str,
        loops: Loops,
        led: Callable[[Records, Leadership], None],
        stored: Callable[[Fleet], Awaitable[None]] | None = None,
    ) -> None:
        self._led = led
        self._newer = stored
        self.prover = LeadershipProof(clock, loops, self._lost)
        self._clock = clock
        self._identity = identity
        self._loops = loops
        self._clients: dict[str, tuple[ConnectSpec, ClusterClient]] = {}
        self._prepared: dict[str, tuple[ConnectSpec, frozenset[str]]] = {}
        self._present: dict[str, tuple[ConnectSpec, frozenset[str]]] = {}
        self._since: dict[str, float] = {}
        self._shown: dict[str, ConnectSpec] = {}
        self._busy: set[str] = set()
        self._due: dict[str, float] = {}
        self._backoff: dict[str, float] = {}
        self._living_epoch = 0
        self._home: ConnectSpec | None = None
        self._stored = ""
        self._recovered = False
        self._acquired = False
        self._lock: Lock | None = None
        self._lock_of: object = None
        self._candidacy: tuple[asyncio.Task[Any], object] | None = None
        self._given = False
        """The lock was released to a named successor."""
        self.leadership: Leadership | None = None
        self.waiting: Waiting | None = None
        """Why this fleet does not lead though its hub answers: somebody else does."""
        self.problems: dict[str, str] = {}

    def recovered(self, plan: Plan) -> None:
        """A living fleet was found: its epoch goes on, its clusters are prepared."""
        self._living_epoch = plan.epoch
        self._recovered = True
        for cluster in plan.clusters:
            if cluster.connect is not None:
                self._shown[cluster.name] = cluster.connect
                if plan.epoch:  # a candidate has prepared nothing
                    self._prepared[cluster.name] = (cluster.connect, crds_of(plan, cluster.name))

    def published(self, name: str, connect: ConnectSpec | None) -> ConnectSpec | None:
        """The connection to tell to the shards: None until the cluster is prepared or has been waited for long enough."""
        if connect is None:
            self._since.pop(name, None)
            self._shown.pop(name, None)
            return None
        if self.waiting is not None or self._shown.get(name) == connect:
            self._shown[name] = connect  # whoever leads has prepared it; a candidate only watches
            return connect
        since = self._since.setdefault(name, self._clock.now())
        prepared = self._prepared.get(name)
        if (prepared is not None and prepared[0] == connect) or self._clock.now() - since > PATIENCE:
            return connect
        return None

    def step(self, plan: Plan, endpoints: dict[str, ConnectSpec]) -> None:
        """Start whatever is due; returns at once."""
        hub = plan.fleet.doc.hub.name
        for name, connect in endpoints.items() if self._acquired else ():  # a candidate writes nothing, CRDs neither
            crds = crds_of(plan, name)
            if self._prepared.get(name) != (connect, crds):
                self._try(f"cluster {name}", self._prepare(name, connect, crds))
        home = self._home = endpoints.get(hub)
        if home is None:
            return
        leader = plan.fleet.doc.spec.leader
        if self.leadership is None and self._given:
            return  # a step that was under way at the release must not take the lock from under the successor
        if self.leadership is None:
            wanted = (home, leader, plan.home)
            if self._candidacy is not None and self._candidacy[1] != wanted:
                self._candidacy[0].cancel()  # another hub, another lock: begin anew
                self._candidacy = None
            task = self._try("leadership", self._enter(plan, home))
            if task is not None:
                self._candidacy = task, wanted
            return
        if self._stored != plan.fleet.generation:
            self._try("fleet document", self._store(plan, home))
        if self._lock_of != (home, leader.lock, leader.backoff):
            # Another way to the hub, or other times: the same object in the same place (``LeaderCore.apply`` sees to that).
            self._try("lock", self._make_lock(plan, home))
        if self.leadership.permit != leader.permit:
            self._try("leader.permit", self._amend(leader.permit))

    def _try(self, what: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any] | None:
        if what in self._busy or self._clock.now() < self._due.get(what, 0.0):
            work.close()
            return None
        self._busy.add(what)

        async def run() -> None:
            try:
                await work
            except (KubeError, LockProblem, Conflict, TimeoutError) as error:
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

        return self._loops.spawn(run(), what)

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

    async def _enter(self, plan: Plan, connect: ConnectSpec, there: bool = False) -> None:
        records = await self._records(plan, connect, there)
        spec, clock = plan.fleet.doc.spec.leader, self._clock
        lock = await self._make_lock(plan, connect)
        me = Identity(self._identity, plan.home, pod_of())
        try:
            entered = await lock.acquire(me, spec.permit, self._living_epoch, self._waits)
        finally:
            self.waiting = None
        self.problems.pop("leadership", None)
        self._acquired = True
        mine, recorded = entered.mine, clock.now()
        if entered.wait:
            log.warning("permits of the epoch before end within %.1f s; waiting for that", entered.wait)
            self.problems["leadership"] = "waiting for permits of the epoch before to end"
        sent = entered.proved
        if sent is None or entered.wait:
            sent = await self._wait(lock, mine, recorded + entered.wait)
        if self._recovered and self._newer is not None:
            await self._adopt_stored(records, plan)
        ledger = Ledger(spec.permit, recorded, fresh=mine.epoch != self._living_epoch, silent=entered.longest)
        self.leadership = mine
        self.prover.begin(mine, ledger, sent, self._confirm, lambda: self._lock.every if self._lock else 1.0)
        self._led(records, mine)
        log.info("leading in epoch %d, incarnation %d", mine.epoch, mine.incarnation)

    async def _make_lock(self, plan: Plan, connect: ConnectSpec) -> Lock:
        spec = plan.fleet.doc.spec
        client = await self._client(connect)
        lock = self._lock = make_lock(spec.leader, client, plan.fleet.name, spec.state.namespace, self._clock)
        self._lock_of = connect, spec.leader.lock, spec.leader.backoff
        return lock

    async def _confirm(self) -> Confirmed:
        assert self._lock is not None
        assert self.leadership is not None
        confirmed = await self._lock.confirm(self.leadership)
        self._look_at_clock()
        return confirmed

    def _look_at_clock(self) -> None:
        """Tell of a wall clock that is off. Permits and locks don't look at it; history, ``since`` and people do."""
        known = self._clients.get(self._home.name) if self._home is not None else None
        skew = known[1].skew if known is not None else 0.0
        if abs(skew) > SKEWED:
            where = "behind" if skew > 0 else "ahead of"
            self.problems["clock"] = (
                f"the leader's wall clock is {abs(skew):.0f} s {where} that of the hub: "
                "times in history and logs are off, permits are not; check NTP on both"
            )
        else:
            self.problems.pop("clock", None)

    # between two colours of a fleet

    async def recorded(self, plan: Plan) -> Leadership | None:
        """Who holds the lock, as it says. Raises ``KubeError``, ``ConnectError``, ``LockProblem``."""
        connect = plan.hub.connect or self._home
        if connect is None:
            return None
        client = await self._client(connect)
        doc = plan.fleet.doc
        held = await make_lock(doc.spec.leader, client, plan.fleet.name, doc.spec.state.namespace, self._clock).holder()
        return held.leadership if held is not None else None

    async def succeed(self, plan: Plan, connect: ConnectSpec, living_epoch: int = 0, there: bool = False) -> Leadership:
        """Begin an epoch, or go on with ``living_epoch``, as soon as the lock allows it; cancel it to give up. ``there``: the lock
        was just read, so that its namespace need not be looked for.

        Raises ``KubeError``, ``ConnectError``, ``LockProblem``, ``Conflict``.
        """
        self._home, self._living_epoch = connect, living_epoch
        await self._enter(plan, connect, there)
        assert self.leadership is not None
        return self.leadership

    async def take_back(self, plan: Plan) -> Leadership | None:
        """Lead on after a release, if nobody has begun meanwhile: of the two exactly one wins. None if this one does; who leads
        otherwise. Raises ``KubeError``, ``ConnectError``, ``LockProblem``, ``Conflict``."""
        assert self._home is not None
        while True:
            found = await self.recorded(plan)
            if found is not None and not found.released and found.home != plan.home:
                return found
            # Once the lock is ours, permits of the epoch before may have to end: that is no reason to begin anew.
            permit = max(plan.fleet.doc.spec.leader.permit, found.permit if found is not None else 0.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TAKE_WITHIN + permit):
                    await self.succeed(plan, self._home, plan.epoch)
                    self._given = False
                    return None

    async def install(self, plan: Plan, *, changes: bool, within: float) -> dict[str, str]:
        """Apply the CRDs that a fleet which stands by needs: those that are missing, or (``changes``) all of them. What went wrong,
        by cluster; ``within`` seconds each."""
        problems: dict[str, str] = {}

        async def one(name: str, connect: ConnectSpec, crds: frozenset[str]) -> None:
            try:
                async with asyncio.timeout(within):
                    client = await self._client(connect)
                    for text in sorted(crds):
                        crd = json.loads(text)
                        if changes or not await exists(client, crd["metadata"]["name"]):
                            await install_crd(client, crd, self._clock)
                (self._prepared if changes else self._present)[name] = (connect, crds)
            except (KubeError, ConnectError, TimeoutError) as error:
                problems[name] = str(error) or "no answer"

        await asyncio.gather(
            *(
                one(cluster.name, cluster.connect, crds)
                for cluster in plan.clusters
                if cluster.connect is not None
                and (crds := crds_of(plan, cluster.name)) is not None
                and (self._prepared if changes else self._present).get(cluster.name) != (cluster.connect, crds)
            )
        )
        return problems

    def adopt(self, plan: Plan) -> None:
        """The clusters of ``plan`` are in use already: their connections are told to everybody from the start."""
        for cluster in plan.clusters:
            if cluster.connect is not None:
                self._shown[cluster.name] = cluster.connect

    async def _wait(self, lock: Lock, mine: Leadership, until: float) -> float:
        """Stay the holder until then; when the last proof of that was sent. Raises ``Conflict`` where another leads, and what
        the lock raises at the end."""
        while True:
            left, sent = until - self._clock.now(), self._clock.now()
            try:
                confirmed = await lock.confirm(mine)
            except (KubeError, Conflict, TimeoutError):
                if left <= 0:
                    raise
            else:
                if confirmed.leadership.pair != mine.pair or confirmed.leadership.holder != mine.holder:
                    raise Conflict(f"{confirmed.leadership.holder} was faster")
                until = max(until, self._clock.now() + confirmed.wait if confirmed.wait else until)
                if left <= 0:
                    return sent
            await self._clock.sleep(max(0.05, min(lock.every, until - self._clock.now())))

    def _waits(self, waiting: Waiting) -> None:
        if waiting.holder:
            self.waiting = waiting
        self.problems["leadership"] = waiting.why

    def _lost(self, found: Leadership) -> None:
        """Another fleet instance has taken the lock: this one waits for it again, and its members for their permits."""
        if self.leadership is not None:
            self._living_epoch = self.leadership.epoch
        self.leadership = None
        self._acquired = False
        self._stored = ""
        log.warning("leadership is lost to %s; this fleet is a candidate now", found.holder)

    async def _adopt_stored(self, records: Records, plan: Plan) -> None:
        """The fleet document that was applied last, if no member that lives has heard of it: its leader died right after."""
        found = await records.read("fleet")
        if found is None or found.data.get("home") != plan.home or self._newer is None:
            return
        try:
            stored = msgspec.json.decode(found.data.get("fleet", ""), type=Fleet)
        except msgspec.DecodeError as error:
            log.error("the stored fleet document can't be read: %s", error)
            return
        if stored.sequence > plan.fleet.sequence:
            log.warning("the fleet document %d was applied, but no living member knows it: it is used now", stored.sequence)
            await self._newer(stored)

    async def _amend(self, permit: float) -> None:
        """Grant permits of another length: a longer one is recorded before, so that a successor waits for it; a shorter one when
        the last longer one has ended."""
        lock, mine, ledger = self._lock, self.leadership, self.prover.ledger
        if lock is None or mine is None or ledger is None:
            return
        if permit < ledger.permit:
            ledger.set_permit(permit)
            await self._clock.sleep(mine.permit)
        amended = await lock.amend(mine, permit)
        if self.leadership is mine and self.prover.ledger is ledger:
            self.leadership = amended
            self.prover.amended(amended)
            ledger.set_permit(permit)
            log.info("permits last %g s from now on", permit)

    async def release(self, plan: Plan, successor: str = "") -> bool:
        """Nobody holds a permit any more: give the lock to ``successor`` (a fleet's ``Plan.home``), or to whoever leads next.
        Whether it was ours to give, and has been given."""
        mine, lock = self.leadership, self._lock
        if self._candidacy is not None and mine is None:
            self._candidacy[0].cancel()
        if mine is None or lock is None or self.prover.superseded:
            return False
        self._given = bool(successor)
        await self.prover.end()
        self.leadership = None
        self._acquired = False
        try:
            await lock.release(mine, successor)
        except (KubeError, LockProblem, Conflict) as error:
            log.warning("the end of epoch %d could not be recorded: %s", mine.epoch, error)
            return False
        return True

    async def _store(self, plan: Plan, connect: ConnectSpec) -> None:
        records = await self._records(plan, connect)
        fleet = plan.fleet
        data = {
            "generation": fleet.generation,
            "sequence": str(fleet.sequence),
            "home": plan.home,
            "fleet": msgspec.json.encode(fleet).decode(),
        }
        found = await records.read("fleet")
        if found is None or any(found.data.get(key) != data[key] for key in ("generation", "sequence", "home")):
            await records.write("fleet", data, found)
        self._stored = fleet.generation

    async def _records(self, plan: Plan, connect: ConnectSpec, there: bool = False) -> Records:
        records = Records(await self._client(connect), plan.fleet.name, plan.fleet.doc.spec.state.namespace)
        if not there:
            await records.ensure_namespace()
        return records

    async def close(self) -> None:
        """Close all connections."""
        for _, client in self._clients.values():
            await client.close()
        self._clients.clear()
