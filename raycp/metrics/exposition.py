"""The fleet's metrics as ``prometheus_client`` knows and renders them: a custom ``Collector`` over merged snapshots, and the page
in the format that the scraper asks for.

Imported by the observer alone: ``prometheus_client`` is a web server and its cells too, which shards and workers do without.
"""

import gzip
import math
from collections.abc import Collection, Iterable
from itertools import accumulate

import msgspec
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from raycp.metrics.cells import Spec
from raycp.metrics.merger import Merged, MergedFamily

GZIP_LEVEL = 5


class MetricsPage(msgspec.Struct, frozen=True):
    """A scrape's answer; ``encoding`` is the ``Content-Encoding``, empty for none."""

    body: bytes
    content_type: str
    encoding: str = ""


class FleetCollector:
    """``prometheus_client``'s view of the fleet, a custom ``Collector``. ``describe`` is for a ``CollectorRegistry``, which refuses
    names that clash as OpenMetrics sees them (a counter without ``_total``, a histogram's ``_sum``). ``names``: of the families to
    collect; all if there are none."""

    def __init__(self, merged: Merged, names: Collection[str] = ()) -> None:
        self._merged = merged
        self._specs = [spec for spec in merged.specs() if not names or spec.name in names]

    def describe(self) -> Iterable[Metric]:
        """The families without samples."""
        return map(family_of, self._specs)

    def collect(self) -> Iterable[Metric]:
        """The families with samples, in a stable order."""
        return (filled_family(self._merged.family(spec)) for spec in self._specs)


def family_of(spec: Spec) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    """A family of ``prometheus_client`` without samples. Raises ``ValueError`` for a name that it does not accept."""
    match spec.type:
        case "counter":
            return CounterMetricFamily(spec.name, spec.help, labels=spec.labels)
        case "gauge":
            return GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)
        case "histogram":
            return HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)


def filled_family(merged: MergedFamily) -> Metric:
    """A family with its samples; a histogram's buckets have their exemplars, which OpenMetrics shows."""
    family = family_of(merged.spec)
    if isinstance(family, HistogramMetricFamily):
        bounds = [str(floatToGoString(bound)) for bound in (*merged.spec.buckets, math.inf)]  # type: ignore[no-untyped-call]
        traces = {
            at: Exemplar(dict(trace.labels), trace.value, round(trace.at, 3)) for at, trace in merged.traces.items()
        }
        for key in sorted(merged.rows):
            *counts, total = merged.rows[key]
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
                (bound, count, traces[key, at]) if (key, at) in traces else (bound, count)
                for at, (bound, count) in enumerate(zip(bounds, accumulate(counts), strict=True))
            ]
            family.add_metric(key, buckets, total)
    else:
        for key in sorted(merged.rows):
            family.add_metric(key, merged.rows[key][0])
    return family


def metrics_page(merged: Merged, accept: str = "", accept_encoding: str = "", names: Collection[str] = ()) -> MetricsPage:
    """Render the families of ``names``, or all: OpenMetrics or the text format as ``accept`` asks, compressed with gzip if
    ``accept_encoding`` does (both HTTP headers). Costs 10 to 20 µs a line: call it from a thread."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
    body = encode(FleetCollector(merged, names))
    if gzip_accepted(accept_encoding):
        return MetricsPage(gzip.compress(body, GZIP_LEVEL, mtime=0), content_type, "gzip")
    return MetricsPage(body, content_type)
