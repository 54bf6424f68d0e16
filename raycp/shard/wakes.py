"""Shards among themselves: a child's change in one wakes its owner in another, and is kept until it is heard (law 10)."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from raycp.base.keys import GVK, RequestKey
from raycp.protocol.frames import Hello, Message, Wake, Wakes, WakesDone, Welcome
from raycp.protocol.plan import Plan, ShardPlan
from raycp.protocol.transport import Connection, dial

if TYPE_CHECKING:
    from raycp.shard.core import ShardCore

log = logging.getLogger(__name__)

RECONNECT = 0.2


class _Outgoing:
    """Wakes for one other shard. One per key is kept; a newer one takes its place, with a higher number."""

    def __init__(self, peers: "WakeExchange", target: ShardPlan, token: str) -> None:
        self.target = target
        self._peers = peers
        self._token = token
        self._pending: dict[RequestKey, Wake] = {}
        self._unsent: set[RequestKey] = set()
        self._connection: Connection | None = None
        self._welcome = False
        self._lost = asyncio.Event()
        self._scheduled = False
        self._task = peers.shard.loops.spawn(self._keep(), f"wakes for shard {target.shard}")

    @property
    def pending(self) -> Collection[RequestKey]:
        """What has not been heard of."""
        return self._pending.keys()

    def retarget(self, target: ShardPlan, token: str) -> None:
        """Another primary: all that is not heard is sent again."""
        self.target = target
        self._token = token
        if self._connection is not None:
            self._connection.close()

    def wake(self, wake: Wake) -> None:
        before = self._pending.get(wake.key)
        if before is not None and before.real and not wake.real:
            wake = Wake(wake.seq, wake.key, before.reason, True)
        self._pending[wake.key] = wake
        self._peers.changed(wake.key)
        self._unsent.add(wake.key)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._connection is None or not self._welcome or not self._unsent:
            return
        wakes = [self._pending[key] for key in self._unsent if key in self._pending]
        self._unsent.clear()
        for start in range(0, len(wakes), 500):
            self._connection.send(Wakes(wakes[start : start + 500]))

    async def _keep(self) -> None:
        shard = self._peers.shard
        while True:
            self._lost.clear()
            hello = Hello(self._token, shard.member.actor_name, "shard", shard.host, 0)
            try:
                self._connection = await dial(self.target.host, self.target.port, hello, self)
            except (OSError, TimeoutError):
                await shard.clock.sleep(RECONNECT)
                continue
            await self._lost.wait()
            await shard.clock.sleep(RECONNECT)

    def received(self, message: Message) -> None:
        if isinstance(message, WakesDone):
            heard = set(message.seqs)
            for key in [key for key, wake in self._pending.items() if wake.seq in heard]:
                del self._pending[key]
                self._peers.changed(key)
                # Reconciled there, or nobody's: this cluster's watermark advances on that report only.
                self._peers.shard.state.marks.settled(key)
        elif isinstance(message, Welcome):
            # Everything that was not heard goes out, again or for the first time.
            self._welcome = True
            self._unsent = set(self._pending)
            self._flush()

    def lost(self) -> None:
        self._connection = None
        self._welcome = False
        self._lost.set()

    def close(self) -> None:
        self._task.cancel()
        if self._connection is not None:
            self._connection.close()

    def cut(self) -> None:
        """Reset the connection."""
        if self._connection is not None:
            self._connection.abort()


class _Incoming:
    """One other shard's wakes. ``waiting``: key -> (number of the wake, it arrived before this hand-out)."""

    def __init__(self, peers: "WakeExchange", connection: Connection) -> None:
        self.connection = connection
        self.waiting: dict[RequestKey, int] = {}
        self._peers = peers

    def received(self, message: Message) -> None:
        if not isinstance(message, Wakes):
            return
        refused = []
        for wake in message.wakes:
            if self._peers.shard.intake.woken(wake):
                self.waiting[wake.key] = wake.seq
            else:
                refused.append(wake.seq)
        if refused:
            self.connection.send(WakesDone(refused))

    def lost(self) -> None:
        self._peers.gone(self)


