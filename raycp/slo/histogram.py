"""Percentiles of latencies to 3 %, in a sparse map that merges and subtracts."""

import math
from collections.abc import Mapping

_GROWTH = 1.06
_LOG = math.log(_GROWTH)
_FLOOR = 1e-5
"""Seconds; everything below counts as this."""
_MAX = 400
"""Highest bucket: beyond 10**5 seconds."""


class LogHistogram:
    """Counts per bucket ``[floor·1.06^i, floor·1.06^(i+1))``: the geometric middle is at most 3 % off."""

    __slots__ = ("buckets", "sum")

    def __init__(self, buckets: Mapping[int, float] | None = None, sum: float = 0.0) -> None:
        self.buckets: dict[int, float] = dict(buckets or {})
        self.sum = sum

    def record(self, seconds: float, times: float = 1) -> None:
        at = 0 if seconds <= _FLOOR else min(_MAX, int(math.log(seconds / _FLOOR) / _LOG))
        self.buckets[at] = self.buckets.get(at, 0) + times
        self.sum += seconds * times

    @property
    def count(self) -> float:
        return math.fsum(self.buckets.values())

    def quantile(self, q: float) -> float | None:
        """The value below which a share ``q`` of all lies, in seconds; None when empty."""
        total = self.count
        if total <= 0:
            return None
        rank = max(q * total, 1e-12)
        running = 0.0
        for at in sorted(self.buckets):
            running += self.buckets[at]
            if running >= rank - 1e-9:
                return _FLOOR * math.exp((at + 0.5) * _LOG)
        return None

    def add(self, other: "LogHistogram", factor: float = 1.0) -> None:
        """Add ``factor`` times the other; buckets that become empty are removed."""
        for at, count in other.buckets.items():
            left = self.buckets.get(at, 0) + count * factor
            if left > 1e-9:
                self.buckets[at] = left
            else:
                self.buckets.pop(at, None)
        self.sum += other.sum * factor

    def minus(self, other: "LogHistogram") -> "LogHistogram":
        result = LogHistogram(self.buckets, self.sum)
        result.add(other, -1.0)
        return result

    def copy(self) -> "LogHistogram":
        return LogHistogram(self.buckets, self.sum)

    def summary(self) -> dict[str, float | None]:
        """``count, mean, p50, p90, p99, p999``, in seconds."""
        count = self.count
        quantiles = {name: self.quantile(q) for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))}
        return {"count": count, "mean": self.sum / count if count else None, **quantiles}
