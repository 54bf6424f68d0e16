"""A member tells the observer about itself, once a second, in absolute values."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import msgspec
import psutil

from raycp.base.clock import Clock
from raycp.base.loops import Loops
from raycp.metrics import FleetMetrics, Metrics
from raycp.protocol.frames import Answered, Hello, Message, Question, Stats
from raycp.protocol.members import Member
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.protocol.transport import Connection, dial

log = logging.getLogger(__name__)

EVERY = 1.0
LAST_WITHIN = 1.0
SOON = 0.05
"""After a new plan, in seconds: whoever looks at the observer then should see those who have taken it."""


class StatsReporter:
    """Keeps a connection to the observer of the current plan and sends ``Stats``; answers its questions with ``answer``."""

    def __init__(
        self,
        member: Member,
        clock: Clock,
        loops: Loops,
        metrics: Metrics,
        report: Callable[[], Report],
        slo: Callable[[], bytes] | None = None,
        answer: Callable[[str, list[str]], bytes] | None = None,
    ) -> None:
        self._member = member
        self._clock = clock
        self._metrics = metrics
        self._report = report
        self._slo = slo
        self._answer = answer
        self._connection: Connection | None = None
        self._plan: Plan | None = None
        self._loops = loops
        self._soon = False
        self._telling = asyncio.Lock()
        self._started = clock.now()
        self._process = psutil.Process()
        self._families = FleetMetrics(metrics)
        self._slot = member.slot
        self._cpu = 0.0
        self._heard = asyncio.Event()
        loops.forever(self._tell, "tell the observer", every=EVERY)

    def update(self, plan: Plan) -> None:
        """Tell the observer of ``plan`` from now on."""
        if self._plan is not None and self._plan.observer != plan.observer and self._connection is not None:
            self._connection.close()
            self._connection = None
        self._plan = plan
        slot = plan.slot(self._member)
        if slot != self._slot:  # promoted: its standby is called what it was
            self._families.memory.remove(*self._slot)
            self._families.loop_lag.remove(*self._slot)
            self._slot = slot
        if not self._soon:
            self._soon = True
            self._loops.spawn(self._tell_soon(), "tell the observer of the new plan")

    async def _tell_soon(self) -> None:
        await self._clock.sleep(SOON)
        self._soon = False
        await self._tell()

    def cut(self) -> None:
        """Reset the connection to the observer, as the death of this process would."""
        if self._connection is not None:
            self._connection.abort()

    async def last(self) -> None:
        """Tell once more, before this member ends, and wait until that has been taken in; ``LAST_WITHIN`` seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WITHIN):
                await self._tell()
                if self._connection is not None and not self._connection.closed:
                    self._heard.clear()
                    self._connection.send(Question(0, "heard"))  # frames are taken in in the order in which they were sent
                    await self._heard.wait()

    async def _tell(self) -> None:
        async with self._telling:
            await self._tell_now()

    async def _tell_now(self) -> None:
        begun = self._clock.now()
        await asyncio.sleep(0)
        self._families.loop_lag.labels(*self._slot).set(self._clock.now() - begun)
        plan = self._plan
        if plan is None or not plan.observer.port:
            return
        if self._connection is None or self._connection.closed:
            hello = Hello(plan.token, self._member.actor_name, "teller", "", 0)
            try:
                self._connection = await dial(plan.observer.host, plan.observer.port, hello, self)
            except (OSError, TimeoutError):
                return
        times = time.process_time()
        self._families.cpu.labels(*self._slot).inc(max(0.0, times - self._cpu))
        self._cpu = times
        self._families.memory.labels(*self._slot).set(float(self._process.memory_info().rss))
        self._connection.send(
            Stats(
                self._member.actor_name,
                self._member.generation,
                self._metrics.snapshot(),
                self._slo() if self._slo is not None else b"",
                msgspec.msgpack.encode(self._report()),
            )
        )

    def received(self, message: Message) -> None:
        """The observer asks, or answers ``last``."""
        if isinstance(message, Answered):
            self._heard.set()
        elif isinstance(message, Question) and self._connection is not None:
            body = self._answer(message.what, message.arguments) if self._answer is not None else b"null"
            self._connection.send(Answered(message.id, body))

    def lost(self) -> None:
        """The observer is gone; the next second tries again."""
        self._connection = None
        self._heard.set()
