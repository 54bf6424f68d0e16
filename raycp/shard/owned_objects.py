"""Which cached objects belong to an owner: by a label with our mark, or by an owner reference in the owner's own cluster and
namespace. What only claims it is no child, wakes nobody, and is named to the reconcile (``Task.foreign``).

A claim is judged once per version of its object. Until the fleet's keys are known none is proven: a cluster with claims to an owner
counts as unknown to that owner.
"""

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from raycp.base.keys import GVK
from raycp.base.objects import Obj
from raycp.base.owner_marks import ClaimProof, MarkKeys
from raycp.base.tasks import FOREIGN_SHOWN, Child
from raycp.cache import Store
from raycp.sdk.backend import ChildOwner
from raycp.sdk.owner import OWNER, OWNER_KIND, OWNER_UID, proof_of

CLAIMS = "claims"
_UNPROVEN = "?"
"""Before an owner's uid, in the index: what claims to be its child without proof."""

_ROWS = 500
"""Rows in one child of an answer: some 64 KiB."""

_numbers = itertools.count(2, 2)


class Claims:
    """Judges the claims of the objects of one kind in one cluster, by one set of keys. What it found is kept on the object, with
    its number, which is even: the last bit says whether the claim is proven. ``clock_ahead`` says how many seconds the cluster's
    clock is ahead of ours."""

    def __init__(self, cluster: str, kind: GVK, keys: MarkKeys | None, clock_ahead: Callable[[], float]) -> None:
        self.keys = keys
        self._clock_ahead = clock_ahead
        self._cluster = cluster
        self._kind = kind
        self._number = next(_numbers)

    def proven(self, obj: Obj) -> bool:
        """Whether ``obj`` belongs to the owner that it names by label."""
        judged = obj.judged
        if judged & ~1 != self._number:
            proof = proof_of(obj.meta, self._cluster, self._kind, self.keys, self._clock_ahead())[1]
            judged = obj.judged = self._number | (proof is not ClaimProof.NONE)
        return bool(judged & 1)

    def index(self, store: Store) -> None:
        """Define the index of the owners that the objects of ``store`` name by label."""
        store.redefine_index(CLAIMS, self._owners)

    def _owners(self, obj: Obj) -> tuple[str, ...]:
        uid = (obj.meta.labels or {}).get(OWNER_UID)
        if not uid:
            return ()
        return (uid if self.proven(obj) else _UNPROVEN + uid,)


def owned_objects(store: Store, uid: str, *, references: bool, namespace: str = "") -> tuple[list[Obj], list[Obj]]:
    """The objects that belong to the owner with this uid, and ``FOREIGN_SHOWN`` at most of those that claim it without proof: how
    many there are, others decide.

    ``references``: the store is of the owner's own cluster, where owner references count: in its ``namespace``, or in all of them
    where that is empty.
    """
    found = list(store.by_index(CLAIMS, uid))
    if not references:
        return found, list(store.by_index(CLAIMS, _UNPROVEN + uid, FOREIGN_SHOWN))
    marked = {(obj.meta.namespace, obj.meta.name) for obj in found}
    referenced = {
        (obj.meta.namespace, obj.meta.name): obj
        for obj in store.by_index("owner", uid)
        if not namespace or obj.meta.namespace == namespace
    }
    found += [obj for name, obj in referenced.items() if name not in marked]
    foreign = store.by_index(CLAIMS, _UNPROVEN + uid, FOREIGN_SHOWN + len(referenced))
    return found, [obj for obj in foreign if (obj.meta.namespace, obj.meta.name) not in referenced][:FOREIGN_SHOWN]


def owner_rows(store: Store, cluster: str, kind: str) -> list[Child]:
    """The owners to which objects of ``store`` are proven to belong, as ``CacheRead`` says."""
    found: list[ChildOwner] = []
    for uid, obj, count in store.groups(CLAIMS):
        if not uid.startswith(_UNPROVEN):
            annotations = obj.meta.annotations or {}
            found.append(ChildOwner(uid, annotations.get(OWNER, ""), annotations.get(OWNER_KIND, ""), count))
    return _rows(found, cluster, kind)


def uid_rows(store: Store, cluster: str, kind: str) -> list[Child]:
    """The uids of all objects of ``store``, as ``CacheRead`` says."""
    return _rows([obj.meta.uid for obj in store], cluster, kind)


def _rows(rows: list[Any], cluster: str, kind: str) -> list[Child]:
    parts = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
    return [Child(cluster, kind, msgspec.json.encode(part)) for part in parts]


def names_of(cluster: str, objs: list[Obj]) -> list[str]:
    """``cluster/namespace/name`` of each."""
    return [f"{cluster}/{obj.meta.namespace}/{obj.meta.name}" for obj in objs]
