"""A member sends the observer its statistics once a second, in absolute values."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import msgspec

from raycp.base.clock import Clock
from raycp.base.loop_names import LoopName
from raycp.base.loops import Loops
from raycp.member.process import ProcessGauges
from raycp.metrics import Metrics
from raycp.protocol.channels import Address, ChannelCredentials, dial
from raycp.protocol.frames import LARGEST, PAGE, Hello, Message, Stats, Sync, SyncDone, TimelineQuery, TimelineReply
from raycp.protocol.members import Member
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.transport import Connection

log = logging.getLogger(__name__)

EVERY = 1.0
LAST_WITHIN = 1.0
SOON = 0.05
"""Seconds from a new plan to the statistics that show it: the observer should not show the plan before for a whole second."""


class StatsReporter:
    """Keeps a connection to the observer of the current plan and sends ``Stats``; ``timeline`` answers its queries, as JSON, at
    once or later."""

    def __init__(
        self,
        member: Member,
        credentials: ChannelCredentials,
        clock: Clock,
        loops: Loops,
        metrics: Metrics,
        report: Callable[[], Report],
        slo: Callable[[], bytes] | None = None,
        timeline: Callable[[TimelineQuery], bytes | Awaitable[bytes]] = lambda _: b"null",
    ) -> None:
        self._member = member
        self._credentials = credentials
        self._clock = clock
        self._metrics = metrics
        self._report = report
        self._slo = slo
        self._timeline = timeline
        self._connection: Connection | None = None
        self._plan: Plan | None = None
        self._loops = loops
        self._scheduled = False
        self._sending = asyncio.Lock()
        self._process = ProcessGauges(metrics, clock)
        self._synced = asyncio.Event()
        loops.forever(self._send, LoopName.STATISTICS, every=EVERY)

    def update(self, plan: Plan) -> None:
        """Send to the observer of ``plan`` from now on."""
        if self._plan is not None and self._plan.observer != plan.observer and self._connection is not None:
            self._connection.close()
            self._connection = None
        self._plan = plan
        if not self._scheduled:
            self._scheduled = True
            self._loops.spawn(self._send_scheduled(), "statistics after a new plan")

    async def _send_scheduled(self) -> None:
        await self._clock.sleep(SOON)
        self._scheduled = False
        await self._send()

    def cut(self) -> None:
        """Reset the connection to the observer, as the death of this process would."""
        if self._connection is not None:
            self._connection.abort()

    async def last(self) -> None:
        """Send once more before this member ends, and wait until the observer has handled it; at most ``LAST_WITHIN`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WITHIN):
                await self._send()
                if self._connection is not None and not self._connection.closed:
                    self._synced.clear()
                    self._connection.send(Sync())
                    await self._synced.wait()

    async def _send(self) -> None:
        async with self._sending:
            await self._send_now()

    async def _send_now(self) -> None:
        plan = self._plan
        await self._process.measure(self._member.slot if plan is None else plan.slot(self._member))
        if plan is None or not plan.observer.port:
            return
        if self._connection is None or self._connection.closed:
            address = Address(plan.observer.host, plan.observer.port, plan.observer.member)
            try:
                self._connection = await dial(address, self._member.role, self._credentials, self)
            except (OSError, TimeoutError):
                return
            self._connection.send(Hello(self._member.actor_name, self._member.role, "", 0))
        metrics, slo = self._metrics.snapshot(), self._slo() if self._slo is not None else b""
        report = msgspec.msgpack.encode(self._report())
        for start in range(0, max(len(metrics), len(slo), len(report)), PAGE):
            part = slice(start, start + PAGE)
            more = start + PAGE < max(len(metrics), len(slo), len(report))
            frame = Stats(self._member.actor_name, self._member.generation, metrics[part], slo[part], report[part], more)
            self._connection.send(frame)

    def received(self, message: Message) -> None:
        """A frame from the observer."""
        if isinstance(message, SyncDone):
            self._synced.set()
        elif isinstance(message, TimelineQuery) and self._connection is not None:
            found = self._timeline(message)
            if isinstance(found, bytes):
                _reply(self._connection, message.id, found)
            else:
                self._loops.spawn(_reply_later(self._connection, message.id, found), "an answer to the observer")

    def lost(self) -> None:
        """The connection is closed; the next second tries again."""
        self._connection = None
        self._synced.set()


async def _reply_later(connection: Connection, identity: int, body: Awaitable[bytes]) -> None:
    _reply(connection, identity, await body)


def _reply(connection: Connection, identity: int, body: bytes) -> None:
    if len(body) > LARGEST:
        body = msgspec.json.encode({"problem": f"the timeline has {len(body)} bytes"})
    connection.send(TimelineReply(identity, body))
