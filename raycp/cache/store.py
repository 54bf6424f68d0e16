"""The cache of one kind in one cluster, which never goes back (law 7).

Guarantees:

1. Per object, resource versions only move forward: an event at or below the known version is ignored.
2. A list is swapped in first; then deletions are emitted, then additions and changes; unchanged objects emit nothing.
3. Another uid under the same name is emitted as DELETED, then ADDED.
4. An own write is folded in at once; the watch's event with that version, or a lower one, is ignored. An own deletion leaves a
   tombstone, so that late events of that uid do not restore the object.
5. A list whose version is below the last known one, or that shows an object at a lower version than the watch or an earlier list,
   means a restored cluster: the store is swapped as a whole, and ``voids`` is incremented (the watermark is void as well).

Within one kind of one cluster, resource versions are comparable integers (KEP-5504). Of one that is not (``Obj.rv`` is 0) only
equality counts: an event with another version than the known one is newer, and the kind has no ``rv``.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from raycp.base.events import Event, EventType, Source
from raycp.base.objects import Obj, same_version
from raycp.base.tasks import Written
from raycp.cache.difference import Difference
from raycp.cache.indexes import IndexedObjects, IndexFn, Key
from raycp.cache.own_writes import PendingWrites, overtaken
from raycp.cache.replacement import Replacement
from raycp.cache.selectors import Selector
from raycp.kube import UnreadableObject
from raycp.kube.codec import decode_object


class Store:
    """See the module's guarantees. All methods are synchronous and fast; ``begin_replacement`` is for large lists."""

    def __init__(self) -> None:
        self._contents = IndexedObjects()
        self._own = PendingWrites()
        self._difference: Difference | None = None
        self.selector = Selector()
        """the reflector's label selector: an own write that does not match it is left out"""
        self.partial = False
        """a field selector is in force, which cannot be evaluated here: own writes are folded into known objects only"""
        self.rv = 0
        """the version up to which list and watch have reported everything"""
        self.voids = 0
        """how often the cluster turned out to be another or a restored one"""

    # -- reading

    def __len__(self) -> int:
        return len(self._contents.objects)

    def __iter__(self) -> Iterator[Obj]:
        return iter(list(self._contents.objects.values()))

    @property
    def memory_bytes(self) -> int:
        """An estimate: raw JSON plus a measured overhead per object."""
        return self._contents.memory_bytes

    @property
    def emitting(self) -> bool:
        """Events of a committed list are still to be taken from ``commit``."""
        return self._difference is not None

    def get(self, namespace: str, name: str) -> Obj | None:
        return self._contents.objects.get((namespace, name))

    def add_index(self, name: str, fn: IndexFn) -> None:
        """A user-defined index: ``fn`` returns the values of an object. Raises ``ValueError`` for a name that is taken."""
        self._contents.define(name, fn)

    def redefine_index(self, name: str, fn: IndexFn) -> None:
        """A user-defined index whose function may change: one that is built is built anew."""
        self._contents.redefine(name, fn)

    def build_index(self, name: str) -> None:
        """Build an index now, so that the first query does not wait for it. Raises ``KeyError`` for an unknown index."""
        self._contents.index(name)

    @property
    def built_indexes(self) -> frozenset[str]:
        """Names of the indexes that are built and kept up to date."""
        return self._contents.built

    def by_index(self, name: str, value: str, most: int | None = None) -> Iterable[Obj]:
        """The objects with ``value`` in the index, or ``most`` of them; ``label`` takes ``key=value``. Raises ``KeyError`` for an
        unknown index."""
        objects = self._contents.objects
        return [objects[key] for key in islice(self._contents.index(name).keys(value), most)]

    def groups(self, name: str) -> list[tuple[str, Obj, int]]:
        """Each value of an index with one of its objects, and how many it has. Raises ``KeyError`` for an unknown index."""
        objects = self._contents.objects
        return [(value, objects[key], count) for value, key, count in self._contents.index(name).groups()]

    def select(self, namespace: str | None = None, label_selector: str | Selector = "") -> Iterable[Obj]:
        """The matching objects of a namespace, of all namespaces if it is empty. Raises ``ValueError`` for a bad selector."""
        selector = Selector.parse(label_selector) if isinstance(label_selector, str) else label_selector
        found: Iterable[Obj]
        equal = selector.equality()
        if equal is not None:
            found = self.by_index("label", "=".join(equal))
        elif namespace:
            found = self.by_index("namespace", namespace)
        else:
            found = list(self._contents.objects.values())
        if namespace:
            found = (obj for obj in found if obj.meta.namespace == namespace)
        if selector.requirements:
            found = (obj for obj in found if selector.matches(obj.meta.labels))
        return list(found)

    def reached(self, namespace: str, name: str, uid: str, rv: int) -> bool:
        """Whether the cache contains that write: the object at that version or later, its successor, or its deletion. With a
        version that can't be compared (0): the object at any version."""
        obj = self._contents.objects.get((namespace, name))
        if not rv:
            return (obj is not None and obj.meta.uid == uid) or uid in self._own.tombstones
        if obj is not None and obj.rv >= rv:
            return True
        return self.rv >= rv or uid in self._own.tombstones

    # -- changing

    def apply(self, kind: str, obj: Obj, source: Source, now: float) -> list[Event]:
        """Apply a watch event (``ADDED``, ``MODIFIED``, ``DELETED``, ``BOOKMARK``). Returns the events to emit, none for an old
        one.
        """
        rv = obj.rv
        if source is Source.WATCH:
            self.advance(rv)
        if kind == "BOOKMARK":
            return []
        meta = obj.meta
        key = (meta.namespace, meta.name)
        contents, tombstones = self._contents, self._own.tombstones
        old = contents.objects.get(key)
        events: list[Event] = []
        if kind == "DELETED":
            tombstones.pop(meta.uid, None)
            # A uid never comes back, so a deletion counts even at an older version.
            if old is not None and (old.meta.uid == meta.uid or rv > old.rv):
                last = obj if old.meta.uid == meta.uid and obj.version else old  # version 0: only its metadata could be read
                self._drop(key, old)
                events.append(Event(EventType.DELETED, source, last, None, now))
        elif old is None:
            if meta.uid not in tombstones:
                if contents.indexed:
                    contents.put(key, obj, None)
                else:  # the common case, without a call: this is the path of every change
                    contents.objects[key] = obj
                    contents.raw_bytes += len(obj.raw)
                events.append(Event(EventType.ADDED, source, None, obj, now))
        elif rv > old.rv or ((not rv or not old.rv) and not same_version(obj, old)):
            if old.meta.uid == meta.uid:
                contents.put(key, obj, old)
                events.append(Event(EventType.MODIFIED, source, old, obj, now))
            elif meta.uid not in tombstones:
                self._drop(key, old)
                contents.put(key, obj, None)
                events.append(Event(EventType.DELETED, source, old, None, now))
                events.append(Event(EventType.ADDED, source, None, obj, now))
        elif source is Source.WATCH and (ahead := self._own.ahead.get(key)) is not None and ahead.overtakes(obj):
            before, ahead.before = ahead.before, obj
            events.append(overtaken(before, old, now))
        return events

    def fold(self, written: Written, now: float) -> list[Event]:
        """Apply the answer to an own write (law 8). Returns the events to emit, with source OWN_WRITE."""
        key = (written.namespace, written.name)
        early: list[Event] = []
        if self._difference is not None:
            early = self._difference.early(key, now)
        if written.deleted:
            old = self._contents.objects.get(key)
            if old is None or old.meta.uid != written.uid:
                return early
            self._drop(key, old)
            self._own.tombstones[written.uid] = (written.rv, now)
            return [*early, Event(EventType.DELETED, Source.OWN_WRITE, old, None, now)]
        if written.raw is None:
            return early
        try:
            obj = decode_object(written.raw)
        except UnreadableObject:  # its watch event says so
            return early
        if key not in self._contents.objects and self.partial:
            return early
        if not self.selector.matches(obj.meta.labels):
            old = self._contents.objects.get(key)
            if old is None or old.rv >= obj.rv:
                return early
            self._drop(key, old)
            return [*early, Event(EventType.DELETED, Source.OWN_WRITE, obj, None, now)]
        if obj.rv <= self.rv and key not in self._contents.objects:
            return early  # the watch is past this version and the object is not there: deleted meanwhile
        before = self._contents.objects.get(key)
        events = self.apply("MODIFIED", obj, Source.OWN_WRITE, now)
        if obj.rv > self.rv and (events or key in self._own.ahead):
            self._own.folded(key, before, obj.rv)
        return [*early, *events]

    def advance(self, rv: int) -> None:
        """List or watch have reported everything up to ``rv``."""
        if rv <= self.rv:
            return
        self.rv = rv
        if self._own.ahead:
            self._own.reached(rv)

    def replace(self, objs: Iterable[Obj], list_rv: int, source: Source, now: float, *, void: bool = False) -> list[Event]:
        """Swap in the content of a list at ``list_rv`` and return all events at once. ``void``: the list is known to be of
        another cluster.
        """
        # When the list was requested is unknown here, so own writes may be younger: the floor leaves them out.
        replacement = Replacement(self._contents, self._own, self.rv, void=void)
        replacement.add(objs)
        return [event for events in self.commit(replacement, list_rv, source, now) for event in events]

    def begin_replacement(self, *, void: bool = False) -> Replacement:
        """The same in slices: call this before requesting the list, ``add`` as pages arrive, then ``commit``."""
        # A consistent list that is requested after a write was answered cannot be older than that write.
        floor = max(self.rv, *(ahead.version for ahead in self._own.ahead.values()), 0)
        return Replacement(self._contents, self._own, floor, void=void)

    def commit(self, replacement: Replacement, list_rv: int, source: Source, now: float) -> Iterator[list[Event]]:
        """Swap in ``replacement`` at once; the events follow in slices, so that a large list does not block other tasks. Take all
        of them before the next watch event is applied.
        """
        replacement.settle(list_rv)
        if replacement.void:
            self.voids += 1
            self._own.clear()
            self.rv = 0
        self._own.listed(list_rv, now)
        before, self._contents = self._contents, replacement.contents
        difference = Difference(before.objects, self._contents.objects, source, by_content=replacement.void)
        self._difference = difference
        self.advance(list_rv)
        return self._emit(difference, replacement.hidden, now)

    # -- inside

    def _emit(self, difference: Difference, hidden: Mapping[Key, Obj | None], now: float) -> Iterator[list[Event]]:
        yield from difference.slices(now)
        if hidden:
            now_known = self._contents.objects
            yield [overtaken(before, now_known[key], now) for key, before in hidden.items() if key in now_known]
        if self._difference is difference:
            self._difference = None

    def _drop(self, key: Key, old: Obj) -> None:
        self._contents.drop(key, old)
        self._own.ahead.pop(key, None)
