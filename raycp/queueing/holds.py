"""Keys that must not be handed out yet, and why: a promotion that waits for an old hand-out (law 6g), a cache that waits for a
write (law 8)."""

import heapq
import math

from raycp.base.keys import RequestKey


class Holds:
    """A key is held as long as any reason holds it. A reason may have a deadline. ``by_key``: reasons and their deadlines."""

    __slots__ = ("_heap", "by_key")

    def __init__(self) -> None:
        self.by_key: dict[RequestKey, dict[str, float]] = {}
        self._heap: list[tuple[float, RequestKey, str]] = []

    def add(self, key: RequestKey, why: str, deadline: float) -> None:
        """Hold ``key`` for ``why`` until ``deadline`` (infinity: until released); the same reason again moves its deadline."""
        self.by_key.setdefault(key, {})[why] = deadline
        if deadline != math.inf:
            heapq.heappush(self._heap, (deadline, key, why))

    def remove(self, key: RequestKey, why: str | None) -> bool:
        """End one reason, or all of them (None). Returns whether this released the key."""
        reasons = self.by_key.get(key)
        if reasons is None:
            return False
        if why is None:
            reasons.clear()
        else:
            reasons.pop(why, None)
        if reasons:
            return False
        del self.by_key[key]
        return True

    def reasons(self, key: RequestKey) -> list[str]:
        """Why ``key`` is held."""
        return sorted(self.by_key.get(key, ()))

    def next_deadline(self) -> float:
        """When the next reason expires; infinity if none does."""
        heap = self._heap
        while heap and self.by_key.get(heap[0][1], {}).get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def expire(self, now: float) -> list[RequestKey]:
        """End all reasons whose deadline has come. Returns the keys that this released."""
        released: list[RequestKey] = []
        while self.next_deadline() <= now:
            _, key, why = heapq.heappop(self._heap)
            if self.remove(key, why):
                released.append(key)
        return released
