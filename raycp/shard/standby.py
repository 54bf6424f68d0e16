"""A warm standby: it watches what its primary watches, judges nothing, and keeps what the primary has not told to have seen.

On promotion (``take_over``) the queue is what the primary had, plus what the events that were kept mean: nothing is listed
again, nothing that was reconciled is queued again, nothing that was not is forgotten.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from raycp.base.events import Event, EventType
from raycp.base.keys import GVK, RequestKey
from raycp.protocol.frames import ControllerStart, Due, Hello, KeyProgress, MarkedKind, Message, Progress, Refusal
from raycp.protocol.plan import Plan, ShardPlan
from raycp.protocol.transport import Connection, Life, dial, probe
from raycp.queueing import Saved

if TYPE_CHECKING:
    from raycp.shard.core import ShardCore

log = logging.getLogger(__name__)

RECONNECT = 0.1
CHUNK = 500


class StandbyReplica:
    """Lives in a shard's standby until its promotion."""

    def __init__(self, shard: "ShardCore") -> None:
        self.complete = False
        """The primary's full account has arrived."""
        self.seq = 0
        """Of the last frame that was heard."""
        self.dead = ""
        """A primary whose process is gone."""
        self._shard = shard
        self._mirror: dict[RequestKey, KeyProgress] = {}
        self._told_at: dict[RequestKey, float] = {}
        self._reached: dict[tuple[str, GVK], int] = {}
        self._kept: dict[tuple[str, GVK, str], Event] = {}
        self._wakes: set[RequestKey] = set()
        self._due: dict[RequestKey, list[Due]] = {}
        self._marks: list[MarkedKind] = []
        self._begun: list[ControllerStart] = []
        self._target: ShardPlan | None = None
        self._token = ""
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._heard = shard.clock.now()
        self._task = shard.loops.spawn(self._keep(), f"following the primary of shard {shard.shard}")

    def update(self, plan: Plan) -> None:
        """Follow the primary of ``plan``."""
        target = next((known for known in plan.shards if known.shard == self._shard.shard and known.port), None)
        if target == self._target:
            return
        self._target, self._token = target, plan.token
        if self._connection is not None:
            self._connection.close()

    async def _keep(self) -> None:
        shard = self._shard
        while True:
            target = self._target
            if target is not None:
                self._lost.clear()
                hello = Hello(self._token, shard.member.actor_name, "standby", shard.host, 0)
                try:
                    self._connection = await dial(target.host, target.port, hello, self)
                except (OSError, TimeoutError):
                    pass
                else:
                    # Its full account comes again: what was told over another connection may have been the last of less.
                    self.complete, self.seq = False, 0
                    await self._lost.wait()
            await shard.clock.sleep(RECONNECT)

    def cut(self) -> None:
        """Reset the connection to the primary, as the death of this process would."""
        if self._connection is not None:
            self._connection.abort()

    def received(self, message: Message) -> None:
        """A frame of the primary."""
        if isinstance(message, Refusal):
            log.warning("the primary refuses this standby: %s", message.reason)
        if not isinstance(message, Progress):
            return
        self._heard, self.seq = self._shard.clock.now(), message.seq
        reconciled = self._shard.state.reconciled
        for told in message.changed:
            if told.version is None:
                reconciled.pop(told.key, None)
            else:
                reconciled[told.key] = told.version
            if told.saved is None:
                self._mirror.pop(told.key, None)
                self._told_at.pop(told.key, None)
            else:
                self._mirror[told.key] = told
                self._told_at[told.key] = self._heard
            if told.due:
                self._due[told.key] = told.due
            else:
                self._due.pop(told.key, None)
        self._marks = message.marks or self._marks
        self._begun = message.begun or self._begun
        self._wakes.update(message.wakes)
        self._wakes.difference_update(message.heard)
        for reached in message.reached:
            self._reached[reached.cluster, GVK.parse(reached.kind)] = reached.rv
        if message.complete and not self.complete:
            self.complete = True
            log.info("following the primary of shard %s: %d keys in its queue", self._shard.shard, len(self._mirror))
            self._shard.changed()
        if message.reached and self._kept and self.complete:
            self._forget_seen()

    def lost(self) -> None:
        """The primary is gone, or another one is followed now."""
        self._connection = None
        self._lost.set()
        if self._shard.standing is self:
            self._shard.loops.spawn(self._inquire(), "inquiry into the primary")

    async def _inquire(self) -> None:
        """Tell the leader at once when the primary's port refuses: it looks itself, and need not wait for Ray's notice."""
        target = self._target
        if target is not None and await probe(target.host, target.port) is Life.DEAD:
            self.dead = target.member
            self._shard.changed()

    def events(self, cluster: str, kind: GVK, events: list[Event]) -> None:
        """Changes that the own watch told: kept until the primary has seen them too."""
        seen = self._reached.get((cluster, kind), 0)
        for event in events:
            if self.complete and self._version(cluster, kind, event) <= seen:
                continue
            place = (cluster, kind, event.obj.meta.uid)
            before = self._kept.pop(place, None)
            self._kept[place] = event if before is None else _merged(before, event)

    def _version(self, cluster: str, kind: GVK, event: Event) -> int:
        if event.type is not EventType.DELETED:
            return event.obj.rv
        # A deletion that a list told has no version of its own: it is as old as the list at most.
        watched = self._shard.state.clusters.get(cluster)
        informer = watched.informers.get(kind) if watched is not None else None
        return max(event.obj.rv, informer.store.rv) if informer is not None else event.obj.rv

    def _forget_seen(self) -> None:
        self._kept = {
            place: event
            for place, event in self._kept.items()
            if self._version(place[0], place[1], event) > self._reached.get(place[:2], 0)
        }

    def drop_cluster(self, cluster: str) -> None:
        """The cluster leaves the shard."""
        self._kept = {place: event for place, event in self._kept.items() if place[0] != cluster}
        self._mirror = {key: told for key, told in self._mirror.items() if key.cluster != cluster}
        self._due = {key: due for key, due in self._due.items() if key.cluster != cluster}

    @property
    def lag(self) -> float:
        """Seconds by which this standby, or its primary, is behind the other."""
        now = self._shard.clock.now()
        oldest = min((event.observed for event in self._kept.values()), default=now)
        return max(now - self._heard - 1.0, now - oldest, 0.0)

    def follows(self, cluster: str) -> bool:
        """Whether the primary has told how far it is in ``cluster``."""
        return any(place[0] == cluster for place in self._reached)

    @property
    def kept(self) -> int:
        """Changes seen here that the primary has not told to have seen."""
        return len(self._kept)

    def close(self) -> None:
        """Follow nobody any more."""
        self._task.cancel()
        if self._connection is not None:
            self._connection.close()

    def take_over(self, followed: set[str]) -> None:
        """Make the shard's queue, clocks and watermarks what the primary's were, and judge the events that were kept. ``followed``:
        the clusters of the plan before, which are the same ones at the primary.

        The shard has its term already and hands nothing out before the workers' roll-call.
        """
        self.close()
        state, intake = self._shard.state, self._shard.intake
        here = state.clusters.keys() & followed
        state.marks.take_over(
            [each for each in self._marks if each.cluster in here],
            [each for each in self._begun if each.cluster in here and each.controller in state.controllers],
            {
                key: [each for each in due if each.cluster in here]
                for key, due in self._due.items()
                if key.controller in state.controllers
            },
        )
        for (cluster, kind), rv in self._reached.items():
            if cluster in here:
                state.marks.observe(cluster, kind, rv)
        known_keys = [told for told in self._mirror.values() if told.key.controller in state.controllers]
        # What waits for its time can wait for its place in the queue.
        soon = [told for told in known_keys if told.saved is not None and told.saved.delay < 1.0]
        later = [told for told in known_keys if told.saved is not None and told.saved.delay >= 1.0]
        self._restore(soon)
        kept, self._kept = self._kept, {}
        for (cluster, kind, _), event in kept.items():
            intake.events(cluster, kind, [event])
        for key in self._wakes:
            self._shard.peers.wake(key, "owned", True)
        for name, watched in state.clusters.items():
            for kind, informer in watched.informers.items():
                if informer.synced and (name, kind) not in self._reached:
                    # Nobody has judged this list yet; its events were kept and have been told above.
                    intake.listed(name, kind)
                    self._shard.replayed(name, kind, False)
        log.info(
            "promoted: %d keys queued or in work, %d wait for their time, %d changes the primary had not seen, %d wakes",
            len(soon), len(later), len(kept), len(self._wakes),
        )  # fmt: skip
        if later:
            self._shard.loops.spawn(self._restore_later(later), "keys that wait for their time")

    def _restore(self, told: list[KeyProgress]) -> None:
        state, now = self._shard.state, self._shard.clock.now()
        state.queue.restore([_aged(each.saved, now - self._told_at[each.key]) for each in told if each.saved is not None])
        state.clocks.adopt([each.clocks for each in told if each.clocks is not None])
        for each in told:
            if each.saved is not None and each.saved.worker:
                state.clocks.returned(each.key)

    async def _restore_later(self, told: list[KeyProgress]) -> None:
        for start in range(0, len(told), CHUNK):
            self._restore(told[start : start + CHUNK])
            await asyncio.sleep(0.001)


def _aged(saved: Saved, passed: float) -> Saved:
    """What was told ``passed`` seconds ago."""
    waits = saved.delay > 0
    return msgspec.structs.replace(
        saved,
        holds=[],  # the primary's own; what is in work is held by the workers' answers to the roll-call
        delay=max(0.0, saved.delay - passed),
        age=saved.age + passed,
        ready_for=max(0.0, passed - saved.delay) if waits else saved.ready_for + passed,
    )


def _merged(before: Event, event: Event) -> Event:
    """Two changes of one object as one: what a watch that was a little slower would have told."""
    if before.type is EventType.ADDED:
        if event.type is EventType.DELETED:
            return event
        return Event(EventType.ADDED, before.source, None, event.new, before.observed)
    return Event(event.type, event.source, before.old, event.new, before.observed)
