"""The work queue of a shard: what to reconcile next, and for whom.

A key enters with ``WorkQueue.add`` under a tier, a priority and perhaps a delay; a worker takes it with ``pull`` and
gives it back with ``done``, ``retry`` or ``requeue``. On its way it lies in one of three places: the heap of the
delayed, the lane of its tier, or the table of what runs. Between lanes shares of slots decide, within a lane the
priority, within a priority fairness over (cluster, namespace).

- ``policy``: ``QueuePolicy``: shares, waits, caps, backoff; from the fleet file, replaced live;
- ``entry``: ``Entry``, ``Item``: one key's state, and what a worker is handed;
- ``fair``: ``FairTree``: deficit round-robin over clusters, then namespaces, then controllers;
- ``lane``: ``Lane``: one tier: its share of slots, its priorities, its oldest item;
- ``waiters``: long-polls that wake one at a time;
- ``intake``: what enters, how it merges, where it waits;
- ``core``: ``QueueCore``: laws 1 to 5 of the design, pull and done;
- ``queue``: ``WorkQueue``: the core, with what operators need: holds, removals, live policy, hand-over, answers;
- ``transfer``: ``Saved``: a queue's content as it is handed over;
- ``explain``: ``Why``, ``TierDelay``: what people and autoscaling ask;
- ``events``: the observer, and its binding to client-go's metric names;
- ``autoscale``: ``scale_pool``: how many workers a tier needs.
"""

from raycp.queueing.autoscale import Decision, PoolPolicy, PoolState, scale_pool
from raycp.queueing.entry import Item
from raycp.queueing.events import QueueEvents, SeriesEvents
from raycp.queueing.explain import Depth, TierDelay, Why
from raycp.queueing.policy import Backoff, LanePolicy, QueuePolicy
from raycp.queueing.queue import WorkQueue
from raycp.queueing.transfer import Saved

__all__ = [
    "Backoff",
    "Decision",
    "Depth",
    "Item",
    "LanePolicy",
    "PoolPolicy",
    "PoolState",
    "QueueEvents",
    "QueuePolicy",
    "Saved",
    "SeriesEvents",
    "TierDelay",
    "Why",
    "WorkQueue",
    "scale_pool",
]
