"""The work queue of a shard: what to reconcile next, and in which worker.

A key enters with ``WorkQueue.add`` under a tier, a priority and perhaps a delay; a worker takes it with ``pull`` and gives it back
with ``done``, ``retry`` or ``requeue``. On its way it is in one of four places: the heap of delayed keys, the lane of its tier, the
hands of a worker, or held. Shares of slots decide between lanes, the priority within a lane, fairness over (cluster, namespace)
within a priority.

- ``work_queue``: ``WorkQueue``: the path of a key, put together from the parts below;
- ``entry``: ``Entry``, ``Demand``, ``Item``: one key's state, what it is due for, what a worker is handed;
- ``merge``: law 3: how demands for one key become one;
- ``contents``: ``Contents``: all keys and their places, and how a key gets from one to another;
- ``delays``: ``DelayHeap``: the delayed keys by the time at which they are due;
- ``holds``: ``Holds``: keys that must not be handed out yet, and why;
- ``lane``: ``Lane``, ``Lanes``: law 4: shares of slots, priorities, the oldest key of a tier;
- ``fair``: ``FairTree``: law 5: turns of clusters, their namespaces, their controllers; ``Headroom``: slots kept free;
- ``drr``: ``Ring``: deficit round-robin, for clusters and for namespaces;
- ``limits``: ``Limits``: what may be in flight of each cluster and controller;
- ``workers``: ``Workers``: what each worker holds, and how many slots it has;
- ``handover``: from a queue's content to ``Saved`` and back;
- ``explain``, ``answers``: depths, delays and reasons, for metrics, autoscaling and people;
- ``events``: the observer, and its binding to client-go's metric names;
- ``policy``: ``QueuePolicy``: shares, waits, limits, backoff; from the fleet file, replaced live;
- ``protocol``: ``Queue``: what a shard needs of a queue;
- ``autoscale``: ``scale_pool``: how many workers a tier needs.
"""

from raycp.queueing.answers import Depth, Saved, TierDelay, Why
from raycp.queueing.autoscale import Decision, PoolPolicy, PoolState, scale_pool
from raycp.queueing.entry import Item
from raycp.queueing.events import QueueEvents, SeriesEvents
from raycp.queueing.policy import KeyBackoff, LanePolicy, QueuePolicy
from raycp.queueing.protocol import Queue, QueueFactory
from raycp.queueing.work_queue import WorkQueue

__all__ = [
    "Decision",
    "Depth",
    "Item",
    "KeyBackoff",
    "LanePolicy",
    "PoolPolicy",
    "PoolState",
    "Queue",
    "QueueEvents",
    "QueueFactory",
    "QueuePolicy",
    "Saved",
    "SeriesEvents",
    "TierDelay",
    "Why",
    "WorkQueue",
    "scale_pool",
]
