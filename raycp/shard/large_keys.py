"""``LargeKeys``: keys that no worker can be given, for status and metrics.

Such a key stays an exception of the watermark and is tried again after its backoff, like any that fails; its object has a Warning
Event, and ``raycp why`` shows the reason.
"""

from collections import Counter
from collections.abc import Callable

from raycp.base.keys import RequestKey
from raycp.base.tasks import Done
from raycp.metrics import HandoutMetrics

SHOWN = 20
"""Keys that a report names."""


class LargeKeys:
    """One shard's. ``exists``: whether a key's object is cached."""

    def __init__(self, exists: Callable[[RequestKey], bool], metrics: HandoutMetrics) -> None:
        self._exists = exists
        self._gauge = metrics.too_large
        self.keys: dict[RequestKey, str] = {}
        """With the reason. Read it; only this class writes it."""
        self._counted: set[tuple[str, str]] = set()

    def ended(self, done: Done) -> None:
        """A hand-out of one of these was acknowledged, or of one that belongs to them."""
        if done.too_large:
            self.keys[done.key] = done.error
        else:
            self.keys.pop(done.key, None)

    def problems(self) -> dict[str, str]:
        """By key, for the fleet's status."""
        self._forget_deleted()
        shown = {str(key): why for key, why in list(self.keys.items())[:SHOWN]}
        if len(self.keys) > SHOWN:
            shown["further objects that are too large"] = str(len(self.keys) - SHOWN)
        return shown

    def set_gauge(self) -> None:
        """Count them for the metrics."""
        self._forget_deleted()
        counts = Counter((key.controller, key.cluster) for key in self.keys)
        for labels in self._counted - set(counts):
            self._gauge.labels(*labels).set(0.0)
        for labels, count in counts.items():
            self._gauge.labels(*labels).set(float(count))
        self._counted |= set(counts)

    def _forget_deleted(self) -> None:
        for key in [key for key in self.keys if not self._exists(key)]:
            del self.keys[key]
