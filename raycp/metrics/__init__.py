"""Metrics and logs.

The path of a number: a room asks the process's ``Metrics`` for a family once, keeps the child that it counts on, and pays a
fraction of a microsecond per event. Once a second the actor sends ``Metrics.snapshot()`` (absolute values) to the observer, whose
``Merger`` adds up living and dead actors and renders Prometheus text.

- ``registry``: ``Metrics``, ``Counter``, ``Gauge``, ``Histogram``: families with cached children, and the snapshot;
- ``catalog``: all families of raycp: work queue, reconcile, reflector, API requests, SLI, leader;
- ``merger``: ``Merger``, which makes one page of many actors, living and dead;
- ``log``: structured JSON logging without secrets;
- ``recorder``: the flight recorder of a process, for the time after its death.
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
