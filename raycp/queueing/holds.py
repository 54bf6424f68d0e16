"""Keys that must not be handed out yet, and why: a promotion that waits for old hands, a cache that waits for a
write."""

import heapq
import math

from raycp.base.keys import RequestKey


class Holds:
    """A key is held as long as any reason holds it. A reason may have a deadline."""

    __slots__ = ("_by_key", "_heap")

    def __init__(self) -> None:
        self._by_key: dict[RequestKey, dict[str, float]] = {}
        self._heap: list[tuple[float, RequestKey, str]] = []

    def __contains__(self, key: RequestKey) -> bool:
        return key in self._by_key

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, key: RequestKey, why: str, deadline: float) -> None:
        """Hold ``key`` for ``why`` until ``deadline`` (infinity: until released); the same reason again moves its
        deadline."""
        self._by_key.setdefault(key, {})[why] = deadline
        if deadline != math.inf:
            heapq.heappush(self._heap, (deadline, key, why))

    def remove(self, key: RequestKey, why: str | None) -> bool:
        """End one reason, or all of them (None). Returns whether this freed the key."""
        reasons = self._by_key.get(key)
        if reasons is None:
            return False
        if why is None:
            reasons.clear()
        else:
            reasons.pop(why, None)
        if reasons:
            return False
        del self._by_key[key]
        return True

    def reasons(self, key: RequestKey) -> list[str]:
        """Why ``key`` is held."""
        return sorted(self._by_key.get(key, ()))

    def next_deadline(self) -> float:
        """When the next reason may expire; infinity if none does."""
        return self._heap[0][0] if self._heap else math.inf

    def expire(self, now: float) -> list[RequestKey]:
        """End all reasons whose deadline has come. Returns the keys that this freed."""
        freed: list[RequestKey] = []
        while self._heap and self._heap[0][0] <= now:
            deadline, key, why = heapq.heappop(self._heap)
            if self._by_key.get(key, {}).get(why) == deadline and self.remove(key, why):
                freed.append(key)
        return freed
