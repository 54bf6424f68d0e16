"""Queue depth over time, read from the observer's metrics once a second (as often as actors report)."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator

import aiohttp

_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse_metrics(text: str, name: str) -> list[tuple[dict[str, str], float]]:
    """The rows of one family of a Prometheus page."""
    rows = []
    for line in text.splitlines():
        if line.startswith(name):
            found = _LINE.match(line)
            if found and found[1] == name:
                rows.append((dict(_LABEL.findall(found[2] or "")), float(found[3])))
    return rows


class DepthCurve:
    """``points``: (seconds since ``begin``, ready items of all lanes); ``begin`` on the machine's monotonic clock."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.points: list[tuple[float, float]] = []

    def since(self, zero: float) -> list[tuple[float, float]]:
        """The points on a time axis that begins at ``zero`` (monotonic), as that of the changes' curves."""
        return [(at + self.begin - zero, depth) for at, depth in self.points]

    @property
    def mean(self) -> float:
        return sum(depth for _, depth in self.points) / len(self.points) if self.points else 0.0

    @property
    def peak(self) -> float:
        return max((depth for _, depth in self.points), default=0.0)


@contextlib.asynccontextmanager
async def depth_curve(url: str, every: float = 0.5) -> AsyncIterator[DepthCurve]:
    """Sample ``workqueue_depth`` over all lanes while the block runs."""
    curve = DepthCurve()

    async def sample(session: aiohttp.ClientSession) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get("/metrics") as answer:
                    rows = parse_metrics(await answer.text(), "workqueue_depth")
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
