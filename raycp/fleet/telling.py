"""A member tells the observer about itself, once a second, in absolute values."""

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
import psutil

from raycp.base.clock import Clock
from raycp.fleet.channel import Connection, dial
from raycp.fleet.loops import Loops
from raycp.fleet.names import Member
from raycp.fleet.plan import Plan, Report
from raycp.fleet.wire import Answered, Hello, Message, Question, Stats
from raycp.observe import FleetMetrics, Metrics

log = logging.getLogger(__name__)

EVERY = 1.0
SOON = 0.05
"""After a new plan, in seconds: whoever looks at the observer then should see those who have taken it."""


class Teller:
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
        fleet = FleetMetrics(metrics)
        self._memory = fleet.memory.labels(member.role, member.place)
        self._cpu = fleet.cpu.labels(member.role, member.place)
        self._lag = fleet.loop_lag.labels(member.role, member.place)
        loops.forever(self._tell, "tell the observer", every=EVERY)

    def update(self, plan: Plan) -> None:
        """Tell the observer of ``plan`` from now on."""
        if self._plan is not None and self._plan.observer != plan.observer and self._connection is not None:
            self._connection.close()
            self._connection = None
        self._plan = plan
        if not self._soon:
            self._soon = True
            self._loops.spawn(self._tell_soon(), "tell the observer of the new plan")

    async def _tell_soon(self) -> None:
        await self._clock.sleep(SOON)
        self._soon = False
        await self._tell()

    async def last(self) -> None:
        """Tell once more, before this member ends."""
        await self._tell()
        await asyncio.sleep(0.01)  # for the transport to write it

    async def _tell(self) -> None:
        async with self._telling:
            await self._tell_now()

    async def _tell_now(self) -> None:
        begun = self._clock.now()
        await asyncio.sleep(0)
        self._lag.set(self._clock.now() - begun)
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
        self._cpu.inc(max(0.0, times - self._cpu.value))
        self._memory.set(float(self._process.memory_info().rss))
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
        """The observer asks."""
        if isinstance(message, Question) and self._connection is not None:
            body = self._answer(message.what, message.arguments) if self._answer is not None else b"null"
            self._connection.send(Answered(message.id, body))

    def lost(self) -> None:
        """The observer is gone; the next second tries again."""
        self._connection = None
