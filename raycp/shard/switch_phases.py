"""How long a promotion took: to the first moment at which the shard may hand out, and to an empty queue."""

from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.metrics import FleetMetrics, Metrics
from raycp.protocol.plan import ShardPlan
from raycp.queueing.protocol import Queue
from raycp.shard.dispatcher import Dispatcher


class SwitchPhases:
    """Of the switch that made this member the primary. ``seconds``: by phase, as far as it is measured."""

    def __init__(self, clock: Clock, metrics: Metrics, dispatcher: Dispatcher, queue: Queue, changed: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._families = FleetMetrics(metrics)
        self._dispatcher = dispatcher
        self._queue = queue
        self._changed = changed

    async def measure(self, shard: ShardPlan) -> None:
        """Measure from now on the promotion that ``shard`` describes."""
        since, seconds = self._clock.now(), self._families.switch_seconds
        self._families.switches.labels(shard.cause).inc()
        seconds.labels("drain", shard.cause).observe(shard.drain)
        seconds.labels("leaderless", shard.cause).observe(shard.leaderless)
        while not self._dispatcher.open:
            await self._clock.sleep(0.001)
        ramp_up = self.seconds["ramp_up"] = self._clock.now() - since
        seconds.labels("ramp_up", shard.cause).observe(ramp_up)
        while self._queue.ready:
            await self._clock.sleep(0.005)
        backlog = self.seconds["backlog"] = self._clock.now() - since - ramp_up
        seconds.labels("backlog", shard.cause).observe(backlog)
        self._changed()
