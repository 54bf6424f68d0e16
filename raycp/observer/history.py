"""One hour of the fleet's, its controllers' and its clusters' numbers, a point every ten seconds, in fixed memory.

Rules:

1. Each series has ``POINTS`` points of two bytes, 720 bytes: a controller's five series take 3.6 kB, a cluster's two 1.4 kB, a
   fleet with 200 clusters and 10 controllers 330 kB. A value is kept within 0.2 %.
2. A point that nobody measured is a gap, never zero: no observer lived, it stood still, or there was nothing to take a percentile
   of.
3. Steps advance with ``Clock.now()``: a jump of the wall clock moves no point. They get their wall-clock time when they are read.
4. What a predecessor kept is laid where its own wall-clock time puts it; what would lie in the future (a clock was set back) ends
   now. Points of this process take precedence.
5. A controller or cluster that leaves the fleet takes its series with it.
"""

import math
import struct
from array import array
from collections.abc import Collection, Mapping
from enum import StrEnum

import msgspec

from raycp.base.clock import Clock

STEP = 10.0
"""Seconds between two points."""

POINTS = 360

_SCALE = 256.0
_LEAST = 1e-6
_MOST = 0xFFFF
_GAP, _ZERO = 0, 1


class Metric(StrEnum):
    """What a series shows."""

    RATE = "rate"
    """Reconciles per second."""
    ERRORS = "errors"
    """Failed reconciles per second; of a cluster, failed API requests."""
    P99 = "p99"
    """Seconds of a reconcile; of a cluster, of an API request."""
    DEPTH = "depth"
    """Ready keys."""
    RETRYING = "retrying"
    """Objects that fail."""


OF_FLEET = (Metric.RATE, Metric.ERRORS, Metric.P99, Metric.DEPTH, Metric.RETRYING)
OF_CONTROLLER = OF_FLEET
OF_CLUSTER = (Metric.P99, Metric.ERRORS)

FLEET_SERIES = ("fleet", "")

SeriesName = tuple[str, str]
"""``fleet``, ``controller`` or ``cluster``, and whose: ``""`` for the fleet."""

METRICS: Mapping[str, tuple[Metric, ...]] = {"fleet": OF_FLEET, "controller": OF_CONTROLLER, "cluster": OF_CLUSTER}

Values = Mapping[SeriesName, tuple[float | None, ...]]
"""One point of each series, in the order of ``METRICS``; None is a gap."""


class SavedSeries(msgspec.Struct, frozen=True, array_like=True):
    """One series as it is stored: its points' codes, the newest last."""

    of: str
    name: str
    metric: str
    codes: bytes


class SavedHistory(msgspec.Struct, frozen=True):
    """What a later observer goes on with. ``ends`` is when the last point was taken, in Unix seconds."""

    ends: float
    series: list[SavedSeries]


