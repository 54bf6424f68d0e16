"""Owner marks: they let a shard find the owner of a changed child, and the garbage collector find orphans.

In the owner's cluster, and in a namespace that allows it: an owner reference with ``controller: true``; the API server's garbage
collector then deletes the child with its owner. Elsewhere owner references have no effect (Kubernetes: "Cross-namespace owner
references are disallowed by design"), so the child carries the label ``raycp.io/owner-uid`` (for indexes and selectors) and the
annotation ``raycp.io/owner`` (``cluster/namespace/name``, which leads back to the owner); the owner needs a finalizer to clean up.

Anyone can write a label. So the label counts only with our mark (``raycp.base.owner_marks``), in the annotation
``raycp.io/owner-mark``; an owner reference counts as it does in Kubernetes: in the owner's own cluster and namespace.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from raycp.base.keys import GVK
from raycp.base.objects import Meta
from raycp.base.owner_marks import MARK, ClaimProof, MarkKeys, OwnerClaim
from raycp.sdk.results import Retry

OWNER_UID = "raycp.io/owner-uid"
"""Label: uid of the owner in another cluster or namespace."""

OWNER = "raycp.io/owner"
"""Annotation: ``cluster/namespace/name`` of that owner; the namespace is empty for cluster-scoped owners."""

OWNER_KIND = "raycp.io/owner-kind"
"""Annotation: ``GROUP/VERSION/Kind`` of that owner."""


NO_KEYS = "the fleet's keys for owner marks are not known yet: `raycp status` says why"


class OwnerKey(NamedTuple):
    """Where an owner lives."""

    cluster: str
    namespace: str
    name: str


class Ownership(Enum):
    """How an object belongs to an owner."""

    MARKED = "marked"
    """It carries our mark: the fleet has created it for this owner, in this cluster, under this name."""
    REFERENCED = "referenced"
    """It has an owner reference, in the owner's own cluster and namespace."""
    OLD = "old"
    """It has the owner's label and no mark, and was created before the fleet had a key for marks."""
    NONE = "none"
    """It is another's, whatever its labels say."""


def mark(
    child: dict[str, Any],
    owner: dict[str, Any],
    owner_cluster: str,
    child_cluster: str,
    keys: MarkKeys | None,
    *,
    label: bool = False,
) -> dict[str, Any]:
    """Mark ``child`` (changed in place, returned) as belonging to ``owner``. Marking twice changes nothing.

    ``label`` sets label and annotations beside an owner reference too: children that are found by label in other clusters are then
    found by label in the owner's own as well, in a fleet of one cluster.

    Raises ``Retry`` where a mark is needed and the keys are not known yet, ``ValueError`` where the child has no name to make it
    for.
    """
    meta = child.setdefault("metadata", {})
    owner_meta = owner["metadata"]
    owner_namespace = owner_meta.get("namespace", "")
    if owner_cluster == child_cluster and owner_namespace in ("", meta.get("namespace", "")):
        references = meta.setdefault("ownerReferences", [])
        if not any(reference.get("uid") == owner_meta["uid"] for reference in references):
            references.append(
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": owner_meta["name"],
                    "uid": owner_meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            )
        if not label:
            return child
    if not meta.get("name"):
        raise ValueError("a child in another cluster or namespace than its owner needs metadata.name: its mark is made for it")
    if keys is None:
        raise Retry(NO_KEYS)
    meta.setdefault("labels", {})[OWNER_UID] = owner_meta["uid"]
    annotations = meta.setdefault("annotations", {})
    annotations[OWNER] = f"{owner_cluster}/{owner_namespace}/{owner_meta['name']}"
    annotations[OWNER_KIND] = f"{owner['apiVersion']}/{owner['kind']}"
    kind = _kind_name(GVK.parse(f"{child['apiVersion']}/{child['kind']}"))
    claim = OwnerClaim(owner_meta["uid"], child_cluster, kind, meta.get("namespace") or "", meta["name"])
    annotations[MARK] = keys.sign(claim)
    return child


def ownership(
    child: dict[str, Any],
    kind: GVK,
    owner: dict[str, Any],
    owner_cluster: str,
    child_cluster: str,
    keys: MarkKeys | None,
    clock_ahead: float = 0.0,
) -> Ownership:
    """How ``child``, an object of ``kind`` in ``child_cluster``, belongs to ``owner``. Without keys no mark counts.
    ``clock_ahead``: seconds that the clock of ``child_cluster`` is ahead of ours."""
    meta, owner_meta = child.get("metadata") or {}, owner["metadata"]
    uid, namespace = owner_meta["uid"], str(meta.get("namespace") or "")
    proof = ClaimProof.NONE
    if keys is not None and (meta.get("labels") or {}).get(OWNER_UID) == uid:
        claim = OwnerClaim(uid, child_cluster, _kind_name(kind), namespace, str(meta.get("name")))
        carried, created = (meta.get("annotations") or {}).get(MARK), meta.get("creationTimestamp")
        proof = keys.proof(claim, str(carried), str(created) if created else None, clock_ahead)
    if proof is ClaimProof.MARKED:
        return Ownership.MARKED
    here = owner_cluster == child_cluster and owner_meta.get("namespace", "") in ("", namespace)
    if here and any(reference.get("uid") == uid for reference in meta.get("ownerReferences") or ()):
        return Ownership.REFERENCED
    return Ownership.OLD if proof is ClaimProof.OLD else Ownership.NONE


def proof_of(meta: Meta, cluster: str, kind: GVK, keys: MarkKeys | None, clock_ahead: float) -> tuple[str, ClaimProof]:
    """The owner that a cached object of ``kind`` names by label, and what proves it; an empty uid where it names none.
    ``clock_ahead`` as for ``ownership``."""
    uid = (meta.labels or {}).get(OWNER_UID, "")
    if not uid or keys is None:
        return uid, ClaimProof.NONE
    claim = OwnerClaim(uid, cluster, _kind_name(kind), meta.namespace, meta.name)
    return uid, keys.proof(claim, (meta.annotations or {}).get(MARK, ""), meta.creation_timestamp, clock_ahead)


def owner_key(annotations: Mapping[str, str] | None) -> OwnerKey | None:
    """The owner that annotation ``raycp.io/owner`` names; None where there is none or it is not in our format."""
    parts = (annotations or {}).get(OWNER, "").split("/")
    if len(parts) != 3 or not parts[0] or not parts[2]:
        return None
    return OwnerKey(*parts)


def _kind_name(kind: GVK) -> str:
    return f"{kind.kind}.{kind.group}"
