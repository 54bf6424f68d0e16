"""The graph of owners and dependents, and the rules of garbage collection on it: pure.

Rules of kube-controller-manager's garbage collector (``pkg/controller/garbagecollector``):

- an object is collected when it has owner references and none of the owners exists;
- an owner in foreground deletion waits for its dependents with ``blockOwnerDeletion``; all dependents are deleted;
- in a circle of owners in foreground deletion, a dependent stops blocking: nobody waits for himself;
- an owner deleted with ``Orphan`` first loses the references of its dependents.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from raycp.embedded.life.seams import OwnerReference


class OwnerNode(NamedTuple):
    """The identity of an object: the name of its resource (``plural`` or ``plural.group``), namespace, name, uid."""

    resource: str
    ns: str
    name: str
    uid: str


@dataclass
class Graph:
    """Edges from owner uid to dependents; objects without owner references are not stored."""

    owners: dict[str, tuple[OwnerReference, ...]] = field(default_factory=dict)
    """references by the dependent's uid"""
    nodes: dict[str, OwnerNode] = field(default_factory=dict)
    """dependents by uid"""
    dependents: dict[str, set[str]] = field(default_factory=dict)
    """uids of dependents by the owner's uid"""

    def put(self, node: OwnerNode, refs: Iterable[OwnerReference]) -> bool:
        """Store a dependent's references. Returns whether they changed."""
        new = tuple(refs)
        old = self.owners.get(node.uid, ())
        if old == new:
            return False
        for ref in old:
            self._unlink(ref.uid, node.uid)
        if not new:
            self.owners.pop(node.uid, None)
            self.nodes.pop(node.uid, None)
            return True
        self.owners[node.uid] = new
        self.nodes[node.uid] = node
        for ref in new:
            self.dependents.setdefault(ref.uid, set()).add(node.uid)
        return True

    def drop(self, uid: str) -> None:
        """Remove a deleted object; its dependents keep their references to it."""
        for ref in self.owners.pop(uid, ()):
            self._unlink(ref.uid, uid)
        self.nodes.pop(uid, None)

    def of(self, owner: str) -> list[OwnerNode]:
        """The dependents of the object with that uid."""
        return [self.nodes[uid] for uid in sorted(self.dependents.get(owner, ()))]

    def blocking(self, owner: str) -> list[OwnerNode]:
        """The dependents that block their owner's foreground deletion."""
        return [
            self.nodes[uid]
            for uid in sorted(self.dependents.get(owner, ()))
            if any(ref.uid == owner and ref.block_owner_deletion for ref in self.owners[uid])
        ]

    def _unlink(self, owner: str, dependent: str) -> None:
        group = self.dependents.get(owner)
        if group is not None:
            group.discard(dependent)
            if not group:
                del self.dependents[owner]
