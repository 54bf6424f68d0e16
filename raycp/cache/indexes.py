"""Objects by key, with secondary indexes from a value to the keys of the objects that have it.

An index costs nothing until it is first queried; it is built then and kept up to date. A value with a single object (most owner
uids, many labels) holds the key itself instead of a set.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from raycp.base.objects import Obj

log = logging.getLogger("raycp.cache")

Key = tuple[str, str]
"""(namespace, name); the namespace is empty for cluster-scoped kinds"""
IndexFn = Callable[[Obj], Iterable[str]]


def by_namespace(obj: Obj) -> Iterable[str]:
    return (obj.meta.namespace,)


def by_owner(obj: Obj) -> Iterable[str]:
    """The uids in ownerReferences."""
    return [owner.uid for owner in obj.meta.owner_references or ()]


def by_label(obj: Obj) -> Iterable[str]:
    """``key=value`` of each label."""
    return [f"{key}={value}" for key, value in (obj.meta.labels or {}).items()]


BUILT_IN: Mapping[str, IndexFn] = {"namespace": by_namespace, "owner": by_owner, "label": by_label}


OBJECT_OVERHEAD = 900
"""measured bytes per object beside its raw JSON: Obj, Meta, strings, labels, key"""


class Index:
    """One index over the keys of a store."""

    __slots__ = ("_buckets", "fn")

    def __init__(self, fn: IndexFn) -> None:
        self.fn = fn
        self._buckets: dict[str, Key | set[Key]] = {}

    def values(self, obj: Obj) -> Iterable[str]:
        """The values under which ``obj`` is found: none if a user's function raises, which is logged."""
        try:
            return tuple(self.fn(obj))
        except Exception:
            log.exception("index function failed on %s/%s", obj.meta.namespace, obj.meta.name)
            return ()

    def change(self, key: Key, old: Obj, new: Obj) -> None:
        before, after = self.values(old), self.values(new)
        if before != after:
            self._remove(key, before)
            self._add(key, after)

    def add(self, key: Key, obj: Obj) -> None:
        self._add(key, self.values(obj))

    def remove(self, key: Key, obj: Obj) -> None:
        self._remove(key, self.values(obj))

    def _add(self, key: Key, values: Iterable[str]) -> None:
        buckets = self._buckets
        for value in values:
            bucket = buckets.get(value)
            if bucket is None:
                buckets[value] = key
            elif isinstance(bucket, set):
                bucket.add(key)
            elif bucket != key:
                buckets[value] = {bucket, key}

    def _remove(self, key: Key, values: Iterable[str]) -> None:
        buckets = self._buckets
        for value in values:
            bucket = buckets.get(value)
            if isinstance(bucket, set):
                bucket.discard(key)
                if not bucket:
                    del buckets[value]
            elif bucket == key:
                del buckets[value]

    def keys(self, value: str) -> Iterator[Key]:
        bucket = self._buckets.get(value)
        if bucket is None:
            return iter(())
        return iter(tuple(bucket)) if isinstance(bucket, set) else iter((bucket,))

    def groups(self) -> Iterator[tuple[str, Key, int]]:
        """Each value with one of its keys, and how many it has."""
        for value, bucket in self._buckets.items():
            if isinstance(bucket, set):
                yield value, next(iter(bucket)), len(bucket)
            else:
                yield value, bucket, 1


class IndexedObjects:
    """Objects by key, their indexes by name, and the size of their raw JSON in bytes."""

    __slots__ = ("_functions", "indexed", "objects", "raw_bytes")

    def __init__(self, functions: Mapping[str, IndexFn] = BUILT_IN) -> None:
        self._functions = dict(functions)
        self.indexed: dict[str, Index] = {}
        self.objects: dict[Key, Obj] = {}
        self.raw_bytes = 0

    @property
    def memory_bytes(self) -> int:
        """An estimate: raw JSON plus a measured overhead per object."""
        return self.raw_bytes + OBJECT_OVERHEAD * len(self.objects)

    def empty(self) -> "IndexedObjects":
        """Without objects, and with the indexes that these have."""
        found = IndexedObjects(self._functions)
        found.build_as(self)
        return found

    def build_as(self, other: "IndexedObjects") -> None:
        """Build the indexes that ``other`` has."""
        self._functions.update(other._functions)
        for name in other.indexed:
            self.index(name)

    @property
    def built(self) -> frozenset[str]:
        """Names of the indexes that are built and kept up to date."""
        return frozenset(self.indexed)

    def define(self, name: str, fn: IndexFn) -> None:
        """Add an index. Raises ``ValueError`` for a name that is taken."""
        if name in self._functions:
            raise ValueError(f"index {name!r} exists already")
        self._functions[name] = fn

    def redefine(self, name: str, fn: IndexFn) -> None:
        """Add an index, or give it another function; one that is built is built anew."""
        self._functions[name] = fn
        if name in self.indexed:
            self.index(name)

    def index(self, name: str) -> Index:
        """The index of that name, built on the first call, and anew for another function. Raises ``KeyError`` for none."""
        index = self.indexed.get(name)
        if index is None or index.fn is not self._functions[name]:
            index = Index(self._functions[name])
            for key, obj in self.objects.items():
                index.add(key, obj)
            self.indexed[name] = index
        return index

    def put(self, key: Key, obj: Obj, old: Obj | None) -> None:
        """Add ``obj``, or replace ``old`` by it."""
        for index in self.indexed.values():
            if old is not None:
                index.change(key, old, obj)
            else:
                index.add(key, obj)
        self.raw_bytes += len(obj.raw) - (len(old.raw) if old is not None else 0)
        self.objects[key] = obj

    def drop(self, key: Key, old: Obj) -> None:
        for index in self.indexed.values():
            index.remove(key, old)
        self.raw_bytes -= len(old.raw)
        del self.objects[key]
