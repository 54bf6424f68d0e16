"""Which cached objects belong to an owner: by a label with our mark, or by an owner reference in the owner's own cluster and
namespace. What only claims it is no child, wakes nobody, and is named to the reconcile (``Task.foreign``).

Claims are judged when an object is indexed. Until the fleet's keys are known none can be judged: a cluster with claims to an owner
counts as unknown to that owner.
"""

from raycp.base.keys import GVK
from raycp.base.objects import Obj
from raycp.base.owner_marks import ClaimProof, MarkKeys
from raycp.cache import Store
from raycp.sdk.owner import proof_of

CLAIMS = "claims"
_UNPROVEN = "?"
"""Before an owner's uid, in the index: what claims to be its child without proof."""


def index_claims(store: Store, cluster: str, kind: GVK, keys: MarkKeys | None) -> None:
    """Define the index of the owners that the objects of ``store`` name by label, as ``keys`` prove it."""

    def owners(obj: Obj) -> tuple[str, ...]:
        uid, proof = proof_of(obj.meta, cluster, kind, keys)
        if not uid:
            return ()
        return (_UNPROVEN + uid if proof is ClaimProof.NONE else uid,)

    store.redefine_index(CLAIMS, owners)


def owned_objects(store: Store, uid: str, *, references: bool, namespace: str = "") -> tuple[list[Obj], list[Obj]]:
    """The objects that belong to the owner with this uid, and those that claim it without proof.

    ``references``: the store is of the owner's own cluster, where owner references count: in its ``namespace``, or in all of them
    where that is empty.
    """
    found, foreign = list(store.by_index(CLAIMS, uid)), list(store.by_index(CLAIMS, _UNPROVEN + uid))
    if not references:
        return found, foreign
    marked = {(obj.meta.namespace, obj.meta.name) for obj in found}
    referenced = {
        (obj.meta.namespace, obj.meta.name): obj
        for obj in store.by_index("owner", uid)
        if not namespace or obj.meta.namespace == namespace
    }
    found += [obj for name, obj in referenced.items() if name not in marked]
    return found, [obj for obj in foreign if (obj.meta.namespace, obj.meta.name) not in referenced]


def names_of(cluster: str, objs: list[Obj]) -> list[str]:
    """``cluster/namespace/name`` of each."""
    return [f"{cluster}/{obj.meta.namespace}/{obj.meta.name}" for obj in objs]
