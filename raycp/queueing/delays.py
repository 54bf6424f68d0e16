"""The delayed keys, by the time at which they are due."""

import heapq
import math

from raycp.queueing.entry import Cell, Entry, KeyPlace

_DELAYED = KeyPlace.DELAYED


class DelayHeap:
    """A heap of delayed entries. A withdrawn entry leaves its place in the heap behind, which is void from then on.

    ``count``: delayed entries; those of each cell are counted here too.
    """

    __slots__ = ("count", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Entry]] = []
        self.count = 0

    def push(self, entry: Entry, cell: Cell, ready_at: float) -> bool:
        """Delay ``entry`` until ``ready_at``. Returns whether it is now the first that is due."""
        entry.state = _DELAYED
        entry.ready_at = ready_at
        entry.cell = cell
        cell.delayed += 1
        self.count += 1
        heap = self.heap
        heapq.heappush(heap, (ready_at, entry.id, entry))
        if len(heap) > 2 * self.count + 1_024:
            # Don't let void places outnumber the valid ones.
            heap[:] = [each for each in heap if each[2].state is _DELAYED and each[2].ready_at == each[0]]
            heapq.heapify(heap)
        return heap[0][2] is entry

    def withdraw(self, entry: Entry) -> None:
        """Take a delayed entry out."""
        assert entry.cell is not None
        entry.cell.delayed -= 1
        self.count -= 1
        entry.ready_at = -1.0

    def next_due(self) -> float:
        """When the first is due; infinity if none is delayed."""
        heap = self.heap
        while heap and (heap[0][2].state is not _DELAYED or heap[0][2].ready_at != heap[0][0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def pop_due(self, now: float) -> tuple[float, Entry] | None:
        """Take out the first entry that is due, with the time at which it was; None if none is."""
        due = self.next_due()
        if due > now:
            return None
        entry = heapq.heappop(self.heap)[2]
        self.withdraw(entry)
        return due, entry


def checked(delay: float) -> float:
    """``delay`` in seconds. Raises ``ValueError`` for a negative or undefined one."""
    if not 0.0 <= delay < math.inf:
        raise ValueError(f"a delay must be a number of seconds from 0, not {delay}")
    return delay
