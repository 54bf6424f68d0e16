"""``Metrics``: the families of one process, and the snapshot of them that goes to the observer once a second."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from raycp.metrics.cells import Counter, Family, Gauge, GaugeFamily, GaugeMerge, Histogram, LabelPairs, Spec
from raycp.metrics.labels import Label

log = logging.getLogger(__name__)

SECONDS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
"""Default buckets, in seconds: half a millisecond to five minutes."""


class TraceRow(msgspec.Struct, array_like=True, gc=False):
    """The exemplar of one bucket of the series ``key``."""

    key: tuple[str, ...]
    bucket: int
    value: float
    at: float
    labels: LabelPairs


class FamilySnapshot(msgspec.Struct, array_like=True, gc=False):
    """One family in a snapshot. A row is the label values, then one number, or a histogram's counts and its sum."""

    spec: Spec
    rows: list[tuple[tuple[str, ...], list[float]]]
    traces: list[TraceRow] = []


_encode = msgspec.msgpack.Encoder().encode
decode_snapshot = msgspec.msgpack.Decoder(list[FamilySnapshot]).decode

FamilyT = TypeVar("FamilyT", Family[Counter], GaugeFamily, Family[Histogram])


class Metrics:
    """The families of one process. A family is created once per name: asking again with the same shape returns it, another shape
    raises ``ValueError``.

    What is registered with ``before_snapshot`` runs before each snapshot, to set gauges that are cheaper to read than to keep
    (memory, lengths).
    """

    def __init__(self, max_children: int = 20_000) -> None:
        self._max = max_children
        self._families: dict[str, Family[Counter] | GaugeFamily | Family[Histogram]] = {}
        self._collects: list[Callable[[], None]] = []
        self._failing: set[Callable[[], None]] = set()

    def counter(self, name: str, help: str, labels: Sequence[Label] = ()) -> Family[Counter]:
        """A counter family; ``name`` ends in ``_total``."""
        if not name.endswith("_total"):
            raise ValueError(f"a counter's name ends in _total: {name!r}")
        spec = Spec(name, "counter", help, tuple(label.name for label in labels))
        return self._family(Family(spec, labels, Counter, self._max))

    def gauge(self, name: str, help: str, labels: Sequence[Label] = (), merge: GaugeMerge = "sum") -> GaugeFamily:
        """A gauge family; ``merge`` says how the observer combines the values of several actors."""
        spec = Spec(name, "gauge", help, tuple(label.name for label in labels), (), merge)
        return self._family(GaugeFamily(spec, labels, Gauge, self._max))

    def histogram(
        self, name: str, help: str, labels: Sequence[Label] = (), buckets: Sequence[float] = SECONDS
    ) -> Family[Histogram]:
        """A histogram family; ``buckets`` are upper bounds, rising, without +Inf."""
        bounds = tuple(float(b) for b in buckets)
        if list(bounds) != sorted(set(bounds)):
            raise ValueError(f"{name}: buckets must rise: {bounds}")
        spec = Spec(name, "histogram", help, tuple(label.name for label in labels), bounds)
        return self._family(Family(spec, labels, lambda: Histogram(bounds), self._max))

    def before_snapshot(self, collect: Callable[[], None]) -> None:
        """Call ``collect`` before each snapshot. One that fails is logged, and takes none of the others' numbers away."""
        self._collects.append(collect)

    def drop(self, label: str, value: str) -> None:
        """Something that has series of its own is no more (a cluster left): remove them from all families."""
        for family in self._families.values():
            family.drop(label, value)

    def snapshot(self) -> bytes:
        """All absolute values as msgpack, for ``Merger.feed``. Families without cells are included, with type and help."""
        for collect in self._collects:
            self._collect(collect)
        return _encode(self.families())

    def families(self) -> list[FamilySnapshot]:
        return [_snapshot(family) for family in self._families.values()]

    def _collect(self, collect: Callable[[], None]) -> None:
        try:
            collect()
        except Exception:
            if collect not in self._failing:  # it fails each second: once is enough
                self._failing.add(collect)
                log.exception("some metrics could not be read, and keep their last values")
        else:
            self._failing.discard(collect)

    def _family(self, family: FamilyT) -> FamilyT:
        spec = family.spec
        found = self._families.get(spec.name)
        if found is not None:
            if found.spec != spec:
                raise ValueError(f"{spec.name} exists with another shape: {found.spec}, asked for {spec}")
            return found  # type: ignore[return-value]
        if not spec.labels:
            family.labels()  # a family without labels is 0 from the start, as Prometheus users expect
        self._families[spec.name] = family
        return family


def _snapshot(family: Family[Counter] | GaugeFamily | Family[Histogram]) -> FamilySnapshot:
    found = FamilySnapshot(family.spec, [], [])
    for key, cell in family.items():
        if isinstance(cell, Histogram):
            found.rows.append((key, [*cell.counts, cell.sum]))
            found.traces += [TraceRow(key, bucket, *trace) for bucket, trace in list(cell.traces.items())]
        else:
            found.rows.append((key, [cell.value]))
    return found
