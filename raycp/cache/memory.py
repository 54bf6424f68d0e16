"""How much the caches of one cluster may take of this process (law 5: no cluster harms another)."""

from typing import Protocol

from raycp.kube.limits import too_large

CHECK_EVERY = 1 << 20
"""Bytes by which a cache grows between two checks."""


class Measured(Protocol):
    """A store, or the list that is to replace its content."""

    @property
    def memory_bytes(self) -> int:
        """An estimate of its memory."""
        ...


class CacheMemory:
    """One cluster's, shared by the reflectors of its kinds. A list counts instead of the cache that it replaces, if it is larger:
    most of its objects are those of the cache. While a full cache is replaced by other objects, there are twice as many bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Bytes; the owner may change it."""
        self._parts: dict[Measured, Measured | None] = {}
        self._checked: dict[Measured, int] = {}
        """The size of each store when it was checked last."""

    @property
    def held(self) -> int:
        """Bytes, an estimate."""
        return sum(
            max(store.memory_bytes, listed.memory_bytes if listed is not None else 0) for store, listed in self._parts.items()
        )

    def replace(self, store: Measured, listed: Measured | None) -> None:
        """``listed`` is to replace the content of ``store``; None: nothing is."""
        self._parts[store] = listed

    def drop(self, store: Measured) -> None:
        """It is not kept any longer."""
        self._parts.pop(store, None)
        self._checked.pop(store, None)

    def check_growth(self, store: Measured) -> None:
        """``check``, where ``store`` has grown since the last time: for the path of every change."""
        size = store.memory_bytes
        if size > self._checked.get(store, 0) + CHECK_EVERY:
            self._checked[store] = size
            self.check()

    def check(self) -> None:
        """Raises ``TooLarge`` if the cluster takes more than it may."""
        if self.held > self.limit:
            raise too_large("the objects of this cluster take", self.limit)
