"""The leader: keeps the fleet's members as the fleet file wants them. Never on the way of a change.

It holds nothing that can't be found again: a leader that Ray restarts asks the living members for the newest plan and goes on
under the same epoch with the next incarnation. Members go on without it.
"""

import asyncio
import logging
import secrets
from typing import Any

import msgspec

from raycp.base.clock import Clock, SystemClock
from raycp.config import TIERS
from raycp.fleet.channel import Life, probe
from raycp.fleet.desired import Desires, Slot, Wanted, assign_shards
from raycp.fleet.history import History
from raycp.fleet.hub import HubKeeper
from raycp.fleet.limits import REQUESTS_AT_ONCE, breaker_policy
from raycp.fleet.loops import Loops
from raycp.fleet.names import LEADER, Member
from raycp.fleet.plan import ClusterPlan, Fleet, ObserverPlan, Plan, Report, ShardPlan, WorkerPlan
from raycp.fleet.scaling import Scaler, living_pools, worker_bundles
from raycp.fleet.status import fleet_status
from raycp.fleet.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate
from raycp.fleet.supervision import Supervised, supervise
from raycp.fleet.switching import Handed, hand_over
from raycp.kube import ConnectSpec
from raycp.leadership.epoch import Leadership
from raycp.leadership.records import Records

log = logging.getLogger(__name__)

CHECK_EVERY = 1.0
HOLDERS = ("shard", "standby", "worker")
"""Roles that hold permits."""

FENCE_MARGIN = 2.0
"""How much longer than a permit the leader must have been sure of itself before it judges a holder's silence, in seconds."""

KEPT_GONE = 32
STANDBY_AFTER = 1.0


