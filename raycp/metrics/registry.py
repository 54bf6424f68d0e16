"""Counters, gauges and histograms of one process, cheap enough to sit on the path of every change.

Guarantees:

1. One ``inc``, ``set`` or ``observe`` on a kept child costs well under a microsecond: no lock, no label look-up.
   (CPython switches threads only at calls and loop edges, never inside ``x += y`` on a slot, so nothing is lost.)
2. A family is created once per name. Asking again with the same shape returns it, another shape raises ``ValueError``.
3. A family never grows beyond ``max_children``: further label values share one child whose labels read ``OVERFLOW``
   (controller-runtime guards its priority label the same way).
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeVar

import msgspec

OVERFLOW = "exceeded_cardinality_limit"
"""The label value of everything beyond ``max_children``."""

GaugeMerge = Literal["sum", "max", "min"]
"""How a gauge of several actors becomes one number."""

SECONDS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
"""Default buckets, in seconds: half a millisecond to five minutes."""


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
    """Counts per bucket (not cumulative; the last one is +Inf) and the sum of all values."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value`` (``times`` over); a value on a bound belongs to that bound's bucket."""
        at = bisect_left(self.bounds, value)
        self.counts[at] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        return sum(self.counts)


ChildT = TypeVar("ChildT", Counter, Gauge, Histogram)


class Family(Generic[ChildT]):
    """All children of one metric name. ``labels(...)`` gives the child of those label values; keep it."""

    def __init__(self, spec: "Spec", make: Callable[[], ChildT], max_children: int) -> None:
        self.spec = spec
        self._make: Callable[[], ChildT] = make
        self._max = max_children
        self._children: dict[tuple[str, ...], ChildT] = {}

    def labels(self, *values: str) -> ChildT:
        """The child for these values, in the order of the family's label names. Raises ``ValueError`` for another number."""
        child = self._children.get(values)
        if child is None:
            child = self._new(values)
        return child

    def remove(self, *values: str) -> None:
        """Remove a child (a cluster that left). References to it may be used on, without effect."""
        self._children.pop(values, None)

    def remove_where(self, label: str, value: str) -> None:
        """Remove all children whose ``label`` is ``value``."""
        at = self.spec.labels.index(label)
        for values in [v for v in self._children if v[at] == value]:
            self._children.pop(values, None)

    def items(self) -> list[tuple[tuple[str, ...], ChildT]]:
        return list(self._children.items())

    def _new(self, values: tuple[str, ...]) -> ChildT:
        if len(values) != len(self.spec.labels):
            raise ValueError(f"{self.spec.name} has the labels {self.spec.labels}, got {values!r}")
        if len(self._children) >= self._max and self.spec.labels:
            values = (OVERFLOW,) * len(self.spec.labels)
        return self._children.setdefault(values, self._make())


class Spec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A family's shape; all actors must agree on it."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: GaugeMerge = "sum"


class FamilySnapshot(msgspec.Struct, array_like=True, gc=False):
    """One family in a snapshot. A row is the label values, then one number, or a histogram's counts and its sum."""

    spec: Spec
    rows: list[tuple[tuple[str, ...], list[float]]]


_encode = msgspec.msgpack.Encoder().encode
decode_snapshot = msgspec.msgpack.Decoder(list[FamilySnapshot]).decode


class Metrics:
    """The families of one process.

    Collectors registered with ``before_snapshot`` run before each snapshot, to set gauges that are cheaper to read than to keep
    (memory, lengths).
    """

    def __init__(self, max_children: int = 20_000) -> None:
        self._max = max_children
        self._families: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}
        self._collectors: list[Callable[[], None]] = []

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Family[Counter]:
        """A counter family; ``name`` ends in ``_total``."""
        if not name.endswith("_total"):
            raise ValueError(f"a counter's name ends in _total: {name!r}")
        return self._family(Spec(name, "counter", help, tuple(labels)), Counter)

    def gauge(self, name: str, help: str, labels: Sequence[str] = (), merge: GaugeMerge = "sum") -> Family[Gauge]:
        """A gauge family; ``merge`` says how the observer combines the values of several actors."""
        return self._family(Spec(name, "gauge", help, tuple(labels), (), merge), Gauge)

    def histogram(self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS) -> Family[Histogram]:
        """A histogram family; ``buckets`` are upper bounds, rising, without +Inf."""
        bounds = tuple(float(b) for b in buckets)
        if list(bounds) != sorted(set(bounds)):
            raise ValueError(f"{name}: buckets must rise: {bounds}")
        return self._family(Spec(name, "histogram", help, tuple(labels), bounds), lambda: Histogram(bounds))

    def before_snapshot(self, collect: Callable[[], None]) -> None:
        self._collectors.append(collect)

    def snapshot(self) -> bytes:
        """All absolute values as msgpack, for ``Merger.feed``. Families without children are included, with type and help."""
        for collect in self._collectors:
            collect()
        return _encode(self.families())

    def families(self) -> list[FamilySnapshot]:
        return [FamilySnapshot(family.spec, [(v, _values(c)) for v, c in family.items()]) for family in self._families.values()]

    def _family(self, spec: Spec, make: Callable[[], ChildT]) -> Family[ChildT]:
        found = self._families.get(spec.name)
        if found is not None:
            if found.spec != spec:
                raise ValueError(f"{spec.name} exists with another shape: {found.spec}, asked for {spec}")
            return found  # type: ignore[return-value]
        family = Family(spec, make, self._max)
        if not spec.labels:
            family.labels()  # a family without labels is 0 from the start, as Prometheus users expect
        self._families[spec.name] = family
        return family


def _values(child: Counter | Gauge | Histogram) -> list[float]:
    if isinstance(child, Histogram):
        return [*child.counts, child.sum]
    return [child.value]
