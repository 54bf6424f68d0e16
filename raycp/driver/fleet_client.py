"""The driver's side of a fleet: bring it up, ask it, change it, take it down.

``run`` and ``submit`` use ``up``; all commands reach the fleet through ``FleetClient``, which asks its leader. Every step may
be repeated: a driver killed half-way leaves a state that the next one completes.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec

from raycp.base.clock import Clock, SystemClock
from raycp.base.release import UPGRADE, difference
from raycp.config import FleetDoc
from raycp.protocol.control import (
    Apply,
    Dismiss,
    Down,
    ErrorCode,
    KubeconfigOf,
    Ping,
    PlanOf,
    Question,
    StandbyState,
    StandbyStatus,
    StatusOf,
)
from raycp.protocol.members import LEADER, Member, Role
from raycp.protocol.plan import Fleet, Plan
from raycp.protocol.revisions import base_of, other_of
from raycp.protocol.substrate import MemberDied, MemberFailed, MemberUnavailable, Substrate
from raycp.runtime import memory_monitor
from raycp.runtime.ray_substrate import RaySubstrate

log = logging.getLogger(__name__)

A = TypeVar("A")


STARTS_WITHIN = 30.0
"""How long a leader may take to answer for the first time, in seconds."""

DISMISSED_WITHIN = 10.0
"""How long the leader of a fleet that stood by may take to answer, in seconds: Ray may be restarting it."""


class FleetError(Exception):
    """A fleet could not be brought up, reached or changed; the message says why and what to do."""


class NoFleet(FleetError):
    """No process of the fleet lives."""


class StandsBy(FleetError):
    """The fleet is up, but a candidate: another fleet of its name leads. The message says which."""


class OtherRelease(FleetError):
    """The fleet runs another release of raycp than this, or other code of the same. ``problem`` says so, without the remedy."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}: {UPGRADE}")
        self.problem = problem


STANDING = (
    "It takes over when that fleet releases the lock or is lost. If it is not meant to: end it with `raycp down`, and give "
    "one of the two another metadata.name. If that fleet is dead for good: `raycp leader unlock`."
)

HELD_FOR = 20.0
"""Seconds beyond the permits after which a held lock is taken to belong to a live fleet, or to be held for ever: the lock of a dead
fleet is taken over within some ten."""


