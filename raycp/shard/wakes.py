"""Wakes between shards: a child's change in one makes its owner in another due; a wake is kept until acknowledged (law 10)."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from raycp.base.clock import Clock
from raycp.base.keys import GVK, RequestKey
from raycp.base.loops import Loops
from raycp.protocol.channels import ChannelCredentials
from raycp.protocol.frames import (
    CapacityChanged,
    CapacityWanted,
    ClusterChanged,
    Hello,
    KindListed,
    Message,
    Wake,
    Wakes,
    WakesDone,
    Welcome,
)
from raycp.protocol.members import Role
from raycp.protocol.plan import Plan
from raycp.protocol.transport import Connection
from raycp.shard.identity import ShardIdentity
from raycp.shard.outbox import Outbox

log = logging.getLogger(__name__)

ACKNOWLEDGED_AT_ONCE = 50_000
"""Wakes that one frame acknowledges."""
KeysDue = Callable[[list[RequestKey]], None]


class RemoteOwners(Protocol):
    """Owners in other shards."""

    def wake(self, owner: RequestKey, reason: str, real: bool) -> bool:
        """A child here concerns ``owner`` there, or a watched object the keys that it stands for. False if no shard has its
        cluster."""
        ...


class WakeReceiver(Protocol):
    """Handles the wakes of other shards."""

    def woken(self, wake: Wake, due: KeysDue) -> None:
        """Calls ``due``, now or later, with the keys that are due: the wake is acknowledged when all of them are reconciled."""
        ...

    def children_listed(self, cluster: str, kind: GVK) -> None: ...

    def cluster_changed(self, cluster: str, usable: bool, returned: bool, due: KeysDue) -> None:
        """As ``woken``."""
        ...


class CapacityPeer(Protocol):
    """What another shard asks and tells about members' capacity (``raycp.shard.scheduling``)."""

    def wanted(self, by: str) -> None: ...

    def told(self, change: CapacityChanged) -> None: ...


class WakeSender:
    """Another shard's connection. ``waiting``: key -> numbers of its wakes that are not acknowledged yet. A wake that concerns
    several keys is acknowledged when all of them are."""

    def __init__(
        self,
        connection: Connection,
        receiver: WakeReceiver,
        lost: Callable[["WakeSender"], None],
        capacity: CapacityPeer | None = None,
    ) -> None:
        self.waiting: dict[RequestKey, set[int]] = {}
        self._left: dict[int, int] = {}
        self._connection = connection
        self._receiver = receiver
        self._lost = lost
        self._capacity = capacity

    def received(self, message: Message) -> None:
        """A frame of that shard."""
        if not isinstance(message, Wakes):
            return
        done = []
        for wake in message.wakes:
            try:
                if self._handled(wake):
                    done.append(wake.seq)
            except Exception:  # it is not acknowledged, and sent again with the next connection
                log.exception("a wake could not be handled: %s", wake)
        self.acknowledge(done)

    def _handled(self, wake: Wake | KindListed | ClusterChanged | CapacityWanted | CapacityChanged) -> bool:
        """Whether nothing is left to wait for; ``_due`` says so of the others."""
        if isinstance(wake, Wake):
            self._receiver.woken(wake, partial(self._due, wake.seq, wake.key))
            return False
        if isinstance(wake, ClusterChanged):
            self._receiver.cluster_changed(wake.cluster, wake.usable, wake.returned, partial(self._due, wake.seq, None))
            return False
        if isinstance(wake, KindListed):
            self._receiver.children_listed(wake.cluster, GVK.parse(wake.kind))
        elif self._capacity is not None and isinstance(wake, CapacityWanted):
            self._capacity.wanted(wake.by)
        elif self._capacity is not None and isinstance(wake, CapacityChanged):
            self._capacity.told(wake)
        return True

    def _due(self, seq: int, owner: RequestKey | None, keys: list[RequestKey]) -> None:
        """Acknowledge ``seq`` when all of ``keys`` are reconciled. An ``owner``'s older wakes are replaced by it."""
        if not keys:
            self.acknowledge([seq])
        elif keys == [owner]:
            for older in [older for older in self.waiting.get(keys[0], ()) if older not in self._left]:
                self.waiting[keys[0]].discard(older)
        else:
            self._left[seq] = len(keys)
        for key in keys:
            self.waiting.setdefault(key, set()).add(seq)

    def done(self, key: RequestKey, seqs: Iterable[int]) -> None:
        """A reconcile of ``key`` has ended that had seen these wakes."""
        known = self.waiting.get(key, set())
        finished = []
        for seq in seqs:
            if seq in known:
                known.discard(seq)
                left = self._left.get(seq, 1) - 1
                if left:
                    self._left[seq] = left
                    continue
                self._left.pop(seq, None)
            finished.append(seq)
        if not known:
            self.waiting.pop(key, None)
        self.acknowledge(finished)

    def acknowledge(self, seqs: list[int]) -> None:
        """These were followed by a reconcile that started after them, or concern nothing here."""
        for start in range(0, len(seqs), ACKNOWLEDGED_AT_ONCE):
            self._connection.send(WakesDone(seqs[start : start + ACKNOWLEDGED_AT_ONCE]))

    def lost(self) -> None:
        """The other shard sends its unacknowledged wakes again over its next connection."""
        self._lost(self)


