"""What a shard knows of a cluster.

A ``Reflector`` lists and watches one kind and keeps a ``Store`` equal to it; the store tells what changed as
``Event``s. In order: ``reflector`` (the loop and its failures), ``listing`` (pages), ``options`` (settings and
status), ``backoff``; ``store`` (law 7: never goes back), ``indexes`` (namespace, owner, labels, user-defined),
``selectors`` (label selectors).
"""

from raycp.cache.indexes import OWNER_UID_LABEL
from raycp.cache.options import Phase, ReflectorOptions, ReflectorStatus
from raycp.cache.reflector import Reflector
from raycp.cache.selectors import Selector
from raycp.cache.store import Store

__all__ = ["OWNER_UID_LABEL", "Phase", "Reflector", "ReflectorOptions", "ReflectorStatus", "Selector", "Store"]