class FleetClient:
    """Asks the leader of one fleet: of the active one, if there is a standby fleet (``raycp.protocol.revisions``).

    Needs a connection to Ray (``raycp.runtime.local_ray.connect``). ``substrate`` makes the way to a namespace's members.
    """

    def __init__(self, namespace: str, clock: Clock | None = None, substrate: Callable[[str], Substrate] = RaySubstrate) -> None:
        self.namespace = base_of(namespace)
        self.clock = clock or SystemClock()
        self._revisions = {name: substrate(name) for name in (self.namespace, other_of(self.namespace))}
        self._leading = ""

    def revision(self, namespace: str) -> Substrate:
        """The members in one of the fleet's two namespaces."""
        return self._revisions[namespace]

    async def exists(self) -> bool:
        """Whether any actor of the fleet lives."""
        return bool(await self._members())

    async def _members(self) -> set[Member]:
        return {member for revision in self._revisions.values() for member in await revision.members()}

    async def leaders(self) -> list[str]:
        """Namespaces that have a leader, that of the active fleet first."""
        found = [name for name, revision in self._revisions.items() if LEADER in await revision.members()]
        if len(found) > 1 and (await self.standing(found[0])).generation:
            found.reverse()
        return found

    async def standing(self, namespace: str) -> StandbyStatus:
        """What the leader there says of standing by; empty for an active fleet, or if the leader does not answer."""
        try:
            return await self._revisions[namespace].ask(LEADER, StandbyState(), timeout=3.0)
        except (MemberDied, MemberUnavailable, MemberFailed):
            return StandbyStatus()

    async def leading(self) -> str:
        """The namespace of the active fleet; the base namespace if no leader is alive."""
        found = await self.leaders()
        return found[0] if found else self.namespace

    async def ensure_leader(self, env: dict[str, str], node_labels: dict[str, str] | None = None, namespace: str = "") -> None:
        """Create the leader if there is none, on a node with these labels, where the credentials for the hub are."""
        options: dict[str, Any] = {"num_cpus": 0}
        if node_labels:
            options["label_selector"] = node_labels
        if env:
            options["runtime_env"] = {"env_vars": env}
        revision = self._revisions[namespace or await self.leading()]
        await revision.create(LEADER, options)
        deadline = self.clock.now() + STARTS_WITHIN
        while True:
            try:
                await revision.ask(LEADER, Ping(), timeout=10.0)
                return
            except (MemberDied, MemberUnavailable) as error:
                if self.clock.now() > deadline:
                    memory = memory_monitor.explain(await asyncio.to_thread(memory_monitor.kills, STARTS_WITHIN))
                    why = memory or "See Ray's logs, and `ray status` for free resources"
                    raise FleetError(f"the leader does not start: {error}. {why}") from error
                await self.clock.sleep(0.2)

    async def ask(self, question: Question[A], timeout: float = 10.0, patience: float = 10.0) -> A:
        """Ask the leader; wait up to ``patience`` seconds while it is restarted. Raises ``FleetError``."""
        deadline = self.clock.now() + patience
        while True:
            try:
                self._leading = self._leading or await self.leading()
                return await self._revisions[self._leading].ask(LEADER, question, timeout)
            except MemberDied as error:
                self._leading = ""
                if not await self.exists():
                    raise NoFleet(f"no fleet runs in Ray namespace {self.namespace}: bring it up with `raycp run`") from error
                if self.clock.now() > deadline:
                    raise FleetError(f"the leader is dead: {error}; `raycp run` brings it back") from error
            except MemberUnavailable as error:
                self._leading = ""
                if self.clock.now() > deadline:
                    raise FleetError(f"the leader does not answer: {error}") from error
            except MemberFailed as error:
                if error.code is not ErrorCode.HANDED_OVER or self.clock.now() > deadline:
                    raise _failure(error) from error
                self._leading = ""
            await self.clock.sleep(0.1)

    async def other_release(self) -> str:
        """That the fleet runs another release of raycp than this; empty where it does not, or has not been applied yet."""
        why = difference((await self.ask(Ping())).release, "this fleet")
        return why if why and (await self.status()).get("fleet") else ""

    async def apply(self, fleet: Fleet) -> None:
        """Make ``fleet`` the desired one. Raises ``OtherRelease``: its processes would be of two releases."""
        if why := await self.other_release():
            raise OtherRelease(why)
        await self.ask(Apply(fleet))

    async def status(self) -> dict[str, Any]:
        """See ``raycp.protocol.status``."""
        found: dict[str, Any] = msgspec.to_builtins(await self.ask(StatusOf()))
        return found

    async def beside(self) -> dict[str, Any] | None:
        """The status of the standby fleet, None if there is none."""
        for namespace in (await self.leaders())[1:]:
            try:
                found: dict[str, Any] = msgspec.to_builtins(await self._revisions[namespace].ask(LEADER, StatusOf()))
                return found
            except (MemberDied, MemberUnavailable, MemberFailed) as error:
                return {"warm": False, "reasons": [f"its leader does not answer: {error}"]}
        return None

    async def plan(self) -> Plan | None:
        """The leader's plan; it holds secrets, keep it in memory."""
        return await self.ask(PlanOf())

    async def kubeconfig(self, cluster: str) -> str:
        """The kubeconfig of an embedded cluster."""
        return await self.ask(KubeconfigOf(cluster))

    async def ask_observer(self, question: Question[A]) -> A:
        """Ask the observer of the revision that leads. Raises ``FleetError``."""
        revision = self._revisions[await self.leading()]
        for member in sorted(await revision.members(), reverse=True):
            if member.role is Role.OBSERVER:
                try:
                    return await revision.ask(member, question)
                except MemberFailed as error:
                    raise _failure(error) from error
                except (MemberDied, MemberUnavailable) as error:
                    raise FleetError(f"the observer does not answer: {error}") from error
        raise FleetError("no observer runs")

    async def wait_ready(
        self,
        generation: str,
        timeout: float,
        notify: Callable[[dict[str, Any]], None] | None = None,
        held_for: float = HELD_FOR,
    ) -> dict[str, Any]:
        """Wait until the fleet runs ``generation`` and all that it asks for is at work; the status then.

        Raises ``FleetError`` with the reasons; ``StandsBy`` where another fleet of the name goes on holding the
        lock for ``held_for`` seconds.
        """
        waits_since: float | None = None
        deadline = self.clock.now() + timeout
        while True:
            status = await self.status()
            if notify is not None:
                notify(status)
            unsettled = status.get("unsettled") or ([] if status.get("ready") else status.get("reasons"))
            if not unsettled and status.get("ready") and status.get("generation") == generation:
                return status
            waiting = (status.get("leader") or {}).get("heldBy") and status.get("generation") == generation
            waits_since = None if not waiting else waits_since if waits_since is not None else self.clock.now()
            if waits_since is not None and self.clock.now() - waits_since > held_for:
                reasons = "\n  ".join(status["reasons"])
                raise StandsBy(f"the fleet stands by and writes nothing:\n  {reasons}\n{STANDING}")
            if self.clock.now() > deadline:
                reasons = "\n  ".join(unsettled or ["it runs another generation"])
                raise FleetError(f"the fleet is not ready after {timeout:g} s:\n  {reasons}")
            await self.clock.sleep(0.05)

    async def down(self, drain: float) -> int:
        """Take the fleet down, active and standby; how many actors there were. Completes a ``down`` that was cut off."""
        before = await self._members()
        count = sum([len(await revision.members()) for revision in self._revisions.values()])
        count -= sum(member.role is Role.EMBEDDED for member in before)  # those are in both lists
        for namespace in reversed(await self.leaders()):
            await self.end(namespace, drain)
        deadline = self.clock.now() + 30.0
        while members := await self._members():
            if self.clock.now() > deadline:
                raise FleetError(f"these actors don't end: {', '.join(str(member) for member in members)}")
            for revision in self._revisions.values():
                for member in await revision.members():
                    await revision.kill(member)
            await self.clock.sleep(0.1)
        return count

    async def dismiss(self, namespace: str, *, force: bool) -> None:
        """End a standby fleet. Raises ``FleetError`` if it leads by now, or does not answer and ``force`` is not set."""
        revision, deadline = self._revisions[namespace], self.clock.now() + DISMISSED_WITHIN
        while True:
            try:
                await revision.ask(LEADER, Dismiss(), timeout=30.0)
                break
            except MemberFailed as error:
                raise FleetError(str(error)) from error
            except (MemberDied, MemberUnavailable) as error:
                if force or LEADER not in await revision.members():
                    break  # one without a leader can't have come to lead
                if self.clock.now() > deadline:
                    raise FleetError(f"the standby fleet does not answer ({error}); end it with `raycp upgrade --abort`") from error
            await self.clock.sleep(0.2)
        await self._kill_all(revision, embedded=False)

    async def end(self, namespace: str, drain: float) -> None:
        """End one revision, its leader last. A standby revision does not own the embedded clusters: they stay."""
        revision = self._revisions[namespace]
        leads = (await self.leaders())[:1] == [namespace]
        try:
            await revision.ask(LEADER, Down(), timeout=drain + 30.0)
        except (MemberDied, MemberUnavailable, MemberFailed) as error:
            log.warning("the leader could not take the fleet down (%s); its actors are ended one by one", error)
        await self._kill_all(revision, embedded=leads)
        try:
            await revision.remember(None)  # a leader that could not be asked has kept its plan
        except MemberUnavailable as error:
            log.info("the plan that is kept for later leaders could not be dropped: %s", error)

    async def _kill_all(self, revision: Substrate, *, embedded: bool) -> None:
        """Kill what is left of a revision, first the leader: it would bring the others back. ``embedded``: those clusters, too."""
        await revision.kill(LEADER)
        for member in await revision.members():
            if embedded or member.role is not Role.EMBEDDED:
                await revision.kill(member)


