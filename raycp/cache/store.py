"""The cache of one kind in one cluster, which never goes back (law 7).

Guarantees:

1. Per object, resource versions only move forward: an event at or below the known version is silent.
2. A list swaps the store first; then deletes are told, then adds and changes; unchanged objects are silent.
3. Another uid under the same name is told as DELETED, then ADDED.
4. An own write is folded in at once; the watch's event with that version, or a lower one, is silent. A deletion of ours
   leaves a tombstone, so that late events of that uid don't raise the dead.
5. A list whose version is below the last known, or that shows an object at a lower version than the watch or an
   earlier list had shown, means a restored cluster: the store is swapped whole, and ``voids`` rises (the watermark is
   void as well).

Assumption: within one kind of one cluster, resource versions are comparable integers (KEP-5504).
"""

from collections.abc import Callable, Iterable, Iterator

from raycp.base.events import Event, EventType, Source
from raycp.base.objects import Obj
from raycp.base.tasks import Written
from raycp.cache.indexes import BUILT_IN, Index, IndexFn, Key
from raycp.cache.selectors import Selector
from raycp.kube.codec import decode_object

_TOMBSTONE_SECONDS = 60.0
_OBJECT_OVERHEAD = 900  # bytes beside the raw JSON: Obj, Meta, strings, labels, key (measured)

SLICE = 32
"""Objects of a list or lines of a watch that are handled before others have their turn: about 1 ms. A change on its way passes the
loop several times, and waits for a slice each time."""