class LeaderCore:
    """Supervises one fleet. All state changes happen on one loop; every step is safe to run again."""

    def __init__(self, substrate: Substrate, clock: Clock, identity: str) -> None:
        self._substrate = substrate
        self._clock = clock
        self._loops = Loops(clock)
        self._hub = HubKeeper(clock, identity, self._loops, self._led)
        self._members: dict[Slot, Supervised] = {}
        self._generations: dict[Slot, int] = {}
        self._pools: dict[str, int] = {}
        self._scaler = Scaler()
        self._endpoints: dict[str, ConnectSpec] = {}
        self._desires = Desires()
        self._ending: set[Member] = set()
        self._wake = asyncio.Event()
        self._applying = asyncio.Lock()
        self._down = False
        self._unproven_at = clock.now()
        self._history = History(clock, self._loops)
        self._handing = asyncio.Lock()
        self._succeeded: dict[str, float] = {}
        self._started = clock.now()
        self.plan: Plan | None = None
        self.plan_changed = asyncio.Condition()
        self.problems: dict[str, str] = {}

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
                if self.plan is not None and not self._down and not self._hub.prover.superseded:
                    await self._step()
            except Exception:
                log.exception("a step of supervision failed; it is taken again")
            self._wake.clear()
            try:
                async with asyncio.timeout(CHECK_EVERY):
                    await self._wake.wait()
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
        self._endpoints = {
            cluster.name: cluster.connect
            for cluster in plan.clusters
            if cluster.connect is not None and plan.fleet.doc.cluster(cluster.name).embedded is not None
        }
        # A generation is never used again, also not that of a member that died with the leader before: its successor is another
        # primary, of a higher term.
        for name in (*(shard.member for shard in plan.shards), *(worker.member for worker in plan.workers)):
            known = Member.parse(name)
            if known is not None:
                self._generations[known.slot] = max(known.generation, self._generations.get(known.slot, -1))
        self.plan = plan
        self._pools = living_pools(living, plan.fleet.doc)
        for member in living:
            if plan.slot(member) != member.slot or self._generations.get(member.slot, -1) <= member.generation:
                self._adopt(member)
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
            return await self._substrate.call(self._living("embedded", payload.decode()), "kubeconfig")
        raise KeyError(f"the leader has no method {method!r}")

    def _living(self, role: str, place: str) -> Member:
        state = self._members.get((role, place))
        if state is None:
            raise KeyError(f"no {role} {place}")
        return state.member

    async def apply(self, fleet: Fleet) -> None:
        """Make ``fleet`` the desired one; the same generation again changes nothing."""
        async with self._applying:
            before = self.plan
            if before is not None and before.fleet.generation == fleet.generation:
                self._wake.set()
                return
            self._down = False
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
            self.plan = Plan(
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
            await self._announce()

    async def _announce(self) -> None:
        async with self.plan_changed:
            self.plan_changed.notify_all()
        self._wake.set()

    async def _change(self, **fields: Any) -> None:
        assert self.plan is not None
        self.plan = msgspec.structs.replace(self.plan, version=self.plan.version + 1, **fields)
        await self._announce()

    # supervision

    async def _step(self) -> None:
        plan = self.plan
        assert plan is not None
        await self._scale(plan)
        wanted = self._desires.of(plan.fleet, {cluster.shard for cluster in plan.clusters}, self._pools)
        for member in await self._substrate.members():
            if member in self._ending:
                continue
            if member != LEADER and self._generations.get(member.slot, -1) < member.generation:
                self._adopt(member)
            elif member != LEADER and (state := self._members.get(plan.slot(member))) is not None and state.member != member:
                await self._substrate.kill(member)
        await self._fence(plan)
        for slot, state in list(self._members.items()):
            want = wanted.get(slot)
            if want is None or (state.fingerprint and state.fingerprint != want.fingerprint):
                await self._retire(state)
            elif not state.fingerprint:
                state.fingerprint = want.fingerprint
        missing = [want for slot, want in wanted.items() if slot not in self._members and self._due(want)]
        await asyncio.gather(*(self._create(want) for want in missing))
        self._hub.step(plan, self._reachable(plan))
        await self._publish()

    async def _scale(self, plan: Plan) -> None:
        """Pools by queue delay; Ray's autoscaler is told what all of them need."""
        pools = self._scaler.step(plan.fleet.doc, self._members, self._pools, self._clock.now())
        if pools != self._pools:
            self._pools = pools
            await self._substrate.request_nodes(worker_bundles(plan.fleet.doc, pools))

    def _reachable(self, plan: Plan) -> dict[str, ConnectSpec]:
        """How each cluster is reached; embedded ones only when they are up."""
        return {
            cluster.name: self._endpoints[cluster.name] if cluster.embedded is not None else connection(plan.fleet, cluster.name)
            for cluster in plan.fleet.doc.spec.clusters
            if cluster.embedded is None or cluster.name in self._endpoints
        }

    def _due(self, want: Wanted) -> bool:
        """Whether it is time to make a member: a standby comes after its primary, and a moment after a promotion, which needs the
        processor more than the start of a process does."""
        if want.role != "standby":
            return True
        shard = want.place.split("/")[0]
        primary = self._members.get(("shard", shard))
        rested = self._clock.now() - self._succeeded.get(shard, float("-inf")) > STANDBY_AFTER
        return primary is not None and primary.report.ready and rested

    def _adopt(self, member: Member) -> Supervised:
        state = Supervised(member)
        self._members[self.plan.slot(member) if self.plan is not None else member.slot] = state
        self._generations[member.slot] = max(member.generation, self._generations.get(member.slot, -1))
        state.task = self._loops.spawn(supervise(self, self._substrate, self._clock, state), f"supervise {member}")
        return state

    async def _create(self, want: Wanted) -> None:
        slot = (want.role, want.place)
        member = Member(want.role, want.place, self._generations.get(slot, -1) + 1)
        self._generations[slot] = member.generation
        try:
            await self._substrate.create(member, want.options)
        except Exception as error:
            self.problems[f"{want.role} {want.place}"] = f"could not be created: {error}"
            log.error("%s could not be created: %s", member, error)
            return
        self.problems.pop(f"{want.role} {want.place}", None)
        self._adopt(member).fingerprint = want.fingerprint

    async def _retire(self, state: Supervised) -> None:
        """Drain and end a member that is wanted no more, or wanted otherwise."""
        self._forget(state)
        if state.task is not None:
            state.task.cancel()
        log.info("retiring %s", state.member)
        timeout = self.plan.fleet.doc.spec.timeouts.drain if self.plan else 5.0
        self._loops.spawn(self._end(state.member, timeout), f"retire {state.member}")

    async def _end(self, member: Member, timeout: float) -> None:
        self._ending.add(member)
        try:
            await self._substrate.call(member, "drain", msgspec.msgpack.encode(timeout), timeout=timeout + 5.0)
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.info("%s was not drained: %s", member, error)
        finally:
            await self._substrate.kill(member)
            self._ending.discard(member)
        self._wake.set()

    def _forget(self, state: Supervised) -> Slot | None:
        """The slot that ``state`` was in."""
        for slot, known in self._members.items():
            if known is state:
                del self._members[slot]
                return slot
        return None

    async def died(self, state: Supervised, error: MemberDied) -> None:
        """A member's process is gone, or seems to be: its successor takes over at once, or when it is certain (law 6f)."""
        log.warning("%s", error)
        if state.member.role in HOLDERS and not error.certain:
            self._loops.spawn(self._outlive(state), f"certainty about {state.member}")
            return
        await self._gone(state, "death", self._clock.now())

    async def _hint(self, name: str) -> None:
        """A standby found its primary's port closed: if it is closed for us too, the process is gone for certain (law 6f)."""
        noticed = self._clock.now()
        for slot, state in list(self._members.items()):
            if slot[0] == "shard" and state.member.actor_name == name and state.report.port:
                if await probe(state.report.host, state.report.port) is Life.DEAD and self._members.get(slot) is state:
                    log.warning("%s is gone: its port refuses", state.member)
                    await self._gone(state, "death", noticed)
                return

    async def _outlive(self, state: Supervised) -> None:
        """Wait until a holder is dead for certain, or has outlived its permit."""
        ledger, name, noticed = self._hub.prover.ledger, state.member.actor_name, self._clock.now()
        if ledger is not None:
            ledger.bar(name, "Ray reports this member's death")
        while ledger is not None and self._clock.now() < ledger.ends(name):
            if state.report.port and await probe(state.report.host, state.report.port) is Life.DEAD:
                break
            await self._clock.sleep(0.1)
        await self._gone(state, "death", noticed)

    async def _gone(self, state: Supervised, cause: str, noticed: float) -> None:
        """A member writes no more: forget it, and let its successor begin."""
        slot = self._forget(state)
        if self._hub.prover.ledger is not None:
            self._hub.prover.ledger.forget(state.member.actor_name)
        if state.member.role == "embedded":
            self._endpoints.pop(state.member.place, None)
        if slot is not None and slot[0] == "shard":
            await self.succeed(slot[1], cause, since=noticed)
        self._wake.set()

    def _led(self, records: Records, leadership: Leadership) -> None:
        self._history.begin(records, leadership, "")

    def primary_of(self, shard: str) -> Supervised | None:
        """The shard's primary as it is supervised."""
        return self._members.get(("shard", shard))

    def standby_of(self, shard: str) -> Supervised | None:
        """A standby of the shard that is warm."""
        for slot, state in sorted(self._members.items()):
            if slot[0] == "standby" and slot[1].split("/")[0] == shard and state.report.ready and state.report.port:
                return state
        return None

    async def succeed(self, shard: str, cause: str, drain: float = 0.0, since: float | None = None) -> bool:
        """Make the shard's warm standby its primary; False if there is none, or this leader is not sure to lead."""
        plan, state = self.plan, self.standby_of(shard)
        if state is None or plan is None or self._down or not self._hub.prover.proven(plan.fleet.doc.spec.leader.permit):
            return False
        self._forget(state)
        self._members["shard", shard] = state
        self._succeeded[shard] = self._clock.now()
        before = next(known for known in plan.shards if known.shard == shard)
        leaderless = self._clock.now() - since if since is not None else 0.0
        after = ShardPlan(
            shard, state.member.actor_name, before.term + 1, state.report.host, state.report.port, cause, drain, leaderless
        )
        log.warning("%s becomes the primary of shard %s, term %d (%s)", state.member, shard, after.term, cause)
        await self._change(shards=tuple(after if known is before else known for known in plan.shards))
        self._history.promoted(plan, before, after)
        return True

    def release(self, member: Member) -> None:
        """A primary that has handed over is ended."""
        self._ending.add(member)
        self._loops.spawn(self._end(member, 0.0), f"end of {member}")

    async def hand_over(self, shards: list[str]) -> list[Handed]:
        """Hand these shards (all if none is named) to their standbys, all at once."""
        plan = self.plan
        if plan is None or self._down:
            raise RuntimeError("no fleet runs")
        known = [shard.shard for shard in plan.shards]
        for shard in shards:
            if shard not in known:
                raise KeyError(f"no shard {shard}; there are {', '.join(known)}")
        async with self._handing:
            grace = plan.fleet.doc.spec.leader.handover.grace
            work = (hand_over(self, self._substrate, self._clock, shard, grace) for shard in shards or known)
            async with asyncio.timeout(plan.fleet.doc.spec.leader.handover.timeout):
                return list(await asyncio.gather(*work))

    async def _fence(self, plan: Plan) -> None:
        """Holders that have not asked for a permit for so long that theirs has ended: frozen, or cut off. They are succeeded."""
        permit, now, ledger = plan.fleet.doc.spec.leader.permit, self._clock.now(), self._hub.prover.ledger
        if ledger is None or not self._hub.prover.proven(permit):
            self._unproven_at = now  # then it is not their fault
        if ledger is None or now - self._unproven_at < permit + FENCE_MARGIN:
            return
        for state in list(self._members.values()):
            name = state.member.actor_name
            if state.member.role in HOLDERS and ledger.heard(name) and ledger.ends(name) < now:
                log.error("%s has asked for no permit for %.1f s: it may write no more, and is succeeded", state.member, permit)
                ledger.bar(name, "succeeded after its permit had ended")
                if state.task is not None:
                    state.task.cancel()
                self._loops.spawn(self._substrate.kill(state.member), f"kill {state.member}")
                assert self.plan is not None
                await self._change(gone=(*self.plan.gone[-KEPT_GONE:], name))
                await self._gone(state, "silence", now)
                ledger.bar(name, "succeeded after its permit had ended")

    async def reported(self, state: Supervised, report: Report) -> None:
        """A member told of itself."""
        self._history.reported(self.plan, state.member.actor_name, report)
        if report.dead:
            await self._hint(report.dead)
        if state.member.role == "embedded" and state.member.place not in self._endpoints and report.ready:
            answer = await self._substrate.call(state.member, "endpoint")
            self._endpoints[state.member.place] = msgspec.msgpack.decode(answer, type=ConnectSpec)
        told = (report.host, report.port, report.ready, report.state, report.plan, report.extra)
        if told != state.told or report.dead:  # what only counts on (lanes, objects) needs no step of its own
            state.told = told
            self._wake.set()

    async def _publish(self) -> None:
        """Bring addresses that members reported, and connections that are prepared, into the plan."""
        plan = self.plan
        assert plan is not None
        shards = []
        for known in plan.shards:
            state = self._members.get(("shard", known.shard))
            if state is not None and state.report.port and known.member != state.member.actor_name and self._may_raise(known):
                term = known.term + 1
                cause = "cold start" if known.term else "start"
                shards.append(ShardPlan(known.shard, state.member.actor_name, term, state.report.host, state.report.port, cause))
                if known.term:
                    self._history.promoted(plan, known, shards[-1])
            elif state is not None and state.report.port and (known.host, known.port) != (state.report.host, state.report.port):
                shards.append(msgspec.structs.replace(known, host=state.report.host, port=state.report.port))
            else:
                shards.append(known)
        leadership = self._hub.leadership
        endpoints = self._reachable(plan)
        clusters = []
        for cluster in plan.clusters:
            connect = self._hub.published(cluster.name, endpoints.get(cluster.name))
            clusters.append(msgspec.structs.replace(cluster, connect=connect))
        observer = self._members.get(("observer", "observer"))
        address = ObserverPlan()
        if observer is not None and observer.report.port:
            address = ObserverPlan(observer.report.host, observer.report.port, observer.report.extra.get("url", ""))
        new = {
            "workers": tuple(
                WorkerPlan(state.member.actor_name, state.report.host, state.report.port)
                for slot, state in sorted(self._members.items())
                if slot[0] == "worker" and state.report.port
            ),
            "shards": tuple(shards),
            "clusters": tuple(clusters),
            "observer": address,
            "epoch": leadership.epoch if leadership else plan.epoch,
            "incarnation": leadership.incarnation if leadership else plan.incarnation,
        }
        if any(getattr(plan, name) != value for name, value in new.items()):
            await self._change(**new)

    def _may_raise(self, known: ShardPlan) -> bool:
        """Whether a new primary may be named: the first one, or by a leader that is sure to lead."""
        assert self.plan is not None
        return known.term == 0 or self._hub.prover.proven(self.plan.fleet.doc.spec.leader.permit)

    async def down(self) -> None:
        """Drain workers and shards, then end all members. The leader itself is ended by the driver."""
        self._down = True
        states = list(self._members.values())
        self._members.clear()
        for state in states:
            if state.task is not None:
                state.task.cancel()
        timeout = self.plan.fleet.doc.spec.timeouts.drain if self.plan else 5.0
        for roles in (("worker",), ("shard", "standby"), ("observer",), ("embedded",)):
            group = [state.member for state in states if state.member.role in roles]
            await asyncio.gather(*(self._end(member, timeout if roles == ("worker",) else 5.0) for member in group))
            if roles == ("observer",) and self.plan is not None:
                await self._hub.release(self.plan)
        for member in await self._substrate.members():
            if member != LEADER:
                await self._substrate.kill(member)
        await self._hub.close()
        self.plan = None

    def status(self) -> dict[str, Any]:
        """The fleet as JSON: what ``raycp status`` prints."""
        wanted = (
            self._desires.of(self.plan.fleet, {c.shard for c in self.plan.clusters}, self._pools) if self.plan is not None else {}
        )
        return fleet_status(
            self.plan,
            wanted,
            self._members,
            self._hub.leadership,
            {**self.problems, **self._hub.problems, **self._hub.prover.problems},
            self._clock.now() - self._started,
        )


def connection(fleet: Fleet, name: str) -> ConnectSpec:
    """How a cluster that is not embedded is reached."""
    spec = fleet.doc.cluster(name)
    return ConnectSpec(
        name=name,
        mode=spec.mode if spec.mode != "embedded" else "direct",
        path=spec.kubeconfig.path if spec.kubeconfig else None,
        context=spec.kubeconfig.context if spec.kubeconfig else None,
        insecure=spec.insecure_skip_tls_verify,
        qps=spec.qps or 0.0,
        burst=spec.burst or 0,
        max_in_flight=spec.max_in_flight or REQUESTS_AT_ONCE,
        breaker=breaker_policy(spec.breaker),
        timeout=spec.request_timeout,
    )


def leader_core(member: Member, namespace: str) -> LeaderCore:
    """The core of the leader actor, running."""
    import os
    import socket

    from raycp.fleet.substrate import RaySubstrate

    core = LeaderCore(RaySubstrate(namespace), SystemClock(), f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(3)}")
    core.start()
    return core
