"""``IndexSet``: a set of indexes as ``batch/v1`` Job writes them, ``"0-3,7"``. Held as intervals, never expanded: the text of a
status may name thousands of millions."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

FORM = r"^(\d{1,10}(-\d{1,10})?(,\d{1,10}(-\d{1,10})?)*)?$"
"""Of a text that a user may write. In the regular language of CEL too."""

_INTERVAL = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", re.ASCII)


class IndexSet:
    """Disjoint intervals in order, none next to another."""

    __slots__ = ("_firsts", "_lasts", "_size")

    def __init__(self, indexes: Iterable[int] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._size = 0
        for index in sorted(indexes):
            self._append(index, index)

    @classmethod
    def read(cls, text: str, below: int) -> "IndexSet":
        """What ``text`` says of indexes below ``below``. Fragments that are no interval are left out, as the Job controller does: a
        status that somebody has damaged must not stop its job."""
        pairs: list[tuple[int, int]] = []
        for part in text.split(",") if text else ():
            found = _INTERVAL.fullmatch(part.strip())
            if found is not None:
                first, last = int(found[1]), int(found[2] or found[1])
                if first <= last and first < below:
                    pairs.append((first, min(last, below - 1)))
        made = cls()
        for first, last in sorted(pairs):
            made._append(first, last)
        return made

    def _append(self, first: int, last: int) -> None:
        """Add an interval that starts no earlier than the last one."""
        if self._lasts and first <= self._lasts[-1] + 1:
            gained = max(0, last - self._lasts[-1])
            self._lasts[-1] += gained
            self._size += gained
        else:
            self._firsts.append(first)
            self._lasts.append(last)
            self._size += last - first + 1

    def add(self, index: int) -> None:
        """Add one."""
        at = bisect_right(self._firsts, index)
        if at and index <= self._lasts[at - 1]:
            return
        before = at > 0 and self._lasts[at - 1] == index - 1
        after = at < len(self._firsts) and self._firsts[at] == index + 1
        if before and after:
            self._lasts[at - 1] = self._lasts.pop(at)
            del self._firsts[at]
        elif before:
            self._lasts[at - 1] = index
        elif after:
            self._firsts[at] = index
        else:
            self._firsts.insert(at, index)
            self._lasts.insert(at, index)
        self._size += 1

    def __contains__(self, index: int) -> bool:
        at = bisect_right(self._firsts, index)
        return at > 0 and index <= self._lasts[at - 1]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        for first, last in zip(self._firsts, self._lasts, strict=True):
            yield from range(first, last + 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IndexSet) and (self._firsts, self._lasts) == (other._firsts, other._lasts)

    def __str__(self) -> str:
        """In order, three or more in a row as an interval (``JobStatus.completedIndexes`` of the API reference)."""
        pairs = zip(self._firsts, self._lasts, strict=True)
        return ",".join(
            str(first) if first == last else f"{first},{last}" if last == first + 1 else f"{first}-{last}" for first, last in pairs
        )

    def below(self, size: int) -> "IndexSet":
        """Those below ``size``."""
        if not self._lasts or self._lasts[-1] < size:
            return self
        made = IndexSet()
        for first, last in zip(self._firsts, self._lasts, strict=True):
            if first < size:
                made._append(first, min(last, size - 1))
        return made

    def union(self, other: "IndexSet") -> "IndexSet":
        """Those of both."""
        if not other._size:
            return self
        made = IndexSet()
        pairs = [*zip(self._firsts, self._lasts, strict=True), *zip(other._firsts, other._lasts, strict=True)]
        for first, last in sorted(pairs):
            made._append(first, last)
        return made

    def missing(self, size: int) -> Iterator[int]:
        """The indexes below ``size`` that are not in it, in order."""
        start = 0
        for first, last in zip(self._firsts, self._lasts, strict=True):
            yield from range(start, min(first, size))
            start = last + 1
        yield from range(start, size)

    def common(self, other: "IndexSet") -> int:
        """How many indexes both have."""
        mine, others, count = 0, 0, 0
        while mine < len(self._firsts) and others < len(other._firsts):
            first = max(self._firsts[mine], other._firsts[others])
            last = min(self._lasts[mine], other._lasts[others])
            count += max(0, last - first + 1)
            if self._lasts[mine] < other._lasts[others]:
                mine += 1
            else:
                others += 1
        return count


def problem_of(text: str, completions: int) -> str:
    """What is wrong with the indexes that a user has written, in the words of the Job's validation; empty where nothing is."""
    previous: int | None = None
    for part in text.split(",") if text else ():
        limits = part.split("-")
        if len(limits) > 2:
            return f'the fragment "{part}" violates the requirement that an index interval can have at most two parts'
        for limit in limits:
            if not re.fullmatch("[0-9]{1,10}", limit, re.ASCII):
                return f'cannot convert string to integer for index: "{limit}"'
            index = int(limit)
            if index >= completions:
                return f'too large index: "{limit}"'
            if previous is not None and previous >= index:
                return f"non-increasing order, previous: {previous}, current: {index}"
            previous = index
    return ""
