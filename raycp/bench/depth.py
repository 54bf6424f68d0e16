"""Queue depth over time, read from the observer's metrics, which actors update once a second."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

DEPTH = "workqueue_depth"


def parse_metrics(text: str, name: str) -> list[tuple[dict[str, str], float]]:
    """The rows of one gauge of a Prometheus page."""
    lines = "".join(line for line in text.splitlines(keepends=True) if line.startswith(name))
    samples = (sample for family in text_string_to_metric_families(lines) for sample in family.samples)
    return [(sample.labels, sample.value) for sample in samples if sample.name == name]


class DepthCurve:
    """``points``: (seconds since ``begin``, ready items of all lanes); ``begin`` is on the machine's monotonic clock."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.points: list[tuple[float, float]] = []

    def since(self, zero: float) -> list[tuple[float, float]]:
        """The points on a time axis that begins at ``zero`` (monotonic), like the curves of the changes."""
        return [(at + self.begin - zero, depth) for at, depth in self.points]

    @property
    def mean(self) -> float:
        return sum(depth for _, depth in self.points) / len(self.points) if self.points else 0.0

    @property
    def peak(self) -> float:
        return max((depth for _, depth in self.points), default=0.0)


@contextlib.asynccontextmanager
async def depth_curve(url: str, every: float = 0.5) -> AsyncIterator[DepthCurve]:
    """Sample ``workqueue_depth`` over all lanes while the block runs; nothing else is asked for, since a page costs the machine."""
    curve = DepthCurve()

    async def sample(session: aiohttp.ClientSession) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get("/metrics", params={"name[]": DEPTH}) as answer:
                    rows = parse_metrics(await answer.text(), DEPTH)
                curve.points.append((time.monotonic() - curve.begin, sum(v for _, v in rows)))
            await asyncio.sleep(every)

    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(5)) as session:
        sampling = asyncio.create_task(sample(session))
        try:
            yield curve
        finally:
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling
