"""What the queue reports to an observer, and the binding to client-go's metric names."""

from typing import Protocol

from raycp.metrics.catalog import QueueSeries, WorkQueueMetrics
from raycp.queueing.answers import Depth


class SeriesEvents(Protocol):
    """What happens to the keys of one (cluster, controller, tier). Called on the hot path: count, and return."""

    def added(self) -> None:
        """A key became ready."""

    def got(self, waited: float) -> None:
        """One was handed out, ``waited`` seconds after it was ready."""

    def done(self, seconds: float) -> None:
        """One was given back, ``seconds`` after it was handed out."""

    def retried(self, reason: str) -> None:
        """One was re-added with a delay."""


class QueueEvents(Protocol):
    """An observer of a queue."""

    def series(self, cluster: str, controller: str, tier: str) -> SeriesEvents:
        """The observer of these keys; asked for once per combination."""
        ...


class Measured(Protocol):
    """What the gauges are set from."""

    def depths(self) -> list[Depth]:
        """Per (tier, controller, cluster)."""
        ...

    def oldest_ready(self) -> dict[str, float]:
        """Per tier, the age in seconds of the oldest ready key that may be served."""
        ...


class _Counted:
    __slots__ = ("added", "done", "got", "retried")

    def __init__(self, series: QueueSeries) -> None:
        # Bound methods: no frame of ours between the queue and the counter.
        self.added = series.adds.inc
        self.got = series.queue_duration.observe
        self.done = series.work_duration.observe
        self.retried = series.retry


class QueueMetrics:
    """Counts a queue under ``workqueue_*``. ``publish`` sets the gauges; call it before each snapshot."""

    def __init__(self, families: WorkQueueMetrics) -> None:
        self._families = families

    def series(self, cluster: str, controller: str, tier: str) -> SeriesEvents:
        """The counters of these keys."""
        return _Counted(self._families.series(cluster, controller, tier))

    def drop(self, cluster: str) -> None:
        """The cluster left the queue: keys of a later cluster of that name are counted anew."""
        self._families.drop(cluster)

    def publish(self, queue: Measured) -> None:
        """Depth, delayed, unfinished and longest running per series; the oldest ready key per tier."""
        families = self._families
        depths = {(depth.cluster, depth.controller, depth.tier): depth for depth in queue.depths()}
        families.depth.replace({key: depth.ready for key, depth in depths.items()})
        families.delayed.replace({key: depth.delayed for key, depth in depths.items()})
        families.unfinished_work.replace({key: depth.unfinished for key, depth in depths.items()})
        families.longest_running.replace({key: depth.longest_running for key, depth in depths.items()})
        families.oldest_ready.replace({(tier,): age for tier, age in queue.oldest_ready().items()})