class WakeExchange:
    """See the module. Lives in a shard."""

    def __init__(self, shard: "ShardCore") -> None:
        self.shard = shard
        self.changed: Callable[[RequestKey], None] = lambda key: None
        self._outgoing: dict[str, _Outgoing] = {}
        self._incoming: set[_Incoming] = set()
        self._homes: dict[str, str] = {}
        self._hub = ""
        self._started: dict[RequestKey, dict[_Incoming, int]] = {}
        self._seq = 0

    def pending(self) -> set[RequestKey]:
        """Owners elsewhere that were woken and have not been heard of."""
        return {key for outgoing in self._outgoing.values() for key in outgoing.pending}

    def update(self, plan: Plan) -> None:
        """Reach the other shards of ``plan``."""
        self._homes = {cluster.name: cluster.shard for cluster in plan.clusters}
        self._hub = plan.hub.shard
        others = {shard.shard: shard for shard in plan.shards if shard.shard != self.shard.shard}
        for name in [name for name in self._outgoing if name not in others]:
            self._outgoing.pop(name).close()
        for name, target in others.items():
            known = self._outgoing.get(name)
            if known is None:
                self._outgoing[name] = _Outgoing(self, target, plan.token)
            elif known.target != target:
                known.retarget(target, plan.token)

    def wake(self, owner: RequestKey, reason: str, real: bool) -> bool:
        """A child here concerns ``owner`` there. False if no shard has its cluster."""
        outgoing = self._outgoing.get(self._homes.get(owner.cluster, ""))
        if outgoing is None:
            return False
        self._seq += 1
        outgoing.wake(Wake(self._seq, owner, reason, real))
        return True

    def look_after(self, cluster: str, kind: GVK) -> None:
        """``kind`` has been listed here: what happened to it before, nobody may have told to the hub's owners."""
        outgoing = self._outgoing.get(self._hub)
        if outgoing is not None:
            self._seq += 1
            outgoing.wake(Wake(self._seq, RequestKey("", cluster, "", str(kind)), "listed"))

    def comeback(self, cluster: str) -> None:
        """``cluster`` answers again: the hub's keys may wait for that."""
        outgoing = self._outgoing.get(self._hub)
        if outgoing is None:
            self.shard.intake.comeback()
        else:
            self._seq += 1
            outgoing.wake(Wake(self._seq, RequestKey("", cluster, "", ""), "reachable"))

    def accept(self, connection: Connection, hello: Hello) -> _Incoming:
        """Another shard connects to wake owners here."""
        incoming = _Incoming(self, connection)
        self._incoming.add(incoming)
        connection.send(Welcome(self.shard.shard, self.shard.state.epoch, self.shard.state.term, []))
        return incoming

    def cut(self) -> None:
        """Reset the connections to all other shards, as the death of this process would."""
        for outgoing in self._outgoing.values():
            outgoing.cut()

    def gone(self, incoming: _Incoming) -> None:
        """It sends again what it has not heard of, over its next connection."""
        self._incoming.discard(incoming)

    def handed_out(self, key: RequestKey) -> None:
        """A reconcile of ``key`` starts: the wakes that have arrived will have been seen by it."""
        if not self._incoming:
            return
        seen = {incoming: incoming.waiting[key] for incoming in self._incoming if key in incoming.waiting}
        if seen:
            self._started[key] = seen

    def reconciled(self, key: RequestKey) -> None:
        """It has ended, whatever its result: the key is this queue's business from here."""
        for incoming, seq in self._started.pop(key, {}).items():
            if incoming.waiting.get(key) == seq:
                del incoming.waiting[key]
            incoming.connection.send(WakesDone([seq]))