Seen = dict[WakeSender, tuple[int, ...]]


class WakeExchange:
    """One shard's wakes, in both directions. ``settled`` is called for an owner elsewhere whose wake is acknowledged, ``changed``
    for each owner whose pending wake changes (while a standby follows)."""

    def __init__(
        self,
        identity: ShardIdentity,
        credentials: ChannelCredentials,
        host: str,
        clock: Clock,
        loops: Loops,
        settled: Callable[[RequestKey], None],
    ) -> None:
        self.receiver: WakeReceiver
        self.capacity: CapacityPeer | None = None
        self.changed: Callable[[RequestKey], None] | None = None
        self.incoming: set[WakeSender] = set()
        self._identity = identity
        self._credentials = credentials
        self._host = host
        self._clock = clock
        self._loops = loops
        self._settled = settled
        self._outgoing: dict[str, Outbox] = {}
        self._homes: dict[str, str] = {}
        self._hub = ""
        self._seq = 0

    def update(self, plan: Plan) -> None:
        """Reach the other shards of ``plan``."""
        self._homes = {cluster.name: cluster.shard for cluster in plan.clusters}
        self._hub = plan.hub.shard
        others = {shard.shard: shard for shard in plan.shards if shard.shard != self._identity.shard}
        for name in [name for name in self._outgoing if name not in others]:
            self._outgoing.pop(name).close()
        for name, target in others.items():
            known = self._outgoing.get(name)
            if known is None:
                hello = Hello(self._identity.member, Role.SHARD, self._host, 0)
                self._outgoing[name] = Outbox(
                    target, hello, self._credentials, self._clock, self._loops, self._owner_changed, self._settled
                )
            elif known.target != target:
                known.retarget(target)

    # outgoing

    def outbox(self, shard: str) -> Outbox:
        """The wakes for another shard. Raises ``KeyError``."""
        return self._outgoing[shard]

    def waits(self, owner: RequestKey) -> bool:
        """Whether a wake of this owner elsewhere is not acknowledged."""
        return any(owner in outgoing for outgoing in self._outgoing.values())

    def pending(self) -> set[RequestKey]:
        """Owners elsewhere whose wakes are not acknowledged."""
        return {key for outgoing in self._outgoing.values() for key in outgoing.owners()}

    def wake(self, owner: RequestKey, reason: str, real: bool) -> bool:
        """See ``RemoteOwners.wake``."""
        outgoing = self._outgoing.get(self._homes.get(owner.cluster, ""))
        if outgoing is None:
            return False
        outgoing.wake(Wake(self._next(), owner, reason, real))
        return True

    def kind_listed(self, cluster: str, kind: GVK) -> None:
        """``kind`` was listed here without a complete replay: the hub's owners may have missed changes of children."""
        outgoing = self._outgoing.get(self._hub)
        if outgoing is not None:
            outgoing.put((cluster, str(kind)), KindListed(self._next(), cluster, str(kind)))

    def cluster_changed(self, cluster: str, usable: bool, returned: bool) -> None:
        """``cluster`` is unreachable, or usable: keys of every shard may depend on that."""
        for outgoing in self._outgoing.values():
            before = outgoing.newest((cluster,))
            again = isinstance(before, ClusterChanged) and before.usable and before.returned
            outgoing.put((cluster,), ClusterChanged(self._next(), cluster, usable, usable and (returned or again)))

    def want_capacity(self, by: str) -> None:
        """Ask all other shards for the capacity of their members."""
        for outgoing in self._outgoing.values():
            outgoing.put("capacity", CapacityWanted(self._next(), by))

    def tell_capacity(self, cluster: str, summary: bytes, reachable: bool, reason: str) -> None:
        """Tell the hub's shard, where that is another one."""
        outgoing = self._outgoing.get(self._hub)
        if outgoing is not None:
            outgoing.put(("capacity", cluster), CapacityChanged(self._next(), cluster, summary, reachable, reason))

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _owner_changed(self, key: RequestKey) -> None:
        if self.changed is not None:
            self.changed(key)

    # incoming

    def accept(self, connection: Connection) -> WakeSender:
        """Another shard connects to wake owners here."""
        sender = WakeSender(connection, self.receiver, self.incoming.discard, self.capacity)
        self.incoming.add(sender)
        connection.send(Welcome(self._identity.shard, self._identity.epoch, self._identity.term, []))
        return sender

    def seen(self, key: RequestKey) -> Seen | None:
        """A reconcile of ``key`` starts: the wakes that have arrived, which it will have seen."""
        found = {sender: tuple(sender.waiting[key]) for sender in self.incoming if key in sender.waiting}
        return found or None

    def done(self, key: RequestKey, seen: Seen) -> None:
        """It has ended, whatever its outcome: from now on this shard's queue retries the key."""
        for sender, seqs in seen.items():
            sender.done(key, seqs)

    def forget(self, drops: Callable[[RequestKey], bool]) -> None:
        """Acknowledge the wakes of keys that left with their cluster or controller."""
        for sender in self.incoming:
            for key in [key for key in sender.waiting if drops(key)]:
                sender.done(key, tuple(sender.waiting[key]))

    def cut(self) -> None:
        """Reset the connections to all other shards, as the death of this process would."""
        for outgoing in self._outgoing.values():
            outgoing.cut()