class FleetHistory:
    """One per observer. Single-threaded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._zero = clock.wall() - clock.now()
        self._last = self.step() - 1
        self._series: dict[SeriesName, dict[Metric, array[int]]] = {}

    def step(self) -> int:
        """The number of the present step; it only rises."""
        return int((self._zero + self._clock.now()) // STEP)

    def next_step(self) -> float:
        """Seconds until the next step begins."""
        return STEP - (self._zero + self._clock.now()) % STEP

    @property
    def last(self) -> int:
        """The number of the newest point's step."""
        return self._last

    def ends(self) -> float:
        """When the newest point was taken, in Unix seconds."""
        return self._last * STEP + self._clock.wall() - (self._zero + self._clock.now())

    def add(self, values: Values) -> None:
        """The point of the present step. Steps without one since the last are gaps."""
        step = self.step()
        self._advance(step)
        for name, numbers in values.items():
            for metric, number in zip(METRICS[name[0]], numbers, strict=True):
                self._ring(name, metric)[step % POINTS] = encode(number)

    def catch_up(self) -> None:
        """Make gaps of the steps that are over without a point."""
        self._advance(self.step() - 1)

    def keep(self, controllers: Collection[str], clusters: Collection[str]) -> None:
        """Drop the series of all others."""
        named = {("controller", name) for name in controllers} | {("cluster", name) for name in clusters} | {FLEET_SERIES}
        self._series = {name: rings for name, rings in self._series.items() if name in named}

    def since(self, after: int) -> dict[SeriesName, dict[Metric, list[float | None]]]:
        """The points after step ``after``, at most the last hour's, of each series; the newest last."""
        steps = range(max(after, self._last - POINTS) + 1, self._last + 1)
        places = [step % POINTS for step in steps]
        return {
            name: {metric: [decode(ring[place]) for place in places] for metric, ring in rings.items()}
            for name, rings in self._series.items()
        }

    def dump(self, of_clusters: int = POINTS) -> SavedHistory:
        """What ``load`` takes, with only the newest ``of_clusters`` points of each cluster."""
        saved = []
        for (of, name), rings in self._series.items():
            count = of_clusters if of == "cluster" else POINTS
            places = [step % POINTS for step in range(self._last - count + 1, self._last + 1)]
            for metric, ring in rings.items():
                saved.append(SavedSeries(of, name, metric, struct.pack(f"<{count}H", *(ring[place] for place in places))))
        return SavedHistory(self.ends(), saved)

    def load(self, saved: SavedHistory) -> None:
        """Lay what was stored under the points that this process has. Raises ``ValueError`` where it can't be what ``dump`` made,
        and then changes nothing."""
        rings = [(self._named(each), _codes(each)) for each in saved.series]
        if not math.isfinite(saved.ends):
            raise ValueError(f"the history ends at {saved.ends}, which is no time")
        behind = max(0, math.floor((self.ends() - saved.ends) / STEP + 0.5))
        for (name, metric), codes in rings:
            ring = self._ring(name, metric)
            for back, code in enumerate(reversed(codes), start=behind):
                place = (self._last - back) % POINTS
                if back < POINTS and ring[place] == _GAP:
                    ring[place] = code

    def _named(self, saved: SavedSeries) -> tuple[SeriesName, Metric]:
        if saved.of not in METRICS or saved.metric not in METRICS[saved.of]:
            raise ValueError(f"the history has a series {saved.metric!r} of a {saved.of!r}, which this release does not know")
        return (saved.of, saved.name), Metric(saved.metric)

    def _ring(self, name: SeriesName, metric: Metric) -> "array[int]":
        rings = self._series.setdefault(name, {})
        ring = rings.get(metric)
        if ring is None:
            ring = rings[metric] = array("H", bytes(2 * POINTS))
        return ring

    def _advance(self, step: int) -> None:
        for between in range(max(self._last + 1, step - POINTS + 1), step + 1):
            for rings in self._series.values():
                for ring in rings.values():
                    ring[between % POINTS] = _GAP
        self._last = max(self._last, step)


def encode(value: float | None) -> int:
    """A value in two bytes: its logarithm. A gap for None and for what is no number."""
    if value is None or math.isnan(value):
        return _GAP
    if value < _LEAST:
        return _ZERO
    return min(_MOST, 2 + round(_SCALE * math.log2(min(value, 1e60) / _LEAST)))


def decode(code: int) -> float | None:
    """The value, rounded to four digits; None for a gap."""
    return _DECODED[code] if code < len(_DECODED) else _decoded(code)


def _decoded(code: int) -> float | None:
    if code <= _ZERO:
        return None if code == _GAP else 0.0
    return float(f"{_LEAST * 2.0 ** ((code - 2) / _SCALE):.4g}")


_DECODED = [_decoded(code) for code in range(12_000)]
"""Up to some 1e8."""


def _codes(saved: SavedSeries) -> tuple[int, ...]:
    if len(saved.codes) % 2 or len(saved.codes) > 2 * POINTS:
        raise ValueError(f"series {saved.metric!r} of {saved.of} {saved.name!r} has {len(saved.codes)} bytes")
    return struct.unpack(f"<{len(saved.codes) // 2}H", saved.codes)
