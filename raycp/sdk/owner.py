"""Owner marks: they let a shard find the owner of a changed child, and the garbage collector find orphans.

In the owner's cluster, and in a namespace that allows it: an owner reference with ``controller: true``; the API server's garbage
collector then deletes the child with its owner. Elsewhere owner references have no effect (Kubernetes: "Cross-namespace owner
references are disallowed by design"), so the child carries the label ``raycp.io/owner-uid`` (for indexes and selectors) and the
annotation ``raycp.io/owner`` (``cluster/namespace/name``, which leads back to the owner); the owner needs a finalizer to clean up.
"""

from typing import Any, NamedTuple

OWNER_UID = "raycp.io/owner-uid"
"""Label: uid of the owner in another cluster or namespace."""

OWNER = "raycp.io/owner"
"""Annotation: ``cluster/namespace/name`` of that owner; the namespace is empty for cluster-scoped owners."""

OWNER_KIND = "raycp.io/owner-kind"
"""Annotation: ``GROUP/VERSION/Kind`` of that owner."""


class OwnerKey(NamedTuple):
    """Where an owner lives."""

    cluster: str
    namespace: str
    name: str


def mark(
    child: dict[str, Any], owner: dict[str, Any], owner_cluster: str, child_cluster: str, *, label: bool = False
) -> dict[str, Any]:
    """Mark ``child`` (changed in place, returned) as belonging to ``owner``. Marking twice changes nothing.

    ``label`` sets label and annotation beside an owner reference too: children that are found by label in other clusters are then
    found by label in the owner's own as well, in a fleet of one cluster.
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
    meta.setdefault("labels", {})[OWNER_UID] = owner_meta["uid"]
    annotations = meta.setdefault("annotations", {})
    annotations[OWNER] = f"{owner_cluster}/{owner_namespace}/{owner_meta['name']}"
    annotations[OWNER_KIND] = f"{owner['apiVersion']}/{owner['kind']}"
    return child


def owned_by(child: dict[str, Any], uid: str) -> bool:
    """Whether ``child`` carries a mark of the owner with this uid."""
    meta = child.get("metadata") or {}
    if (meta.get("labels") or {}).get(OWNER_UID) == uid:
        return True
    return any(reference.get("uid") == uid for reference in meta.get("ownerReferences") or ())


def owner_key(annotations: dict[str, str] | None) -> OwnerKey | None:
    """The owner that annotation ``raycp.io/owner`` names; None where there is none or it is not in our format."""
    parts = (annotations or {}).get(OWNER, "").split("/")
    if len(parts) != 3 or not parts[0] or not parts[2]:
        return None
    return OwnerKey(*parts)
