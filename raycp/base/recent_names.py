"""A bounded set of the most recently added names."""

from collections.abc import Iterable, Iterator

CAPACITY = 1000
"""Default number of names: far more than there are dead processes whose last messages may still arrive."""


class RecentNames:
    """A set that holds the ``size`` names that were added last."""

    def __init__(self, names: Iterable[str] = (), size: int = CAPACITY) -> None:
        self._size = size
        self._names: dict[str, None] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Add ``name`` as the newest, and drop the oldest beyond ``size``."""
        self._names.pop(name, None)
        self._names[name] = None
        if len(self._names) > self._size:
            del self._names[next(iter(self._names))]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        """Oldest first."""
        return iter(self._names)
