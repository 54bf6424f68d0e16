"""``KeyedBudgets``: how often something may happen, by what it is about."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class KeyedBudgets(Generic[K]):
    """A token bucket for each key: ``burst`` at once, then ``per_second``. At most ``known`` keys are remembered, those that were
    asked for last; a key that was forgotten has a full bucket."""

    def __init__(self, burst: int, per_second: float, known: int) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._most = known
        self._known: OrderedDict[K, tuple[float, float]] = OrderedDict()

    def take(self, key: K, now: float) -> bool:
        """Whether ``key`` may once more, at ``now``, in seconds of the caller's clock."""
        tokens, at = self._known.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - at) * self._per_second)
        taken = tokens >= 1.0
        self._known[key] = (tokens - 1.0 if taken else tokens, now)
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return taken