class Store:
    """See the module's guarantees. All methods are synchronous and quick; ``replacing`` is for large lists."""

    def __init__(self) -> None:
        self._objects: dict[Key, Obj] = {}
        self._functions: dict[str, IndexFn] = dict(BUILT_IN)
        self._indexes: dict[str, Index] = {}
        self._ahead: dict[Key, int] = {}  # folded versions that list or watch have not reached yet
        self._tombstones: dict[str, tuple[int, float]] = {}  # uid of a deletion of ours -> (version, when)
        self._replacement: Replacement | None = None
        self._waiters: list[tuple[int, Callable[[], None]]] = []
        self._raw_bytes = 0
        self.selector = Selector()
        """what the reflector asks for: an own write that does not match is not taken in"""
        self.partial = False
        """a field selector is in force, which can't be judged here: only known objects take in own writes"""
        self.rv = 0
        """the version up to which list and watch have told everything"""
        self.voids = 0
        """how often the cluster turned out to be another or a restored one"""

    # -- reading

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Obj]:
        return iter(list(self._objects.values()))

    @property
    def memory_bytes(self) -> int:
        """An estimate: raw JSON plus a measured overhead per object."""
        return self._raw_bytes + _OBJECT_OVERHEAD * len(self._objects)

    def get(self, namespace: str, name: str) -> Obj | None:
        return self._objects.get((namespace, name))

    def add_index(self, name: str, fn: IndexFn) -> None:
        """A user-defined index: ``fn`` gives the values of an object. Raises ``ValueError``: a name that is taken."""
        if name in self._functions:
            raise ValueError(f"index {name!r} exists already")
        self._functions[name] = fn

    def build_index(self, name: str) -> None:
        """Keep this index from now on, rather than from the first question on, which would have to wait for it. Raises
        ``KeyError`` for an unknown index."""
        self._index(name)

    def by_index(self, name: str, value: str) -> Iterable[Obj]:
        """The objects with ``value`` in the index; ``label`` takes ``key=value``. Raises ``KeyError`` for an unknown
        index.
        """
        objects = self._objects
        return [objects[key] for key in self._index(name).keys(value)]

    def select(self, namespace: str | None = None, label_selector: str | Selector = "") -> Iterable[Obj]:
        """The objects of a namespace (all where it is empty) that match. Raises ``ValueError`` for a bad selector."""
        selector = Selector.parse(label_selector) if isinstance(label_selector, str) else label_selector
        found: Iterable[Obj]
        equal = selector.equality()
        if equal is not None:
            found = self.by_index("label", "=".join(equal))
        elif namespace:
            found = self.by_index("namespace", namespace)
        else:
            found = list(self._objects.values())
        if namespace:
            found = (obj for obj in found if obj.meta.namespace == namespace)
        if selector.requirements:
            found = (obj for obj in found if selector.matches(obj.meta.labels))
        return list(found)

    def reached(self, namespace: str, name: str, uid: str, rv: int) -> bool:
        """Whether the cache knows of that write: the object at that version or later, its successor, or its end."""
        obj = self._objects.get((namespace, name))
        if obj is not None and obj.rv >= rv:
            return True
        return self.rv >= rv or uid in self._tombstones

    def when_reached(self, rv: int, call: Callable[[], None]) -> None:
        """Call once list and watch have reached ``rv``."""
        if self.rv >= rv:
            call()
        else:
            self._waiters.append((rv, call))

    # -- changing

    def apply(self, kind: str, obj: Obj, source: Source, now: float) -> list[Event]:
        """Take in one watch event (``ADDED``, ``MODIFIED``, ``DELETED``, ``BOOKMARK``); the events to tell, none if
        it is old.
        """
        rv = obj.rv
        if kind == "BOOKMARK":
            self.advance(rv)
            return []
        meta = obj.meta
        key = (meta.namespace, meta.name)
        old = self._objects.get(key)
        events: list[Event] = []
        if kind == "DELETED":
            self._tombstones.pop(meta.uid, None)
            # The same uid can't come back: its end is the end, even where the server reports an older version.
            if old is not None and (old.meta.uid == meta.uid or rv > old.rv):
                last = obj if old.meta.uid == meta.uid else old
                self._drop(key, old)
                events.append(Event(EventType.DELETED, source, last, None, now))
        elif old is None:
            if meta.uid not in self._tombstones:
                self._put(key, obj, None)
                events.append(Event(EventType.ADDED, source, None, obj, now))
        elif rv > old.rv:
            if old.meta.uid == meta.uid:
                self._put(key, obj, old)
                events.append(Event(EventType.MODIFIED, source, old, obj, now))
            elif meta.uid not in self._tombstones:
                self._drop(key, old)
                self._put(key, obj, None)
                events.append(Event(EventType.DELETED, source, old, None, now))
                events.append(Event(EventType.ADDED, source, None, obj, now))
        if source is Source.WATCH:
            self.advance(rv)
        return events

    def fold(self, written: Written, now: float) -> list[Event]:
        """Take in the answer of a write of ours (law 8); the events to tell, marked OWN_WRITE."""
        key = (written.namespace, written.name)
        early: list[Event] = []
        if self._replacement is not None:
            early = self._replacement.tell_early(key, now)
        if written.deleted:
            old = self._objects.get(key)
            if old is None or old.meta.uid != written.uid:
                return early
            self._drop(key, old)
            self._tombstones[written.uid] = (written.rv, now)
            return [*early, Event(EventType.DELETED, Source.OWN_WRITE, old, None, now)]
        if written.raw is None:
            return early
        obj = decode_object(written.raw)
        if key not in self._objects and self.partial:
            return early
        if not self.selector.matches(obj.meta.labels):
            old = self._objects.get(key)
            if old is None or old.rv >= obj.rv:
                return early
            self._drop(key, old)
            return [*early, Event(EventType.DELETED, Source.OWN_WRITE, obj, None, now)]
        if obj.rv <= self.rv and key not in self._objects:
            return early  # the watch is past it and shows nothing: deleted meanwhile
        events = self.apply("MODIFIED", obj, Source.OWN_WRITE, now)
        if events and obj.rv > self.rv:
            self._ahead[key] = obj.rv
        return [*early, *events]

    def advance(self, rv: int) -> None:
        """List or watch have told everything up to ``rv``."""
        if rv <= self.rv:
            return
        self.rv = rv
        if self._ahead:
            self._ahead = {key: ahead for key, ahead in self._ahead.items() if ahead > rv}
        if self._waiters:
            due = [call for wanted, call in self._waiters if wanted <= rv]
            self._waiters = [(wanted, call) for wanted, call in self._waiters if wanted > rv]
            for call in due:
                call()

    def replace(self, objs: Iterable[Obj], list_rv: int, source: Source, now: float, *, void: bool = False) -> list[Event]:
        """Swap for the content of a list at ``list_rv``; all events at once. ``void``: it is known to be another
        cluster.
        """
        replacement = self.replacing(void=void)
        replacement._floor = self.rv  # when the list was asked for is unknown here: own writes may be younger
        replacement.add(objs)
        return [event for events in replacement.commit(list_rv, source, now) for event in events]

    def replacing(self, *, void: bool = False) -> "Replacement":
        """The same in slices: call this before asking for the list, ``add`` as pages arrive, then ``commit``."""
        return Replacement(self, void=void)

    # -- inside

    def _index(self, name: str) -> Index:
        index = self._indexes.get(name)
        if index is None:
            index = Index(self._functions[name])
            for key, obj in self._objects.items():
                index.add(key, obj)
            self._indexes[name] = index
        return index

    def _put(self, key: Key, obj: Obj, old: Obj | None) -> None:
        for index in self._indexes.values():
            if old is not None:
                index.change(key, old, obj)
            else:
                index.add(key, obj)
        self._raw_bytes += len(obj.raw) - (len(old.raw) if old is not None else 0)
        self._objects[key] = obj

    def _drop(self, key: Key, old: Obj) -> None:
        for index in self._indexes.values():
            index.remove(key, old)
        self._raw_bytes -= len(old.raw)
        del self._objects[key]
        self._ahead.pop(key, None)


