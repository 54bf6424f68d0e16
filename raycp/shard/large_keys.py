"""``LargeKeys``: keys that no worker can be given, for status and metrics.

Such a key stays an exception of the watermark and is tried again after its backoff, like any that fails; its object has a Warning
Event, and ``raycp why`` shows the reason.
"""

from collections import Counter
from collections.abc import Callable

from raycp.base.keys import RequestKey
from raycp.base.problems import FLEET, ProblemCode, ProblemOwner, Subject
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

    def problems(self, name_of: Callable[[RequestKey], str]) -> dict[Subject, str]:
        """For the fleet's status. ``name_of``: a key's object as ``raycp why`` takes it."""
        self._forget_deleted()
        code = ProblemCode.OBJECT_TOO_LARGE
        shown: dict[Subject, str] = {}
        for key, why in list(self.keys.items())[:SHOWN]:
            shown[code, ProblemOwner(object=name_of(key), controller=key.controller)] = why
        if len(self.keys) > SHOWN:
            shown[code, FLEET] = f"{len(self.keys) - SHOWN} further objects are too large"
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
