"""What the fleet tells about itself: metrics, health, log, web page.

The way of a number: a room asks the process's ``Metrics`` for a family once, keeps the child that it counts on, and
pays
a fraction of a microsecond per event. Once a second the actor sends ``Metrics.snapshot()`` (absolute values) to the
observer, whose ``Merger`` adds up the living and the dead and renders Prometheus text.

- ``registry``: ``Metrics``, ``Counter``, ``Gauge``, ``Histogram``: families with cached children, and the snapshot;
- ``catalog``: every family that raycp has, by name: work queue, reconcile, reflector, API requests, SLI, leader;
- ``merger``: ``Merger``: many actors, living and dead, into one page;
- ``log``: structured JSON logging without secrets.
"""

from raycp.metrics.catalog import ApiMetrics, FleetMetrics, ReconcileMetrics, ReflectorMetrics, SliMetrics, WorkQueueMetrics
from raycp.metrics.merger import Merger
from raycp.metrics.registry import Counter, Family, Gauge, Histogram, Metrics

__all__ = [
    "ApiMetrics",
    "Counter",
    "Family",
    "FleetMetrics",
    "Gauge",
    "Histogram",
    "Merger",
    "Metrics",
    "ReconcileMetrics",
    "ReflectorMetrics",
    "SliMetrics",
    "WorkQueueMetrics",
]
