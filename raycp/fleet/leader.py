"""The leader: keeps the fleet's members as the fleet file wants them. Never on the way of a change.

It holds nothing that can't be found again: a leader that Ray restarts asks the living members for the newest plan and goes on
under the same epoch with the next incarnation. Members go on without it.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from raycp.base.clock import Clock, SystemClock
from raycp.config import TIERS
from raycp.fleet.desired import Desires, Wanted, assign_shards
from raycp.fleet.evacuation import Evacuation
from raycp.fleet.history import History
from raycp.fleet.hub import HubKeeper
from raycp.fleet.loops import Loops
from raycp.fleet.member import own_node
from raycp.fleet.names import LEADER, Member
from raycp.fleet.nodewatch import NodeWatch
from raycp.fleet.placing import spots
from raycp.fleet.plan import ClusterPlan, Fleet, ObserverPlan, Plan, Report, ShardPlan, WorkerPlan
from raycp.fleet.reaching import reachable
from raycp.fleet.roster import Roster
from raycp.fleet.scaling import Scaler, living_pools, worker_bundles
from raycp.fleet.status import fleet_status
from raycp.fleet.substrate import Substrate
from raycp.fleet.succession import Succession
from raycp.fleet.supervision import Supervised
from raycp.fleet.switching import Handed
from raycp.kube import ConnectSpec
from raycp.leadership.epoch import Leadership
from raycp.leadership.records import Records

log = logging.getLogger(__name__)

CHECK_EVERY = 1.0


class LeaderCore:
    """Supervises one fleet. All state changes happen on one loop; every step is safe to run again."""

    def __init__(
        self, substrate: Substrate, clock: Clock, identity: str, node: str = "", leave: Callable[[], None] = lambda: None
    ) -> None:
        self._substrate = substrate
        self._clock = clock
        self._loops = Loops(clock)
        self._hub = HubKeeper(clock, identity, self._loops, self._led, self.apply)
        self._history = History(clock, self._loops)
        self._roster = Roster(substrate, clock, self._loops)
        self._watch = NodeWatch(substrate, clock, node)
        self._succession = Succession(self._roster, self._hub.prover, self._history, self._watch)
        self._evacuation = Evacuation(self._roster, self._succession, self._watch, leave)
        self._roster.died, self._roster.reported = self._succession.died, self._reported
        self._pools: dict[str, int] = {}
        self._scaler = Scaler()
        self._pools_told: tuple[Member, dict[str, int]] | None = None
        self._desires = Desires()
        self._applying = asyncio.Lock()
        self._started = clock.now()

    @property
    def plan(self) -> Plan | None:
        """What all members are told; None before the first ``apply``."""
        return self._roster.plan

    async def hand_over(self, shards: list[str]) -> list[Handed]:
        """See ``Succession.hand_over``."""
        return await self._succession.hand_over(shards)

    def start(self) -> None:
        """Recover from living members, then supervise until ``down``."""
        self._loops.spawn(self._run(), "leader")

    async def _run(self) -> None:
        try:
            await self._recover()
        except Exception:
            log.exception("recovery from living members failed; the next apply completes it")
        while True:
            try:
                if self.plan is not None and not self._succession.closed and not self._hub.prover.superseded:
                    await self._step()
            except Exception:
                log.exception("a step of supervision failed; it is taken again")
            self._roster.wake.clear()
            try:
                async with asyncio.timeout(CHECK_EVERY):
                    await self._roster.wake.wait()
            except TimeoutError:
                pass

    async def _recover(self) -> None:
        """Adopt a fleet that lives on: its newest plan, its members, its epoch."""
        living = [member for member in await self._substrate.members() if member != LEADER]
        if not living:
            return
        answers = await asyncio.gather(
            *(self._substrate.call(member, "plan", timeout=5.0) for member in living if member.role != "embedded"),
            return_exceptions=True,
        )
        plans = [msgspec.msgpack.decode(answer, type=Plan) for answer in answers if isinstance(answer, bytes) and answer]
        if not plans:
            log.warning("members live but none knows the fleet's plan; waiting for `raycp run`")
            return
        plan = max(plans, key=lambda known: known.version)
        log.info("recovered the fleet %s from its members: plan %d, epoch %d", plan.fleet.name, plan.version, plan.epoch)
        self._roster.endpoints = {
            cluster.name: cluster.connect
            for cluster in plan.clusters
            if cluster.connect is not None and plan.fleet.doc.cluster(cluster.name).embedded is not None
        }
        # A generation is never used again, also not that of a member that died with the leader before: its successor is another
        # primary, of a higher term.
        for name in (*(shard.member for shard in plan.shards), *(worker.member for worker in plan.workers)):
            known = Member.parse(name)
            if known is not None:
                self._roster.generations[known.slot] = max(known.generation, self._roster.generations.get(known.slot, -1))
        self._roster.plan = plan
        self._pools = living_pools(living, plan.fleet.doc)
        for member in living:
            if plan.slot(member) != member.slot or self._roster.generations.get(member.slot, -1) <= member.generation:
                self._roster.adopt(member)
        self._hub.recovered(plan)

    # what the driver asks

    async def ask(self, method: str, payload: bytes) -> bytes:
        """Control questions: apply, status, plan, down, kubeconfig, permit, handover, switches."""
        if method == "apply":
            await self.apply(msgspec.msgpack.decode(payload, type=Fleet))
            return b""
        if method == "status":
            return msgspec.json.encode(self.status())
        if method == "handover":
            shards = msgspec.msgpack.decode(payload, type=list[str])
            return msgspec.json.encode(await self.hand_over(shards))
        if method == "switches":
            return msgspec.json.encode(self._history.rows())
        if method == "permit":
            return self._hub.prover.grant(payload, self.plan)
        if method == "plan":
            return b"" if self.plan is None else msgspec.msgpack.encode(self.plan)
        if method == "down":
            await self.down()
            return b""
        if method == "kubeconfig":
            return await self._substrate.call(self._roster.living("embedded", payload.decode()), "kubeconfig")
        raise KeyError(f"the leader has no method {method!r}")

    async def apply(self, fleet: Fleet) -> None:
        """Make ``fleet`` the desired one; the same generation again changes nothing."""
        async with self._applying:
            before = self.plan
            if before is not None and before.fleet.generation == fleet.generation:
                self._roster.wake.set()
                return
            if before is not None and (moved := before.fleet.doc.moved_lock(fleet.doc)):
                raise ValueError(moved)
            self._succession.closed = False
            known = {cluster.name: cluster.shard for cluster in before.clusters} if before else {}
            doc = fleet.doc
            shards = assign_shards([cluster.name for cluster in doc.spec.clusters], doc.spec.shards.clusters_per_shard, known)
            # What was scaled stays, where the range that it was scaled in does.
            ranges = {tier: before.fleet.doc.spec.tiers.of(tier).workers for tier in TIERS} if before else {}
            self._pools = {
                tier: self._pools[tier]
                if tier in self._pools and ranges.get(tier) == doc.spec.tiers.of(tier).workers
                else doc.spec.tiers.of(tier).workers.min
                for tier in TIERS
            }
            terms = {shard.shard: shard for shard in before.shards} if before else {}
            clusters = tuple(
                ClusterPlan(
                    cluster.name,
                    "hub" if cluster.name == doc.hub.name else "member",
                    cluster.all_labels,
                    shards[cluster.name],
                    before.cluster(cluster.name).connect if before is not None and cluster.name in known else None,
                )
                for cluster in doc.spec.clusters
            )
            self._roster.plan = Plan(
                fleet=msgspec.structs.replace(fleet, sequence=before.fleet.sequence + 1 if before else 1),
                version=before.version + 1 if before else 1,
                epoch=before.epoch if before else 0,
                incarnation=before.incarnation if before else 0,
                token=before.token if before else secrets.token_urlsafe(32),
                clusters=clusters,
                shards=tuple(terms.get(shard, ShardPlan(shard, "", 0)) for shard in sorted(set(shards.values()))),
                observer=before.observer if before else ObserverPlan(),
                workers=before.workers if before else (),
            )
            await self._roster.announce()

    # supervision

    async def _step(self) -> None:
        plan = self.plan
        assert plan is not None
        await self._scale(plan)
        await self._watch.refresh()
        needy = self._evacuation.need_standby(plan)
        wanted = self._desires.of(plan.fleet, {cluster.shard for cluster in plan.clusters}, self._pools, needy)
        leaving = {state.member for state in self._roster.leaving}
        for member in await self._substrate.members():
            if member in self._roster.ending or member in leaving:
                continue
            if member != LEADER and self._roster.generations.get(member.slot, -1) < member.generation:
                self._roster.adopt(member)
            elif member != LEADER and (state := self._roster.members.get(plan.slot(member))) is not None and state.member != member:
                await self._substrate.kill(member)
        await self._succession.fence(plan)
        for slot, state in list(self._roster.members.items()):
            want = wanted.get(slot)
            if want is None or (state.fingerprint and state.fingerprint != want.fingerprint):
                self._roster.retire(state)
            elif not state.fingerprint:
                state.fingerprint = want.fingerprint
        self._evacuation.step(plan, wanted)
        missing = {slot: want for slot, want in wanted.items() if slot not in self._roster.members and self._due(want)}
        at = spots(((slot, want.options.get("label_selector", {})) for slot, want in missing.items()), self._evacuation.situation())
        await asyncio.gather(*(self._roster.create(want, at[slot]) for slot, want in missing.items()))
        self._hub.step(plan, reachable(plan, self._roster.endpoints))
        await self._publish()

    def _due(self, want: Wanted) -> bool:
        """Whether it is time to make a member: a standby comes after its primary, and not in the moment of a promotion."""
        if want.role != "standby":
            return True
        shard = want.place.split("/")[0]
        primary = self._roster.primary_of(shard)
        return primary is not None and primary.report.ready and self._succession.rested(shard)

    async def _scale(self, plan: Plan) -> None:
        """Pools by queue delay; Ray's autoscaler is told what all of them need."""
        pools = self._scaler.step(plan.fleet.doc, self._roster.members, self._pools, self._clock.now())
        if pools != self._pools:
            self._pools = pools
            await self._substrate.request_nodes(worker_bundles(plan.fleet.doc, pools))
        self._tell_pools(plan)

    def _tell_pools(self, plan: Plan) -> None:
        """The observer shows the pools' sizes: when one has changed, or there is a new observer."""
        observer = self._roster.members.get(("observer", "observer"))
        if observer is None or not observer.report.ready:
            return
        sizes = {row["tier"]: row["workers"] for row in self._scaler.rows(plan.fleet.doc, self._pools)}
        if self._pools_told != (observer.member, sizes):
            self._pools_told = (observer.member, sizes)
            told = self._substrate.call(observer.member, "pools", msgspec.msgpack.encode(sizes))
            self._loops.spawn(told, "tell the observer of the pools")

    def _led(self, records: Records, leadership: Leadership) -> None:
        self._history.begin(records, leadership, "")

    async def _reported(self, state: Supervised, report: Report) -> None:
        """A member told of itself."""
        self._history.reported(self.plan, state.member.actor_name, report)
        if report.dead:
            await self._succession.hint(report.dead)
        if state.member.role == "embedded" and state.member.place not in self._roster.endpoints and report.ready:
            answer = await self._substrate.call(state.member, "endpoint")
            self._roster.endpoints[state.member.place] = msgspec.msgpack.decode(answer, type=ConnectSpec)
        told = (report.host, report.port, report.ready, report.state, report.plan, report.extra)
        if told != state.told or report.dead:  # what only counts on (lanes, objects) needs no step of its own
            state.told = told
            self._roster.wake.set()

    async def _publish(self) -> None:
        """Bring addresses that members reported, and connections that are prepared, into the plan."""
        plan = self.plan
        assert plan is not None
        roster, shards = self._roster, []
        for known in plan.shards:
            state = roster.primary_of(known.shard)
            if state is None or not state.report.port:
                shards.append(known)
            elif known.member == state.member.actor_name:
                shards.append(msgspec.structs.replace(known, host=state.report.host, port=state.report.port))
            elif known.term and not self._succession.proven(plan):
                shards.append(known)  # only the first primary may be named by a leader that is not sure to lead
            else:
                cause = "cold start" if known.term else "start"
                new = ShardPlan(known.shard, state.member.actor_name, known.term + 1, state.report.host, state.report.port, cause)
                shards.append(new)
                if known.term:
                    self._history.promoted(plan, known, new)
        leadership = self._hub.leadership
        endpoints = reachable(plan, self._roster.endpoints)
        clusters = []
        for cluster in plan.clusters:
            connect = self._hub.published(cluster.name, endpoints.get(cluster.name))
            clusters.append(msgspec.structs.replace(cluster, connect=connect))
        observer = self._roster.members.get(("observer", "observer"))
        address = ObserverPlan()
        if observer is not None and observer.report.port:
            address = ObserverPlan(observer.report.host, observer.report.port, observer.report.extra.get("url", ""))
        news = {
            "workers": tuple(
                WorkerPlan(state.member.actor_name, state.report.host, state.report.port)
                for state in sorted((*self._roster.members.values(), *self._roster.leaving), key=lambda each: each.member)
                if state.member.role == "worker" and state.report.port
            ),
            "shards": tuple(shards),
            "clusters": tuple(clusters),
            "observer": address,
            "epoch": leadership.epoch if leadership else plan.epoch,
            "incarnation": leadership.incarnation if leadership else plan.incarnation,
        }
        if any(getattr(plan, name) != value for name, value in news.items()):
            await roster.change(**news)

    async def down(self) -> None:
        """Drain workers and shards, then end all members. The leader itself is ended by the driver."""
        self._succession.closed = True
        states = [*self._roster.members.values(), *self._roster.leaving]
        self._roster.members.clear()
        self._roster.leaving.clear()
        for state in states:
            if state.task is not None:
                state.task.cancel()
        timeout = self.plan.fleet.doc.spec.timeouts.drain if self.plan else 5.0
        for roles in (("worker",), ("shard", "standby"), ("observer",), ("embedded",)):
            group = [state.member for state in states if state.member.role in roles]
            await asyncio.gather(*(self._roster.end(member, timeout if roles == ("worker",) else 5.0) for member in group))
            if roles == ("observer",) and self.plan is not None:
                await self._hub.release(self.plan)
        for member in await self._substrate.members():
            if member != LEADER:
                await self._substrate.kill(member)
        await self._hub.close()
        self._roster.plan = None

    def status(self) -> dict[str, Any]:
        """The fleet as JSON: what ``raycp status`` prints."""
        wanted = (
            self._desires.of(self.plan.fleet, {c.shard for c in self.plan.clusters}, self._pools) if self.plan is not None else {}
        )
        status = fleet_status(
            self.plan,
            wanted,
            self._roster.members,
            self._hub.leadership,
            {**self._roster.problems, **self._hub.problems, **self._hub.prover.problems, **self._evacuation.problems},
            self._clock.now() - self._started,
            self._hub.waiting,
        )
        if self.plan is not None:
            status["pools"] = self._scaler.rows(self.plan.fleet.doc, self._pools)
        return status


def leader_core(member: Member, namespace: str) -> LeaderCore:
    """The core of the leader actor, running."""
    import os
    import signal
    import socket

    from raycp.fleet.substrate import RaySubstrate

    def leave() -> None:
        os.kill(os.getpid(), signal.SIGKILL)  # any orderly end of an actor's process is final for Ray

    identity = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}"
    core = LeaderCore(RaySubstrate(namespace), SystemClock(), identity, own_node(), leave)
    core.start()
    return core
