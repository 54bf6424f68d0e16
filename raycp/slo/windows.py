"""Sliding windows of counts, in fixed memory for any traffic.

A ``SlotRing`` divides its span into slots. The oldest slot, which is partly outside the span, counts by the part inside, so
that a window's sum is exact for even traffic and never off by more than one slot. Callers pass times in seconds, which
never decrease.
"""

from collections.abc import Mapping
from typing import Any

from raycp.slo.histogram import LogHistogram

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

SPANS: dict[str, tuple[float, int]] = {
    "instant": (10.0, 10),
    "5m": (5 * MINUTE, 60),
    "30m": (30 * MINUTE, 60),
    "1h": (HOUR, 60),
    "2h": (2 * HOUR, 60),
    "6h": (6 * HOUR, 72),
    "1d": (DAY, 72),
    "3d": (3 * DAY, 72),
    "30d": (30 * DAY, 120),
}
"""Name → span in seconds, slots. The reports show instant, 5m, 1h, 6h, 3d and 30d; burn alerts also need the others."""


class SlotRing:
    """Pairs (total, bad) over the last ``span`` seconds."""

    __slots__ = ("_bad", "_last", "_slots", "_step", "_total", "span")

    def __init__(self, span: float, slots: int) -> None:
        self.span = span
        self._step = span / slots
        self._slots = slots + 1  # one more, since the oldest is partly outside the span
        self._total = [0.0] * self._slots
        self._bad = [0.0] * self._slots
        self._last = -1

    def add(self, now: float, total: float, bad: float) -> None:
        at = self._turn(now) % self._slots
        self._total[at] += total
        self._bad[at] += bad

    def sum(self, now: float) -> tuple[float, float]:
        """(total, bad) within the span that ends at ``now``."""
        last = self._turn(now)
        oldest = (last + 1) % self._slots
        # the current slot covers now - last*step; the oldest has as much outside the span
        inside = 1.0 - min(1.0, max(0.0, now / self._step - last))
        total = sum(self._total) - self._total[oldest] * (1 - inside)
        bad = sum(self._bad) - self._bad[oldest] * (1 - inside)
        return total, bad

    def series(self, now: float) -> list[tuple[float, float, float]]:
        """(start of the slot, total, bad), oldest first."""
        last = self._turn(now)
        return [
            (i * self._step, self._total[i % self._slots], self._bad[i % self._slots])
            for i in range(last - self._slots + 1, last + 1)
        ]

    def _turn(self, now: float) -> int:
        at = int(now // self._step)
        if self._last < 0 or at - self._last >= self._slots:
            self._total = [0.0] * self._slots
            self._bad = [0.0] * self._slots
            self._last = at
        while self._last < at:
            self._last += 1
            self._total[self._last % self._slots] = self._bad[self._last % self._slots] = 0.0
        return self._last

    def dump(self) -> list[Any]:
        """Compact JSON-able form: the last slot's number, then (slots back, total, bad) of the slots that are not empty."""
        rows = [
            [back, _short(self._total[i]), _short(self._bad[i])]
            for back in range(self._slots)
            if self._total[i := (self._last - back) % self._slots] or self._bad[i]
        ]
        return [self._last, rows]

    def load(self, dumped: list[Any]) -> None:
        last, rows = dumped
        self._last = int(last)
        self._total = [0.0] * self._slots
        self._bad = [0.0] * self._slots
        for back, total, bad in rows:
            if back < self._slots:
                i = (self._last - int(back)) % self._slots
                self._total[i], self._bad[i] = float(total), float(bad)


class Windows:
    """All windows of one objective."""

    def __init__(self, extra: Mapping[str, tuple[float, int]] | None = None) -> None:
        self.rings = {name: SlotRing(span, slots) for name, (span, slots) in {**SPANS, **(extra or {})}.items()}

    def add(self, now: float, total: float, bad: float) -> None:
        if total or bad:
            for ring in self.rings.values():
                ring.add(now, total, bad)

    def sum(self, name: str, now: float) -> tuple[float, float]:
        return self.rings[name].sum(now)

    def dump(self) -> dict[str, Any]:
        return {name: ring.dump() for name, ring in self.rings.items()}

    def load(self, dumped: Mapping[str, Any]) -> None:
        for name, ring in self.rings.items():
            if name in dumped:
                ring.load(dumped[name])


class LatencyWindow:
    """A ``LogHistogram`` over the last ``span`` seconds, accurate to one slot."""

    def __init__(self, span: float, slots: int) -> None:
        self._step = span / slots
        self._slots = slots
        self._rings: dict[int, LogHistogram] = {}

    def add(self, now: float, latencies: LogHistogram) -> None:
        at = int(now // self._step)
        self._expire(at)
        self._rings.setdefault(at, LogHistogram()).add(latencies)

    def total(self, now: float) -> LogHistogram:
        self._expire(int(now // self._step))
        result = LogHistogram()
        for part in self._rings.values():
            result.add(part)
        return result

    def _expire(self, at: int) -> None:
        for old in [i for i in self._rings if i <= at - self._slots]:
            del self._rings[old]


def _short(value: float) -> float:
    return int(value) if value == int(value) else round(value, 6)
