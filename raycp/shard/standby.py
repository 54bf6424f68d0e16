"""A warm standby's replica of its primary: it watches the same clusters, judges no event, and keeps each one until the primary
reports that it has judged it.

On promotion (``takeover``) the ledger becomes the primary's, and the kept events are judged: nothing is listed again, no reconciled
change is queued again, and no other is lost.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from raycp.base.clock import Clock
from raycp.base.events import Event, EventType
from raycp.base.keys import GVK, RequestKey
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.protocol.channels import Address, ChannelCredentials, dial
from raycp.protocol.frames import (
    ControllerStart,
    Due,
    Hello,
    KeyNote,
    KeyProgress,
    MarkedKind,
    Message,
    Progress,
    Refusal,
    Suspicion,
)
from raycp.protocol.members import Role
from raycp.protocol.plan import Plan, ShardPlan
from raycp.protocol.transport import Connection, Life, probe
from raycp.queueing import Saved
from raycp.shard.caches import Caches
from raycp.shard.identity import ShardIdentity
from raycp.shard.kept_events import KeptEvents

log = logging.getLogger(__name__)

RECONNECT = 0.1
"""Seconds between tries to connect to the primary."""

BEAT = 1.0
"""Seconds between frames of a primary that has nothing to report."""


class StandbyReplica:
    """One standby's, until its promotion. ``changed`` is called when the leader should know at once.

    ``complete``: the primary's full account has arrived. ``seq``: of the last frame received. ``dead``: the name of a primary
    whose port refuses.
    """

    def __init__(
        self,
        identity: ShardIdentity,
        credentials: ChannelCredentials,
        host: str,
        clock: Clock,
        loops: Loops,
        caches: Caches,
        reconciled: dict[RequestKey, int],
        changed: Callable[[], None],
    ) -> None:
        self.complete = False
        self.seq = 0
        self.dead = ""
        self.followed = True
        self.reached: dict[tuple[str, GVK], int] = {}
        """Cluster and kind -> the version up to which the primary has judged all events."""
        self.marks: list[MarkedKind] = []
        self.starts: list[ControllerStart] = []
        self._marks: list[MarkedKind] = []
        self._starts: list[ControllerStart] = []
        self.due: dict[RequestKey, list[Due]] = {}
        self.notes: dict[RequestKey, KeyNote] = {}
        self.wakes: set[RequestKey] = set()
        self._identity = identity
        self._credentials = credentials
        self._host = host
        self._clock = clock
        self._loops = loops
        self._caches = caches
        self._reconciled = reconciled
        self._changed = changed
        self._queue: dict[RequestKey, KeyProgress] = {}
        self._queue_at: dict[RequestKey, float] = {}
        self._suspicions: dict[RequestKey, tuple[Suspicion, float]] = {}
        self._kept = KeptEvents()
        self._target: ShardPlan | None = None
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._received_at = clock.now()
        self._task = loops.supervise(self._keep, LoopName.REPLICATION, most=1.0)

    def update(self, plan: Plan) -> None:
        """Follow the primary of ``plan``."""
        target = next((known for known in plan.shards if known.shard == self._identity.shard and known.port), None)
        if target == self._target:
            return
        self._target = target
        if self._connection is not None:
            self._connection.close()

    async def _keep(self) -> None:
        while True:
            target = self._target
            if self._connection is not None:
                await self._lost.wait()
            elif target is not None:
                self._lost.clear()
                address = Address(target.host, target.port, target.member)
                try:
                    self._connection = await dial(address, Role.STANDBY, self._credentials, self)
                except (OSError, TimeoutError) as error:
                    log.debug("the primary %s is not reached: %s", target.member, error)
                else:
                    self._connection.send(Hello(self._identity.member, Role.STANDBY, self._host, 0))
                    # The primary sends the full account again: the last connection's may have been incomplete.
                    self.complete, self.seq = False, 0
                    self._marks, self._starts = [], []
                    await self._lost.wait()
            await self._clock.sleep(RECONNECT)

    # frames

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
        self._received_at, self.seq = self._clock.now(), message.seq
        for progress in message.changed:
            self._take(progress)
        self._take_shared(message)
        self.wakes.update(message.wakes)
        self.wakes.difference_update(message.acknowledged)
        for reached in message.reached:
            place = reached.cluster, GVK.parse(reached.kind)
            self.reached[place] = reached.rv
            if self.complete:
                self._kept.judged(*place, reached.rv)
        if message.complete and not self.complete:
            self.complete = True
            for (cluster, kind), version in self.reached.items():
                self._kept.judged(cluster, kind, version)
            log.info("following the primary of shard %s: %d keys in its queue", self._identity.shard, len(self._queue))
            self._changed()

    def _take_shared(self, message: Progress) -> None:
        """Marks and starts come whole: in one frame, or in several of which all but the last say that others follow."""
        self._marks += message.marks
        self._starts += message.starts
        if not message.more:
            self.marks, self._marks = self._marks or self.marks, []
            self.starts, self._starts = self._starts or self.starts, []

    def _take(self, progress: KeyProgress) -> None:
        key = progress.key
        if progress.version is None:
            self._reconciled.pop(key, None)
        else:
            self._reconciled[key] = progress.version
        if progress.saved is None:
            self._queue.pop(key, None)
            self._queue_at.pop(key, None)
        else:
            self._queue[key] = progress
            self._queue_at[key] = self._received_at
        if progress.due:
            self.due[key] = progress.due
        else:
            self.due.pop(key, None)
        if progress.suspicion is not None:
            self._suspicions[key] = (progress.suspicion, self._received_at)
        else:
            self._suspicions.pop(key, None)
        if progress.note is not None:
            self.notes[key] = progress.note
        else:
            self.notes.pop(key, None)

    def lost(self) -> None:
        """The connection ended: the primary is dead, or another is followed now."""
        self._connection = None
        self._lost.set()
        if self.followed:
            self._loops.spawn(self._inquire(), "inquiry into the primary")

    async def _inquire(self) -> None:
        """Report a primary whose port refuses at once: the leader probes it too, and need not wait for Ray's notice."""
        target = self._target
        if target is not None and await probe(target.host, target.port) is Life.DEAD:
            self.dead = target.member
            self._changed()

    # events of the own watches

    def keep(self, cluster: str, kind: GVK, events: list[Event]) -> None:
        """Keep changes until the primary reports that it has judged them."""
        judged = self.reached.get((cluster, kind), 0)
        for event in events:
            version = self._version(cluster, kind, event)
            if not version or version > judged or not self.complete:
                self._kept.add(cluster, kind, version, event)

    def _version(self, cluster: str, kind: GVK, event: Event) -> int:
        """0 where it can't be compared."""
        version = event.obj.rv
        if event.type is EventType.DELETED:
            # A deletion found by a list has no version of its own: it happened at the list's version or before.
            informer = self._caches.informer(cluster, kind)
            version = max(version, informer.store.rv) if informer is not None else version
        return version

    def drop_cluster(self, cluster: str) -> None:
        """The cluster leaves the shard."""
        self._kept.drop_cluster(cluster)
        self._queue = {key: progress for key, progress in self._queue.items() if key.cluster != cluster}
        self.due = {key: due for key, due in self.due.items() if key.cluster != cluster}
        self._suspicions = {key: known for key, known in self._suspicions.items() if key.cluster != cluster}
        self.notes = {key: note for key, note in self.notes.items() if key.cluster != cluster}

    # reports

    @property
    def lag(self) -> float:
        """Seconds by which this standby, or its primary, is behind the other."""
        now, oldest = self._clock.now(), self._kept.oldest()
        return max(now - self._received_at - BEAT, 0.0 if oldest is None else now - oldest, 0.0)

    def follows(self, cluster: str) -> bool:
        """Whether the primary has reported how far it is in ``cluster``."""
        return any(place[0] == cluster for place in self.reached)

    @property
    def kept(self) -> int:
        """Changes observed here that the primary has not reported as judged."""
        return len(self._kept)

    # the end

    def close(self) -> None:
        """Follow no primary any longer."""
        self.followed = False
        self._task.cancel()
        if self._connection is not None:
            self._connection.close()

    def queue(self, controllers: set[str]) -> list[tuple[KeyProgress, Saved]]:
        """The primary's queue, for these controllers, with ages as they are now."""
        now = self._clock.now()
        return [
            (progress, _aged(progress.saved, now - self._queue_at[key]))
            for key, progress in self._queue.items()
            if progress.saved is not None and key.controller in controllers
        ]

    def suspicions(self, controllers: set[str]) -> dict[RequestKey, Suspicion]:
        """What the primary held against keys of these controllers, with ages as they are now."""
        now = self._clock.now()
        return {
            key: Suspicion(
                [msgspec.structs.replace(mark, age=mark.age + now - received_at) for mark in suspicion.marks], suspicion.deaths
            )
            for key, (suspicion, received_at) in self._suspicions.items()
            if key.controller in controllers
        }

    def events(self) -> list[tuple[str, GVK, Event]]:
        """Return the kept events, and forget them."""
        return self._kept.take()


def _aged(saved: Saved, passed: float) -> Saved:
    """``saved``, reported ``passed`` seconds ago, as of now."""
    waits = saved.delay > 0
    return msgspec.structs.replace(
        saved,
        holds=[],  # the primary's own; the workers' answers to the roll-call hold what is in work
        delay=max(0.0, saved.delay - passed),
        age=saved.age + passed,
        ready_for=max(0.0, passed - saved.delay) if waits else saved.ready_for + passed,
    )
