"""raycp: a Kubernetes control plane on Ray that reconciles many clusters at once.

The nouns, in the order in which one meets them:

- a *fleet* is one hub cluster and its member clusters, described by one YAML file (``raycp.config``);
- a *shard* watches whole clusters: its *reflectors* fill a *cache* (``raycp.cache``) over one cluster's API (``raycp.kube``);
- every event is *classified* (``raycp.classify``) into a *lane* of the *work queue* (``raycp.queueing``), one lane per QoS *tier*;
- *workers* pull from the lanes of all shards and run *reconcilers* written against ``raycp.sdk``;
- the *leader* (``raycp.fleet``, ``raycp.leadership``) keeps actors as the fleet file wants them; it is never on a change's way;
- the *SLI* (``raycp.slo``) is the time from a change's first observation to the end of the reconcile that saw it;
- ``BatchJob`` (``raycp.controllers.batchjob``) is the controller that comes with it: a job on the hub becomes Pods on members,
  where ``raycp.scheduling`` says;
- an *embedded cluster* (``raycp.embedded``) is a Kubernetes API server in one Python process, for first runs and tests.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raycp.sdk import (
        ALL,
        Context,
        Permanent,
        Result,
        Retry,
        SyncContext,
        conditions,
        controller,
        finalizer,
        owned,
    )

__all__ = [
    "ALL",
    "Context",
    "Permanent",
    "Result",
    "Retry",
    "SyncContext",
    "conditions",
    "controller",
    "finalizer",
    "owned",
]


def __getattr__(name: str) -> Any:
    """What an author needs, imported when asked for: the other rooms do without the SDK's 0.1 s."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("raycp.sdk"), name)
