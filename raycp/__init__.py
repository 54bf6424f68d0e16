"""raycp: a Kubernetes control plane on Ray that reconciles many clusters at once.

The nouns, in reading order:

- a *fleet* is one hub cluster and its member clusters, described by one YAML file (``raycp.config``);
- a *shard* (``raycp.shard``) watches whole clusters: its *reflectors* fill a *cache* (``raycp.cache``) over each cluster's API
  (``raycp.kube``);
- every event is *classified* (``raycp.classify``) into a *lane* of the *work queue* (``raycp.queueing``), one lane per QoS *tier*;
- *workers* (``raycp.worker``) pull from the lanes of all shards and run *reconcilers* written against ``raycp.sdk``;
- the *leader* (``raycp.leader``, elected by ``raycp.leadership``) makes the living actors match the fleet file; it is never on the
  path of a change;
- the *SLI* (``raycp.slo``) is the time from a change's first observation to the end of the reconcile that saw it;
- ``BatchJob`` (``raycp.controllers.batchjob``) is the bundled controller: it runs a hub's job as Pods on the member clusters that
  ``raycp.scheduling`` chooses;
- an *embedded cluster* (``raycp.embedded``) is a Kubernetes API server in one Python process, for first runs and tests.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raycp.sdk import (
        ALL,
        Context,
        ObjectKey,
        Permanent,
        Result,
        Retry,
        SyncContext,
        conditions,
        controller,
        finalizer,
        owned,
        watch,
    )

__all__ = [
    "ALL",
    "Context",
    "ObjectKey",
    "Permanent",
    "Result",
    "Retry",
    "SyncContext",
    "conditions",
    "controller",
    "finalizer",
    "owned",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Import the SDK's names on first use: importing it takes 0.1 s, which other rooms need not spend."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("raycp.sdk"), name)
