"""A list that is being read into a store."""

from collections.abc import Iterable

from raycp.base.objects import Obj
from raycp.cache.indexes import OBJECT_OVERHEAD, IndexedObjects, Key
from raycp.cache.own_writes import PendingWrites
from raycp.kube import UnreadableObject


class Replacement:
    """Collects the objects of a list. ``Store.begin_replacement`` makes it and ``Store.commit`` takes it; until then the store
    stays as it is, and goes on folding own writes.

    ``floor`` is the lowest version that a consistent list of the same cluster can have. ``void`` becomes True when the list shows
    that the cluster is another one, or an older state of it.
    """

    def __init__(self, known: IndexedObjects, own: PendingWrites, floor: int, *, void: bool) -> None:
        self._known = known
        self._own = own
        self._floor = floor
        self.contents = known.empty()
        self.void = void
        self.unreadable: list[UnreadableObject] = []
        self.hidden: dict[Key, Obj | None] = {}
        """Objects whose own writes may hide changes by others that the list shows -> as they were known before these writes."""

    def __len__(self) -> int:
        return len(self.contents.objects)

    @property
    def memory_bytes(self) -> int:
        """An estimate, objects of the present content included."""
        return self.contents.memory_bytes + OBJECT_OVERHEAD * len(self.unreadable)

    def add(self, objs: Iterable[Obj]) -> None:
        """Some objects of the list; of two with the same name the later one stays."""
        known, ahead, tombstones = self._known.objects, self._own.ahead, self._own.tombstones
        contents = self.contents
        for obj in objs:
            meta = obj.meta
            if tombstones and meta.uid in tombstones:
                continue
            key = (meta.namespace, meta.name)
            old = known.get(key)
            if old is not None:
                if old.rv > obj.rv > 0 and old.meta.uid == meta.uid and key not in ahead:
                    self.void = True
                elif old.rv == obj.rv and old.meta.uid == meta.uid and old.raw == obj.raw:
                    obj = old  # keep one copy in memory
            contents.put(key, obj, contents.objects.get(key))

    def leave_out(self, errors: Iterable[UnreadableObject]) -> None:
        """Objects of the list that cannot be read. The known state of one stays: that it exists is certain."""
        for error in errors:
            self.unreadable.append(error)
            if error.meta is not None:
                key = (error.meta.namespace, error.meta.name)
                old = self._known.objects.get(key)
                if old is not None and error.meta.uid in ("", old.meta.uid):
                    self.contents.put(key, old, self.contents.objects.get(key))

    def remove(self, obj: Obj) -> None:
        """It was deleted while the list was streamed."""
        key = (obj.meta.namespace, obj.meta.name)
        listed = self.contents.objects.get(key)
        if listed is not None and listed.meta.uid == obj.meta.uid:
            self.contents.drop(key, listed)

    def settle(self, list_rv: int) -> None:
        """The list is complete: judge its version, and keep the own writes that it is too old to contain."""
        self.contents.build_as(self._known)
        if list_rv < self._floor:
            self.void = True
        if self.void:
            return
        for key, ahead in self._own.ahead.items():
            ours, listed = self._known.objects[key], self.contents.objects.get(key)
            if ours.rv > list_rv:
                if listed is not None and ahead.skips(listed):
                    self.hidden[key], ahead.before = ahead.before, listed
                self.contents.put(key, ours, listed)
            elif listed is not None and listed.rv == ours.rv:
                self.hidden[key] = ahead.before  # or nothing is hidden: the list doesn't say how it came to this