def _failure(error: MemberFailed) -> FleetError:
    return OtherRelease(str(error)) if error.code is ErrorCode.OTHER_RELEASE else FleetError(str(error))


async def up(client: FleetClient, fleet: Fleet, notify: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Bring ``fleet`` up, or complete what an earlier driver began; the status when it is ready. Raises ``FleetError``."""
    spec = fleet.doc.spec
    await client.ensure_leader(dict(spec.ray.env), dict(spec.shards.node_labels))
    await client.apply(fleet)
    return await client.wait_ready(fleet.generation, spec.timeouts.ready, notify, HELD_FOR + spec.leader.permit)


class FleetHandle:
    """A running fleet, for benchmarks and tests. ``kubeconfigs`` holds the text per embedded cluster."""

    def __init__(self, client: FleetClient, fleet: Fleet, kubeconfigs: dict[str, str]) -> None:
        self.client = client
        self.fleet = fleet
        self.kubeconfigs = kubeconfigs

    async def status(self) -> dict[str, Any]:
        """See ``FleetClient.status``."""
        return await self.client.status()

    async def stop(self) -> None:
        """Take it down."""
        await self.client.down(5.0)


@contextlib.asynccontextmanager
async def running_fleet(doc: FleetDoc, *, address: str = "local", search: list[Any] | None = None) -> AsyncIterator[FleetHandle]:
    """A fleet for the time of a ``with`` block, on a local Ray of its own unless ``address`` says otherwise.

    Raises ``ConfigError``, ``RayError``, ``FleetError``.
    """
    from pathlib import Path

    from raycp.driver.fleet_builder import build_fleet
    from raycp.runtime.local_ray import connect, shut_down

    fleet = build_fleet(doc, Path("fleet.yaml"), search or [])
    at_hand = await asyncio.to_thread(connect, address, doc.spec.ray.num_cpus)
    client = FleetClient(doc.ray_namespace)
    try:
        await up(client, fleet)
        kubeconfigs = {c.name: await client.kubeconfig(c.name) for c in doc.spec.clusters if c.embedded is not None}
        handle = FleetHandle(client, fleet, kubeconfigs)
        try:
            yield handle
        finally:
            await handle.stop()
    finally:
        if at_hand.ours:
            await asyncio.to_thread(shut_down)
