"""The cells that a process counts on, cheap enough to sit on the path of every change, and the families that hand them out.

``prometheus_client`` has cells of its own; they lock, and cost several times as much (``docs/metrics.md``). It gets the merged
values of these (``exposition``).

Guarantees:

1. One ``inc``, ``set`` or ``observe`` on a kept cell costs well under a microsecond: no lock, no label look-up.
   (CPython switches threads only at calls and loop edges, never inside ``x += y`` on a slot, so nothing is lost.)
2. A family never grows beyond ``max_children``: further label values share one cell whose labels read ``OVERFLOW``
   (controller-runtime guards its priority label the same way). What bounds each label by itself: ``labels``.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import msgspec

from raycp.metrics.labels import Label, LabelBounds

OVERFLOW = "exceeded_cardinality_limit"
"""The label value of everything beyond ``max_children``."""

EXEMPLAR_LIMIT = 128
"""Characters of all label names and values of an exemplar (OpenMetrics 1.0, Exemplars)."""

GaugeMerge = Literal["sum", "max", "min"]
"""How a gauge of several actors becomes one number."""

LabelPairs = tuple[tuple[str, str], ...]


class Trace(NamedTuple):
    """An exemplar: one observed ``value``, ``at`` which Unix time it was counted, and of what it was."""

    value: float
    at: float
    labels: LabelPairs


class Counter:
    """A sum that only rises."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount


class Gauge:
    """A value that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        self.value = value

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount


class Histogram:
    """Counts per bucket (not cumulative; the last one is +Inf), the sum of all values, and the newest trace of each bucket."""

    __slots__ = ("bounds", "counts", "sum", "traces")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.traces: dict[int, Trace] = {}

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value`` (``times`` over); a value on a bound belongs to that bound's bucket."""
        at = bisect_left(self.bounds, value)
        self.counts[at] += times
        self.sum += value * times

    def trace(self, value: float, at: float, labels: LabelPairs) -> None:
        """Name what the value was of: it is its bucket's exemplar from now on. Labels that are too long are left out, from the
        end."""
        left = EXEMPLAR_LIMIT
        for count, (name, text) in enumerate(labels):
            left -= len(name) + len(text)
            if left < 0:
                labels = labels[:count]
                break
        if labels:
            self.traces[bisect_left(self.bounds, value)] = Trace(value, at, labels)

    @property
    def count(self) -> int:
        return sum(self.counts)


class Spec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A family's shape; all actors must agree on it."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: GaugeMerge = "sum"


CellT = TypeVar("CellT", Counter, Gauge, Histogram)


class Family(Generic[CellT]):
    """A metric family. ``labels("a", "b")`` gives the one cell of those label values; keep it."""

    def __init__(self, spec: Spec, labels: Sequence[Label], make: Callable[[], CellT], max_children: int) -> None:
        self.spec = spec
        self._bounds = LabelBounds(labels)
        self._make: Callable[[], CellT] = make
        self._max = max_children
        self._overflow = (OVERFLOW,) * len(spec.labels)
        self._cells: dict[tuple[str, ...], CellT] = {}

    def labels(self, *values: str) -> CellT:
        """The cell for these values, in the order of the family's label names. Raises ``ValueError`` for another number."""
        cell = self._cells.get(values)
        if cell is None:
            cell = self._new(values)
        return cell

    def remove(self, *values: str) -> None:
        """Remove a cell. References to it may be used on, without effect."""
        self._cells.pop(values, None)

    def drop(self, label: str, value: str) -> None:
        """Remove all cells whose ``label`` is ``value``; nothing in a family without that label."""
        if label in self.spec.labels:
            at = self.spec.labels.index(label)
            for values in [v for v in list(self._cells) if v[at] == value]:
                self.remove(*values)

    def items(self) -> list[tuple[tuple[str, ...], CellT]]:
        return list(self._cells.items())

    def _key(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """The label values under which these are counted."""
        if len(values) != len(self.spec.labels):
            raise ValueError(f"{self.spec.name} has the labels {self.spec.labels}, got {values!r}")
        return self._bounds.bounded(values)

    def _new(self, values: tuple[str, ...]) -> CellT:
        values = self._key(values)
        cell = self._cells.get(values)
        if cell is not None:
            return cell
        if len(self._cells) >= self._max and self.spec.labels:
            values = self._overflow
        return self._cells.setdefault(values, self._make())


class GaugeFamily(Family[Gauge]):
    """A family of gauges."""

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Set these, by label values, and remove all others: for gauges that are read anew before each snapshot, so that what is
        no more leaves no last value behind."""
        for key, value in values.items():
            self.labels(*key).set(value)
        if len(self._cells) > len(values):
            kept = {self._key(key) for key in values}
            for key in [key for key in list(self._cells) if key not in kept and key != self._overflow]:
                self.remove(*key)
