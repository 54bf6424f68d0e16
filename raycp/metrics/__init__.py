"""Metrics and logs.

The path of a number: a room asks the process's ``Metrics`` for a family once, keeps the cell that it counts on, and pays a
fraction of a microsecond per event. Once a second the actor sends ``Metrics.snapshot()`` (absolute values) to the observer, whose
``Merger`` adds up living and dead actors. ``prometheus_client`` makes families of the sums, and the page of the families.

- ``labels``: a family's labels, and what bounds their values;
- ``cells``: ``Counter``, ``Gauge``, ``Histogram``: what is counted on, by ``Family``;
- ``registry``: ``Metrics``, the families of one process, and their snapshot;
- ``catalog``: all families of raycp: work queue, reconcile, reflector, API requests, SLI, leader;
- ``merger``: ``Merger``, which makes one set of families of many actors, living and dead;
- ``exposition``: ``FleetCollector``, the sums for ``prometheus_client``, and the page in the format that is asked for;
- ``log``: structured JSON logging without secrets;
- ``dashboards``: Grafana dashboards over them;
- ``recorder``: the flight recorder of a process, for the time after its death;
- ``traces``: traces of changes, for OpenTelemetry.
"""

from raycp.metrics.catalog import (
    ApiMetrics,
    FleetMetrics,
    HandoutMetrics,
    PoisonMetrics,
    ReconcileMetrics,
    ReflectorMetrics,
    ReflectorSeries,
    SliMetrics,
    WorkQueueMetrics,
)
from raycp.metrics.cells import Counter, Family, Gauge, GaugeFamily, Histogram
from raycp.metrics.labels import Label
from raycp.metrics.merger import Merger
from raycp.metrics.registry import Metrics

__all__ = [
    "ApiMetrics",
    "Counter",
    "Family",
    "FleetMetrics",
    "Gauge",
    "GaugeFamily",
    "HandoutMetrics",
    "Histogram",
    "Label",
    "Merger",
    "Metrics",
    "PoisonMetrics",
    "ReconcileMetrics",
    "ReflectorMetrics",
    "ReflectorSeries",
    "SliMetrics",
    "WorkQueueMetrics",
]
