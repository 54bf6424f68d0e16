"""Answers about the content of a queue. All of it is for people, metrics and autoscaling, not for the hot path."""

import math
from collections.abc import Iterable

from raycp.queueing.answers import Depth, TierDelay, Why
from raycp.queueing.entry import Cell, Entry, KeyPlace
from raycp.queueing.fair import ClusterLoad, ControllerLoad
from raycp.queueing.lane import Lane


def depth_of(cell: Cell, now: float) -> Depth:
    """One cell's counts; only ready entries count as depth."""
    oldest = now - next(iter(cell.ready.values())).since if cell.ready else 0.0
    ages = [now - entry.started for entry in cell.running.values()]
    unfinished, longest = sum(ages), max(ages, default=0.0)
    controller, cluster = cell.controller.name, cell.cluster.name
    return Depth(cell.tier, controller, cluster, len(cell.ready), cell.delayed, len(ages), oldest, unfinished, longest)


def oldest_ready(lane: Lane, now: float) -> float:
    """The age in seconds of the lane's oldest ready entry that may be served; 0 if there is none."""
    since = lane.oldest()
    return now - since if since != math.inf else 0.0


def delay_of(lane: Lane, now: float) -> TierDelay:
    """The lane's recent queue delay."""
    return TierDelay(lane.name, lane.queued, lane.in_flight, oldest_ready(lane, now), *lane.recent_waits(now))


def why(entry: Entry, lane: Lane, holds: Iterable[str], now: float) -> Why:
    """Where ``entry`` of ``lane`` is and what it waits for. Costs up to O(n)."""
    ready_for, left, ahead, waits_for = 0.0, 0.0, 0, ""
    if entry.state is KeyPlace.READY:
        ready_for = now - entry.since
        ahead, waits_for = _ahead(entry, lane), _obstacle(entry, lane)
    elif entry.state is KeyPlace.DELAYED:
        left = max(0.0, entry.ready_at - now)
        waits_for = "its backoff" if entry.retry else "its time"
    elif entry.state is KeyPlace.HELD:
        waits_for = "release: " + ", ".join(holds)
        left = max(0.0, entry.pending.ready_at - now) if entry.pending is not None else 0.0
    else:
        waits_for = f"the end of the reconcile that worker {entry.worker} began {now - entry.started:.3g} s ago"
    return Why(
        entry.key, entry.state.name.lower(), entry.tier, entry.priority, entry.reason, entry.retry, entry.attempts,
        now - entry.observed, ready_for, left, ahead, entry.merged, entry.worker, entry.pending is not None, waits_for, entry.error,
    )  # fmt: skip


def _obstacle(entry: Entry, lane: Lane) -> str:
    gate = entry.leaf.full if entry.leaf is not None else None
    if isinstance(gate, ClusterLoad) and gate.paused:
        return f"cluster {gate.name} to be resumed: it is paused"
    if isinstance(gate, ControllerLoad) and gate.limit == 0:
        return f"controller {gate.name} to be resumed: it is paused"
    if isinstance(gate, ClusterLoad):
        reason = f" ({gate.why})" if gate.why else ""
        return f"cluster {gate.name}: {gate.in_flight} in flight, limit {gate.limit:g}{reason}"
    if isinstance(gate, ControllerLoad):
        return f"controller {gate.name}: {gate.in_flight} in flight, concurrency {gate.limit:g}"
    if entry.retry and lane.retries:
        return f"its turn; {lane.retries} retries of the lane are running"
    return ""


def _ahead(entry: Entry, lane: Lane) -> int:
    """Entries of its lane before it: all of a higher priority, those before it in its own namespace, and of each other
    namespace and cluster as many as fair turns let go first."""
    leaf = entry.leaf
    assert leaf is not None
    space = leaf.space
    node = space.node
    own = node.tree
    ahead = 0
    for each in lane.classes:
        if own is each.fresh or own is each.retry:
            break
        ahead += sum(other.queued for other in each.fresh.nodes.values())
    place = next(index for index, number in enumerate(leaf.queue) if number == entry.id)
    in_space = place + sum(min(len(other.queue), place + 1) for other in space.leaves.values() if other is not leaf)
    in_node = in_space + sum(min(other.queued, in_space + 1) for other in node.spaces.values() if other is not space)
    in_tree = in_node + sum(
        min(other.queued, in_node + 1)
        for other in own.nodes.values()
        if other is not node and other.state.in_flight < other.state.limit
    )
    return ahead + in_tree
