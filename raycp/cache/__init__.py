"""The cache of a cluster's objects in a shard.

A ``Reflector`` lists and watches one kind, keeps a ``Store`` equal to it, and calls a handler with the ``Event``s. In the order
of the data's path: ``reflector`` (the loop), ``states`` (its states and transitions), ``options``, ``status``, ``backoff``,
``counts`` (its metrics); ``paged_list`` and ``initial_stream`` (the whole state), ``replay`` (from a watermark); ``store`` (law 7:
never goes back), with ``replacement`` (a list being read), ``difference`` (its events), ``own_writes``, ``indexes`` (namespace,
owner, labels, user-defined) and ``selectors`` (label selectors).
"""

from raycp.cache.indexes import OWNER_UID_LABEL
from raycp.cache.options import ReflectorOptions
from raycp.cache.reflector import Handler, Reflector
from raycp.cache.selectors import Selector
from raycp.cache.status import Phase, ReflectorStatus
from raycp.cache.store import Store

__all__ = ["OWNER_UID_LABEL", "Handler", "Phase", "Reflector", "ReflectorOptions", "ReflectorStatus", "Selector", "Store"]
