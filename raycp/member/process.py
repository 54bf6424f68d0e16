"""What an actor's process costs: CPU time, memory, the delay of its event loop."""

import asyncio
import time

import psutil

from raycp.base.clock import Clock
from raycp.metrics import FleetMetrics, Metrics
from raycp.protocol.members import Slot


class ProcessGauges:
    """One per process; ``measure`` is called once a second."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._families = FleetMetrics(metrics)
        self._clock = clock
        self._process = psutil.Process()
        self._cpu = 0.0

    async def measure(self, slot: Slot) -> None:
        """Set the gauges, under the role and place of ``slot`` alone: a promoted standby leaves its old name to the next one."""
        started = self._clock.now()
        await asyncio.sleep(0)
        labels = (slot.role.value, slot.place)
        self._families.loop_lag.replace({labels: self._clock.now() - started})
        self._families.memory.replace({labels: float(self._process.memory_info().rss)})
        used = time.process_time()
        self._families.cpu.labels(*labels).inc(max(0.0, used - self._cpu))
        self._cpu = used
