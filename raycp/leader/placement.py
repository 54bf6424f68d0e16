"""On which Ray node a member should live: pure functions of the nodes, of the members' nodes, and of the leader's.

Guarantees, where at least two nodes are usable (alive, not draining, not suspected, with the requested labels):

1. A standby is not on its primary's node, nor on that of another standby of its shard while there is a node without one.
2. A primary is not on the leader's node: a lost node takes only one of the two, so the primary's successor is named at once.
3. No member is sent to a draining or suspected node where another is usable: left to itself, Ray would.
4. Among the rest: not Ray's head, then the node with the fewest members of its role.

All of it is a preference: Ray falls back to any node with the labels where the preferred one can't be had (``actor_options``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raycp.protocol.members import Role, Slot
from raycp.protocol.nodes import Node

NODE_ID = "ray.io/node-id"
"""The label that Ray gives to every node. Ray's ``NodeAffinitySchedulingStrategy(soft=True)`` is ignored for actors that need no
CPU (measured, Ray 2.60: three of four landed on the head); a label selector is not."""

SHARDLIKE = (Role.SHARD, Role.STANDBY)


@dataclass(frozen=True)
class Situation:
    """``where``: slot -> node. ``suspected``: nodes that may be lost though Ray does not know it yet."""

    nodes: tuple[Node, ...] = ()
    where: Mapping[Slot, str] = field(default_factory=dict)
    leader: str = ""
    suspected: frozenset[str] = frozenset()

    @property
    def draining(self) -> frozenset[str]:
        """Nodes that drain."""
        return frozenset(node.identity for node in self.nodes if node.draining)

    def usable(self, selector: Mapping[str, str]) -> list[Node]:
        """Nodes that may get a new member."""
        return [
            node
            for node in self.nodes
            if not node.draining and node.identity not in self.suspected and matches(selector, node.labels)
        ]

    def on(self, nodes: Iterable[str]) -> list[Slot]:
        """The slots whose members live on these nodes, sorted."""
        wanted = set(nodes)
        return sorted(slot for slot, node in self.where.items() if node in wanted)


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels fits: Ray's syntax, ``value``, ``!value``, ``in(a,b)``, ``!in(a,b)``."""
    for key, asked in selector.items():
        negated = asked.startswith("!")
        text = asked[negated:]
        allowed = [each.strip() for each in text[3:-1].split(",")] if text.startswith("in(") and text.endswith(")") else [text]
        if (labels.get(key) in allowed) == negated:
            return False
    return True


def best_node(slot: Slot, situation: Situation, selector: Mapping[str, str] | None = None) -> str:
    """The node on which a new member in ``slot`` should live; empty where there is no choice, or any node is as good."""
    role = slot.role
    usable = situation.usable(selector or {})
    if not usable or len(situation.nodes) < 2 or role is Role.EMBEDDED:
        return ""
    where = situation.where

    def count(node: str, *roles: Role) -> int:
        return sum(1 for known, at in where.items() if at == node and known.role in roles and known != slot)

    own = [at for known, at in where.items() if known != slot and known.role in SHARDLIKE and known.shard == slot.shard]
    primary = where.get(Slot.of_shard(slot.shard), "") if role is Role.STANDBY else ""

    def cost(node: Node) -> tuple[object, ...]:
        at = node.identity
        if role is Role.LEADER:
            return node.head, count(at, Role.SHARD), count(at, *SHARDLIKE), at
        if role is Role.SHARD:
            return at == situation.leader, node.head, count(at, Role.SHARD), own.count(at), count(at, *SHARDLIKE), at
        if role is Role.STANDBY:
            return at == primary, own.count(at), node.head, at == situation.leader, count(at, *SHARDLIKE), at
        if role is Role.WORKER:
            return count(at, Role.WORKER), node.head, count(at, Role.SHARD), at
        return at == situation.leader, node.head, count(at, *SHARDLIKE), at

    return min(usable, key=cost).identity


def best_nodes(slots: Iterable[tuple[Slot, Mapping[str, str]]], situation: Situation) -> dict[Slot, str]:
    """``best_node`` for several members that are created at the same time, primaries first: each choice counts for the next."""
    found: dict[Slot, str] = {}
    for slot, selector in sorted(slots, key=lambda each: (each[0].role is not Role.SHARD, each[0])):
        spot = best_node(slot, situation, selector)
        found[slot] = spot
        if spot:
            situation = replace(situation, where={**situation.where, slot: spot})
    return found


def actor_options(options: Mapping[str, Any], spot: str) -> dict[str, Any]:
    """Ray actor options that request the node ``spot``, and fall back to any node with the requested labels."""
    if not spot:
        return dict(options)
    labels = dict(options.get("label_selector") or {})
    kept = {key: value for key, value in options.items() if key != "scheduling_strategy"}
    return {**kept, "label_selector": {**labels, NODE_ID: spot}, "fallback_strategy": [{"label_selector": labels}]}


@dataclass(frozen=True)
class Move:
    """A member that works, and has a better node. A standby is created again, a shard handed over, a worker replaced."""

    slot: Slot
    why: str


def misplaced(situation: Situation, selectors: Mapping[Slot, Mapping[str, str]], warm: Mapping[str, Iterable[str]]) -> Move | None:
    """The member to move next; None for none. ``warm``: shard -> nodes of its warm standbys.

    Moves end: after a standby's its node differs from its primary's, after a primary's its node differs from the leader's, after a
    worker's the largest difference between nodes is smaller, and none undoes the other.
    """
    where = situation.where
    for slot in sorted(where):
        if slot.role is not Role.STANDBY:
            continue
        primary = where.get(Slot.of_shard(slot.shard))
        others = [node.identity for node in situation.usable(selectors.get(slot, {})) if node.identity != primary]
        if primary and where[slot] == primary and others:
            return Move(slot, "it is on its primary's node")
    for slot in sorted(where):
        if slot.role is not Role.SHARD or where[slot] != situation.leader or not situation.leader:
            continue
        usable = {node.identity for node in situation.usable(selectors.get(slot, {}))} - {situation.leader}
        if usable.intersection(warm.get(slot.shard, ())):
            return Move(slot, "it is on the leader's node")
    workers = Counter(node for slot, node in where.items() if slot.role is Role.WORKER)
    for slot in sorted(where):
        if slot.role is Role.WORKER:
            count = {node.identity: workers[node.identity] for node in situation.usable(selectors.get(slot, {}))}
            if count and count.get(where[slot], 0) > min(count.values()) + 1:
                return Move(slot, "its node has more workers than another")
    return None
