"""Ranges of sizes and of costs, which saturate at 2^64 - 1 (cel-go's ``SizeEstimate`` and ``CostEstimate``)."""

import math
from typing import NamedTuple

UNLIMITED = 2**64 - 1


class Range(NamedTuple):
    """From ``low`` to ``high``."""

    low: int
    high: int

    def plus(self, other: "Range") -> "Range":
        return Range(min(self.low + other.low, UNLIMITED), min(self.high + other.high, UNLIMITED))

    def times(self, other: "Range") -> "Range":
        return Range(min(self.low * other.low, UNLIMITED), min(self.high * other.high, UNLIMITED))

    def scaled(self, factor: float) -> "Range":
        """Times ``factor``, rounded up."""
        return Range(_scaled(self.low, factor), _scaled(self.high, factor))

    def union(self, other: "Range") -> "Range":
        return Range(min(self.low, other.low), max(self.high, other.high))


def _scaled(value: int, factor: float) -> int:
    return min(math.ceil(float(value) * factor), UNLIMITED)


def fixed(value: int) -> Range:
    return Range(value, value)


UNKNOWN = Range(0, UNLIMITED)
TRAVERSAL = 0.1
"""units for each character of a string that is read"""
PATTERN = 0.25
"""units for each character of a regular expression"""
