"""A hand-over at its shard: the primary stops handing out, ends open hand-outs and sends its queue; the standby waits for it."""

import asyncio
import contextlib

from raycp.base.clock import Clock
from raycp.member.permits import PermitKeeper
from raycp.protocol.control import ControlError, Drained, ErrorCode, Release
from raycp.shard.dispatcher import Dispatcher
from raycp.shard.ledger import Ledger
from raycp.shard.replication import ReplicationSource
from raycp.shard.rollcall import Pause
from raycp.shard.standby import StandbyReplica
from raycp.shard.watermark_store import WatermarkStore

RELEASED_WITHIN = 2.0
"""Seconds for revoked reconciles to end; a plain ``def`` that does not write can't be stopped."""

FLUSHED_WITHIN = 0.5
"""Seconds for the watermark's last write."""

FOLLOWED_WITHIN = 2.0
"""Seconds for the primary's last frame to arrive."""


class QueueRelease:
    """Releases a primary's queue to its standby."""

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        dispatcher: Dispatcher,
        pause: Pause,
        replication: ReplicationSource,
        watermarks: WatermarkStore,
        permits: PermitKeeper,
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._pause = pause
        self._replication = replication
        self._watermarks = watermarks
        self._permits = permits

    async def run(self, order: Release) -> Drained:
        """Wait until all work is acknowledged, and send it to the standbys. Raises ``ControlError``, and then hand-outs go on."""
        if order.final:  # for clusters that change their shard; before the pause, so that no key waits
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSHED_WITHIN):
                    await self._watermarks.flush()
        self._pause.begin(order.limit)
        await self._idle(order.grace)
        revoked = self._dispatcher.revoke_all()
        deadline = self._clock.now() + RELEASED_WITHIN
        await self._idle(RELEASED_WITHIN)
        while order.final and self._dispatcher.foreign and self._clock.now() < deadline:
            await self._clock.sleep(0.001)  # hand-outs of an earlier primary
        running = len(self._ledger) + (self._dispatcher.foreign if order.final else 0)
        if running:
            self._pause.end()
            raise ControlError(ErrorCode.BUSY, f"{running} reconciles did not end within {RELEASED_WITHIN:g} s of being revoked")
        self._replication.flush(everything=True)
        if order.final:
            self._permits.suspend()
        return Drained(self._replication.seq, revoked)

    async def _idle(self, seconds: float) -> None:
        deadline = self._clock.now() + seconds
        while len(self._ledger) and self._clock.now() < deadline:
            await self._clock.sleep(0.001)


async def follow(replica: StandbyReplica, clock: Clock, seq: int) -> None:
    """Wait until the primary's frame ``seq`` is here, or the standby was promoted. Raises ``ControlError``."""
    deadline = clock.now() + FOLLOWED_WITHIN
    while replica.followed and not (replica.complete and replica.seq >= seq):
        if clock.now() > deadline:
            raise ControlError(ErrorCode.TIMED_OUT, f"the primary's last progress did not arrive within {FOLLOWED_WITHIN:g} s")
        await clock.sleep(0.001)
