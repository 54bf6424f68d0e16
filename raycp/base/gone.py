"""Names that must not come back, the newest of them."""

from collections.abc import Iterable, Iterator

REMEMBERED = 1000
"""How many are kept: far more than processes can still be on their way to say something."""


class Gone:
    """A set of names in the order of their coming, of bounded size: the oldest leaves first."""

    def __init__(self, names: Iterable[str] = (), size: int = REMEMBERED) -> None:
        self._size = size
        self._names: dict[str, None] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """It is the newest now."""
        self._names.pop(name, None)
        self._names[name] = None
        if len(self._names) > self._size:
            del self._names[next(iter(self._names))]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        """Oldest first."""
        return iter(self._names)
