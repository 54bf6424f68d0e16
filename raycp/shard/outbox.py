"""Wakes for one other shard, kept and sent again until that shard has acknowledged them (law 10)."""

import asyncio
import logging
from collections.abc import Callable, Hashable

from raycp.base.clock import Clock
from raycp.base.keys import RequestKey
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.base.problems import ProblemOwner
from raycp.protocol.channels import Address, ChannelCredentials, dial
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
    pages,
)
from raycp.protocol.plan import ShardPlan
from raycp.protocol.transport import Connection

log = logging.getLogger(__name__)

RECONNECT = 0.2
"""Seconds between tries to connect."""

AnyWake = Wake | KindListed | ClusterChanged | CapacityWanted | CapacityChanged


class Outbox:
    """Keeps one wake per subject: a newer one replaces an older one, with a higher number."""

    def __init__(
        self,
        target: ShardPlan,
        hello: Hello,
        credentials: ChannelCredentials,
        clock: Clock,
        loops: Loops,
        changed: Callable[[RequestKey], None],
        settled: Callable[[RequestKey], None],
    ) -> None:
        self.target = target
        self._hello = hello
        self._credentials = credentials
        self._clock = clock
        self._changed = changed
        self._settled = settled
        self._pending: dict[Hashable, AnyWake] = {}
        self._subjects: dict[int, Hashable] = {}
        """Of the pending wake with this number."""
        self._unsent: set[Hashable] = set()
        self._connection: Connection | None = None
        self._welcome = False
        self._lost = asyncio.Event()
        self._scheduled = False
        self._task = loops.supervise(self._keep, LoopName.WAKES, ProblemOwner(peer=f"shard {target.shard}"))

    def owners(self) -> dict[RequestKey, Wake]:
        """Owners whose wakes are not acknowledged, with the newest of each."""
        return {wake.key: wake for wake in self._pending.values() if isinstance(wake, Wake)}

    def __contains__(self, owner: RequestKey) -> bool:
        """Whether a wake of ``owner`` is not acknowledged."""
        return owner in self._pending

    def __len__(self) -> int:
        """Wakes that are not acknowledged."""
        return len(self._pending)

    def disconnect(self) -> None:
        """Close the connection; it is opened again."""
        if self._connection is not None:
            self._connection.close()

    def cut(self) -> None:
        """Reset the connection, as the death of this process would."""
        if self._connection is not None:
            self._connection.abort()

    def retarget(self, target: ShardPlan) -> None:
        """That shard has another primary: all that is not acknowledged is sent again."""
        self.target = target
        self.disconnect()

    def wake(self, wake: Wake) -> None:
        """Wake an owner. A later wake that is not ``real`` leaves a pending real one real."""
        before = self._pending.get(wake.key)
        if isinstance(before, Wake) and before.real and not wake.real:
            wake = Wake(wake.seq, wake.key, before.reason, True)
        self.put(wake.key, wake)
        self._changed(wake.key)

    def newest(self, subject: Hashable) -> AnyWake | None:
        """The wake of that subject, if it is not acknowledged."""
        return self._pending.get(subject)

    def put(self, subject: Hashable, wake: AnyWake) -> None:
        """Keep and send ``wake``, in place of an older one of the same subject."""
        before = self._pending.get(subject)
        if before is not None:
            del self._subjects[before.seq]
        self._pending[subject] = wake
        self._subjects[wake.seq] = subject
        self._unsent.add(subject)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._connection is None or not self._welcome or not self._unsent:
            return
        wakes = [self._pending[subject] for subject in self._unsent if subject in self._pending]
        for body in pages(wakes, lambda part, last: Wakes(list(part)), _weigh, _unsendable):
            self._connection.write(body)
        self._unsent.clear()

    async def _keep(self) -> None:
        while True:
            if self._connection is None:
                self._lost.clear()
                try:
                    address = Address(self.target.host, self.target.port, self.target.member)
                    self._connection = await dial(address, self._hello.role, self._credentials, self)
                except (OSError, TimeoutError):
                    await self._clock.sleep(RECONNECT)
                    continue
                self._connection.send(self._hello)
            await self._lost.wait()
            await self._clock.sleep(RECONNECT)

    def received(self, message: Message) -> None:
        """A frame of that shard."""
        if isinstance(message, WakesDone):
            for seq in message.seqs:
                if seq not in self._subjects:
                    continue  # a newer wake has replaced it
                subject = self._subjects.pop(seq)
                del self._pending[subject]
                if isinstance(subject, RequestKey):
                    self._changed(subject)
                    # Reconciled there, or of no such owner: only this report lets the cluster's watermark advance.
                    self._settled(subject)
        elif isinstance(message, Welcome):
            # Everything that is not acknowledged goes out, again or for the first time.
            self._welcome = True
            self._unsent = set(self._pending)
            self._flush()

    def lost(self) -> None:
        """The connection ended."""
        self._connection = None
        self._welcome = False
        self._lost.set()

    def close(self) -> None:
        """Give the connection up."""
        self._task.cancel()
        self.disconnect()


def _weigh(wake: AnyWake) -> int:
    if isinstance(wake, CapacityChanged):
        return 256 + len(wake.summary) + len(wake.reason)
    return 64 + 4 * sum(map(len, wake.key)) if isinstance(wake, Wake) else 256


def _unsendable(wake: AnyWake, why: str) -> None:
    """It stays pending, and its owner an exception of the watermark: nothing says that it was reconciled."""
    log.error("a wake can't be sent: %s", why)
