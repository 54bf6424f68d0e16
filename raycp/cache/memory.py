"""How much the caches of one cluster may take of this process (law 5: no cluster harms another)."""

from typing import Protocol

from raycp.kube.limits import too_large

CHECK_EVERY = 1 << 20
"""Bytes of a watch between two checks."""


class HasMemory(Protocol):
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
        self._parts: dict[HasMemory, HasMemory | None] = {}

    @property
    def held(self) -> int:
        """Bytes, an estimate."""
        return sum(
            max(store.memory_bytes, listed.memory_bytes if listed is not None else 0) for store, listed in self._parts.items()
        )

    def replace(self, store: HasMemory, listed: HasMemory | None) -> None:
        """``listed`` is to replace the content of ``store``; None: nothing is."""
        self._parts[store] = listed

    def drop(self, store: HasMemory) -> None:
        """It is not kept any longer."""
        self._parts.pop(store, None)

    def check(self) -> None:
        """Raises ``TooLarge`` if the cluster takes more than it may."""
        if self.held > self.limit:
            raise too_large("the objects of this cluster take", self.limit)