class Replacement:
    """A list on its way into a ``Store``. Until ``commit`` the store is as it was, and goes on taking in own writes.

    ``commit`` swaps at once and gives the events in slices, so that a large list holds up nobody else; take all of them
    before the next watch event is applied.
    """

    def __init__(self, store: Store, *, void: bool) -> None:
        self._store = store
        self._void = void
        # A consistent list that is asked for after a write was answered can't be older than that write.
        self._floor = max(store.rv, *store._ahead.values(), 0)
        self._objects: dict[Key, Obj] = {}
        self._indexes = {name: index.clone_empty() for name, index in store._indexes.items()}
        self._raw_bytes = 0
        self._old: dict[Key, Obj] = {}
        self._untold: dict[Key, Obj] = {}
        self._source = Source.RELIST

    def add(self, objs: Iterable[Obj]) -> None:
        """Some objects of the list; a later one of the same name stands."""
        known, ahead, tombstones = self._store._objects, self._store._ahead, self._store._tombstones
        for obj in objs:
            meta = obj.meta
            if tombstones and meta.uid in tombstones:
                continue
            key = (meta.namespace, meta.name)
            old = known.get(key)
            if old is not None:
                if old.rv > obj.rv and old.meta.uid == meta.uid and key not in ahead:
                    self._void = True
                elif old.rv == obj.rv and old.meta.uid == meta.uid and old.raw == obj.raw:
                    obj = old  # keeps one copy in memory
            self._raw_bytes += len(obj.raw)
            self._objects[key] = obj
            for index in self._indexes.values():
                index.add(key, obj)

    def commit(self, list_rv: int, source: Source, now: float) -> Iterator[list[Event]]:
        """Swap; the events in slices: deletes first, then adds and changes."""
        store = self._store
        if list_rv < self._floor:
            self._void = True
        if self._void:
            store.voids += 1
            store._ahead.clear()
            store._tombstones.clear()
        else:
            for key in store._ahead:  # own writes that the list is too old to know
                ours = store._objects[key]
                if ours.rv > list_rv:
                    self._carry(key, ours)
        store._tombstones = {
            uid: (rv, when)
            for uid, (rv, when) in store._tombstones.items()
            if (rv == 0 or rv > list_rv) and now - when < _TOMBSTONE_SECONDS
        }
        for name, index in store._indexes.items():
            if name not in self._indexes:  # built while the list was under way
                fresh = self._indexes[name] = index.clone_empty()
                for key, obj in self._objects.items():
                    fresh.add(key, obj)
        self._old, self._source = store._objects, source
        self._untold = dict(self._objects)
        store._objects, store._indexes, store._raw_bytes = self._objects, self._indexes, self._raw_bytes
        store._replacement = self
        if self._void:
            store.rv = 0
        store.advance(list_rv)
        return self._tell(now)

    def tell_early(self, key: Key, now: float) -> list[Event]:
        """What is still to be told of ``key``, because an own write of it is about to be."""
        return self._pair(key, now, deletes=True) + self._pair(key, now, deletes=False)

    def _carry(self, key: Key, ours: Obj) -> None:
        listed = self._objects.get(key)
        if listed is not None:
            self._raw_bytes -= len(listed.raw)
            for index in self._indexes.values():
                index.remove(key, listed)
        self._raw_bytes += len(ours.raw)
        self._objects[key] = ours
        for index in self._indexes.values():
            index.add(key, ours)

    def _tell(self, now: float) -> Iterator[list[Event]]:
        for deletes, keys in ((True, list(self._old)), (False, list(self._untold))):
            for start in range(0, len(keys), SLICE):
                events: list[Event] = []
                for key in keys[start : start + SLICE]:
                    events += self._pair(key, now, deletes=deletes)
                yield events
        self._old = {}
        if self._store._replacement is self:
            self._store._replacement = None

    def _pair(self, key: Key, now: float, *, deletes: bool) -> list[Event]:
        old, new = self._old.get(key), self._untold.get(key)
        if deletes:
            if old is not None and (new is None or new.meta.uid != old.meta.uid):
                del self._old[key]
                return [Event(EventType.DELETED, self._source, old, None, now)]
            return []
        if new is None:
            return []
        del self._untold[key]
        if old is None:
            return [Event(EventType.ADDED, self._source, None, new, now)]
        del self._old[key]
        if old.rv == new.rv and (not self._void or old.version == new.version):
            return []
        return [Event(EventType.MODIFIED, self._source, old, new, now)]
