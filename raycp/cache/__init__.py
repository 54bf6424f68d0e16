"""The cache of a cluster's objects in a shard.

A ``Reflector`` lists and watches one kind, keeps a ``Store`` equal to it, and calls a handler with the ``Event``s. In the order
of the data's path: ``reflector`` (the loop), ``states`` (its states and transitions), ``options``, ``status``, ``pace`` and
``backoff`` (how fast it tries again), ``counts`` (its metrics); ``paged_list`` and ``initial_stream`` (the whole state), ``replay``
(from a watermark), ``intake`` (how many events a cluster may send), ``emitter`` (calls the handler), ``unreadable`` (objects that
are left out); ``store`` (law 7: never goes back), with ``replacement`` (a list being read), ``difference`` (its events),
``own_writes``, ``indexes`` (namespace, owner, labels, user-defined) and ``selectors`` (label selectors).
"""

from raycp.cache.emitter import Handler
from raycp.cache.intake import EventBudget
from raycp.cache.options import ReflectorOptions
from raycp.cache.reflector import Reflector
from raycp.cache.selectors import Selector
from raycp.cache.status import FaultOwner, Phase, ReflectorStatus
from raycp.cache.store import Store

__all__ = [
    "EventBudget",
    "FaultOwner",
    "Handler",
    "Phase",
    "Reflector",
    "ReflectorOptions",
    "ReflectorStatus",
    "Selector",
    "Store",
]
