"""Secondary indexes of a store: from a value to the keys of the objects that have it.

An index costs nothing until it is first asked; then it is built once and kept up to date. A value with a single
object (most owner uids, many labels) holds the key itself, not a set of one.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

from raycp.base.objects import Obj

log = logging.getLogger("raycp.cache")

Key = tuple[str, str]
"""(namespace, name); the namespace is empty for cluster-scoped kinds"""
IndexFn = Callable[[Obj], Iterable[str]]

OWNER_UID_LABEL = "raycp.io/owner-uid"
"""names an owner in another cluster, where an ownerReference can't"""


def by_namespace(obj: Obj) -> Iterable[str]:
    return (obj.meta.namespace,)


def by_owner(obj: Obj) -> Iterable[str]:
    """The uids of ownerReferences, and the one that ``raycp.io/owner-uid`` names."""
    meta = obj.meta
    uids = [owner.uid for owner in meta.owner_references or ()]
    remote = (meta.labels or {}).get(OWNER_UID_LABEL)
    if remote and remote not in uids:
        uids.append(remote)
    return uids


def by_label(obj: Obj) -> Iterable[str]:
    """``key=value`` of each label."""
    return [f"{key}={value}" for key, value in (obj.meta.labels or {}).items()]


BUILT_IN: Mapping[str, IndexFn] = {"namespace": by_namespace, "owner": by_owner, "label": by_label}


class Index:
    """One index over the keys of a store."""

    __slots__ = ("_buckets", "_fn")

    def __init__(self, fn: IndexFn) -> None:
        self._fn = fn
        self._buckets: dict[str, Key | set[Key]] = {}

    def clone_empty(self) -> "Index":
        return Index(self._fn)

    def values(self, obj: Obj) -> Iterable[str]:
        """What ``obj`` is found by. A user's function that raises is logged, and finds the object by nothing."""
        try:
            return tuple(self._fn(obj))
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

    def __len__(self) -> int:
        return len(self._buckets)
